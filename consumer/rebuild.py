"""A partition's state recomputed from its logs: at an opening, after a loss, on demand."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from consumer.connection import TopicNames
from consumer.decide import decision_id_of
from consumer.decision_log import LoggedDecision, decode_logged_decision
from consumer.domain.following import CandleOutcome
from consumer.domain.partition_state import DEFAULT_ACCOUNT, FoldResult, PartitionState, Position
from consumer.domain.quick import quick
from consumer.errors import BadMessageError, RefusedError, TransientError
from consumer.learn import follow, learn
from consumer.pipeline import decoded_candle, decoded_trade
from consumer.stream.log_reader import LogEnds, LogReader
from consumer.wire import decode_signal
from schemas import Candle, TradeClosed

_BATCH = 500
"""Records that are merged before they are folded, about."""


class Logs(NamedTuple):
    """The logs of a partition that its state is folded from."""

    decisions: TopicPartition
    trades: TopicPartition
    candles: TopicPartition | None = None
    """None where no signal is followed."""

    @property
    def all(self) -> list[TopicPartition]:
        """Those there are."""
        return [log for log in self if log is not None]


def logs_of(topics: TopicNames, number: int) -> Logs:
    """Name the logs of a partition."""
    return Logs(
        TopicPartition(topics.decisions, number),
        TopicPartition(topics.trades, number),
        TopicPartition(topics.candles, number) if topics.candles else None,
    )


class Bounds(NamedTuple):
    """Where the logs of a partition begin and end; a candles' log that is not there holds nothing."""

    first: Position
    last: Position


async def bounds_of(reader: LogReader | LogEnds, logs: Logs) -> Bounds:
    """Ask where logs begin and end.

    Raises:
        TransientError: Kafka did not answer.
    """
    inputs = [log for log in logs.all if log != logs.decisions]
    first = await reader.begins(logs.all)
    last = dict(await reader.ends([logs.decisions]))
    last |= await reader.ends(
        inputs
    )  # only now: decisions have seen input that is older than they are

    def position(offsets: Mapping[TopicPartition, int]) -> Position:
        return Position(*(0 if log is None else offsets[log] for log in logs))

    return Bounds(position(first), position(last))


def refuse_if_begun(logs: Logs, first: Position) -> None:
    """Refuse logs that do not go back to their beginning.

    Raises:
        RefusedError: What was learned before cannot be known.
    """
    begun = [
        f"{log.topic} begins at offset {offset}"
        for log, offset in zip(logs, first, strict=True)
        if log is not None and offset
    ]
    if begun:
        raise RefusedError(
            f"partition {logs.decisions.partition}: {', '.join(begun)}: what was learned before "
            "cannot be known"
        )


@dataclass(slots=True)
class CatchUp:
    """What bringing a state up to date came across."""

    decisions: int = 0
    trades: int = 0
    candles: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    """By topic: deleted by retention before they were folded."""
    refused: list[tuple[ConsumerRecord, BadMessageError]] = field(default_factory=list)
    """Input behind the group's offset that goes to the dead letters."""


class MergedDecision(NamedTuple):
    """A record of the decisions' log."""

    record: ConsumerRecord
    decision: LoggedDecision | None
    """None for a foreign record."""


class MergedTrade(NamedTuple):
    """A record of the closed trades' log."""

    record: ConsumerRecord
    trade: TradeClosed | BadMessageError


class MergedCandle(NamedTuple):
    """A record of the candles' log."""

    record: ConsumerRecord
    candle: Candle | BadMessageError


Merged = MergedDecision | MergedTrade | MergedCandle
"""A record of one of a partition's logs, in the order in which all were folded live."""


def _decision(record: ConsumerRecord) -> MergedDecision:
    return quick(MergedDecision, (record, decode_logged_decision(record.value, record.timestamp)))


def _trade(record: ConsumerRecord) -> MergedTrade:
    return quick(MergedTrade, (record, decoded_trade(record)))


def _candle(record: ConsumerRecord) -> MergedCandle:
    return quick(MergedCandle, (record, decoded_candle(record)))


class _Input:
    """The records of an input log, given out as far as is asked."""

    def __init__(
        self,
        batches: AsyncIterator[Sequence[ConsumerRecord]],
        read: Callable[[ConsumerRecord], MergedTrade | MergedCandle],
    ) -> None:
        self._batches = batches
        self._read = read
        self._batch: Sequence[MergedTrade | MergedCandle] = ()
        self._at = 0
        self._is_done = False

    def is_at(self, offset: int) -> bool:
        """Whether all records below an offset were given out, as far as can be told at once."""
        if self._at < len(self._batch):
            return bool(self._batch[self._at].record.offset >= offset)
        return self._is_done

    async def some_below(self, offset: int) -> Sequence[Merged]:
        """Give some of the next records below an offset, until `is_at` says that these were all."""
        if self._at == len(self._batch):
            records = await anext(self._batches, None)
            self._is_done = records is None
            # all at once: the code of a stage stays in the processor's caches
            self._batch, self._at = [self._read(record) for record in records or ()], 0
        begin = self._at
        while self._at < len(self._batch) and self._batch[self._at].record.offset < offset:
            self._at += 1
        return self._batch[begin : self._at]


async def _nothing() -> AsyncIterator[Sequence[ConsumerRecord]]:
    return
    yield


async def merged(
    reader: LogReader, logs: Logs, *, start: Position, end: Position, upto: Position
) -> AsyncIterator[Merged]:
    """Give what the logs hold, a record at a time; see `merged_batches`."""
    async for batch in merged_batches(reader, logs, start=start, end=end, upto=upto):
        for one in batch:
            yield one


async def merged_batches(
    reader: LogReader, logs: Logs, *, start: Position, end: Position, upto: Position
) -> AsyncIterator[Sequence[Merged]]:
    """Give what the logs hold, merged as it was folded live, some at a time.

    Before a decision with `table_offset` T and `candles_offset` C come the trades below T and the candles
    below C, so that a trade at offset t sees exactly the decisions with T <= t, a candle at offset c
    exactly those with C <= c.

    Args:
        reader: Assigned to the logs.
        logs: Decisions are given to `end.decisions`, input to `upto`, or as far as a decision has seen it.
        start: The first offset of each log.
        end: Where each log ends.
        upto: At most `end`.

    Raises:
        TransientError: Kafka did not answer.
    """
    trades = _Input(reader.batches(logs.trades, start.trades, end.trades), _trade)
    candles = _Input(
        _nothing()
        if logs.candles is None
        else reader.batches(logs.candles, start.candles, end.candles),
        _candle,
    )
    async for records in reader.batches(logs.decisions, start.decisions, end.decisions):
        batch: list[Merged] = []
        for found in [_decision(record) for record in records]:
            if (decision := found.decision) is not None:
                for log, seen in (
                    (trades, decision.table_offset),
                    (candles, decision.candles_offset or 0),
                ):
                    while not log.is_at(seen):
                        batch += await log.some_below(seen)
                        if len(batch) >= _BATCH:  # one decision may have seen many trades
                            yield batch
                            batch = []
            batch.append(found)
        yield batch
    for rest, offset in ((trades, upto.trades), (candles, upto.candles)):
        while not rest.is_at(offset):
            yield await rest.some_below(offset)


async def catch_up(
    state: PartitionState,
    reader: LogReader,
    logs: Logs,
    *,
    signals_log: TopicPartition,
    upto: Position | None,
    is_atomic: bool = False,
    ends: LogEnds | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> CatchUp:
    """Fold what the logs hold past a state's position, in the order of `merged`.

    Args:
        state: To bring up to date.
        reader: Assigned to the logs.
        logs: Decisions are folded to their end, input to `upto`, or as far as a decision has seen it.
        signals_log: What the decisions answer; those of another one, before a migration, count all the
            same.
        upto: Where the group is said to go on in the input, whatever it says of decisions; None: to the
            ends.
        is_atomic: Whether decisions and the group's offsets are committed together: what a decision has
            seen was then worked off, dead letters and all, whatever the group is said to stand at.
        ends: Asked where the logs begin and end, and waited for until all decisions can be read; `reader` is
            asked when None, where nobody writes.
        on_progress: Told how many records were folded.

    Raises:
        RefusedError: The state stands beyond the end of a log.
        TransientError: Kafka did not answer, or not all of a log can be read yet.
    """
    found = CatchUp()
    if ends is not None:
        await ends.settled(logs.decisions)
    first, last = await bounds_of(ends or reader, logs)
    start = Position(*map(max, first, state.position))
    for log, position, begin, end in zip(logs, state.position, first, last, strict=True):
        if log is None:
            continue
        if position > end:
            if ends is not None and position <= await ends.written(log):
                raise TransientError(
                    f"{log.topic}-{log.partition}: a transaction is open before offset {position}"
                )
            raise RefusedError(
                f"{log.topic}-{log.partition}: the table is folded up to offset {position}, the "
                f"log ends at {end}: was the topic made anew? Run `meta-strategy qtable rebuild` "
                "to fold what it holds now"
            )
        if begin > position:
            found.skipped[log.topic] = begin - position
    state.position = start
    upto = last if upto is None else Position(*map(min, upto, last))
    _, seen_trades, seen_candles = map(max, upto, start)
    async for batch in merged_batches(reader, logs, start=start, end=last, upto=upto):
        foreign = 0
        for one in batch:
            record = one.record
            refused: FoldResult | CandleOutcome | BadMessageError | None = None
            worked_off = 0
            if isinstance(one, MergedTrade):
                refused = learn(
                    state, one.trade, offset=record.offset, timestamp_ms=record.timestamp
                )
                found.trades, worked_off = found.trades + 1, upto.trades
            elif isinstance(one, MergedCandle):
                refused = follow(state, one.candle, offset=record.offset)
                found.candles, worked_off = found.candles + 1, upto.candles
            elif (decision := one.decision) is not None:
                # a decision may have seen an offset that holds no record
                seen_trades = max(seen_trades, min(decision.table_offset, last.trades))
                seen_candles = max(seen_candles, min(decision.candles_offset or 0, last.candles))
                state.admit(
                    decision.remembered,
                    is_exploration=decision.is_exploration,
                    entry=decision.entry,
                )
                if decision.source is not None and decision.source[:2] == signals_log:
                    state.answer(decision.source[2])
                found.decisions += 1
            else:
                foreign += 1
            if (
                isinstance(refused, BadMessageError)
                and not is_atomic
                and record.offset >= worked_off
            ):
                found.refused.append((record, refused))
        on_progress(len(batch) - foreign)
    state.position = Position(
        last.decisions,
        max(seen_trades, state.position.trades),
        max(seen_candles, state.position.candles),
    )
    return found


async def first_undecided(
    state: PartitionState, reader: LogReader, signals_log: TopicPartition, committed: int
) -> int:
    """Give the offset of the first signal to be decided, whatever the group says.

    Decisions and the group's offset are committed together; but what a coordinator tells of the
    offset may be older. One that came back, or took over from another, answers from what it holds as
    committed, which may lag what it acknowledged. Ids of decided signals tell a repeat as far back as
    they are remembered; the newest decision tells it for good.

    Args:
        state: Up to date with the decisions.
        reader: Assigned to the log.
        signals_log: What is to be decided.
        committed: Where the group goes on.

    Returns:
        At least `committed`.

    Raises:
        TransientError: Kafka did not answer.
    """
    newest = state.totals.answered - 1
    if newest < committed:
        return committed
    async for record in reader.read(signals_log, newest, newest + 1):
        try:
            signal = decode_signal(record)
        except BadMessageError:
            break
        account = signal.account or DEFAULT_ACCOUNT
        if state.decisions.knows(account, decision_id_of(account, signal.signal_id)):
            return newest + 1
    return committed  # the topic was made anew, or the signal deleted: there is only the group
