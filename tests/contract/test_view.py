"""One suite for every View (`consumer/ports.py`): the one in memory and the one in Redis."""

import asyncio
import contextlib
import json
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Self

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from consumer.connection import TopicNames
from consumer.decision_log import decode_logged_decision
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position, StoredPartition
from consumer.errors import RefusedError, TransientError
from consumer.learn import follow, learn
from consumer.local.server import free_port
from consumer.local.stack import Stack
from consumer.ports import WriteAnswer
from consumer.store import redis_view
from consumer.store.client import connect
from consumer.store.meta import Meta
from consumer.store.redis_view import RedisView
from schemas import Candle, TradeClosed
from tests.support.builders import OMIT, make_trade
from tests.support.fold_oracle import LEVELS, decision_id
from tests.support.memory_view import MemoryView

APPLIED, ALREADY, REWOUND = WriteAnswer.APPLIED, WriteAnswer.ALREADY_APPLIED, WriteAnswer.REWOUND
OTHER_OWNER, META_MISMATCH = WriteAnswer.OTHER_OWNER, WriteAnswer.META_MISMATCH
TIME_MS = 1_767_225_600_000
HOUR_MS = 3_600_000
FOLD = FoldSettings()
TOPICS = TopicNames(
    signals="signals", trades="trade-closed", decisions="strategy-decisions", dead_letters="letters"
)


class Fold:
    """A partition's state that is fed by hand, as its logs would feed it."""

    def __init__(self, settings: FoldSettings = FOLD) -> None:
        self.state = PartitionState(settings)

    def decide(self, signal_id: str, **parts: Any) -> str:
        """Fold one more record of the decisions' log; give its id."""
        said = {"account": "default", "symbol": "EURUSD", "side": "LONG", "regime": "trend_up"}
        said |= {"strategy": "scalp"} | parts
        found = decision_id(said["account"], signal_id)
        value = said | {
            "decision_id": found,
            "table_offset": self.state.position.trades,
            "is_exploration": False,
            "candles_offset": self.state.position.candles,
            "timeframe": "1h",
            "signal_ts": TIME_MS,
            "tpsl": {
                "atr": 250.0,
                "atr_mult_sl": LEVELS[said["strategy"]][0],
                "entry_reference": 50_000.0,
            },
        }
        logged = decode_logged_decision(json.dumps(value).encode(), TIME_MS)
        assert logged is not None
        self.state.admit(logged.remembered, is_exploration=False, entry=logged.entry)
        position = self.state.position
        self.state.position = position._replace(decisions=position.decisions + 1)
        return found

    def feed(self, number: int, reach: float = 0.0) -> None:
        """Fold one more record of the candles' log: an hour that goes up by `reach` [quote]."""
        candle = Candle(
            schema_version=1,
            symbol="EURUSD",
            timeframe="1h",
            open_time=TIME_MS + number * 3_600_000,
            close_time=TIME_MS + (number + 1) * 3_600_000,
            open=50_000.0,
            high=50_000.0 + reach,
            low=50_000.0,
            close=50_000.0,
            volume=1.0,
        )
        assert follow(self.state, candle, offset=self.state.position.candles) == "followed"

    def close(self, trade_id: str, **parts: Any) -> None:
        """Fold one more record of the trades' log."""
        trade = TradeClosed.model_validate(
            make_trade(trade_id=trade_id, **{"symbol": "EURUSD", "atr": OMIT} | parts)
        )
        result = learn(self.state, trade, offset=self.state.position.trades, timestamp_ms=TIME_MS)
        assert not isinstance(result, Exception), result

    def some(self, name: str) -> None:
        """Fold a decision and its trade."""
        found = self.decide(name)
        self.close(f"t-{name}", decision_id=found, realized_r=0.1 + len(name) / 3)


def same(one: StoredPartition | None, other: StoredPartition | None) -> bool:
    """Compare two states; groups are in no order."""
    if one is None or other is None:
        return one is other

    def sorted_groups(stored: StoredPartition) -> StoredPartition:
        by_id = attrgetter("decision_id")
        return replace(
            stored,
            open=sorted(stored.open, key=by_id),
            closed=sorted(stored.closed, key=by_id),
            decision_ids=sorted(stored.decision_ids),
            trades=sorted(stored.trades, key=attrgetter("account", "trade_id")),
            followed=sorted(stored.followed, key=by_id),
        )

    return sorted_groups(one) == sorted_groups(other)


@dataclass(slots=True)
class Bench:
    """A view under test."""

    view: Any
    make: Callable[..., Any]
    """Makes another view of the same place; `fold` and `partitions` change its meta."""
    wipe: Callable[[], Awaitable[None]]

    async def begin(self, fold: Fold, partition: int = 0) -> None:
        """Put a state there as a first writer does."""
        fold.state.touch_all()
        delta = self.view.prepare(partition, fold.state, Position())
        assert await self.view.rewrite(delta) is APPLIED

    async def load(self, partition: int = 0) -> StoredPartition | None:
        found: StoredPartition | None = await self.view.load(partition)
        return found


class RedisPlace:
    """A prefix of its own in Redis, and views of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"v{uuid.uuid4().hex[:10]}"
        self.client = Redis.from_url(url, decode_responses=True)
        self._made: list[RedisView] = []

    def make(
        self, *, fold: FoldSettings = FOLD, partitions: int = 4, url: str = "", **names: str
    ) -> RedisView:
        view = RedisView(
            connect(url or self.url, cluster=False),
            connect(url or self.url, cluster=False, timeout_s=15.0),
            prefix=self.prefix,
            meta=Meta(fold, partitions, replace(TOPICS, **names)),
        )
        self._made.append(view)
        return view

    async def keys(self) -> list[str]:
        return sorted([key async for key in self.client.scan_iter(f"{self.prefix}:*", count=1000)])

    async def wipe(self) -> None:
        if keys := await self.keys():
            await self.client.unlink(*keys)

    async def close(self) -> None:
        await self.wipe()
        for view in self._made:
            await view.close()
        await self.client.aclose()


@pytest.fixture
async def place(stack: Stack) -> AsyncIterator[RedisPlace]:
    found = RedisPlace(stack.redis_url)
    yield found
    await found.close()


@pytest.fixture(params=["memory", "redis"])
async def bench(request: pytest.FixtureRequest, place: RedisPlace) -> Bench:
    if request.param == "redis":
        return Bench(place.make(), place.make, place.wipe)
    view = MemoryView()

    async def wipe() -> None:
        view.partitions.clear()

    return Bench(view, lambda **_: view, wipe)


# What every view does


async def test_an_empty_view_holds_nothing(bench: Bench) -> None:
    assert await bench.load() is None
    assert await bench.view.positions([0, 3]) == {0: None, 3: None}


async def test_a_rewritten_state_is_read_again_as_it_was(bench: Bench) -> None:
    fold = Fold()
    fold.some("a")
    fold.decide("b", side="SHORT", account="paper", symbol="BINANCE:XRP/USDT")

    await bench.begin(fold)

    assert same(await bench.load(), fold.state.stored())
    assert await bench.view.positions([0]) == {0: Position(2, 1)}


async def test_a_restored_state_goes_on_as_the_first_one_does(bench: Bench) -> None:
    """Another owner must fold the same records to the same values, in the same order."""
    fold = Fold()
    for name in ("a", "b", "c"):
        fold.some(name)
        fold.decide(f"open {name}")
    await bench.begin(fold)

    other = Fold()
    stored = await bench.load()
    assert stored is not None
    other.state.restore(stored)
    for one in (fold, other):
        one.close("by symbol", realized_r=0.7)
        one.close("t-a", realized_r=-0.3, revision=1)
        one.some("d")

    assert same(fold.state.stored(), other.state.stored())


async def test_a_write_moves_the_view_from_position_to_position(bench: Bench) -> None:
    fold = Fold()
    await bench.begin(fold)
    for name in ("a", "b"):
        since = fold.state.position
        fold.some(name)
        delta = bench.view.prepare(0, fold.state, since)
        assert delta.position == fold.state.position

        assert await bench.view.write(delta) is APPLIED
        assert same(await bench.load(), fold.state.stored())
        assert await bench.view.positions([0]) == {0: fold.state.position}


async def test_followed_signals_are_kept_as_they_are(place: RedisPlace, bench: Bench) -> None:
    """Candles move the position alone, too; what ended and was forgotten is deleted."""
    settings = FoldSettings(candles="", decision_ttl_ms=HOUR_MS)
    view = bench.view if isinstance(bench.view, MemoryView) else place.make(fold=settings)
    fold, bench = Fold(settings), Bench(view, bench.make, bench.wipe)
    await bench.begin(fold)
    steps: list[Callable[[], object]] = [
        lambda: fold.decide("a"),
        lambda: fold.feed(0, reach=400.0),  # some ladders reach a target
        lambda: fold.close("t-a", decision_id=decision_id("default", "a"), realized_r=1.0),
        lambda: fold.feed(1),
        lambda: fold.feed(2),  # too old: marked
        lambda: fold.decide("b"),
    ]
    for step in steps:
        since = fold.state.position
        step()
        assert await view.write(view.prepare(0, fold.state, since)) is APPLIED
        assert same(await bench.load(), fold.state.stored())
        assert await view.positions([0]) == {0: fold.state.position}

    assert fold.state.position == Position(2, 1, 3)
    following = fold.state.following
    assert following is not None
    assert following.counts == {"marked": 1, "late": 1}
    other = Fold(settings)
    stored = await bench.load()
    assert stored is not None
    other.state.restore(stored)
    assert same(other.state.stored(), fold.state.stored())


async def test_a_view_that_lost_candles_is_behind(bench: Bench) -> None:
    settings = FoldSettings(candles="")
    fold = Fold(settings)
    if not isinstance(bench.view, MemoryView):
        bench.view = bench.make(fold=settings)
    await bench.begin(fold)
    fold.feed(0)
    fold.feed(1)

    delta = bench.view.prepare(0, fold.state, Position(0, 0, 1))

    assert await bench.view.write(delta) is REWOUND


async def test_a_repeated_write_changes_nothing(bench: Bench) -> None:
    fold = Fold()
    await bench.begin(fold)
    fold.some("a")
    first = bench.view.prepare(0, fold.state, Position())
    assert await bench.view.write(first) is APPLIED
    since = fold.state.position
    fold.some("bb")
    second = bench.view.prepare(0, fold.state, since)
    assert await bench.view.write(second) is APPLIED
    before = await bench.load()

    for delta in (second, first, first, second):
        assert await bench.view.write(delta) is ALREADY
    assert same(await bench.load(), before)


async def test_a_prepared_write_never_changes(bench: Bench) -> None:
    """What is folded while it waits belongs to the next one."""
    fold = Fold()
    await bench.begin(fold)
    fold.some("a")
    delta = bench.view.prepare(0, fold.state, Position())
    then = fold.state.stored()
    position = delta.position

    fold.some("b")

    assert delta.position == position
    assert await bench.view.write(delta) is APPLIED
    assert same(await bench.load(), then)
    rest = bench.view.prepare(0, fold.state, position)
    assert await bench.view.write(rest) is APPLIED
    assert same(await bench.load(), fold.state.stored())


async def test_a_write_applies_to_every_state_between_its_two(bench: Bench) -> None:
    """A writer that does not know whether its last write arrived sends one over both."""
    fold = Fold()
    await bench.begin(fold)
    fold.some("a")
    first = bench.view.prepare(0, fold.state, Position())
    assert await bench.view.write(first) is APPLIED
    fold.some("b")
    fold.state.touch_all()
    over_both = bench.view.prepare(0, fold.state, Position())

    assert await bench.view.write(over_both) is APPLIED
    assert same(await bench.load(), fold.state.stored())


async def test_a_wiped_view_answers_rewound(bench: Bench) -> None:
    fold = Fold()
    fold.some("a")
    await bench.begin(fold)
    since = fold.state.position
    fold.some("b")
    delta = bench.view.prepare(0, fold.state, since)

    await bench.wipe()

    assert await bench.view.write(delta) is REWOUND
    assert await bench.load() is None
    assert await bench.view.positions([0]) == {0: None}


@pytest.mark.parametrize("what", ["decisions", "trades"])
async def test_a_view_that_stands_before_the_writer_answers_rewound(
    bench: Bench, what: str
) -> None:
    """It lost its last second: a write on top would leave a hole."""
    fold = Fold()
    found = fold.decide("a")
    fold.decide("b")
    fold.close("t", decision_id=found)
    await bench.begin(fold)
    old = fold.state.stored()
    if what == "decisions":
        fold.decide("c")
    else:
        fold.close("u", decision_id=found)
    since = fold.state.position
    fold.some("d")
    delta = bench.view.prepare(0, fold.state, since)

    assert await bench.view.write(delta) is REWOUND
    assert same(await bench.load(), old)


async def test_a_view_beyond_the_write_in_one_log_has_another_owner(bench: Bench) -> None:
    """Somebody else folded what this writer has not seen, and has not folded what it has."""
    fold = Fold()
    found = fold.decide("a")
    await bench.begin(fold)
    mine = Fold()
    mine.decide("a")
    mine.close("t", decision_id=found)
    delta = bench.view.prepare(0, mine.state, Position(1, 0))
    fold.decide("b")
    fold.decide("c")
    assert await bench.view.write(bench.view.prepare(0, fold.state, Position(1, 0))) is APPLIED
    before = await bench.load()

    assert await bench.view.write(delta) is OTHER_OWNER
    assert same(await bench.load(), before)


async def test_a_rewrite_leaves_nothing_of_before(bench: Bench) -> None:
    old = Fold()
    for number in range(20):
        found = old.decide(f"old {number}", symbol=f"S{number}")
        old.close(f"old {number}", symbol=f"S{number}", decision_id=found)
    await bench.begin(old)
    new = Fold()
    new.some("new")

    await bench.begin(new)

    assert same(await bench.load(), new.state.stored())


async def test_what_the_state_forgets_leaves_the_view(bench: Bench) -> None:
    settings = FoldSettings(open_decisions_max=1, dedupe_window=4)
    view = bench.make(fold=settings)
    fold = Fold(settings)
    fold.state.touch_all()
    assert await view.rewrite(view.prepare(0, fold.state, Position())) is APPLIED

    for number in range(12):
        since = fold.state.position
        fold.decide(f"n{number}")
        if number % 2:
            fold.close(f"t{number}", decision_id=decision_id("default", f"n{number}"))
        assert await view.write(view.prepare(0, fold.state, since)) is APPLIED

    stored = await view.load(0)
    assert same(stored, fold.state.stored())
    assert (len(stored.open), len(stored.closed)) == (0, 1)
    assert (len(stored.decision_ids), len(stored.trades)) == (4, 4)


async def test_partitions_are_apart(bench: Bench) -> None:
    states = {}
    for partition in (0, 1, 3):
        fold = states[partition] = Fold()
        for number in range(partition + 1):
            fold.some(f"{partition}-{number}")
        await bench.begin(fold, partition)

    for partition, fold in states.items():
        assert same(await bench.load(partition), fold.state.stored())
    assert await bench.view.positions([0, 1, 2, 3]) == {
        0: Position(1, 1),
        1: Position(2, 2),
        2: None,
        3: Position(4, 4),
    }


async def test_values_are_kept_to_the_last_bit(bench: Bench) -> None:
    """A fold that goes on from rounded values gives another table."""
    rewards = [
        0.1,
        -0.1,
        1 / 3,
        1e-300,
        -1000.0,
        1000.0,
        math.pi,
        5e-324,
        2**-1074,
        999.999999999999,
    ]
    fold = Fold()
    found = fold.decide("a")
    for number, reward in enumerate(rewards):
        fold.close(f"t{number}", decision_id=found, realized_r=reward)
    await bench.begin(fold)

    stored = await bench.load()

    assert stored is not None
    for context, row in fold.state.table.rows.items():
        for strategy, stats in row.items():
            kept = stored.rows[context][strategy]
            assert kept.ema_reward.hex() == stats.ema_reward.hex()
            assert kept.total_r.hex() == stats.total_r.hex()
    kept_rewards = {trade.trade_id: trade.reward for trade in stored.trades}
    assert [kept_rewards[f"t{n}"].hex() for n in range(len(rewards))] == [
        float(r).hex() for r in rewards
    ]


async def test_ids_of_any_text_are_kept(bench: Bench) -> None:
    fold = Fold()
    ids = ["a:b", "{0}", "*", "\n\0", "ünïcødé", "é" * 128, " ", '"', "x" * 128]
    for text in ids:
        found = fold.decide(text)
        fold.close(text, decision_id=found)
    await bench.begin(fold)

    stored = await bench.load()

    assert same(stored, fold.state.stored())
    assert {trade.trade_id for trade in stored.trades} == set(ids)  # type: ignore[union-attr]


async def test_thirty_thousand_entries_are_written_and_read(bench: Bench) -> None:
    fold = Fold()
    for number in range(30_000):
        fold.decide(f"n{number}", symbol=f"S{number % 700}", account=f"a{number % 3}")
    for number in range(3_000):
        found = decision_id(f"a{number % 3}", f"n{number}")
        fold.close(
            f"t{number}",
            symbol=f"S{number % 700}",
            account=f"a{number % 3}",
            decision_id=found,
            realized_r=number / 7,
        )

    await bench.begin(fold)
    assert same(await bench.load(), fold.state.stored())

    # and as an ordinary write
    since = fold.state.position
    for number in range(15_000):
        fold.decide(f"m{number}", symbol=f"S{number % 700}")
    assert await bench.view.write(bench.view.prepare(0, fold.state, since)) is APPLIED
    assert same(await bench.load(), fold.state.stored())


# What only a view outside the process does


async def test_other_settings_are_refused(place: RedisPlace) -> None:
    bench = Bench(place.make(), place.make, place.wipe)
    fold = Fold()
    fold.some("a")
    await bench.begin(fold)
    before = await bench.load()
    others = {
        "alpha": place.make(fold=FoldSettings(alpha=0.3)),
        "reward_unit": place.make(fold=FoldSettings(reward_unit="risk")),
        "exclude": place.make(fold=FoldSettings(learn_exclude=frozenset())),
        "decision_ttl": place.make(fold=FoldSettings(decision_ttl_ms=1)),
        "open_decisions_max": place.make(fold=FoldSettings(open_decisions_max=7)),
        "dedupe_window": place.make(fold=FoldSettings(dedupe_window=7)),
        "partitions": place.make(partitions=8),
        "trades_topic": place.make(trades="other"),
        "decisions_topic": place.make(decisions="other"),
        "candles_topic": place.make(candles="other"),
        "candles": place.make(fold=FoldSettings(candles="1m")),
    }
    since = fold.state.position
    fold.some("b")

    for name, other in others.items():
        with pytest.raises(RefusedError, match=name):
            await other.load(0)
        fold.state.touch_all()
        delta = other.prepare(0, fold.state, since)
        assert await other.write(delta) is META_MISMATCH, name
    assert same(await bench.load(), before)


@pytest.mark.parametrize("name", ["decisions-closed", "decision-ids", "trades"])
async def test_a_block_that_is_none_is_refused(place: RedisPlace, name: str) -> None:
    bench = Bench(place.make(), place.make, place.wipe)
    fold = Fold()
    fold.some("a")
    await bench.begin(fold)

    await place.client.hset(f"{place.prefix}:{{0}}:{name}", "a field of somebody else", "[]")

    with pytest.raises(RefusedError, match="partition 0 in Redis cannot be read"):
        await bench.load()


async def test_a_rewrite_with_new_settings_takes_the_place_over(place: RedisPlace) -> None:
    old = Fold()
    old.some("a")
    await Bench(place.make(), place.make, place.wipe).begin(old)
    settings = FoldSettings(alpha=0.5)
    new = Fold(settings)
    new.some("a")

    bench = Bench(place.make(fold=settings), place.make, place.wipe)
    await bench.begin(new)

    assert same(await bench.load(), new.state.stored())
    with pytest.raises(RefusedError):
        await place.make().load(0)


async def test_keys_and_fields_are_the_contract_s(place: RedisPlace) -> None:
    bench = Bench(place.make(), place.make, place.wipe)
    fold = Fold()
    found = fold.decide("a", symbol="BINANCE:XRPUSDT", account="paper", strategy="trend_rider")
    for number, reward in enumerate((0.1, -0.2, 0.7)):
        fold.close(
            f"t{number}",
            symbol="BINANCE:XRPUSDT",
            account="paper",
            decision_id=found,
            realized_r=reward,
        )
    await bench.begin(fold, 3)

    keys, prefix = await place.keys(), place.prefix
    assert all(key.startswith(f"{prefix}:{{3}}:") for key in keys)
    assert len({key_slot(key.encode()) for key in keys}) == 1
    row = await place.client.hgetall(f"{prefix}:{{3}}:q:paper:BINANCE:XRPUSDT:trend_up")
    ema = 0.8 * (0.8 * 0.1 + 0.2 * -0.2) + 0.2 * 0.7
    assert {name: row[f"trend_rider:{name}"] for name in FIELDS} == {
        "count": "3",
        "ema_reward": format(ema, ".17g"),
        "avg_reward": format((0.1 - 0.2 + 0.7) / 3, ".17g"),
        "win_count": "2",
        "loss_count": "1",
        "total_r": format(0.1 - 0.2 + 0.7, ".17g"),
    }
    mark = await place.client.hgetall(f"{prefix}:{{3}}:watermark")
    assert mark == {"decisions": "1", "trades": "3"}
    meta = await place.client.hgetall(f"{prefix}:{{3}}:meta")
    assert {"4", "trade-closed", "strategy-decisions", "atr"} <= set(meta.values())
    assert float(next(v for k, v in meta.items() if "alpha" in k)) == 0.2


FIELDS = ("count", "ema_reward", "avg_reward", "win_count", "loss_count", "total_r")


async def test_scripts_that_the_server_forgot_are_loaded_again(
    place: RedisPlace, stack: Stack
) -> None:
    bench = Bench(place.make(), place.make, place.wipe)
    fold = Fold()
    await bench.begin(fold)

    for name in ("a", "b"):
        await place.client.script_flush()
        since = fold.state.position
        fold.some(name)
        assert await bench.view.write(bench.view.prepare(0, fold.state, since)) is APPLIED
        await place.client.script_flush()
        assert same(await bench.load(), fold.state.stored())
    await place.client.script_flush()
    fold.state.touch_all()
    assert await bench.view.rewrite(bench.view.prepare(0, fold.state, Position())) is APPLIED


class Proxy:
    """Stands between a view and Redis; drops replies, or the connection, at a chosen moment."""

    def __init__(self, port: int) -> None:
        self._redis_port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.drop_replies = False
        """Requests pass, and the connection ends in place of their answers."""
        self.requests_left: int | None = None
        """After so many chunks of requests the connection ends."""
        self.dropped = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, to_redis, replies=False))
                group.create_task(self._pass_on(from_redis, writer, replies=True))
        except* (ConnectionError, OSError):
            pass
        finally:
            for end in (writer, to_redis):
                end.close()
            self._tasks.discard(task)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        while data := await reader.read(1 << 16):
            if replies and self.drop_replies:
                self.dropped += 1
                raise ConnectionResetError
            if not replies and self.requests_left is not None:
                if self.requests_left == 0:
                    self.dropped += 1
                    raise ConnectionResetError
                self.requests_left -= 1
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@pytest.fixture
async def proxy(stack: Stack) -> AsyncIterator[Proxy]:
    port = int(stack.redis_url.split(":")[-1].split("/")[0])
    async with Proxy(port) as running:
        yield running


async def test_a_write_whose_reply_is_lost_counts_once(place: RedisPlace, proxy: Proxy) -> None:
    bench = Bench(place.make(), place.make, place.wipe)
    view = place.make(url=proxy.url)
    fold = Fold()
    await bench.begin(fold)
    assert await view.positions([0]) == {0: Position()}

    for number in range(20):
        since = fold.state.position
        fold.some(f"n{number}")
        delta = view.prepare(0, fold.state, since)
        proxy.drop_replies = number % 2 == 0
        if proxy.drop_replies:
            with pytest.raises(TransientError):
                await view.write(delta)
            proxy.drop_replies = False
            assert await view.write(delta) in {ALREADY, APPLIED}
        else:
            assert await view.write(delta) is APPLIED

    assert proxy.dropped == 10
    assert same(await bench.load(), fold.state.stored())
    (stats,) = fold.state.table.rows.popitem()[1].values()
    assert stats.count == 20


async def test_a_rewrite_is_not_whole_until_its_end(place: RedisPlace, proxy: Proxy) -> None:
    """Half a table looks like a table: whoever reads it then must find nothing."""
    bench = Bench(place.make(), place.make, place.wipe)
    before = Fold()
    before.some("before")
    await bench.begin(before)
    fold = Fold()
    for number in range(12_000):
        fold.decide(f"n{number}", symbol=f"S{number % 500}")
    seen = set()

    for chunks in (1, 3, 8, 20, 40):
        view = place.make(url=proxy.url)
        fold.state.touch_all()
        delta = view.prepare(0, fold.state, Position())
        proxy.requests_left = chunks
        with contextlib.suppress(TransientError):
            await view.rewrite(delta)
        proxy.requests_left = None
        found = await bench.load()
        seen.add("nothing" if found is None else "whole")
        assert found is None or any(same(found, whole.state.stored()) for whole in (before, fold))
        positions = await bench.view.positions([0])
        assert (positions[0] is None) == (found is None)

    assert "nothing" in seen
    view = place.make(url=proxy.url)
    fold.state.touch_all()
    assert await view.rewrite(view.prepare(0, fold.state, Position())) is APPLIED
    assert same(await bench.load(), fold.state.stored())


async def test_a_rewrite_that_another_one_overtook_ends_as_other_owner(
    place: RedisPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that was away while its successor wrote everything must not add to it."""
    monkeypatch.setattr(redis_view, "_PART", 100)  # many parts: it cannot end before the other
    bench = Bench(place.make(), place.make, place.wipe)
    slow = Fold()
    for number in range(12_000):
        slow.decide(f"slow {number}")
    view = place.make()
    slow.state.touch_all()
    rewriting = asyncio.create_task(view.rewrite(view.prepare(0, slow.state, Position())))
    key = f"{place.prefix}:{{0}}:watermark"
    while not await place.client.exists(key):
        assert not rewriting.done()
        await asyncio.sleep(0)
    fast = Fold()
    fast.some("fast")

    await bench.begin(fast)

    assert await rewriting is OTHER_OWNER
    assert same(await bench.load(), fast.state.stored())


async def test_a_server_that_does_not_answer_is_an_error_in_time(
    place: RedisPlace, proxy: Proxy
) -> None:
    view = place.make(url=proxy.url)
    assert await view.positions([0]) == {0: None}
    await proxy.__aexit__()

    fold = Fold()
    for call in (
        lambda: view.positions([0]),
        lambda: view.load(0),
        lambda: view.write(view.prepare(0, fold.state, Position())),
        lambda: view.rewrite(view.prepare(0, fold.state, Position())),
    ):
        with pytest.raises(TransientError):
            await asyncio.wait_for(call(), 5)
    await proxy.__aenter__()


async def test_a_cancel_ends_a_call_wherever_it_stands(place: RedisPlace) -> None:
    """One that is lost leaves a writer that nobody ends: its partition could not be given up."""
    view = place.make()
    await view.positions([0])  # connected: the next ones only send and wait
    ended = 0
    for moment in range(30):
        call = asyncio.create_task(view.positions([0]))
        for _ in range(moment):
            await asyncio.sleep(0)
        if call.cancel():
            with pytest.raises(asyncio.CancelledError):
                await call
            ended += 1
    assert ended > 2
    assert await view.positions([0]) == {0: None}


@pytest.mark.parametrize("cluster", [False, True], ids=["alone", "cluster"])
async def test_servers_that_are_away_are_a_passing_error(cluster: bool) -> None:
    """What a cluster's client says when no node answers is of another family than all else."""
    client = connect(f"redis://127.0.0.1:{free_port()}/0", cluster=cluster)
    meta = Meta(FOLD, 1, TOPICS)
    view = RedisView(client, client, prefix="away", meta=meta)

    with pytest.raises(TransientError):
        await view.positions([0])
    with pytest.raises(TransientError):
        await view.load(0)
    await view.close()
