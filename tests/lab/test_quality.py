"""The measure of choices has to be right before its figures say anything."""

import json
from dataclasses import asdict, replace
from functools import cache
from random import Random

import numpy as np
import pytest

from consumer import settings
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.local.market_bars import BarSeries, shipped_bars
from consumer.local.paper_signals import Entry
from lab import backtest
from lab.progress import silent
from quality.market import Skill, informed_entry, rules, skilled
from quality.page import as_text, is_own, page
from quality.peers import VowpalBandit, contestants
from quality.product import ENTRANTS, NARROWED, Entrant, Product, entrants
from quality.report import measured
from quality.scene import Scene
from quality.scoring import CEILING, SINGLE, Tally, interval, tally_picks, tally_profits
from quality.simulated import ARMS, DEFAULT, changing, shuffled, specified, telling
from quality.tracks import ALWAYS, BY_NAME, UNIFORM, Track, choosers
from quality.worlds import Always, Question, Uniform, World, hindsight, play


@cache
def bars() -> list[BarSeries]:
    """Walking all of them takes a while."""
    return [replace(series, bars=series.bars[:700]) for series in shipped_bars()]


@cache
def ruled() -> Scene:
    return rules(0, count=240, series=bars())


@cache
def informed() -> Scene:
    return skilled(0, count=240, series=bars())


def part(world: World, rows: slice) -> World:
    arrays = {name: value[rows] for name, value in asdict(world).items() if name != "default"}
    return World(**arrays, default=world.default)


class Oracle:
    """Knows the best strategy of each signal."""

    def __init__(self, world: World) -> None:
        self._best = world.is_best.argmax(axis=1)

    def choose(self, question: Question) -> int:
        return int(self._best[question.number])

    def learn(self, question: Question, arm: int, reward: float) -> None:
        pass


class Recorder(Always):
    """Writes down what it is asked and told, in order."""

    def __init__(self, arm: int) -> None:
        super().__init__(arm)
        self.events: list[tuple[str, int, float]] = []

    def choose(self, question: Question) -> int:
        self.events.append(("asked", question.number, 0.0))
        return super().choose(question)

    def learn(self, question: Question, arm: int, reward: float) -> None:
        self.events.append(("told", question.number, reward))


def make_world(
    *,
    closed_ms: list[int],
    rewards: list[float] | None = None,
    is_open: list[bool] | None = None,
) -> World:
    """Signals at 0, 10, 20 ... ms with one strategy."""
    n = len(closed_ms)
    return World(
        rewards=np.array(rewards or [float(number) for number in range(n)])[:, None],
        is_best=np.ones((n, 1), dtype=np.bool_),
        decided_ms=np.arange(n) * 10,
        closed_ms=np.array(closed_ms)[:, None],
        is_open=np.array(is_open or [False] * n)[:, None],
        symbols=np.zeros(n, dtype=np.int64),
        regimes=np.zeros(n, dtype=np.int64),
        default=0,
        features=np.zeros((n, 0)),
    )


def share_of_hits(world: World, chooser) -> float:
    return float(world.hits(play(chooser, world)).mean())


@pytest.mark.parametrize("make", [specified, shuffled, changing])
def test_an_oracle_always_picks_the_best(make) -> None:
    world = make(3).world

    assert share_of_hits(world, Oracle(world)) == 1.0


def test_the_default_has_all_of_the_specifications_simulation() -> None:
    """Which is why that simulation alone proves nothing."""
    world = specified(0).world

    assert share_of_hits(world, Always(world.default)) == 1.0


def test_the_default_is_the_best_in_one_of_seven_shuffled_worlds() -> None:
    worlds = [shuffled(seed).world for seed in range(300)]

    share = np.mean([share_of_hits(world, Always(world.default)) for world in worlds])
    best = np.bincount([world.is_best[0].argmax() for world in worlds], minlength=7) / len(worlds)

    # over 4 standard errors of a share of 1/7 at 300
    assert share == pytest.approx(1 / 7, abs=0.085)
    assert best == pytest.approx(np.full(7, 1 / 7), abs=0.085)


def test_drawn_rewards_are_those_of_the_specification() -> None:
    rewards = np.concatenate([specified(seed).world.rewards for seed in range(100)])
    others = np.arange(len(ARMS)) != DEFAULT

    # 10,000 draws: over 4 standard errors
    assert rewards[:, DEFAULT].mean() == pytest.approx(3.0, abs=0.09)
    assert rewards[:, DEFAULT].std() == pytest.approx(2.0, abs=0.07)
    assert rewards[:, others].mean(axis=0) == pytest.approx(np.full(6, 1.5), abs=0.07)
    assert rewards[:, others].std(axis=0) == pytest.approx(np.full(6, 1.5), abs=0.05)


def test_every_regime_has_a_best_strategy_of_its_own_and_all_of_them_change() -> None:
    world = changing(5).world
    half = len(world) // 2

    tables = []
    for part in (slice(0, half), slice(half, None)):
        best, regimes = world.is_best[part].argmax(axis=1), world.regimes[part]
        tables.append([set(best[regimes == regime].tolist()) for regime in range(7)])

    for table in tables:
        assert all(len(found) == 1 for found in table)
        assert len(set.union(*table)) == 7
    assert all(early != late for early, late in zip(*tables, strict=True))


def test_rewards_come_in_the_order_of_closing_and_never_before() -> None:
    world = make_world(closed_ms=[25, 20, 21, 39, 41], rewards=[0.1, 0.2, 0.3, 0.4, 0.5])
    recorder = Recorder(0)

    play(recorder, world)

    assert recorder.events == [
        ("asked", 0, 0.0),
        ("asked", 1, 0.0),
        ("told", 1, 0.2),  # closed at the very moment of the next signal
        ("asked", 2, 0.0),
        ("told", 2, 0.3),
        ("told", 0, 0.1),
        ("asked", 3, 0.0),
        ("told", 3, 0.4),
        ("asked", 4, 0.0),
    ]


def test_a_trade_that_the_data_do_not_show_the_end_of_is_never_learned() -> None:
    world = make_world(closed_ms=[1, 11, 21], is_open=[True, False, False])
    recorder = Recorder(0)

    play(recorder, world)

    assert [number for what, number, _ in recorder.events if what == "told"] == [1]


def test_rewards_on_real_prices_are_known_only_after_their_signal() -> None:
    world = ruled().world

    assert (np.diff(world.decided_ms) >= 0).all()
    assert (world.closed_ms > world.decided_ms[:, None]).all()


def test_the_same_seed_gives_the_same_world_and_the_same_choices() -> None:
    again = skilled(0, count=240, series=bars())

    for name, value in asdict(informed().world).items():
        assert np.array_equal(value, getattr(again.world, name))
    for entrant in ENTRANTS:
        first, second = (
            play(Product(entrant, scene, 4), part(scene.world, slice(40)))
            for scene in (informed(), again)
        )
        assert (first == second).all()


@pytest.mark.parametrize(
    ("entrant", "topic"),
    [
        (Entrant("full_information"), ""),
        (Entrant("full_information", follows=True), "candles"),
        (Entrant("linear"), ""),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_choices_are_those_of_the_workers_own_pipeline(entrant: Entrant, topic: str) -> None:
    """Who is measured here must be who is shipped, paths, candles, features and delays included."""
    n = 80
    loaded = settings.load(
        meta_strategy_policy=entrant.policy,
        meta_strategy_candidates="all",
        meta_strategy_seed=0,
        kafka_candles_topic=topic,
    )
    outcomes = ruled().outcomes
    assert outcomes is not None
    names = ("entries", "walked", "net_r", "closed_ms", "is_open", "cost_r", "fees", "opened_ms")
    few = replace(outcomes, **{name: getattr(outcomes, name)[:n] for name in names})
    signals = backtest.encode_signals(few, loaded.detector, track=silent)
    wanted = backtest.run(loaded, "worker", few, signals, track=silent).arms

    found = play(Product(entrant, ruled(), 0), part(ruled().world, slice(n)))

    assert (found == wanted).all()
    assert len(set(found)) > 1


def test_the_worker_is_given_what_it_needs_to_learn() -> None:
    """Of seven strategies the one that always earns most is found, whichever it is."""
    scene = changing(1)
    rewards = np.where(np.arange(7) == 2, 1.0, -1.0) + np.zeros((150, 1))
    world = replace(part(scene.world, slice(150)), rewards=rewards)

    arms = play(Product(Entrant("ucb"), scene._replace(world=world), 0), world)

    assert (arms[-50:] == 2).mean() > 0.9


def test_full_information_alone_gets_price_paths() -> None:
    asked = []

    def path_of(number: int, arm: int):
        asked.append((number, arm))
        return ruled().path_of(number, arm)

    watched, world = ruled()._replace(path_of=path_of), part(ruled().world, slice(40))
    play(Product(Entrant("ucb"), watched, 0), world)
    assert not asked

    play(Product(Entrant("full_information"), watched, 0), world)
    assert asked


def test_what_a_scene_cannot_tell_apart_is_left_out() -> None:
    assert [one.name for one in entrants(specified(0))] == [
        "epsilon_greedy",
        "ucb",
        "kernel_ucb",
        "thompson",
    ]
    assert "linear" in [one.name for one in entrants(telling(0))]
    assert len([*entrants(ruled())]) == 14


def move(entry: Entry, bars: int) -> float:
    """Of the price, from where a trade is entered, in the direction of its side [quote]."""
    series = entry.series.bars
    return (series[entry.index + bars].close - series[entry.index + 1].open) * entry.side.sign


def test_informed_sides_are_right_about_as_many_bars_as_they_are_said_to_be() -> None:
    entries = [e for e in ruled().outcomes.entries if e.index < 600]
    rng = Random(3)

    knowing, shortly, blind = (
        [informed_entry(entry, skill, rng) for entry in entries]
        for skill in (Skill(1.0, 12), Skill(1.0, 3), Skill(0.0, 12))
    )

    assert min(move(entry, 12) for entry in knowing) >= 0.0
    # where the move is given back, all are right about 3 bars; elsewhere half of them
    given_back = [move(entry, 3) * move(entry, 48) < 0.0 for entry in shortly]
    right = [move(entry, 3) > 0.0 for entry in shortly]
    assert all(one for one, back in zip(right, given_back, strict=True) if back)
    assert 0.3 < np.mean([o for o, back in zip(right, given_back, strict=True) if not back]) < 0.7
    assert np.mean([move(entry, 12) > 0.0 for entry in blind]) == pytest.approx(0.5, abs=0.15)


def test_worlds_of_skill_and_rules_share_their_moments() -> None:
    assert (informed().world.decided_ms == ruled().world.decided_ms).all()


def test_the_interval_of_equals_holds_zero() -> None:
    rng = np.random.default_rng(1)
    left, right = rng.normal(0.3, 1.0, (2, 200))
    tally = Tally({"left": left, "right": right}, np.full(200, 1.0))

    same, equal = tally.gain("left", "left"), tally.gain("left", "right")

    assert same == (0.0, 0.0, 0.0)
    assert equal.low < 0.0 < equal.high
    # the deviation of a mean of 200 differences is 0.1
    assert equal.high - equal.low == pytest.approx(2 * 1.96 * 0.1, rel=0.2)


def test_an_interval_of_too_few_units_is_none() -> None:
    assert interval(np.ones(7), np.ones(7)) is None
    assert interval(np.ones(8), np.ones(8)) == (1.0, 1.0, 1.0)
    assert interval(np.ones(8), np.zeros(8)) is None


def test_hindsight_is_all_of_the_ceiling_and_the_default_none() -> None:
    worlds = [part(ruled().world, slice(30 * n, 30 * n + 30)) for n in range(8)]
    arms = [{ALWAYS: play(Always(world.default), world)} for world in worlds]

    tally = tally_profits(worlds, arms, by_week=False)

    assert tally.share(CEILING, ALWAYS) == (1.0, 1.0, 1.0)
    assert tally.share(ALWAYS, ALWAYS) == (0.0, 0.0, 0.0)
    assert tally.mean(CEILING) >= tally.mean(SINGLE) >= tally.mean(ALWAYS)
    weekly = tally_profits(worlds, arms, by_week=True)
    assert weekly.mean(ALWAYS) == pytest.approx(tally.mean(ALWAYS))
    assert len(weekly.counts) > len(worlds)


def test_hindsight_takes_the_best_of_each_group() -> None:
    world = specified(0).world
    groups = np.arange(len(world)) % 3

    arms = hindsight(world, groups)

    for group in range(3):
        chosen = groups == group
        assert set(arms[chosen]) == {world.rewards[chosen].sum(axis=0).argmax()}


def test_a_world_is_read_as_it_was_written(tmp_path) -> None:
    world = changing(0).world

    world.save(tmp_path / "one.npz")
    found = World.load(tmp_path / "one.npz")

    for name in World.__slots__:
        assert np.array_equal(getattr(found, name), getattr(world, name))


def test_uniform_draws_every_strategy_as_often() -> None:
    world = changing(0).world

    picks = np.bincount(play(Uniform(7, 1), world), minlength=7) / len(world)

    # 3,000 draws: over 4 standard errors
    assert picks == pytest.approx(np.full(7, 1 / 7), abs=0.026)


def test_libraries_that_are_not_installed_are_no_contestants() -> None:
    assert contestants([], specified(0).world) == {}


def test_vowpal_wabbit_is_told_the_probability_of_what_was_drawn() -> None:
    """A wrong one would make it learn something else, and lose unfairly."""

    class Workspace:
        def predict(self, lines):
            return [0.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0]

        def learn(self, lines) -> None:
            self.learned = lines

    bandit = VowpalBandit.__new__(VowpalBandit)
    bandit._workspace, bandit._random, bandit._probabilities = Workspace(), Oddless(), {}
    question = Question(number=3, symbol=1, regime=4)

    arm = bandit.choose(question)
    bandit.learn(question, arm, 1.5)

    assert arm == 2
    assert bandit._workspace.learned[0] == "shared |r r4 |s s1"
    assert bandit._workspace.learned[3] == "2:-1.500000:0.250000 |a a2"

    assert bandit._lines(question._replace(features=(0.5, -1.0)))[0] == (
        "shared |r r4 |s s1 |f 0:0.500000 1:-1.000000"
    )


class Oddless:
    """Draws what has a weight."""

    def choices(self, arms, shares):
        return [arm for arm, share in zip(arms, shares, strict=True) if share]


def _document(track: Track, seeds: int) -> dict:
    worlds, arms = [], []
    for seed in range(seeds):
        scene = track.make(seed)
        made = choosers(scene, seed)
        worlds.append(scene.world)
        arms.append(
            {
                name: play(made[name](), scene.world)
                for name in ("ucb", "epsilon_greedy", ALWAYS, UNIFORM)
            }
        )
        # as if it were a library's: the page shows its best setting
        arms[-1] |= {"River: one": arms[-1]["ucb"], "River: other": arms[-1][UNIFORM]}
    found = measured(track, worlds, arms, dict.fromkeys(arms[0], 12.0))
    return {
        "made_at": "2026-01-01T00:00:00Z",
        "machine": {"processor": "P", "cores": 2, "memory_gib": 4.0, "system": "Linux"},
        "versions": {"python": "3.11"},
        "missing": ["Vowpal Wabbit"],
        "seeds": seeds,
        "processes": 2,
        "seconds": 90.0,
        "load_at_end": (0.5, 0.5, 0.5),
        "tracks": json.loads(json.dumps([found])),
    }


def test_the_page_says_who_wins_and_the_best_of_each_library() -> None:
    document = _document(BY_NAME["B"], 8)

    text, plain = page(document), as_text(document)

    assert "`ucb` is the best of the worker's policies: ahead of `always ultra_aggressive`" in text
    assert "not told apart from `River: one` (+0.0 (+0.0 .. +0.0))" in text
    assert "- River: the best of 2; the others: other 1" in text
    assert "not installed, and left out: Vowpal Wabbit" in text
    assert "8 worlds, 800 trades" in plain


def test_few_worlds_have_no_intervals() -> None:
    text = page(_document(BY_NAME["B"], 3))

    assert "too few for intervals" in text
    assert "not enough data for intervals" in text


def test_the_picks_of_a_tally_are_counted_by_seed() -> None:
    worlds = [shuffled(seed).world for seed in range(9)]

    tally = tally_picks(worlds, [{"oracle": play(Oracle(world), world)} for world in worlds])

    assert tally.score("oracle") == (1.0, 1.0, 1.0)
    assert tally.counts.tolist() == [100.0] * 9


def test_columns_are_those_of_the_profiles() -> None:
    assert list(ARMS) == list(STRATEGY_PROFILES)
    assert ARMS[DEFAULT] == "ultra_aggressive"


def test_every_way_to_set_the_worker_up_is_its_own() -> None:
    """Else the page would pass over the best of them."""
    assert all(is_own(one.name) for one in (*ENTRANTS, *NARROWED))
    assert not any(map(is_own, ("River: UCB 1", ALWAYS, UNIFORM)))
