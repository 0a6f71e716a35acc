"""Histories of signals in which the outcome of every strategy is known.

Imports numpy alone: the peers' environment has nothing of the worker's.
"""

import heapq
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from lab.measures import Floats, Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Signals (rows) in the order of their times, and strategies (columns)."""

    rewards: Floats
    """What each strategy earns on each signal [R: one ATR]."""
    is_best: Bools
    """Whether a strategy has the highest mean there; nowhere where that is not known."""
    decided_ms: Ints
    """When each signal is decided [Unix ms]; does not fall."""
    closed_ms: Ints
    """When each strategy's trade closes [Unix ms]: its reward is not known before."""
    is_open: Bools
    """Whether the data end before the trade does: its reward is never known."""
    symbols: Ints
    """Number of each signal's symbol."""
    regimes: Ints
    """Number of each signal's regime."""
    default: int
    """Column of the default strategy."""
    features: Floats
    """What is measured of each signal, each -1 to 1; no columns where nothing is."""

    def __len__(self) -> int:
        return len(self.rewards)

    def earned(self, arms: Ints) -> Floats:
        """Give what choices earned [R]."""
        found: Floats = self.rewards[np.arange(len(self)), arms]
        return found

    def hits(self, arms: Ints) -> Floats:
        """Tell which choices were the best there is: 1, else 0."""
        return self.is_best[np.arange(len(self)), arms].astype(np.float64)

    def save(self, path: Path) -> None:
        """Write it to a file."""
        np.savez_compressed(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path) as held:
            content = dict(held)
        return cls(**content | {"default": int(content["default"])})


class Question(NamedTuple):
    """What a chooser is told of a signal."""

    number: int
    symbol: int
    regime: int
    features: tuple[float, ...] = ()


class Chooser(Protocol):
    """Who chooses strategies and learns of their rewards."""

    def choose(self, question: Question) -> int:
        """Give the column of a strategy."""

    def learn(self, question: Question, arm: int, reward: float) -> None:
        """Take the reward [R] of an earlier choice, whose trade has closed."""


def play(chooser: Chooser, world: World) -> Ints:
    """Let a chooser decide all signals; give the column of each choice.

    Before a signal is decided, the rewards of the trades that have closed by then are handed back,
    in the order of their closing.
    """
    arms = np.zeros(len(world), dtype=np.int64)
    running: list[tuple[int, int]] = []
    questions = [
        Question(number, int(symbol), int(regime), tuple(features))
        for number, (symbol, regime, features) in enumerate(
            zip(world.symbols, world.regimes, world.features.tolist(), strict=True)
        )
    ]

    def ended(until_ms: int) -> Iterator[int]:
        while running and running[0][0] <= until_ms:
            yield heapq.heappop(running)[1]

    for question, now_ms in zip(questions, world.decided_ms.tolist(), strict=True):
        for earlier in ended(now_ms):
            arm = int(arms[earlier])
            chooser.learn(questions[earlier], arm, float(world.rewards[earlier, arm]))
        arm = arms[question.number] = chooser.choose(question)
        if not world.is_open[question.number, arm]:
            heapq.heappush(running, (int(world.closed_ms[question.number, arm]), question.number))
    return arms


class Always:
    """Takes one strategy, whatever comes.

    Args:
        arm: Its column.
    """

    def __init__(self, arm: int) -> None:
        self._arm = arm

    def choose(self, question: Question) -> int:  # noqa: ARG002 - the same for all
        """Give the column of the strategy."""
        return self._arm

    def learn(self, question: Question, arm: int, reward: float) -> None:
        """Learn nothing."""


class Uniform:
    """Draws a strategy, each as often as any other.

    Args:
        arms: How many there are.
        seed: Of the draws.
    """

    def __init__(self, arms: int, seed: int) -> None:
        self._arms = arms
        self._random = Random(seed)

    def choose(self, question: Question) -> int:  # noqa: ARG002 - nothing is asked for
        """Give the column of a strategy."""
        return int(self._random.random() * self._arms)

    def learn(self, question: Question, arm: int, reward: float) -> None:
        """Learn nothing."""


def hindsight(world: World, groups: Ints) -> Ints:
    """Choose the best strategy of each group of signals, knowing all outcomes: nobody can.

    Args:
        world: With the outcomes.
        groups: Number of each signal's group, from 0.
    """
    sums = np.stack([np.bincount(groups, weights=column) for column in world.rewards.T], axis=1)
    best: Ints = sums.argmax(axis=1)
    return best[groups]
