"""A partition's state recomputed from its logs: at an opening, after a loss, on demand."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import TopicPartition

from consumer.connection import TopicNames
from consumer.decide import decision_id_of
from consumer.domain.partition_state import DEFAULT_ACCOUNT, PartitionState
from consumer.domain.stored import Position
from consumer.errors import BadMessageError, RefusedError, TransientError
from consumer.folding import CatchUp, LogFold
from consumer.merging import LogMerger, Merged
from consumer.stream.log_reader import LogEnds, LogReader
from consumer.stream.read_record import ReadRecord
from consumer.wire import decode_signal


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


def beyond_end(log: TopicPartition, position: int, end: int) -> RefusedError:
    """Say that a table is folded further than its log goes."""
    return RefusedError(
        f"{log.topic}-{log.partition}: the table is folded up to offset {position}, the log ends at {end}: "
        "was the topic made anew? Run `meta-strategy qtable rebuild` to fold what it holds now"
    )


async def _nothing() -> AsyncIterator[Sequence[ReadRecord]]:
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
    """Give what the logs hold, merged as it was folded live, some at a time; see `LogMerger`.

    Args:
        reader: Assigned to the logs.
        logs: Decisions are given to `end.decisions`, input to `upto`, or as far as a decision has seen it.
        start: The first offset of each log.
        end: Where each log ends.
        upto: At most `end`.

    Raises:
        TransientError: Kafka did not answer.
    """
    merger = LogMerger()
    trades, candles = merger.trades, merger.candles
    more = {
        trades: reader.batches(logs.trades, start.trades, end.trades),
        candles: _nothing()
        if logs.candles is None
        else reader.batches(logs.candles, start.candles, end.candles),
    }
    async for records in reader.batches(logs.decisions, start.decisions, end.decisions):
        merger.put(records)
        while merger.holds_decisions:
            if batch := merger.take():
                yield batch
            if (lacking := merger.lacking) is not None:
                lacking.put(await anext(more[lacking], None))
    for rest, offset in ((trades, upto.trades), (candles, upto.candles)):
        is_all = False
        while not is_all:
            left: list[Merged] = []
            is_all = rest.take_below(offset, left)
            if left:
                yield left
            if not is_all:
                rest.put(await anext(more[rest], None))


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
            raise beyond_end(log, position, end)
        if begin > position:
            found.skipped[log.topic] = begin - position
    state.position = start
    fold = LogFold(
        state,
        found,
        signals_log=signals_log,
        upto=last if upto is None else Position(*map(min, upto, last)),
        last=last,
        is_atomic=is_atomic,
    )
    async for batch in merged_batches(reader, logs, start=start, end=last, upto=fold.upto):
        on_progress(fold.fold(batch))
    fold.end()
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
    first, end = await reader.bounds(signals_log)
    if not first <= newest < end:  # made anew, or deleted: there is only the group
        return committed
    async for record in reader.read(signals_log, newest, newest + 1):
        try:
            signal = decode_signal(record)
        except BadMessageError:
            break
        account = signal.account or DEFAULT_ACCOUNT
        if state.decisions.knows(account, decision_id_of(account, signal.signal_id)):
            return newest + 1
    return committed  # another signal stands there: the topic was made anew
