"""What a run came to: a line for each invariant, JSON under chaos/results, docs/chaos.md."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.machine import describe_machine
from chaos.fleet import ROOT

RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "chaos.md"


class Line(NamedTuple):
    """One invariant: what was counted, and whether it held."""

    name: str
    holds: bool
    text: str


def invariants(result: Mapping[str, Any]) -> list[Line]:
    """Give a line for each invariant of a judged run."""
    found, faults = result["findings"], result["faults"]
    counts, stops = faults["counts"], result["stops"]
    hashes = result["hashes"]
    struck = sum(faults["struck"].values()) - faults["struck"].get("anywhere", 0)
    idle = result["idle_loss"]
    slowest_s = max((took for _, took in stops), default=0.0)
    bad_stops = sum(code != 0 for code, _ in stops)
    inputs_left = sum(result["lag"].values())
    is_exact = result.get("guarantee") != "at_least_once"
    doubled = found["doubled"] if is_exact else 0
    letters_doubled = found["letters_too_many"] if is_exact else 0
    told_again = found.get("told_again", 0) if is_exact else 0
    papers = ""
    if result.get("candles"):
        papers = f"; {found['outcomes']:,} outcomes on paper of {found['candles']:,} candles"
    return [
        Line(
            f"I1 {'exactly' if is_exact else 'at least'} one answer",
            not (found["missing"] or doubled or found["unasked"] or found["wrong"]),
            f"{found['signals']:,} signals: {found['decisions']:,} decisions, {found['bad']:,} dead "
            f"letters, {found['repeats']:,} repeats; missing {found['missing']}, doubled "
            f"{found['doubled']}, unasked {found['unasked']}, wrong {found['wrong']}",
        ),
        Line("I2 order kept", not found["out_of_order"], f"out of order {found['out_of_order']}"),
        Line(
            f"I3 all of a batch{' or nothing' if is_exact else ''}",
            not (found["missing"] or doubled or inputs_left),
            f"{counts.get('kills', 0)} kills, {struck} strikes at {len(faults['struck'])} places; "
            f"offsets behind the logs' ends {inputs_left}",
        ),
        Line(
            "I4 no commit of a former owner",
            not doubled,
            f"{counts.get('pauses', 0)} pauses, {faults['kept_pauses']} beyond the session; fenced "
            f"{result['fenced']}; doubled {found['doubled']}",
        ),
        Line(
            "I5 Redis is the fold of the logs",
            not (found["cells_differing"] or hashes["hashes_differing"]),
            f"{counts.get('redis losses', 0)} losses; {found['cells']:,} cells beside the oracle, "
            f"differing {found['cells_differing']}; {hashes['hashes']:,} hashes beside a rebuild, "
            f"differing {hashes['hashes_differing']}",
        ),
        Line(
            "I6 each trade once",
            not (found["cells_differing"] or found["told_wrong"] or told_again),
            f"{found['trades']:,} trades, {found['learned']:,} learned, {found['repeated_trades']:,} "
            f"repeated, {found['corrected_trades']:,} corrected{papers}; told to other partitions "
            f"{found['told']:,} times, again {found.get('told_again', 0)}, wrongly {found['told_wrong']}",
        ),
        Line(
            "I7 a loss is noticed when idle",
            idle["noticed_s"] >= 0 and idle["whole_s"] >= 0,
            f"noticed after {idle['noticed_s']:.1f} s, whole after {idle['whole_s']:.1f} s; rewinds "
            f"{result['rewinds']}",
        ),
        Line(
            "I8 no input stops a partition",
            not (found["letters_missing"] or letters_doubled),
            f"{found['bad'] + found['refused_trades']:,} bad messages; dead letters missing "
            f"{found['letters_missing']}, too many {found['letters_too_many']}",
        ),
        Line(
            "I9 never decided from an empty table",
            not found["wrong"],
            f"{found['degraded']:,} decisions marked degraded; not from the table they name "
            f"{found['wrong']}",
        ),
        Line(
            "I10 SIGTERM ends in time",
            not bad_stops,
            f"{len(stops)} stops, slowest {slowest_s:.1f} s, not clean {bad_stops}",
        ),
        Line(
            "I11 goes on by itself",
            not (inputs_left or result["unasked_exits"] or faults["failures"]),
            f"all worked off {result['settled_s']:.1f} s after the last fault; ended unasked "
            f"{sum(result['unasked_exits'].values())}; lag {inputs_left}",
        ),
        Line(
            "I12 the same decision again",
            not found["replays_differing"],
            f"{found['replayed']:,} made again from the logs, differing "
            f"{found['replays_differing']}; {counts.get('clock jumps', 0)} clock jumps",
        ),
        Line(
            "I13 no secret, no payload in output",
            not result["secrets"],
            f"canaries found {result['secrets']}",
        ),
    ]


def holds(result: Mapping[str, Any]) -> bool:
    """Tell whether all invariants held, where they were looked at, and what else is promised."""
    if result["what"] == "takeover":
        return True  # a measure: there is nothing to break
    if result["what"] == "stops" and result["in_time"] < result["count"]:
        return False
    if any(found["exit_code"] != 1 for found in result.get("refusals", {}).values()):
        return False
    return all(line.holds for line in invariants(result))


def as_text(lines: Sequence[Line]) -> str:
    """Give the table for the terminal."""
    width = max(len(line.name) for line in lines)
    return "\n".join(
        f"{'ok      ' if line.holds else 'VIOLATED'}  {line.name:{width}}  {line.text}"
        for line in lines
    )


def show(result: Mapping[str, Any]) -> None:
    """Print what a run came to."""
    print(f"\n{result['what']}: seed {result['seed']}")
    for name, text in _own(result):
        print(f"{name}: {text}")
    if "findings" not in result:
        return
    faults = result["faults"]
    print(_counts("faults", faults["counts"]))
    print(_counts("struck", faults["struck"]))
    print(_counts("readiness", faults["readiness"]))
    print(as_text(invariants(result)))
    for text in (*faults["failures"], *result["findings"]["examples"]):
        print(f"  ! {text}")
    for name, tail in result["tails"].items():
        print(f"  ! {name} ended unasked, or not cleanly:\n{tail}")


def _own(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give what a measure shows besides the invariants."""
    if "took_s" in result:
        yield "took", f"{result['took_s']:.0f} s"
    for name, p50_s in result.get("p50_s", {}).items():
        yield f"gap of {name}", f"p50 {p50_s:.2f} s, p99 {result['p99_s'][name]:.2f} s"
    for kind, seconds in result.get("exit_s", {}).items():
        if seconds:
            codes = sorted({str(code) for code in result["exit_codes"][kind]})
            yield kind, f"{len(seconds)} stops, longest {max(seconds):.1f} s, codes {codes}"
    if "in_time" in result:
        yield "stops in time", f"{result['in_time']} of {result['count']}"
    if "rss_slope_mib_per_h" in result:
        yield (
            "memory",
            (
                f"{result['rss_start_mib']:.0f} MiB, then {result['rss_end_mib']:.0f} MiB; slope "
                f"{result['rss_slope_mib_per_h']:+.1f} MiB/h; furthest behind {result['behind_most']:,}"
            ),
        )
    for what, found in result.get("refusals", {}).items():
        yield f"refused, {what}", f"exit code {found['exit_code']}: {found['line']}"
    for number, leaders in enumerate(result.get("coordinators", ())):
        yield ("leaders after" if number else "leaders before"), _counts("", leaders)


def _counts(title: str, counts: Mapping[str, int]) -> str:
    return f"{title}: ".lstrip(": ") + ", ".join(
        f"{n} {name}" for name, n in sorted(counts.items())
    )


def save(result: Mapping[str, Any]) -> Path:
    """Write a result down."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result['what']}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    whole = {
        "made_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": describe_machine(),
        **result,
    }
    path.write_text(json.dumps(whole, indent=2) + "\n")
    return path
