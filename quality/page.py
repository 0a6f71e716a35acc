"""Figures -> docs/quality.md, and the same for a terminal."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quality.market import SIGNALS
from quality.product import ENTRANTS, SUITABLE_ONLY, Entrant
from quality.report import HINDSIGHT, SHIPPED, SPECIFIED, library_of
from quality.scoring import LEAST_UNITS
from quality.tracks import ALWAYS, UNIFORM

PAGE = Path(__file__).parent.parent / "docs" / "quality.md"

_INTRODUCTION = f"""\
# Quality of choices

Written by `make quality ARGS="--write-docs"`; do not edit.

How well the policies choose, beside the policies of bandit libraries, where the outcome of every strategy
is known. All start without rewards, all may take any of the seven strategies, all are told symbol and
regime, and get the reward of what they took when its trade has closed, not before. The worker's policies
run by its own selector and its own fold, with the settings they have by default; `suitable only` leaves
them the strategies that suit a regime, as the worker does unless told otherwise. `full_information` gets
the price path of each closed trade, too, and in `full_information, candles` every signal is followed on
paper by the candles that come, until all its ladders have ended: no library has a place for either.

| track | worlds | what is counted |
| --- | --- | --- |
| A | one context, 100 trades; {ALWAYS.removeprefix("always ")} earns N(3, 2) R, all others N(1.5, 1.5) | share of optimal picks |
| B | the same, but the good strategy is drawn for each seed | the same |
| C | seven regimes, 3,000 trades; the best strategy of each is 0.5 R ahead, noise 1.5 R; all change half-way | the same |
| D | one context, 3,000 trades; three of twelve things that are measured of a signal tell what each strategy earns, each for each by N(0, 0.5) R; noise 1.5 R | the same |
| SKILL | {SIGNALS:,} signals on the shipped bars; a hidden share of sides is right about the next 3 bars (and wrong about 48), 12 or 48; both differ by regime, half the time by symbol, half the time in the second half | mean R of a trade, net of costs |
| RULES | {SIGNALS:,} signals on the same bars by the demo's rules, drawn anew for each world | the same |

The default strategy never learns and has all of A: that track shows what learning costs, B what it is
worth. *Share of ceiling* is the gain over always taking the default, divided by that of the best strategy
by symbol and regime in hindsight, which nobody can know; on RULES most of that ceiling is luck.

Intervals hold 95 %, from resampling whole seeds, on SKILL whole worlds, on RULES whole weeks; a contestant
is compared with another on the same ones. **Bold**: the interval does not hold 0. Of a library the best of
its settings is shown, picked by the same figures, which favours it. All of the worker's policies are shown.
"""

_LIMITS = """\
- Two symbols, one market each, a few years: weeks of RULES tell what other weeks of these markets would
  have given. The worlds of SKILL share their prices; their intervals tell what other skill would have given.
- Weeks of RULES are resampled one by one, while a trade on daily bars may live for months: intervals of that
  track are too narrow.
- The skill is made up. What your signals know, your signals alone tell: `meta-strategy backtest`.
- Intervals from about ten worlds are too narrow, by a tenth or more: read those of D and SKILL so.
- Many comparisons stand here: of twenty without any difference, one is bold.
- The libraries run as their guides show, not tuned. MABWiser's linear policies learn in batches of 16, and
  not on A and B, which have one context. Times are CPU time of a choice with its reward; the worker's
  holds the making and checking of the closed trade's message.
- The beliefs behind `ucb` and its like were found on worlds of real bars with a hidden skill (other
  symbols, other skill), and on simulations like A, B and C ([decisions/0011](decisions/0011-policies.md)):
  these figures may flatter them.
"""


def page(document: Mapping[str, Any]) -> str:
    """Give the page of a run."""
    tracks = document["tracks"]
    parts = [_INTRODUCTION, "## In short\n", _table(_overview(tracks)), ""]
    parts += [f"- {line}" for track in tracks for line in verdicts(track)]
    for track in tracks:
        parts += [f"\n## {track['name']}: {track['title']}\n", _size(track) + "\n"]
        parts += [_table(_rows(track)), "", _others(track)]
    parts += ["\n## What this does not show\n", _LIMITS, "## Conditions\n", *_conditions(document)]
    return "\n".join(parts).rstrip() + "\n"


def as_text(document: Mapping[str, Any]) -> str:
    """Give the figures for a terminal."""
    parts = []
    for track in document["tracks"]:
        parts += [f"\n{track['name']}: {track['title']}; {_size(track)}", _columns(_rows(track))]
        parts += verdicts(track)
    parts += ["", *_conditions(document)]
    return re.sub(r"[*`]", "", "\n".join(parts))


def verdicts(track: Mapping[str, Any]) -> list[str]:
    """Say who wins, and against whom nothing can be told."""
    by_name = {one["name"]: one for one in track["contestants"]}
    own, named = [name for name in by_name if is_own(name)], track["name"]
    if track["units"] < LEAST_UNITS:
        return [f"{named}: not enough data for intervals."]
    lines = [
        f"{named}: `{own[0]}` is the best of the worker's policies: {_against(track, own[0])}."
    ]
    if own[0] != SHIPPED:
        lines.append(f"{named}: `{SHIPPED}`, the default: {_against(track, SHIPPED)}.")
    if (narrowed := Entrant(SHIPPED, "suitable").name) in by_name:
        lines.append(
            f"{named}: `{narrowed}`, as the worker is set up by default: {_against(track, narrowed)}."
        )
    for rival in (ALWAYS, SPECIFIED):
        signs = {name: _sign(by_name[name]["gains"].get(rival)) for name in own}
        for word, sign in (("ahead of", 1), ("behind", -1)):
            if found := [f"`{name}`" for name in own if signs[name] == sign]:
                lines.append(f"{named}: {word} `{rival}`: {', '.join(found)}.")
    libraries = track["best_of"].values()
    if found := [f"`{n}`" for n in libraries if _sign(by_name[n]["gains"][ALWAYS]) > 0]:
        lines.append(f"{named}: of the libraries ahead of `{ALWAYS}`: {', '.join(found)}.")
    reachable = [name for name in by_name if name not in {ALWAYS, *HINDSIGHT}]
    if not any(_sign(by_name[name]["gains"][ALWAYS]) > 0 for name in reachable):
        why = "it is the best there is" if named == "A" else "not enough data"
        lines.append(f"{named}: nobody, libraries included, beats `{ALWAYS}`: {why}.")
    return lines


def _against(track: Mapping[str, Any], name: str) -> str:
    gains = next(one["gains"] for one in track["contestants"] if one["name"] == name)
    rivals = [ALWAYS, UNIFORM, SPECIFIED, *track["best_of"].values()]
    words = {1: "ahead of", 0: "not told apart from", -1: "behind"}
    return "; ".join(
        f"{words[_sign(gains[rival])]} `{rival}` ({_gain(track, gains[rival])})"
        for rival in rivals
        if gains.get(rival)
    )


def is_own(name: str) -> bool:
    """Tell whether a contestant is one of the worker's ways to be set up."""
    return name.removesuffix(f", {SUITABLE_ONLY}") in {one.name for one in ENTRANTS}


def _sign(gain: Sequence[float] | None) -> int:
    if gain is None:
        return 0
    _, low, high = gain
    return 1 if low > 0.0 else -1 if high < 0.0 else 0


def _overview(tracks: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    names = [
        *(one.name for one in ENTRANTS),
        *dict.fromkeys(library for track in tracks for library in track["best_of"]),
        ALWAYS,
        UNIFORM,
    ]
    rows = [["", *(f"{track['name']}, {_unit(track)}" for track in tracks)]]
    for name in names:
        cells = []
        for track in tracks:
            by_name = {one["name"]: one for one in track["contestants"]}
            found = by_name.get(track["best_of"].get(name, name))
            cells.append("" if found is None else _score(track, found["mean"]))
        rows.append([f"{name}, the best setting" if name in tracks[0]["best_of"] else name, *cells])
    return rows


def _rows(track: Mapping[str, Any]) -> list[list[str]]:
    best = track["best_of"]
    rivals = {"default": ALWAYS, UNIFORM: UNIFORM, SPECIFIED: SPECIFIED, **best}
    share = ["share of ceiling"] if track["has_prices"] else []
    head = ["", _unit(track), *share, *(f"less {rival}" for rival in rivals), "us"]
    rows = [head]
    for one in track["contestants"]:
        name = one["name"]
        if library_of(name) and name not in best.values():
            continue
        gains = [_gain(track, one["gains"].get(rival)) for rival in rivals.values()]
        if track["has_prices"]:
            gains = [_share(one["share"]), *gains]
        us = "" if one["us"] is None else f"{one['us']:.0f}"
        rows.append([name, _score(track, one["mean"], one["interval"]), *gains, us])
    return rows


def _others(track: Mapping[str, Any]) -> str:
    """Tell what else was tried of each library."""
    lines = []
    for library, name in track["best_of"].items():
        tried = [one for one in track["contestants"] if library_of(one["name"]) == library]
        rest = ", ".join(
            f"{one['name'].partition(': ')[2]} {_score(track, one['mean'])}"
            for one in tried
            if one["name"] != name
        )
        lines.append(f"- {library}: the best of {len(tried)}; the others: {rest}")
    return "\n".join(lines)


def _size(track: Mapping[str, Any]) -> str:
    units = "weeks" if track["name"] == "RULES" else "of them"
    text = (
        f"{track['worlds']} worlds, {track['signals']:,} trades; {track['units']} {units} resampled"
    )
    return text if track["units"] >= LEAST_UNITS else f"{text}: too few for intervals"


def _unit(track: Mapping[str, Any]) -> str:
    return "mean R" if track["has_prices"] else "optimal picks"


def _score(track: Mapping[str, Any], mean: float, bounds: Sequence[float] | None = None) -> str:
    if track["has_prices"]:
        return f"{mean:+.3f}" + ("" if not bounds else f" ({bounds[1]:+.3f} .. {bounds[2]:+.3f})")
    text = f"{100 * mean:.1f} %"
    return text if not bounds else f"{text} ({100 * bounds[1]:.1f} .. {100 * bounds[2]:.1f})"


def _gain(track: Mapping[str, Any], gain: Sequence[float] | None) -> str:
    if gain is None:
        return ""
    size, digits = (1, 3) if track["has_prices"] else (100, 1)
    value, low, high = (f"{size * bound:+.{digits}f}" for bound in gain)
    return f"**{value}** ({low} .. {high})" if _sign(gain) else f"{value} ({low} .. {high})"


def _share(share: Sequence[float] | None) -> str:
    if share is None:
        return ""
    value, low, high = (f"{100 * bound:.0f}" for bound in share)
    return f"{value} % ({low} .. {high})"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    plain = [[cell.replace("*", "") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in plain
    )


def _conditions(document: Mapping[str, Any]) -> list[str]:
    machine = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    lines = [
        (
            f"- {document['made_at']}; {document['seconds'] / 60:.1f} minutes, "
            f"{document['processes']} processes"
        ),
        (
            f"- {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"{machine['system']}; load average at the end "
            f"{document['load_at_end'][0]:.1f}"
        ),
        f"- {versions}",
        f"- seeds from 0: `--seeds {document['seeds']}`; the same seeds give the same choices",
    ]
    return lines + [f"- not installed, and left out: {title}" for title in document["missing"]]


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(Path(sys.argv[1]).read_text())))
