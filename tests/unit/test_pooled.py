"""What other partitions have learned is added up as if one partition had learned it all."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import pairwise

import orjson
import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from consumer import pool
from consumer.connection import KafkaConnection
from consumer.domain.arm_table import ArmTable
from consumer.domain.context import ContextKey, ParentKey
from consumer.domain.features import ALL_SUMS, CENTRE_SUMS, FEATURES, NO_FEATURES, Features
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.ladder import ladders_of
from consumer.domain.partition_state import PartitionState
from consumer.domain.pooled import NOWHERE, Elsewhere, Pool
from consumer.domain.qtable import ArmStats, recent_count
from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.errors import TransientError
from consumer.pool import Pooling, PoolLog, Teller
from consumer.wire import OutRecord
from schemas import MarketRegime
from tests.support.builders import FakeRecord

ARMS = tuple(STRATEGY_PROFILES)[:3]
REGIMES = (MarketRegime.TREND_UP, MarketRegime.ILLIQUID)
PARTITIONS = 4
FINGERPRINT = "0123456789abcdef"
Rewards = list[tuple[int, str, MarketRegime, float, float | None]]
"""Partition, arm, regime, reward [R], and the one number that all features have, if they are known."""

rewards = st.lists(
    st.tuples(
        st.integers(0, PARTITIONS - 1),
        st.sampled_from(ARMS),
        st.sampled_from(REGIMES),
        st.floats(-5.0, 5.0),
        st.none() | st.floats(-1.0, 1.0),
    ),
    max_size=40,
)


def fold(half_life: float) -> FoldSettings:
    return FoldSettings(ladders=ladders_of(STRATEGY_PROFILES), half_life=half_life)


def context(partition: int, regime: MarketRegime, account: str = "default") -> ContextKey:
    return ContextKey(account, f"SYMBOL{partition}", regime)


def measured(value: float | None) -> Features:
    return NO_FEATURES if value is None else (value,) * len(FEATURES)


def tables(settings: FoldSettings, found: Rewards) -> tuple[ArmTable, list[ArmTable]]:
    """Learn the same in one table, and in one for each partition; every third on paper."""
    one, parts = ArmTable(settings), [ArmTable(settings) for _ in range(PARTITIONS)]
    for number, (partition, arm, regime, reward, value) in enumerate(found):
        for table in (one, parts[partition]):
            if number % 3:
                table.learn(context(partition, regime), arm, reward, measured(value))
            else:
                table.learn_on_paper(context(partition, regime), {arm: reward}, measured(value))
    return one, parts


def told_by(table: ArmTable, partition: int) -> list[OutRecord]:
    """Let a partition tell all it knows, new or not."""
    teller = Teller(partition, FINGERPRINT, Pool())
    for account in {parent.account for parent in table.parents}:
        teller._told[account] = 10**9  # fewer than were told: it tells again
        table.learned.add(account)
    return list(teller.news(table, 0))


def records_of(told: list[OutRecord], first: int = 0) -> list[FakeRecord]:
    return [FakeRecord(value=one.value, offset=first + n) for n, one in enumerate(told)]


def pool_of(parts: list[ArmTable], fingerprint: str = FINGERPRINT) -> Pool:
    log = PoolLog(fingerprint)
    log.take(records_of([one for n, table in enumerate(parts) for one in told_by(table, n)]))
    return log.pool


@given(found=rewards, half_life=st.sampled_from([3.0, 300.0, float("inf")]))
def test_partitions_together_know_what_one_would(found: Rewards, half_life: float) -> None:
    settings = fold(half_life)
    one, parts = tables(settings, found)
    pool = pool_of(parts)

    for partition in range(PARTITIONS):
        elsewhere = Elsewhere(pool, partition, settings.decay)
        for regime in REGIMES:
            key = context(partition, regime)
            rows = elsewhere.parent_rows(key, parts[partition].parent_rows(key))
            for row, wanted in zip(rows, one.parent_rows(key), strict=True):
                assert row.keys() == wanted.keys()
                for arm, stats in row.items():
                    exact = ("count", "win_count", "loss_count", "paper_count")
                    summed = ("total_r", "sum_squares", "loss_squares", "paper_r", "paper_squares")
                    for name in exact:
                        assert getattr(stats, name) == getattr(wanted[arm], name)
                    for name in summed:
                        assert getattr(stats, name) == pytest.approx(getattr(wanted[arm], name))
                    if half_life == float(
                        "inf"
                    ):  # what forgets knows an order that partitions do not
                        assert stats.recent_r == pytest.approx(wanted[arm].recent_r)
                        assert stats.feature_sums == pytest.approx(wanted[arm].feature_sums)
                        on_paper = wanted[arm].paper_feature_sums
                        assert stats.paper_feature_sums == pytest.approx(on_paper)


@given(found=rewards)
def test_what_forgets_weighs_what_it_would_in_one_partition(found: Rewards) -> None:
    """The mean of recent rewards is theirs; how many they count for is that of one log."""
    settings = fold(3.0)
    ones = [(partition, arm, regime, 1.0, value) for partition, arm, regime, _, value in found]
    _, parts = tables(settings, ones)
    elsewhere = Elsewhere(pool_of(parts), 0, settings.decay)
    key = context(0, REGIMES[0])

    for row in elsewhere.parent_rows(key, parts[0].parent_rows(key)):
        for stats in row.values():
            weight = recent_count(stats.count, settings.decay)
            paper_weight = recent_count(stats.paper_count, settings.decay)
            assert stats.recent_r == pytest.approx(weight)
            assert stats.recent_paper_r == pytest.approx(paper_weight)


@given(found=rewards, order=st.permutations(range(PARTITIONS)))
def test_the_same_bits_in_whatever_order_partitions_told(found: Rewards, order: list[int]) -> None:
    settings = fold(300.0)
    _, parts = tables(settings, found)
    key = context(0, REGIMES[0])
    log = PoolLog(FINGERPRINT)
    log.take(records_of([one for n in order for one in told_by(parts[n], n)]))

    rows = [
        Elsewhere(pool, 0, settings.decay).parent_rows(key, parts[0].parent_rows(key))
        for pool in (log.pool, pool_of(parts))
    ]

    assert rows[0] == rows[1]


def test_a_partitions_own_rows_are_newer_than_what_it_told() -> None:
    settings = fold(300.0)
    key = context(0, REGIMES[0])
    table = ArmTable(settings)
    table.learn(key, ARMS[0], 1.0)
    pool = pool_of([table])
    table.learn(key, ARMS[0], -1.0)

    rows = Elsewhere(pool, 0, settings.decay).parent_rows(key, table.parent_rows(key))

    assert rows == table.parent_rows(key)


def test_the_same_rows_give_the_same_object_until_something_is_new() -> None:
    """What policies work out from a row is kept as long as the row is."""
    settings = fold(300.0)
    mine, other = ArmTable(settings), ArmTable(settings)
    other.learn(context(1, REGIMES[0]), ARMS[0], 1.0)
    mine.learn(context(0, REGIMES[0]), ARMS[1], 1.0)
    elsewhere = Elsewhere(pool_of([mine, other]), 0, settings.decay)
    key = context(0, REGIMES[0])

    first = elsewhere.parent_rows(key, mine.parent_rows(key))
    again = elsewhere.parent_rows(key, mine.parent_rows(key))
    mine.learn(key, ARMS[1], 2.0)
    later = elsewhere.parent_rows(key, mine.parent_rows(key))

    assert all(one is two for one, two in zip(first, again, strict=True))
    assert not any(one is two for one, two in zip(first, later, strict=True))


def test_nothing_pooled_is_what_the_partition_knows() -> None:
    own = PartitionState(fold(300.0)).table.parent_rows(context(0, REGIMES[0]))

    found = NOWHERE.parent_rows(context(0, REGIMES[0]), own)
    assert [id(row) for row in found] == [id(row) for row in own]
    assert NOWHERE.number is None
    assert Elsewhere(Pool(7)).number == 7


def test_accounts_stay_apart() -> None:
    settings = fold(300.0)
    other = ArmTable(settings)
    other.learn(context(1, REGIMES[0], "paper"), ARMS[0], 1.0)
    elsewhere = Elsewhere(pool_of([ArmTable(settings), other]), 0, settings.decay)
    key = context(0, REGIMES[0])
    own = ArmTable(settings).parent_rows(key)

    assert elsewhere.parent_rows(key, own) == own
    assert elsewhere.parent_rows(context(0, REGIMES[0], "paper"), own)[0].keys() == {ARMS[0]}


# The log


@given(found=rewards)
def test_what_was_told_is_read_to_the_bit(found: Rewards) -> None:
    _, parts = tables(fold(300.0), found)

    pool = pool_of(parts)

    for partition, table in enumerate(parts):
        told = pool.told.get("default", {}).get(partition, {})
        assert {key: dict(row) for key, row in told.items()} == {
            key: dict(row) for key, row in table.parents.items()
        }
        for key, row in told.items():
            for stats in row.values():
                sums = ALL_SUMS if key.regime is None else CENTRE_SUMS
                assert {len(stats.feature_sums), len(stats.paper_feature_sums)} <= {0, sums}


def test_the_number_is_the_offset_behind_the_last_record() -> None:
    table = ArmTable(fold(300.0))
    table.learn(context(3, REGIMES[0]), ARMS[0], 1.0)
    log = PoolLog(FINGERPRINT)

    log.take(records_of(told_by(table, 3), first=41))
    told = log.pool
    log.take([FakeRecord(value=b"{", offset=50)])

    assert (told.number, list(told.told["default"])) == (42, [3])
    assert (log.pool.number, log.pool.told) == (51, told.told)


def told_record(**overrides: object) -> bytes:
    table = ArmTable(fold(300.0))
    table.learn(context(1, REGIMES[0]), ARMS[0], 1.0)
    (told,) = told_by(table, 1)
    return orjson.dumps(orjson.loads(told.value or b"") | overrides)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        b"x" * 1_000_000,
        told_record(schema_version=2),
        told_record(fingerprint="fedcba9876543210"),
        told_record(partition=-1),
        told_record(partition="1"),
        told_record(account=""),
        told_record(parents=[[None, "scalping", ["many"]]]),
        told_record(parents=[["sideways", "scalping", [1] + [0.0] * 12]]),
        told_record(parents={}),
    ],
)
def test_what_no_worker_of_this_fold_wrote_says_nothing(value: bytes | None) -> None:
    log = PoolLog(FINGERPRINT)

    log.take([FakeRecord(value=value, offset=0)])

    assert log.pool == Pool(1, {})


@pytest.mark.parametrize(
    "stats",
    [
        ArmStats(1, feature_sums=(1.0, 2.0)),
        ArmStats(-1),
        ArmStats(1, paper_count=-1),
        ArmStats(1 << 60),
        ArmStats(2, loss_count=-1),
    ],
)
def test_what_cannot_be_added_is_not(stats: ArmStats) -> None:
    log = PoolLog(FINGERPRINT)

    log.take([FakeRecord(value=told_record(parents=[[None, ARMS[0], stats.numbers]]), offset=0)])

    assert log.pool == Pool(1, {})


@pytest.mark.parametrize(
    ("number", "beyond"), [(b"0.5", b"1e999"), (b"77", b"7" * 400), (b"77", b"-77")]
)
def test_numbers_beyond_all_limits_are_not_added(number: bytes, beyond: bytes) -> None:
    value = told_record(parents=[[None, ARMS[0], ArmStats(1, 0.5, 77).numbers]])
    assert value.count(number) == 1
    log = PoolLog(FINGERPRINT)

    log.take([FakeRecord(value=value.replace(number, beyond), offset=0)])

    assert log.pool == Pool(1, {})


def test_the_largest_record_fits() -> None:
    """64 strategies, all with rewards and outcomes on paper, features and long numbers."""
    table, value = ArmTable(fold(300.0)), -1.2345678901234567e-100
    stats = ArmStats(*[10**9] * 13, (value,) * ALL_SUMS, (value,) * ALL_SUMS)
    names = [f"{number:032d}" for number in range(64)]
    table.parents[ParentKey("a" * 32, None)] = dict.fromkeys(names, stats)
    few = stats.with_sums((value,) * CENTRE_SUMS, (value,) * CENTRE_SUMS)
    for regime in MarketRegime:
        table.parents[ParentKey("a" * 32, regime)] = dict.fromkeys(names, few)
    table.learned.add("a" * 32)

    (told,) = Teller(0, FINGERPRINT, Pool()).news(table, 0)

    assert len(told.value or b"") < 900_000
    log = PoolLog(FINGERPRINT)
    log.take(records_of([told]))
    assert len(log.pool.told["a" * 32][0]) == 8


def test_told_when_ten_are_new_or_a_twentieth() -> None:
    table = ArmTable(fold(300.0))
    teller = Teller(0, FINGERPRINT, Pool())
    told_at = []
    for number in range(1, 1_001):
        table.learn(context(0, REGIMES[0]), ARMS[number % 3], 1.0)
        if teller.news(table, 0):
            told_at.append(number)

    gaps = [two - one for one, two in pairwise(told_at)]
    assert told_at[0] == 10
    assert min(gaps) == 10
    assert all(gap <= max(10, 0.06 * at) for gap, at in zip(gaps, told_at[1:], strict=True))
    assert len(told_at) < 60


def test_who_goes_on_tells_from_where_the_pool_stands() -> None:
    table = ArmTable(fold(300.0))
    for _ in range(100):
        table.learn(context(0, REGIMES[0]), ARMS[0], 1.0)
    teller = Teller(0, FINGERPRINT, pool_of([table]))

    table.learn(context(0, REGIMES[0]), ARMS[0], 1.0)
    assert teller.news(table, 0) == []
    for _ in range(9):
        table.learn(context(0, REGIMES[0]), ARMS[0], 1.0)
    (record,) = teller.news(table, 5)

    assert record.key == b"0:default"
    assert record.timestamp_ms == 5
    assert orjson.loads(record.value or b"")["parents"][0][2][0] == 110


def test_a_table_that_lost_rewards_tells_at_once() -> None:
    """Its logs were made anew: what it told before must not stand."""
    table = ArmTable(fold(300.0))
    for _ in range(100):
        table.learn(context(0, REGIMES[0]), ARMS[0], 1.0)
    pool = pool_of([table])
    new = ArmTable(fold(300.0))
    new.learn(context(0, REGIMES[0]), ARMS[0], 1.0)

    assert len(Teller(0, FINGERPRINT, pool).news(new, 0)) == 1


def test_variants_are_not_told() -> None:
    table = ArmTable(fold(300.0))
    for _ in range(20):
        table.learn(context(0, REGIMES[0]), ARMS[0], 1.0)
        table.learn(ContextKey("default", "X", REGIMES[0], "b"), ARMS[0], 1.0)

    (told,) = Teller(0, FINGERPRINT, Pool()).news(table, 0)

    log = PoolLog(FINGERPRINT)
    log.take(records_of([told]))
    assert {key.variant for key in log.pool.told["default"][0]} == {None}
    assert ParentKey("default", None) in log.pool.told["default"][0]


# Following the log


class ShiftingLog:
    """A log whose end is told differently each time, as after a broker has taken over."""

    def __init__(self, records: list[FakeRecord], ends: list[int]) -> None:
        self._records = records
        self._ends = ends

    async def ends(self, logs: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(logs, self._ends.pop(0))

    async def read(self, _: TopicPartition, start: int, end: int) -> AsyncIterator[FakeRecord]:
        for record in self._records:
            if start <= record.offset < end:
                yield record


async def test_a_log_that_reads_shorter_for_a_moment_is_still_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, parts = tables(fold(300.0), [(n, ARMS[0], REGIMES[0], 1.0, None) for n in (0, 1, 2, 3)])
    records = records_of([one for n, table in enumerate(parts) for one in told_by(table, n)])
    log = ShiftingLog(records, ends=[2, 1, 2, 4])
    monkeypatch.setattr(pool, "LogReader", lambda *_: log)
    pooling = Pooling(KafkaConnection(bootstrap_servers="nowhere"), "pool", FINGERPRINT)

    numbers = []
    for _ in range(4):
        await pooling.catch_up()
        numbers.append((pooling.pool.number, len(pooling.pool.told["default"])))

    assert numbers == [(2, 2), (2, 2), (2, 2), (4, 4)]


async def test_a_log_that_cannot_be_read_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[TransientError] = []
    is_read = asyncio.Event()

    class Away:
        async def ends(self, logs: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
            if not troubles:
                raise TransientError("away")
            is_read.set()
            return dict.fromkeys(logs, 0)

    monkeypatch.setattr(pool, "LogReader", lambda *_: Away())
    monkeypatch.setattr(pool, "_READ_EVERY_S", 0.0)
    pooling = Pooling(
        KafkaConnection(bootstrap_servers="nowhere"),
        "pool",
        FINGERPRINT,
        on_trouble=troubles.append,
    )

    running = asyncio.create_task(pooling.run())
    await asyncio.wait_for(is_read.wait(), 10)
    running.cancel()

    assert [str(one) for one in troubles] == ["away"]
