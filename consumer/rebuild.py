"""A partition's state recomputed from its logs: at an opening, after a loss, on demand."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from consumer.decide import decision_id_of
from consumer.domain.partition_state import DEFAULT_ACCOUNT, PartitionState, Position
from consumer.errors import BadMessageError, RefusedError
from consumer.learn import learn
from consumer.pipeline import decoded_trade
from consumer.stream.log_reader import LogReader
from consumer.wire import LoggedDecision, decode_logged_decision, decode_signal


@dataclass(slots=True)
class CatchUp:
    """What bringing a state up to date came across."""

    decisions: int = 0
    trades: int = 0
    skipped_decisions: int = 0
    """Deleted by retention before they were folded."""
    skipped_trades: int = 0
    refused: list[tuple[ConsumerRecord, BadMessageError]] = field(default_factory=list)
    """Closed trades behind the group's offset that go to the dead letters."""


class Merged(NamedTuple):
    """A record of one of a partition's two logs, in the order in which both were folded live."""

    record: ConsumerRecord
    is_trade: bool
    decision: LoggedDecision | None
    """None for a closed trade, and for a foreign record among the decisions."""


async def merged(
    reader: LogReader,
    decisions_log: TopicPartition,
    trades_log: TopicPartition,
    *,
    start: Position,
    end: Position,
    trades_offset: int,
) -> AsyncIterator[Merged]:
    """Give what both logs hold, merged as it was folded live.

    Before a decision with `table_offset` T come the trades below T, so that a trade at offset t
    sees exactly the decisions with T <= t.

    Args:
        reader: Assigned to both logs.
        decisions_log: Given to `end.decisions`.
        trades_log: Given to `trades_offset`, or as far as a decision has seen it.
        start: The first offset of each log.
        end: Where each log ends.
        trades_offset: At most `end.trades`.

    Raises:
        TransientError: Kafka did not answer.
    """
    trades = reader.read(trades_log, start.trades, end.trades)
    trade = await anext(trades, None)
    async for record in reader.read(decisions_log, start.decisions, end.decisions):
        decision = decode_logged_decision(record.value, record.timestamp)
        if decision is not None:
            while trade is not None and trade.offset < decision.table_offset:
                yield Merged(trade, is_trade=True, decision=None)
                trade = await anext(trades, None)
        yield Merged(record, is_trade=False, decision=decision)
    while trade is not None and trade.offset < trades_offset:
        yield Merged(trade, is_trade=True, decision=None)
        trade = await anext(trades, None)


async def catch_up(
    state: PartitionState,
    reader: LogReader,
    decisions_log: TopicPartition,
    trades_log: TopicPartition,
    *,
    signals_log: TopicPartition,
    trades_offset: int | None,
    ends: LogReader | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> CatchUp:
    """Fold what the logs hold past a state's position, in the order of `merged`.

    Args:
        state: To bring up to date.
        reader: Assigned to both logs.
        decisions_log: Folded to its end.
        trades_log: Folded to `trades_offset`, or as far as a decision has seen it.
        signals_log: What the decisions answer; those of another one, before a migration, count all the
            same.
        trades_offset: Where the group goes on; None: to its end.
        ends: Asked where the logs begin and end; `reader` itself when None.
        on_progress: Told how many records were folded.

    Raises:
        RefusedError: The state stands beyond the end of a log.
        TransientError: Kafka did not answer.
    """
    found = CatchUp()
    first_decision, last_decision = await (ends or reader).bounds(decisions_log)
    first_trade, last_trade = await (ends or reader).bounds(trades_log)
    for log, position, last in (
        (decisions_log, state.position.decisions, last_decision),
        (trades_log, state.position.trades, last_trade),
    ):
        if position > last:
            raise RefusedError(
                f"{log.topic}-{log.partition}: the table is folded up to offset {position}, the "
                f"log ends at {last}: was the topic made anew? Run `meta-strategy qtable rebuild` "
                "to fold what it holds now"
            )
    found.skipped_decisions = max(0, first_decision - state.position.decisions)
    found.skipped_trades = max(0, first_trade - state.position.trades)
    start = Position(
        max(first_decision, state.position.decisions), max(first_trade, state.position.trades)
    )
    state.position = start
    stop = last_trade if trades_offset is None else min(trades_offset, last_trade)
    seen = max(stop, start.trades)
    async for record, is_trade, decision in merged(
        reader,
        decisions_log,
        trades_log,
        start=start,
        end=Position(last_decision, last_trade),
        trades_offset=stop,
    ):
        if is_trade:
            result = learn(
                state,
                decoded_trade(record),
                offset=record.offset,
                timestamp_ms=record.timestamp,
            )
            if isinstance(result, BadMessageError) and record.offset >= stop:
                found.refused.append((record, result))
            found.trades += 1
        elif decision is not None:
            # a decision may have seen an offset that holds no record
            seen = max(seen, min(decision.table_offset, last_trade))
            state.admit(decision.remembered, is_exploration=decision.is_exploration)
            if decision.source is not None and decision.source[:2] == signals_log:
                state.answer(decision.source[2])
            found.decisions += 1
        else:
            continue
        on_progress(1)
    state.position = Position(last_decision, max(seen, state.position.trades))
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
        if state.knows_decision(account, decision_id_of(account, signal.signal_id)):
            return newest + 1
    return committed  # the topic was made anew, or the signal deleted: there is only the group
