"""Two writers of one partition, in Redis: answers get lost, writes come late, rewrites break off, Redis rolls back.

Whatever happens, what stands in Redis is either not whole, or the fold of the logs up to where it says it stands.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from consumer.connection import TopicNames
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.open_decision import OpenDecision
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.errors import BadMessageError, TransientError
from consumer.ports import WriteAnswer
from consumer.store.client import connect
from consumer.store.meta import Meta
from consumer.store.redis_view import RedisView
from schemas import MarketRegime, Side, TradeClosed
from tests.support.builders import make_trade
from tests.support.folds import remembered_by
from tests.support.windows import small_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.local.stack import Stack
    from consumer.store.redis_delta import RedisDelta

TOPICS = TopicNames(signals="s", trades="t", decisions="d", dead_letters="l")
DAY_MS = 86_400_000
START_MS = 1_767_225_600_000
EVENTS = 300
TURNS = 130
Event = OpenDecision | tuple[TradeClosed, int]


def make_log(rng: Random) -> list[Event]:
    """Make decisions and trades of one account or three; ids come back, trades are revised, clocks go back."""
    log: list[Event] = []
    ts = START_MS
    accounts = rng.choice((("a",), ("a", "b", "c-1")))
    new = rng.choice((0.1, 0.5, 1.0))
    decided: list[tuple[str, str]] = []
    closed: list[tuple[str, tuple[str, str]]] = []
    for number in range(EVENTS):
        ts += -2 * DAY_MS if rng.random() < 0.1 else rng.choice((0, 60_000, DAY_MS))
        what = rng.random()
        if what < 0.45 or not decided:
            account = rng.choice(accounts)
            name = f"new-{number}" if rng.random() < new else f"again-{rng.randrange(25)}"
            name = f"{account}/{name}"
            decided.append((account, name))
            log.append(
                OpenDecision(
                    name, account, "EURUSD", Side.LONG, MarketRegime.TREND_UP, None, "scalp", 250.0, 1.0, ts
                )
            )  # fmt: skip
            continue
        revision = None
        if what < 0.85 or not closed:
            of = rng.choice(decided[-8:])
            trade_id = rng.choice((f"again:{rng.randrange(20)}", f"new:{number}"))
            closed.append((trade_id, of))
        else:
            trade_id, of = rng.choice(closed[-6:])
            revision = rng.randrange(1, 4)
        content = make_trade(
            trade_id=trade_id,
            symbol="EURUSD",
            side="LONG",
            account=of[0],
            decision_id=of[1],
            revision=revision,
            realized_r=rng.uniform(-2.0, 2.0),
        )
        log.append((TradeClosed.model_validate(content), ts))
    return log


def fold(state: PartitionState, event: Event) -> None:
    """Fold one event, and move the position."""
    at = state.position
    if isinstance(event, OpenDecision):
        state.admit(event, is_exploration=False)
        state.position = at._replace(decisions=at.decisions + 1)
        return
    with suppress(BadMessageError):
        state.fold_trade(*event)
    state.position = at._replace(trades=at.trades + 1)


def all_of(state: PartitionState) -> Any:
    """Give all that a state holds, to compare."""
    found = state.stored()
    return remembered_by(state), found.rows, found.parents, found.totals


class Answers:
    """Loses an answer now and then: what was asked for was done, and who asked does not know."""

    def __init__(self) -> None:
        self.left: int | None = None
        """Answers until one is lost; None: none is."""

    def __call__(self, _seconds: float) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            raise TransientError("an answer was lost")


@dataclass(slots=True)
class Writer:
    """A worker's hold on the partition: follows the log, writes as `ViewSync` does."""

    view: RedisView
    answers: Answers
    log: list[Event]
    settings: FoldSettings
    state: PartitionState | None = None
    """None: it is dead, or has not begun."""
    since: Position = field(default_factory=Position)
    is_lost: bool = False
    in_the_air: list[RedisDelta] = field(default_factory=list)
    """Ordinary writes that may still arrive, or arrive again."""

    async def open(self) -> None:
        """Begin from what is there."""
        stored = await self.view.load(0)
        self.state = PartitionState(self.settings)
        self.is_lost = stored is None
        if stored is not None:
            self.state.restore(stored)
        self.since = self.state.position

    def follow(self, count: int) -> None:
        """Fold the next events."""
        assert self.state is not None
        at = self.state.position.decisions + self.state.position.trades
        for event in self.log[at : at + count]:
            fold(self.state, event)

    async def write(self, rng: Random, *, loses: bool) -> None:
        """Write what has changed; after a lost answer try again, or die."""
        state = self.state
        assert state is not None
        rewrites = self.is_lost or state.is_scattered
        if rewrites:
            state.touch_all()
        delta = self.view.prepare(0, state, self.since)
        state.pack()
        if not rewrites and rng.random() < 0.3:
            self.in_the_air.append(delta)
        self.answers.left = rng.randrange(12 if rewrites else 1) if loses else None
        deliver = self.view.rewrite if rewrites else self.view.write
        try:
            answer = await deliver(delta)
        except TransientError:
            if rng.random() < 0.5:
                self.state = None
                return
            answer = await deliver(delta)
        self.answers.left = None
        match answer:
            case WriteAnswer.APPLIED | WriteAnswer.ALREADY_APPLIED:
                self.since, self.is_lost = delta.position, False
            case WriteAnswer.REWOUND:
                self.is_lost = True
            case WriteAnswer.OTHER_OWNER:
                self.state = None
            case WriteAnswer.META_MISMATCH:
                pytest.fail("nobody changed the settings")


class Place:
    """The keys of one run."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._saved: dict[str, dict[str, str]] = {}

    async def _keys(self) -> list[str]:
        return [key async for key in self._redis.scan_iter(f"{self._prefix}:*", count=1_000)]

    async def save(self) -> None:
        """Keep what is there."""
        self._saved = {key: await self._redis.hgetall(key) for key in await self._keys()}

    async def roll_back(self) -> None:
        """Put back what was kept, as a server does that lost its last writes."""
        await self.wipe()
        for key, fields in self._saved.items():
            await self._redis.hset(key, mapping=dict(fields))

    async def wipe(self) -> None:
        """Lose everything."""
        if keys := await self._keys():
            await self._redis.unlink(*keys)


@pytest.fixture(autouse=True, scope="module")
def _small_windows() -> Iterator[None]:
    with small_windows():
        yield


async def turn(rng: Random, writer: Writer, place: Place) -> None:
    """Let one thing happen."""
    what = rng.random()
    if writer.state is None:
        await writer.open()
    elif what < 0.35:
        writer.follow(rng.choice((1, 1, 3, 10)))
    elif what < 0.8:
        await writer.write(rng, loses=rng.random() < 0.3)
    elif what < 0.86:
        if writer.in_the_air:
            late = writer.in_the_air.pop(rng.randrange(len(writer.in_the_air)))
            await writer.view.write(late)
    elif what < 0.9:
        writer.state = None
    elif what < 0.93:
        await place.save()
    elif what < 0.96:
        await place.roll_back()
    elif what < 0.97:
        await place.wipe()


@pytest.mark.parametrize("seed", range(30))
async def test_what_is_whole_is_the_fold_of_the_logs(stack: Stack, seed: int) -> None:
    rng = Random(seed)
    settings = FoldSettings(
        dedupe_window=rng.choice((1, 5, 12, 200)),
        open_decisions_max=rng.choice((1, 8, 200)),
        decision_ttl_ms=rng.choice((2, 5, 50)) * DAY_MS,
    )
    log = make_log(rng)
    straight = PartitionState(settings)
    wanted = [all_of(straight)]
    for event in log:
        fold(straight, event)
        wanted.append(all_of(straight))
    prefix = f"v{uuid.uuid4().hex[:10]}"

    def make(observe: Callable[[float], None] = lambda _: None) -> RedisView:
        clients = [connect(stack.redis_url, cluster=False, timeout_s=15.0) for _ in range(2)]
        return RedisView(*clients, prefix=prefix, meta=Meta(settings, 1, TOPICS), observe=observe)

    answers = [Answers(), Answers()]
    writers = [Writer(make(lost), lost, log, settings) for lost in answers]
    reader = make()
    redis = Redis.from_url(stack.redis_url, decode_responses=True)
    place = Place(redis, prefix)

    async def check() -> int | None:
        if (stored := await reader.load(0)) is None:
            return None
        found = PartitionState(settings)
        found.restore(stored)
        at = found.position.decisions + found.position.trades
        assert all_of(found) == wanted[at]
        return at

    try:
        for _ in range(TURNS):
            await turn(rng, rng.choice(writers), place)
            await check()
        last = writers[0]
        await last.open()
        while await check() != len(log):
            last.follow(len(log))
            await last.write(rng, loses=False)
            if last.state is None:  # the other one was ahead
                await last.open()
    finally:
        await place.wipe()
        await redis.aclose()
        for view in (reader, *(writer.view for writer in writers)):
            await view.close()
