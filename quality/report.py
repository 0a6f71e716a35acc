"""Worlds and choices -> the figures of a track."""

from collections.abc import Mapping, Sequence
from typing import Any

from consumer.domain.policies.catalog import PolicyName
from consumer.settings import Settings
from lab.measures import Ints
from quality.peers import LIBRARIES
from quality.scoring import CEILING, SINGLE, Tally
from quality.tracks import ALWAYS, UNIFORM, Track
from quality.worlds import World

SHIPPED: PolicyName = Settings.model_fields["meta_strategy_policy"].default
"""The policy that settings have by default."""
SPECIFIED = "epsilon_greedy"
"""The rule that the worker was specified with: all are compared with it."""
HINDSIGHT = (CEILING, SINGLE)


def library_of(name: str) -> str:
    """Give the library that a contestant is of; nothing for the others."""
    library, colon, _ = name.partition(": ")
    return library if colon and library in LIBRARIES.values() else ""


def best_of(tally: Tally) -> dict[str, str]:
    """Give the contestant with the best score of each library: the choice that favours it."""
    found: dict[str, str] = {}
    for name in tally.values:
        library = library_of(name)
        if library and (library not in found or tally.mean(name) > tally.mean(found[library])):
            found[library] = name
    return found


def measured(
    track: Track,
    worlds: Sequence[World],
    arms: Sequence[Mapping[str, Ints]],
    times: Mapping[str, float],
) -> dict[str, Any]:
    """Give all figures of a track.

    Args:
        track: Which one.
        worlds: All that were played.
        arms: Choices of each contestant in each.
        times: Of a choice and its reward, by contestant [us].
    """
    tally = track.tally(worlds, arms)
    names = sorted(tally.values, key=tally.mean, reverse=True)
    best = best_of(tally)
    rivals = [ALWAYS, UNIFORM, SPECIFIED, *(name for name in names if library_of(name))]
    return {
        "name": track.name,
        "title": track.title,
        "has_prices": track.has_prices,
        "worlds": len(worlds),
        "signals": sum(map(len, worlds)),
        "units": len(tally.counts),
        "best_of": best,
        "contestants": [
            {
                "name": name,
                "mean": tally.mean(name),
                "interval": tally.score(name),
                "share": tally.share(name, ALWAYS),
                "gains": {rival: tally.gain(name, rival) for rival in rivals if rival != name},
                "us": times.get(name),
            }
            for name in names
        ],
    }
