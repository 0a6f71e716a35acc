"""Bandit libraries on the same worlds, run by the interpreter of their own environment.

    python -m quality.peers FOLDER PART PARTS

Each has a learner of its own for each symbol and regime, or is told them as features. Settings are
those of their guides; a few of each, since guides leave open which one suits.
"""

import json
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from lab.measures import Floats
from quality.worlds import Chooser, Question, World, play

ARMS = tuple(range(7))
LIBRARIES = {"river": "River", "mabwiser": "MABWiser", "vowpalwabbit": "Vowpal Wabbit"}
"""What people call the packages."""

_SYMBOLS, _REGIMES = 2, 7
_BATCH = 16  # rewards: a linear model of MABWiser takes some ms to learn, of one or of many

Maker = Callable[[int], Chooser]
"""Makes a chooser from a seed."""


class RiverBandits:
    """A bandit of River for each symbol and regime.

    Args:
        make: Makes one from a seed.
        seed: Of all draws.
    """

    def __init__(self, make: Callable[[int], Any], seed: int) -> None:
        self._make, self._seed = make, seed
        self._bandits: dict[Hashable, Any] = {}

    def choose(self, question: Question) -> int:
        """Give the column of a strategy."""
        return int(self._of(question).pull(list(ARMS)))

    def learn(self, question: Question, arm: int, reward: float) -> None:
        """Take a reward."""
        self._of(question).update(arm, reward)

    def _of(self, question: Question) -> Any:
        place = question.symbol * _REGIMES + question.regime
        if place not in self._bandits:
            self._bandits[place] = self._make(self._seed * 100 + place)
        return self._bandits[place]


class MabWiserBandits:
    """A bandit of MABWiser for each symbol and regime, after each strategy was tried once.

    An arm without rewards counts as 0 there: without a first round most would stay untried.

    Args:
        policy: Its learning policy.
        seed: Of all draws.
    """

    def __init__(self, policy: Any, seed: int) -> None:
        self._policy, self._seed = policy, seed
        self._bandits: dict[int, Any] = {}
        self._tried: dict[int, int] = {}

    def choose(self, question: Question) -> int:
        """Give the column of a strategy."""
        place = question.symbol * _REGIMES + question.regime
        tried = self._tried.get(place, 0)
        if tried < len(ARMS) or place not in self._bandits:
            self._tried[place] = tried + 1
            return ARMS[tried % len(ARMS)]
        return int(self._bandits[place].predict())

    def learn(self, question: Question, arm: int, reward: float) -> None:
        """Take a reward."""
        from mabwiser.mab import MAB

        place = question.symbol * _REGIMES + question.regime
        if place in self._bandits:
            self._bandits[place].partial_fit([arm], [reward])
            return
        bandit = MAB(list(ARMS), self._policy, seed=self._seed * 100 + place)
        bandit.fit([arm], [reward])
        self._bandits[place] = bandit


class MabWiserLinear:
    """A linear bandit of MABWiser over symbol, regime, both, and what is measured of a signal.

    It is fed in batches; strategies come by turns before the first.

    Args:
        policy: Its learning policy.
        seed: Of all draws.
    """

    def __init__(self, policy: Any, seed: int) -> None:
        from mabwiser.mab import MAB

        self._bandit = MAB(list(ARMS), policy, seed=seed)
        self._is_fitted = False
        self._batch: list[tuple[int, float, Floats]] = []

    def choose(self, question: Question) -> int:
        """Give the column of a strategy."""
        if not self._is_fitted:
            return ARMS[question.number % len(ARMS)]
        return int(self._bandit.predict([_features(question)]))

    def learn(self, question: Question, arm: int, reward: float) -> None:
        """Take a reward."""
        self._batch.append((arm, reward, _features(question)))
        if len(self._batch) == _BATCH:
            arms, rewards, features = map(list, zip(*self._batch, strict=True))
            learn = self._bandit.partial_fit if self._is_fitted else self._bandit.fit
            learn(arms, rewards, features)
            self._is_fitted = True
            self._batch.clear()


def _features(question: Question) -> Floats:
    found = np.zeros(_SYMBOLS + _REGIMES + _SYMBOLS * _REGIMES + len(question.features))
    found[question.symbol] = found[_SYMBOLS + question.regime] = 1.0
    found[_SYMBOLS + _REGIMES + question.symbol * _REGIMES + question.regime] = 1.0
    found[len(found) - len(question.features) :] = question.features
    return found


class VowpalBandit:
    """A contextual bandit of Vowpal Wabbit: symbol, regime and what is measured, crossed with the action.

    Args:
        explore: How it explores, as its command line says it.
        seed: Of all draws.
    """

    def __init__(self, explore: str, seed: int) -> None:
        import vowpalwabbit

        self._workspace = vowpalwabbit.Workspace(
            f"--cb_explore_adf {explore} -q ra -q sa -q fa --cubic rsa --quiet --random_seed {seed + 1}"
        )
        self._random = Random(seed)
        self._probabilities: dict[int, float] = {}

    def choose(self, question: Question) -> int:
        """Give the column of a strategy."""
        shares: list[float] = self._workspace.predict(self._lines(question))
        arm = self._random.choices(ARMS, shares)[0]
        self._probabilities[question.number] = shares[arm]
        return arm

    def learn(self, question: Question, arm: int, reward: float) -> None:
        """Take a reward, as a cost with the probability that it had."""
        lines = self._lines(question)
        probability = self._probabilities.pop(question.number)
        lines[1 + arm] = f"{arm}:{-reward:.6f}:{probability:.6f} {lines[1 + arm]}"
        self._workspace.learn(lines)

    @staticmethod
    def _lines(question: Question) -> list[str]:
        shared = f"shared |r r{question.regime} |s s{question.symbol}"
        if question.features:
            measured = " ".join(f"{n}:{value:.6f}" for n, value in enumerate(question.features))
            shared += f" |f {measured}"
        return [shared, *(f"|a a{arm}" for arm in ARMS)]


def river() -> dict[str, Maker]:
    """Give the contestants of River, by name."""
    from river import bandit, proba

    makers: dict[str, Callable[[int], Any]] = {
        "EpsilonGreedy 0.1": lambda seed: bandit.EpsilonGreedy(epsilon=0.1, seed=seed),
        "EpsilonGreedy 0.1, each arm first": lambda seed: bandit.EpsilonGreedy(
            epsilon=0.1, burn_in=1, seed=seed
        ),
        "UCB 1": lambda seed: bandit.UCB(delta=1.0, seed=seed),
        # of one reward there is no deviation yet
        "ThompsonSampling, each arm twice first": lambda seed: bandit.ThompsonSampling(
            reward_obj=proba.Gaussian(), burn_in=2, seed=seed
        ),
        "EpsilonGreedy 0.2, falling, each arm first": lambda seed: bandit.EpsilonGreedy(
            epsilon=0.2, decay=0.005, burn_in=1, seed=seed
        ),
    }
    return {
        name: lambda seed, make=make: RiverBandits(make, seed)  # type: ignore[misc]
        for name, make in makers.items()
    }


def mabwiser(*, is_one_context: bool) -> dict[str, Maker]:
    """Give the contestants of MABWiser, by name; with one context there is nothing linear."""
    from mabwiser.mab import LearningPolicy

    bandits = {
        "EpsilonGreedy 0.1": LearningPolicy.EpsilonGreedy(epsilon=0.1),
        "UCB1 1": LearningPolicy.UCB1(alpha=1.0),
        "Softmax 0.3": LearningPolicy.Softmax(tau=0.3),
    }
    linear = {
        "LinUCB 1": LearningPolicy.LinUCB(alpha=1.0, l2_lambda=1.0),
        "LinTS 1": LearningPolicy.LinTS(alpha=1.0, l2_lambda=1.0),
    }
    makers: dict[str, Maker] = {
        name: lambda seed, policy=policy: MabWiserBandits(policy, seed)  # type: ignore[misc]
        for name, policy in bandits.items()
    }
    if not is_one_context:
        makers |= {
            name: lambda seed, policy=policy: MabWiserLinear(policy, seed)  # type: ignore[misc]
            for name, policy in linear.items()
        }
    return makers


def vowpal() -> dict[str, Maker]:
    """Give the contestants of Vowpal Wabbit, by name."""
    return {
        name: lambda seed, name=name: VowpalBandit(f"--{name}", seed)  # type: ignore[misc]
        for name in ("epsilon 0.1", "squarecb", "bag 5")
    }


def installed() -> dict[str, str]:
    """Give the versions of the libraries that can be used."""
    found = {}
    for package in LIBRARIES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def contestants(packages: Sequence[str], world: World) -> dict[str, Maker]:
    """Give all contestants, by `library: settings`."""
    is_one_context = (
        not world.features.size
        and len({*zip(world.symbols.tolist(), world.regimes.tolist(), strict=True)}) == 1
    )
    makers = {
        "river": river,
        "mabwiser": lambda: mabwiser(is_one_context=is_one_context),
        "vowpalwabbit": vowpal,
    }
    return {
        f"{LIBRARIES[package]}: {name}": maker
        for package in packages
        for name, maker in makers[package]().items()
    }


def main(folder: Path, part: int, parts: int) -> None:
    """Play a part of the worlds in a folder; the choices are written beside each."""
    packages = installed()
    (folder / "peers.json").write_text(json.dumps(packages))
    # the long worlds come first: none is left for the end while the other part is done
    for path in sorted(folder.glob("*.world.npz"), reverse=True)[part::parts]:
        world = World.load(path)
        track, seed, *_ = path.name.split(".")
        done: dict[str, Any] = {}
        for name, make in contestants(list(packages), world).items():
            began = time.process_time()
            done[name] = play(make(int(seed)), world)
            done[f"us:{name}"] = (time.process_time() - began) / len(world) * 1e6
        np.savez_compressed(folder / f"{track}.{seed}.peers.npz", **done)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
