"""Decisions made again from the topics, and compared with those that were published."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from aiokafka import TopicPartition

from consumer.decide import Decider, decision_id_of
from consumer.domain.partition_state import DEFAULT_ACCOUNT, PartitionState
from consumer.domain.stored import Position
from consumer.errors import BadMessageError
from consumer.learn import follow, learn
from consumer.merging import MergedCandle, MergedTrade
from consumer.ports import Record
from consumer.rebuild import bounds_of, logs_of, merged, refuse_if_begun
from consumer.settings import Settings
from consumer.store.meta import Meta
from consumer.stream.log_reader import LogReader
from consumer.stream.read_record import ReadRecord
from consumer.stream.topics import check_topics
from consumer.wire import DecisionEncoder, decode_signal
from lab.history import LogHistory, PoolHistory


class Difference(NamedTuple):
    """Where a decision made again is not the one that was published."""

    partition: int
    offset: int
    """In `strategy-decisions`; of a signal that was passed over, in `signals`."""
    subject: str
    """A field, such as `tpsl.stop_loss`."""
    published: Any
    again: Any

    def __str__(self) -> str:
        return (
            f"partition {self.partition}, offset {self.offset}: {self.subject}: "
            f"published {self.published!r}, made again {self.again!r}"
        )


@dataclass(slots=True)
class Replay:
    """What comparing came across."""

    identical: int = 0
    """Decisions that are the same to the byte."""
    equal: int = 0
    """Decisions that say the same in other bytes: written by another version."""
    other_version: int = 0
    """Decisions of another policy, or of other settings, profiles or seed: not compared."""
    foreign: int = 0
    """Records among the decisions that no worker wrote."""
    unsourced: int = 0
    """Decisions whose signal is no longer in its topic: not compared."""
    unanswered: int = 0
    """Signals that rightly have no decision: repeats and bad messages."""
    difference: Difference | None = None
    """The first one."""


async def replay(
    settings: Settings,
    *,
    on_total: Callable[[int], None],
    on_progress: Callable[[int], None],
) -> Replay:
    """Make every decision of the log again, until the first that differs.

    Raises:
        RefusedError: The logs do not go back to their beginning: what was learned is not known.
        TransientError: Kafka does not answer.
    """
    partitions = await check_topics(settings.connection, settings.topics)
    fingerprint = Meta(settings.fold, partitions, settings.topics).fields["fingerprint"]
    found = Replay()
    for number in range(partitions):
        async with PoolHistory(settings, number, fingerprint) as pool:
            await _replay_partition(settings, number, pool, found, on_total, on_progress)
        if found.difference is not None:
            break
    return found


async def _replay_partition(
    settings: Settings,
    number: int,
    pool: PoolHistory,
    found: Replay,
    on_total: Callable[[int], None],
    on_progress: Callable[[int], None],
) -> None:
    logs = logs_of(settings.topics, number)
    signals_log = TopicPartition(settings.kafka_signals_topic, number)
    decider = settings.decider
    encoder = DecisionEncoder(decider.selector.policy.name, decider.policy_version)
    state = PartitionState(settings.fold)
    async with (
        LogReader(settings.connection, logs.all) as reader,
        LogReader(settings.connection, [signals_log]) as signals_reader,
    ):
        first, last = await bounds_of(reader, logs)
        refuse_if_begun(logs, first)
        signals = LogHistory(signals_reader, signals_log, *await signals_reader.bounds(signals_log))
        on_total(last.decisions)
        async for one in merged(reader, logs, start=Position(), end=last, upto=Position()):
            record = one.record
            if isinstance(one, MergedTrade):
                learn(state, one.trade, offset=record.offset, timestamp_ms=record.timestamp)
                continue
            if isinstance(one, MergedCandle):
                follow(state, one.candle, offset=record.offset)
                continue
            on_progress(1)
            if (decision := one.decision) is None:
                found.foreign += 1
                continue
            state.position = Position(
                record.offset, decision.table_offset, decision.candles_offset or 0
            )
            await _compare(decider, encoder, state, signals, pool, record, found)
            if found.difference is not None:
                return
            state.admit(
                decision.remembered, is_exploration=decision.is_exploration, entry=decision.entry
            )


async def _compare(
    decider: Decider,
    encoder: DecisionEncoder,
    state: PartitionState,
    signals: LogHistory,
    pool: PoolHistory,
    record: Record,
    found: Replay,
) -> None:
    published = orjson.loads(record.value or b"")  # it is a decision
    if published["source"]["topic"] != signals.topic:  # copied by a migration, the signal was not
        found.unsourced += 1
        return
    offset = published["source"]["offset"]
    passed = await signals.up_to(offset)
    source = passed.pop() if passed and passed[-1].offset == offset else None
    for other in passed:
        if wanted := _unanswered(decider, state, other):
            found.difference = Difference(
                other.partition, other.offset, f"decision {wanted}", "nothing", "a decision"
            )
            return
        found.unanswered += 1
    if source is None:
        if offset >= signals.first:
            found.difference = Difference(
                record.partition, record.offset, "source.offset", offset, "no such signal"
            )
        found.unsourced += 1
        return
    if published["policy_version"] != decider.policy_version:
        found.other_version += 1
        return
    state.elsewhere = await pool.at(published.get("pool_offset"))
    again = _again(decider, encoder, state, source, record.timestamp, published)
    if again == record.value:
        found.identical += 1
    elif difference := next(_differences(published, orjson.loads(again)), None):
        found.difference = Difference(record.partition, record.offset, *difference)
    else:
        found.equal += 1


def _again(
    decider: Decider,
    encoder: DecisionEncoder,
    state: PartitionState,
    source: ReadRecord,
    timestamp_ms: int,
    published: dict[str, Any],
) -> bytes:
    try:
        decision = decider.make(
            decode_signal(source),
            state,
            published["decision_id"],
            now_ms=timestamp_ms,
            degraded=published["degraded"],
        )
    except BadMessageError as error:
        return orjson.dumps({"dead letter": f"{error.code}: {error.error}"})
    return encoder.encode(decision, source).value or b""


def _unanswered(decider: Decider, state: PartitionState, record: ReadRecord) -> str | None:
    """Give the id of the decision that a passed-over signal should have; None when it is right.

    Whether a signal was too old when it came is not known any more: such an answer is not checked.
    """
    try:
        signal = decode_signal(record)
        account = signal.account or DEFAULT_ACCOUNT
        decision_id = decision_id_of(account, signal.signal_id)
        if state.decisions.knows(account, decision_id) or decider.max_signal_age_ms:
            return None
        decider.make(signal, state, decision_id, now_ms=record.timestamp, degraded=False)
    except BadMessageError:
        return None
    return decision_id


def _differences(published: Any, again: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(published, dict) and isinstance(again, dict):
        for name in sorted(published.keys() | again.keys()):
            yield from _differences(
                published.get(name), again.get(name), f"{path}.{name}" if path else name
            )
    elif published != again:
        yield path, published, again
