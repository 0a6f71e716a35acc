"""Decided signals that are followed on paper, candle by candle, until every ladder has ended.

All strategies of a signal share its entry and differ only in their exits: the candles that follow tell
what each would have earned, whoever was chosen, and whether or not the signal was traded. The rules are
those of `ladder.walk`; what comes of them is the same to the last bit.

An outcome counts once all ladders of its signal have ended: stops come before targets, so whoever took
each as it ends would rank wide ladders last until the market is old.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal, NamedTuple

from consumer.domain.context import ContextKey
from consumer.domain.features import NO_FEATURES, Features
from consumer.domain.ladder import Ladder
from consumer.domain.open_decision import OpenDecision
from consumer.domain.paper import Calibration
from consumer.domain.reward import LARGEST_R, RewardUnit, in_unit
from schemas import Candle, MarketRegime, Side

MOST_FOLLOWED = 20_000
"""Signals a partition keeps, those that have ended and wait for their trade among them."""
_LATEST_ENTRY = 10
"""A candle counts for a signal that came in the first tenth of it: one made from the candle before comes
a moment after this one's open. Of a candle that was further on, too much lies before the entry."""

CandleOutcome = Literal["followed", "gap", "repeated", "out_of_order", "other_timeframe"]
"""`gap`: taken in, though it does not begin where the one before ended."""
Series = tuple[str, str]
"""Symbol and timeframe: the candles of one market."""


class Entry(NamedTuple):
    """What following must know of a decision besides what is remembered of it."""

    price: float
    """[quote]"""
    ts_ms: int
    """Time of the signal [Unix ms]."""
    timeframe: str


class LastCandle(NamedTuple):
    """Where a series stands."""

    open_ms: int
    close_ms: int
    close: float
    """[quote]"""

    def is_after(self, ts_ms: int) -> bool:
        """Tell whether the candle counts for a signal of that time."""
        return self.open_ms + (self.close_ms - self.open_ms) // _LATEST_ENTRY >= ts_ms


class Lane(NamedTuple):
    """One strategy's position so far."""

    rung: int = 0
    """Targets that were reached."""
    gross: float = 0.0
    """What its closed parts earned [quote]."""
    left: float = 1.0
    """Part that is open [1]; 0: it has ended."""


class Followed(NamedTuple):
    """A signal that is followed, or was; never changed once made."""

    decision_id: str
    account: str
    symbol: str
    side: Side
    regime: MarketRegime
    variant: str | None
    strategy: str
    """The chosen one."""
    entry: float
    """[quote]"""
    atr: float
    """[quote]"""
    timeframe: str
    """Of its candles."""
    since_ms: int
    """Time of the signal [Unix ms]."""
    timestamp_ms: int
    """Time of the decision's record [Unix ms]."""
    number: int
    """Of the decision: it orders them."""
    lanes: Mapping[str, Lane]
    """By strategy id; empty once all have ended."""
    real_r: float | None = None
    """What its first trade earned before fees [R: one ATR]."""
    paper_r: float | None = None
    """What the chosen strategy earned on paper, once its ladder has ended [R: one ATR]."""
    features: Features = NO_FEATURES
    """Of the signal, where they are kept."""

    @property
    def series(self) -> Series:
        """The candles that it follows."""
        return self.symbol, self.timeframe

    @property
    def context(self) -> ContextKey:
        """The row of the Q-table its outcomes belong to."""
        return ContextKey(self.account, self.symbol, self.regime, self.variant)


class Ended(NamedTuple):
    """What came of a signal."""

    context: ContextKey
    rewards: Mapping[str, float]
    """What each strategy would have earned, by id, before fees [the table's unit]."""
    features: Features
    """Of the signal."""


@dataclass(slots=True)
class FollowingChanges:
    """What was touched since the view was last written."""

    followed: set[str] = field(default_factory=set)
    series: set[Series] = field(default_factory=set)


class _Watch:
    """Where something happens to a signal next; prices are turned so that more is better."""

    __slots__ = ("down", "id", "since_ms", "up")

    def __init__(self, decision_id: str, since_ms: int, up: float, down: float) -> None:
        self.id = decision_id
        self.since_ms = since_ms
        self.up = up
        self.down = down


_Rungs = Sequence[tuple[float, float]]


class Following:
    """The signals of one partition that are followed; part of its state.

    A function of the decisions and the candles in the order in which they were folded, and of what
    closed trades earned; the order of trades and candles among each other does not matter.

    Args:
        ladders: Of every strategy, by id.
        timeframe: Of the candles; empty: each signal's own.
        reward_unit: Of the outcomes.
        ttl_ms: Age at which what is open is marked and counted [ms].
        calibrations: By account; is added to.
    """

    def __init__(
        self,
        ladders: Mapping[str, Ladder],
        timeframe: str,
        *,
        reward_unit: RewardUnit,
        ttl_ms: int,
        calibrations: dict[str, Calibration],
    ) -> None:
        self.followed: OrderedDict[str, Followed] = OrderedDict()
        """The order is part of the state: oldest first. See `Remembered`."""
        self.series: dict[Series, LastCandle] = {}
        self.changes = FollowingChanges()
        self.counts: Counter[str] = Counter()
        """What came of signals, since this object was made: `ended`, `marked` at the age limit or for want
        of room, `refused` for prices out of range, `late` (candles after it were folded before it was
        decided), `unseen` (no candle came)."""
        self._ladders = ladders
        self._rungs: dict[str, _Rungs] = {
            name: [r for r in zip(one.targets, one.fractions, strict=True) if r[1] > 0.0]
            for name, one in ladders.items()
        }
        self._timeframe = timeframe
        self._reward_unit: RewardUnit = reward_unit
        self._ttl_ms = ttl_ms
        self._calibrations = calibrations
        self._watches: dict[Series, dict[str, _Watch]] = {}

    @property
    def open_count(self) -> int:
        """Count the signals with ladders that have not ended."""
        return sum(map(len, self._watches.values()))

    # Decisions

    def admit(self, decision: OpenDecision, entry: Entry) -> list[Ended]:
        """Follow a decision; give what came of those that have to leave for it."""
        ended: list[Ended] = []
        if (known := self.followed.get(decision.decision_id)) is not None:
            ended += self._forget(known)
        timeframe = self._timeframe or entry.timeframe
        last = self.series.get((decision.symbol, timeframe))
        if last is not None and last.is_after(entry.ts_ms):
            self.counts["late"] += 1  # what the candles before told is not known any more
        else:
            self._put(
                Followed(
                    decision.decision_id,
                    decision.account,
                    decision.symbol,
                    decision.side,
                    decision.regime,
                    decision.variant,
                    decision.strategy,
                    entry.price,
                    decision.atr,
                    timeframe,
                    entry.ts_ms,
                    decision.timestamp_ms,
                    decision.number,
                    dict.fromkeys(self._ladders, Lane()),
                    features=decision.features,
                )
            )
        while self.followed:
            oldest = next(iter(self.followed.values()))
            age_ms = decision.timestamp_ms - oldest.timestamp_ms
            if len(self.followed) <= MOST_FOLLOWED and age_ms <= self._ttl_ms:
                break
            ended += self._forget(oldest)
        return ended

    def _put(self, one: Followed) -> None:
        self.followed[one.decision_id] = one
        self.changes.followed.add(one.decision_id)
        watches = self._watches.setdefault(one.series, {})
        if one.lanes:
            watches[one.decision_id] = self._watch(one)
        else:
            watches.pop(one.decision_id, None)
        if not watches:
            del self._watches[one.series]

    def _watch(self, one: Followed) -> _Watch:
        start = one.entry * one.side.sign
        ups, downs = [], []
        for name, lane in one.lanes.items():
            if lane.left:
                ups.append(start + self._rungs[name][lane.rung][0] * one.atr)
                downs.append(start - self._ladders[name].stop * one.atr)
        return _Watch(one.decision_id, one.since_ms, min(ups), max(downs))

    def _forget(self, one: Followed) -> list[Ended]:
        ended: list[Ended] = []
        if one.lanes:
            last = self.series.get(one.series)
            if last is None or not last.is_after(one.since_ms):
                self.counts["unseen"] += 1
                self._put(one._replace(lanes={}))
            else:
                ended += self._finish(one, last.close * one.side.sign, "marked")
        del self.followed[one.decision_id]
        self.changes.followed.add(one.decision_id)
        if (calibration := self._calibrations.get(one.account)) is not None:
            calibration.drop(one.number)
        return ended

    # Candles

    def take(self, candle: Candle) -> tuple[CandleOutcome, list[Ended]]:
        """Take in the next candle; say what it was, and what came of signals by it."""
        if self._timeframe and candle.timeframe != self._timeframe:
            return "other_timeframe", []
        series = (candle.symbol, candle.timeframe)
        before = self.series.get(series)
        if before is not None and candle.open_time < before.close_ms:
            is_same = candle.open_time == before.open_ms
            return "repeated" if is_same else "out_of_order", []
        last = LastCandle(candle.open_time, candle.close_time, candle.close)
        self.series[series] = last
        self.changes.series.add(series)
        ended: list[Ended] = []
        turned = {
            Side.LONG: (candle.open, candle.high, candle.low),
            Side.SHORT: (-candle.open, -candle.low, -candle.high),
        }
        for watch in list(self._watches.get(series, {}).values()):
            if not last.is_after(watch.since_ms):
                continue
            one = self.followed[watch.id]
            opened, best, worst = turned[one.side]
            if best >= watch.up or worst <= watch.down:
                ended += self._live_through(one, opened, best, worst)
                one = self.followed[watch.id]
            if one.lanes and candle.close_time - one.since_ms > self._ttl_ms:
                ended += self._finish(one, candle.close * one.side.sign, "marked")
        is_gap = before is not None and candle.open_time > before.close_ms
        return "gap" if is_gap else "followed", ended

    def _live_through(self, one: Followed, opened: float, best: float, worst: float) -> list[Ended]:
        start, atr = one.entry * one.side.sign, one.atr
        lanes = {}
        for name, lane in one.lanes.items():
            lanes[name] = lane
            if not lane.left:
                continue
            stop = start - self._ladders[name].stop * atr
            rung, gross, left = lane
            if worst <= stop:
                lanes[name] = Lane(rung, gross + (min(opened, stop) - start) * left, 0.0)
                continue
            rungs = self._rungs[name]
            while left and best >= (target := start + rungs[rung][0] * atr):
                # the last one closes what is left: rounding must not leave a speck open
                part = left if rung + 1 == len(rungs) else rungs[rung][1]
                gross += (max(opened, target) - start) * part
                left -= part
                rung += 1
            lanes[name] = Lane(rung, gross, left)
        one = one._replace(lanes=lanes)
        if not any(lane.left for lane in lanes.values()):
            return self._finish(one, 0.0, "ended")
        self._keep(_judged(one))
        return []

    def _finish(self, one: Followed, close: float, how: str) -> list[Ended]:
        """Count what came of a signal; what is open is marked at a price, turned as all are."""
        start = one.entry * one.side.sign
        found = {
            name: (lane.gross + (close - start) * lane.left if lane.left else lane.gross) / one.atr
            for name, lane in one.lanes.items()
        }
        self._keep(_judged(one)._replace(lanes={}))
        if not all(abs(r) <= LARGEST_R for r in found.values()):
            self.counts["refused"] += 1
            return []
        self.counts[how] += 1
        rewards = {
            name: in_unit(r, self._reward_unit, self._ladders[name].stop)
            for name, r in found.items()
        }
        return [Ended(one.context, rewards, one.features)]

    # What was really earned

    def realized(self, decision_id: str, real_r: float) -> None:
        """Take note of what the first trade of a decision earned before fees [R: one ATR]."""
        one = self.followed.get(decision_id)
        if one is not None and one.real_r is None:
            self._keep(one._replace(real_r=real_r))

    def _keep(self, one: Followed) -> None:
        """Keep a signal; compare both outcomes of the chosen strategy once they are known."""
        self._put(one)
        self._calibrate(one)

    def _calibrate(self, one: Followed) -> None:
        if one.real_r is not None and one.paper_r is not None:
            calibration = self._calibrations.setdefault(one.account, Calibration())
            calibration.put(one.number, abs(one.paper_r - one.real_r))

    # The view

    def take_changes(self) -> FollowingChanges:
        """Give what was touched since the last call, and start anew."""
        taken, self.changes = self.changes, FollowingChanges()
        return taken

    def touch_all(self) -> None:
        """Count everything as changed."""
        self.changes = FollowingChanges(set(self.followed), set(self.series))

    def restore(self, followed: Iterable[Followed], series: Mapping[Series, LastCandle]) -> None:
        """Put a stored state into this empty one."""
        self.series = dict(series)
        for one in sorted(followed, key=attrgetter("number")):
            self._put(one)
            self._calibrate(one)
        self.changes = FollowingChanges()

    def clear(self) -> None:
        """Forget everything; the object is of no use then."""
        self.followed.clear()
        self.series.clear()
        self._watches.clear()
        self.changes = FollowingChanges()


def _judged(one: Followed) -> Followed:
    """Note what the chosen strategy earned, if its ladder has ended."""
    lane = one.lanes.get(one.strategy)
    if one.paper_r is None and lane is not None and not lane.left:
        return one._replace(paper_r=lane.gross / one.atr)
    return one
