"""Executor and order router of the demo: signals out, decisions in, trades on real bars, trades out.

It talks to the worker through Kafka only, as its neighbours in a deployment do, and checks in Redis
that every trade got its reward. Market time is replayed in waves: a wave's signals are sent at once,
and a trade is published before the first wave that begins after its exit, so what was learned from
it serves all later signals and nothing earlier. The replay waits for the table in between: the same
seed gives the same decisions, however fast the machine is.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import ValidationError

from consumer.domain.ladder import Ladder, walk
from consumer.domain.reward import realized_r
from consumer.local.paper_signals import ACCOUNT
from consumer.words import plural
from schemas import Exit, Message, Signal, StrategyDecision, TradeClosed, format_time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from consumer.domain.ladder import Outcome
    from consumer.local.paper_signals import Entry
    from consumer.local.replay_tally import ReplayTally
    from consumer.local.table_reader import TableReader

HORIZON_BARS = 120
"""A trade that is still open after so many bars is closed: a week of hours, half a year of days."""

# Waves of a replay: with fewer, trades wait long to be learned from; with more, the replay only waits.
_WAVES = 40
# Signals in a wave: below 8 the worker has hardly a batch, above 64 many trades end within a wave.
_SMALLEST_WAVE, _LARGEST_WAVE = 8, 64
# Without any progress for so long the replay gives up: a restarted worker is back within 10 s [s].
_PATIENCE_S = 30.0
# How often Redis is asked whether rewards have arrived [s]: a fold takes some milliseconds.
_ASK_S = 0.003
_LARGEST_R = 1000.0  # contract, section 1
# How long the topic stays quiet before the last repeat would have come: several transactions [ms].
_QUIET_MS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Names of the topics of a deployment."""

    signals: str = "signals"
    trade_closed: str = "trade-closed"
    decisions: str = "strategy-decisions"
    dead_letters: str = "strategy-dead-letters"


class StalledError(Exception):
    """Nothing came for 30 s; one line that says what was waited for."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: Entry
    sent_at: float


@dataclass(frozen=True, slots=True, order=True)
class _OpenTrade:
    """A trade whose end is known to the replay, but lies in its future; ordered by that."""

    exit_time: tuple[int, int]
    signal_id: str
    entry: Entry = field(compare=False)
    decision: StrategyDecision = field(compare=False)
    outcome: Outcome = field(compare=False)


class _Sent(NamedTuple):
    partition: int
    offset: int


class PaperExecutor:
    """Replays entries against a running worker; one replay per object.

    Args:
        entries: What to signal, in the order of market time.
        topics: Names of the topics; nobody else writes to them meanwhile.
        kafka: Options of all Kafka clients, at least `bootstrap_servers`.
        table: Where the rewards are to appear.
        tally: Is kept up to date while the replay runs.
        run_id: Begins the ids of all signals; not used before on these topics.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        topics: Topics,
        kafka: Mapping[str, Any],
        table: TableReader,
        tally: ReplayTally,
        run_id: str,
    ) -> None:
        self._entries = entries
        self._topics = topics
        self._table = table
        self._tally = tally
        self._run_id = run_id
        self._kafka = kafka
        self._waiting: dict[str, _Waiting] = {}
        self._seen: set[str] = set()
        self._open: list[_OpenTrade] = []
        self._began_at = 0.0

    async def run(self) -> None:
        """Replay all entries, and return when every trade has its reward.

        Raises:
            StalledError: The worker does not answer; the tally tells how far it came.
            KafkaError: Kafka refused something, or cannot be reached.
        """
        # made here: what is cancelled before it began has no client that nobody would stop
        async with contextlib.AsyncExitStack() as clients:
            self._producer = AIOKafkaProducer(**self._kafka, acks="all", enable_idempotence=True)
            clients.push_async_callback(self._producer.stop)
            await self._producer.start()
            # no group: it reads all partitions from their present end, and commits nothing
            self._consumer = AIOKafkaConsumer(
                **self._kafka,
                group_id=None,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
            )
            clients.push_async_callback(self._consumer.stop)
            await self._consumer.start()
            try:
                await self._go_to_the_end()
                await self._replay()
            finally:
                self._tally.unanswered = sorted(self._waiting)

    async def _go_to_the_end(self) -> None:
        partitions = [
            TopicPartition(topic, number)
            for topic in (self._topics.decisions, self._topics.dead_letters)
            for number in await self._producer.partitions_for(topic)
        ]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        for partition in partitions:  # seeking is lazy: what is sent from now on must be read
            await self._consumer.position(partition)

    async def _replay(self) -> None:
        size = min(max(len(self._entries) // _WAVES, _SMALLEST_WAVE), _LARGEST_WAVE)
        self._began_at = time.monotonic()
        for start in range(0, len(self._entries), size):
            wave = self._entries[start : start + size]
            await self._close_trades(until=wave[0].replay_time)
            await self._send_signals(start, wave)
            while self._waiting:
                await self._receive()
        await self._close_trades(until=None)
        while await self._poll(_QUIET_MS):
            pass

    async def _send_signals(self, start: int, wave: Sequence[Entry]) -> None:
        signals = []
        for number, entry in enumerate(wave, start + 1):
            signal = entry.to_signal(f"{self._run_id}-{number:06d}", _now_ms())
            self._waiting[signal.signal_id] = _Waiting(entry, time.monotonic())
            signals.append(signal)
        await self._send(self._topics.signals, signals)
        self._tally.sent += len(signals)

    async def _send(
        self, topic: str, messages: Sequence[Signal] | Sequence[TradeClosed]
    ) -> list[_Sent]:
        """Send messages together, keyed by symbol, and wait until the broker has them all."""
        acknowledged = [
            await self._producer.send(topic, _encode(message), key=message.symbol.encode())
            for message in messages
        ]
        return [_Sent(meta.partition, meta.offset) for meta in await asyncio.gather(*acknowledged)]

    async def _receive(self) -> None:
        """Wait for the next decisions."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while not await self._poll(1000):
            if time.monotonic() > give_up_at:
                raise StalledError(
                    f"no decision came for {_PATIENCE_S:.0f} s; "
                    f"{len(self._waiting)} "
                    f"{plural(len(self._waiting), 'signal waits for its own', 'signals wait for theirs')}"
                )

    async def _poll(self, timeout_ms: int) -> bool:
        """Take in what has come; False if nothing did within the time."""
        batches = await self._consumer.getmany(timeout_ms=timeout_ms)
        now = time.monotonic()
        self._tally.busy_s = now - self._began_at
        for partition, records in batches.items():
            for record in records:
                if partition.topic == self._topics.decisions:
                    self._take_decision(record.value, now)
                else:
                    self._take_dead_letter(record)
        return bool(batches)

    def _take_decision(self, value: bytes, now: float) -> None:
        try:
            decision = StrategyDecision.model_validate_json(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            self._tally.surprises.append(f"a decision is not valid: {first['loc']} {first['msg']}")
            return
        if decision.decision_id in self._seen:
            self._tally.repeats += 1
            return
        waiting = self._waiting.get(decision.signal_id)
        if waiting is None or not _fits(decision, waiting.entry):
            self._tally.surprises.append(
                f"decision {decision.decision_id} does not fit signal {decision.signal_id}"
            )
            return
        del self._waiting[decision.signal_id]
        self._seen.add(decision.decision_id)
        self._tally.note_decision(decision, (now - waiting.sent_at) * 1000.0)
        heapq.heappush(self._open, _trade(waiting.entry, decision))

    def _take_dead_letter(self, record: Any) -> None:
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        self._tally.dead_letters.append(
            f"dead letter from {headers.get('dlq.topic')}"
            f" {headers.get('dlq.partition')}:{headers.get('dlq.offset')}:"
            f" {headers.get('dlq.reason')}: {headers.get('dlq.error')}"
        )
        if headers.get("dlq.topic") == self._topics.signals and record.value:
            signal_id = Signal.model_validate_json(record.value).signal_id
            self._waiting.pop(signal_id, None)  # told above: no decision will come
            self._tally.refused.append(signal_id)

    async def _close_trades(self, until: tuple[int, int] | None) -> None:
        """Publish the trades that have ended by a replay time, and wait for their rewards."""
        ended = []
        while self._open and (until is None or self._open[0].exit_time <= until):
            ended.append(heapq.heappop(self._open))
        messages = [_trade_closed(trade) for trade in ended]
        for number in range(0, len(messages), _LARGEST_WAVE):
            some = messages[number : number + _LARGEST_WAVE]
            sent = await self._send(self._topics.trade_closed, some)
            for trade, message in zip(ended[number:], some, strict=False):
                self._tally.note_trade(trade.decision, realized_r(message, None))
            await self._wait_for_rewards(sent)
            self._tally.rewards += len(some)

    async def _wait_for_rewards(self, sent: Iterable[_Sent]) -> None:
        behind: dict[int, int] = {}
        for partition, offset in sent:
            behind[partition] = max(behind.get(partition, 0), offset + 1)
        give_up_at = time.monotonic() + _PATIENCE_S
        while True:
            folded = await self._table.trades_folded(behind)
            behind = {p: offset for p, offset in behind.items() if folded[p] < offset}
            if not behind:
                return
            if time.monotonic() > give_up_at:
                places = ", ".join(f"{p} at {folded[p]} of {end}" for p, end in behind.items())
                raise StalledError(
                    f"rewards did not reach Redis for {_PATIENCE_S:.0f} s; partition {places}"
                )
            await asyncio.sleep(_ASK_S)


def _fits(decision: StrategyDecision, entry: Entry) -> bool:
    """Check what a router must be able to rely on."""
    name = f"meta-strategy:{ACCOUNT}:{decision.signal_id}"
    return (
        decision.decision_id == str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        and decision.account == ACCOUNT
        and decision.symbol == entry.series.symbol
        and decision.side is entry.side
        and decision.tpsl.atr == entry.atr
        and decision.tpsl.entry_reference == entry.series.bars[entry.index].close
    )


def _trade(entry: Entry, decision: StrategyDecision) -> _OpenTrade:
    """Enter at the open of the next bar; the ladder moves with the fill."""
    series, first = entry.series, entry.index + 1
    path = series.bars[first : first + HORIZON_BARS]
    ladder = Ladder.of_tpsl(decision.tpsl)
    outcome = walk(ladder, entry.side, path[0].open, decision.tpsl.atr, path)
    closed_ms = path[outcome.bars - 1].open_ms + series.step_ms
    return _OpenTrade((entry.lap, closed_ms), decision.signal_id, entry, decision, outcome)


def _trade_closed(trade: _OpenTrade) -> TradeClosed:
    entry, decision, outcome = trade.entry, trade.decision, trade.outcome
    series = entry.series
    lived = series.bars[entry.index + 1 : entry.index + 1 + outcome.bars]
    opened = lived[0]
    return TradeClosed(
        schema_version=1,
        trade_id=f"{decision.signal_id}-1",
        symbol=series.symbol,
        side=entry.side,
        closed_at=_now_ms(),
        account=ACCOUNT,
        decision_id=decision.decision_id,
        strategy=decision.strategy,
        regime=decision.regime,
        variant=decision.variant,
        close_reason=outcome.close_reason,
        revision=None,
        entry_price=opened.open,
        exit_price=None,
        exits=tuple(Exit(price=fill.price, fraction=fill.fraction) for fill in outcome.fills),
        atr=decision.tpsl.atr,
        fees=series.fee * opened.open,
        realized_r=None,
        mfe_r=min(outcome.mfe_r, _LARGEST_R),
        mae_r=min(outcome.mae_r, _LARGEST_R),
        path=tuple((bar.open_ms, bar.high, bar.low, bar.close) for bar in lived),
        pnl=None,
        duration_hours=outcome.bars * series.step_ms / 3_600_000,
        metadata={
            "opened": format_time_ms(opened.open_ms),
            "closed": format_time_ms(trade.exit_time[1]),
            "bars": outcome.bars,
            "rule": entry.rule,
        },
    )


def _encode(message: Message) -> bytes:
    content = message.model_dump(mode="json", exclude_none=True)
    for name in ("ts", "closed_at"):
        if name in content:
            content[name] = format_time_ms(content[name])
    return orjson.dumps(content)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
