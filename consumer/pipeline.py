"""A record's way: topic -> message -> use case -> output."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from consumer.decide import Decider, Decision
from consumer.domain.following import CandleOutcome
from consumer.domain.partition_state import FoldResult, PartitionState
from consumer.errors import BadMessageError
from consumer.learn import follow, learn
from consumer.ports import Record
from consumer.step_counts import StepCounts
from consumer.wire import (
    DecisionEncoder,
    OutRecord,
    decode_candle,
    decode_signal,
    decode_trade,
    encode_dead_letter,
)
from schemas import Candle, Signal, TradeClosed


@dataclass(slots=True)
class Step:
    """What a batch of one partition leads to; visible when its transaction is."""

    decisions: list[OutRecord] = field(default_factory=list)
    dead_letters: list[OutRecord] = field(default_factory=list)
    counts: StepCounts = field(default_factory=StepCounts)
    decided: list[Decision] = field(default_factory=list)
    """Those that are kept, as of the rewards."""
    learned: list[tuple[TradeClosed, FoldResult]] = field(default_factory=list)
    refused: list[tuple[Record, BadMessageError]] = field(default_factory=list)
    repeated: list[Record] = field(default_factory=list)
    candles: Counter[CandleOutcome] = field(default_factory=Counter)


_PART = 250
"""Records that a stage takes at once."""

M = TypeVar("M")


def _or_why_not(decode: Callable[[Record], M]) -> Callable[[Record], M | BadMessageError]:
    def decoded(record: Record) -> M | BadMessageError:
        try:
            return decode(record)
        except BadMessageError as error:
            # its frames hold the record and itself: a circle that only the collector would end
            return error.with_traceback(None)

    return decoded


decoded_signal = _or_why_not(decode_signal)
decoded_trade = _or_why_not(decode_trade)
decoded_candle = _or_why_not(decode_candle)
"""They read a message, or say why a record is none."""


def _parts(records: Sequence[Record]) -> list[Sequence[Record]]:
    return [records[start : start + _PART] for start in range(0, len(records), _PART)]


class Pipeline:
    """Works off batches of one partition, in order: closed trades, then signals, then candles.

    So a decision is made from the newest table, and followed by the candles that come with it. The
    state holds what is not committed until the caller has committed the step; if it cannot, the state
    is to be thrown away.

    Args:
        decider: Makes the decisions.
        keep_every: Of so many decisions, and of so many rewards, a step keeps one for somebody to look at;
            0: none. All are counted.
    """

    def __init__(self, decider: Decider, *, keep_every: int = 1) -> None:
        self._decider = decider
        self._keep_every = keep_every
        self._decisions = self._rewards = 0
        self._encoder = DecisionEncoder(decider.selector.policy.name, decider.policy_version)

    def step(
        self,
        state: PartitionState,
        trades: Sequence[Record],
        signals: Sequence[Record],
        candles: Sequence[Record] = (),
        *,
        now_ms: int,
        degraded: bool,
    ) -> Step:
        """Fold closed trades, decide signals, follow them; nothing is sent here."""
        step = Step()
        # stage by stage, not record by record: the code of a stage stays in the processor's caches; and some
        # at a time, so that what a stage made is there still when the next one wants it
        for part in _parts(trades):
            for record, trade in zip(part, [decoded_trade(r) for r in part], strict=True):
                self._learn(step, state, record, trade, now_ms)
        for part in _parts(signals):
            decided = [
                self._decided(state, record, signal, now_ms=now_ms, degraded=degraded)
                for record, signal in zip(part, [decoded_signal(r) for r in part], strict=True)
            ]
            for record, decision in zip(part, decided, strict=True):
                self._tell(step, record, decision, now_ms)
        for record, candle in zip(candles, [decoded_candle(r) for r in candles], strict=True):
            self._follow(step, state, record, candle, now_ms)
        return step

    def _learn(
        self,
        step: Step,
        state: PartitionState,
        record: Record,
        trade: TradeClosed | BadMessageError,
        now_ms: int,
    ) -> None:
        if record.offset < state.position.trades:
            # folded before, and read again because the group's offset is behind the view: what is
            # no message at all has no dead letter yet, all else was told apart when it was folded
            if isinstance(trade, BadMessageError):
                self._refuse(step, record, trade, now_ms)
            return
        result = learn(state, trade, offset=record.offset, timestamp_ms=record.timestamp)
        if isinstance(result, BadMessageError):
            self._refuse(step, record, result, now_ms)
        elif result.outcome == "duplicate":
            step.repeated.append(record)
        elif not isinstance(trade, BadMessageError):
            step.counts.learn(result)
            self._rewards += 1
            if self._keep_every and self._rewards % self._keep_every == 0:
                step.learned.append((trade, result))

    def _follow(
        self,
        step: Step,
        state: PartitionState,
        record: Record,
        candle: Candle | BadMessageError,
        now_ms: int,
    ) -> None:
        if record.offset < state.position.candles:
            # as for closed trades: folded before, and no dead letter sent yet
            if isinstance(candle, BadMessageError):
                self._refuse(step, record, candle, now_ms)
            return
        result = follow(state, candle, offset=record.offset)
        if isinstance(result, BadMessageError):
            self._refuse(step, record, result, now_ms)
        else:
            step.candles[result] += 1

    def _decided(
        self,
        state: PartitionState,
        record: Record,
        signal: Signal | BadMessageError,
        *,
        now_ms: int,
        degraded: bool,
    ) -> Decision | BadMessageError | None:
        if isinstance(signal, BadMessageError):
            return signal
        try:
            decision = self._decider.decide(signal, state, now_ms=now_ms, degraded=degraded)
        except BadMessageError as error:
            return error.with_traceback(None)
        if decision is not None:
            state.answer(record.offset)
        return decision

    def _tell(
        self,
        step: Step,
        record: Record,
        decision: Decision | BadMessageError | None,
        now_ms: int,
    ) -> None:
        if decision is None:
            step.repeated.append(record)
        elif isinstance(decision, BadMessageError):
            self._refuse(step, record, decision, now_ms)
        else:
            step.counts.decide(decision, record.received_s)
            self._decisions += 1
            if self._keep_every and self._decisions % self._keep_every == 0:
                step.decided.append(decision)
            step.decisions.append(self._encoder.encode(decision, record))

    @staticmethod
    def _refuse(step: Step, record: Record, error: BadMessageError, now_ms: int) -> None:
        step.refused.append((record, error))
        step.dead_letters.append(encode_dead_letter(record, error, now_ms))

    @staticmethod
    def advance(state: PartitionState, next_decisions_offset: int | None) -> None:
        """Move the state behind the decisions that were committed."""
        if next_decisions_offset is not None:
            state.position = state.position._replace(decisions=next_decisions_offset)
