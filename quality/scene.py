"""A world as the worker's own code needs it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from consumer.domain.regime import RegimeResult
from lab.outcomes import Outcomes
from quality.worlds import World


class Scene(NamedTuple):
    """One world, and what the worker is told beside it."""

    world: World
    regimes: Sequence[RegimeResult]
    """Of each signal."""
    path_of: Callable[[int, int], Mapping[str, Any]] | None = None
    """Gives a closed trade's prices from its signal and strategy; None where there are none."""
    outcomes: Outcomes | None = None
    """Signals and bars behind it; None where there are none."""
