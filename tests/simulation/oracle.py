"""What must hold in and after every schedule; knows the contract, and nothing of the worker."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from aiokafka import TopicPartition

from tests.simulation.broker import Broker
from tests.simulation.cluster import CANDLES, DEAD_LETTERS, DECISIONS, POOL, SIGNALS, TRADES
from tests.simulation.log import Fate, GroupOffset, Transaction
from tests.support import candle_oracle, fold_oracle
from tests.support.fold_oracle import Arm, decision_id, expected_decision


class ViolationError(AssertionError):
    """Something that must never be was seen."""


class Watch:
    """Looks at each commit and each write of the view when it happens.

    Args:
        broker: Whose commits.
        on_violation: Told what must never be.
    """

    def __init__(self, broker: Broker, on_violation: Callable[[str], None]) -> None:
        self._broker = broker
        self._claimants: dict[TopicPartition, str] = {}
        self._decided: dict[TopicPartition, int] = {}
        self._held: dict[TopicPartition, int] = {}
        self._violated = on_violation
        broker.on_decided = self._on_decided
        broker.on_offsets = self._on_offsets

    def _on_decided(self, transaction: Transaction) -> None:
        for log, (offset, _, _) in transaction.offsets.items():
            claimant = self._claimants.get(log)
            if claimant not in {None, transaction.owner}:
                self._violated(
                    f"{log.topic}-{log.partition}: {transaction.owner[-6:]} committed {offset}, "
                    f"the partition is {str(claimant)[-6:]}'s"
                )
            self._decided[log] = max(offset, self._decided.get(log, 0))

    def _on_offsets(self, offsets: "dict[TopicPartition, GroupOffset] | Any") -> None:
        for log, (offset, metadata, _) in offsets.items():
            self._claimants[log] = metadata
            held = self._held.get(log, 0)
            if offset < held:
                self._violated(
                    f"{log.topic}-{log.partition}: the group went back from {held} to {offset}"
                )
            self._held[log] = offset

    def on_write(self, delta: Any) -> None:
        """Look at a write to the view: only what is committed may be there."""
        decisions, trades, candles = delta.position
        number = delta.partition
        for topic, offset in ((TRADES, trades), (CANDLES, candles)):
            if offset > self._decided.get(TopicPartition(topic, number), 0):
                self._violated(
                    f"the view of {number} holds {topic} up to {offset}: not committed yet"
                )
        for transaction, first in self._broker.logs[
            TopicPartition(DECISIONS, number)
        ].undecided.items():
            if transaction.fate is Fate.OPEN and first < decisions:
                self._violated(
                    f"the view of {number} holds decisions up to {decisions}: not committed yet"
                )

    def on_applied(self, before: Any, delta: Any) -> None:
        """Look at a write that was applied: it has to go on from where the view stood.

        Absolute values make the harm pass by where a write holds everything, as the one in memory.
        """
        since, upto = delta.since, delta.position
        if before is None or not all(
            a <= b <= c for a, b, c in zip(since, before, upto, strict=True)
        ):
            self._violated(
                f"the view of {delta.partition} stood at {before}, a write from {tuple(since)} to "
                f"{tuple(upto)} was applied"
            )


def check_outputs(broker: Broker, view: Any, partitions: int, inputs: Sequence[str]) -> None:
    """Compare outputs and view with what the inputs must lead to.

    Raises:
        ViolationError: They differ.
    """
    letters = [
        (h["dlq.topic"], int(h["dlq.partition"]), int(h["dlq.offset"]))
        for record in _read(broker, DEAD_LETTERS, 0)
        for h in [{name: value.decode() for name, value in record.headers}]
    ]
    expected_letters: list[tuple[str, int, int]] = []
    for number in range(partitions):
        stored = view.partitions.get(number)
        expected_letters += _check_partition(broker, stored, number)
        if CANDLES in inputs:
            expected_letters += _check_papers(broker, stored, number)
    if sorted(letters) != sorted(expected_letters):
        raise ViolationError(f"dead letters: {sorted(letters)}, must be {sorted(expected_letters)}")


def check_pool(broker: Broker, partitions: int, inputs: Sequence[str]) -> None:
    """Compare what partitions told each other with what they learned, and when it was known.

    Raises:
        ViolationError: Something was told twice, or not at all, or was known and then no more.
    """
    told: dict[int, list[int]] = {number: [] for number in range(partitions)}
    for record in _read(broker, POOL, 0):
        content = orjson.loads(record.value)
        totals = [arm[0] + arm[8] for regime, _, arm in content["parents"] if regime is None]
        told[content["partition"]].append(sum(totals))
    for number, totals in told.items():
        decisions = _read(broker, DECISIONS, number)
        folded = fold_oracle.fold(decisions, _read(broker, TRADES, number)).get(number)
        learned = 0
        if folded is not None:
            learned = sum(arm.count for row in folded.rows.values() for arm in row.values())
        last = max(totals, default=0)
        # outcomes on paper come on top; how many there must be is compared apart
        is_all = last >= learned if CANDLES in inputs else last == learned
        if totals != sorted(set(totals)) or not is_all:
            raise ViolationError(f"partition {number} told of {totals}, it has learned {learned}")
        known = [orjson.loads(record.value)["pool_offset"] for record in decisions]
        if known != sorted(known):
            raise ViolationError(f"decisions of partition {number} knew the pool up to {known}")


def _read(broker: Broker, topic: str, number: int) -> list[Any]:
    return broker.logs[TopicPartition(topic, number)].read(0)[0]


def _check_partition(broker: Broker, stored: Any, number: int) -> list[tuple[str, int, int]]:
    letters: list[tuple[str, int, int]] = []
    wanted: list[tuple[int, str]] = []
    signals: dict[int, dict[str, Any]] = {}
    answered: set[str] = set()
    for record in _read(broker, SIGNALS, number):
        message = _message(record)
        if message is None:
            letters.append((SIGNALS, number, record.offset))
            continue
        name = decision_id("default", message["signal_id"])
        if name not in answered:
            answered.add(name)
            wanted.append((record.offset, name))
            signals[record.offset] = message
    decisions = _read(broker, DECISIONS, number)
    contents = [orjson.loads(record.value) for record in decisions]
    found = [(one["source"]["offset"], one["decision_id"]) for one in contents]
    if found != wanted:
        raise ViolationError(f"decisions of partition {number}: {found}, must be {wanted}")
    trades = _read(broker, TRADES, number)
    problems: list[str] = []

    def watch(decision: dict[str, Any], state: fold_oracle.Partition) -> None:
        row = state.rows.get(f"{decision['account']}:{decision['symbol']}:{decision['regime']}", {})
        expected = expected_decision(signals[decision["source"]["offset"]], row)
        if not decision["is_exploration"] and decision["strategy"] != expected.greedy:
            problems.append(
                f"{decision['decision_id']} chose {decision['strategy']}, at trade "
                f"{decision['table_offset']} it must be {expected.greedy}"
            )

    folded = fold_oracle.fold(decisions, trades, watch=watch).get(number)
    if problems:
        raise ViolationError("; ".join(problems))
    if folded is None:
        return letters
    letters += [(TRADES, number, offset) for offset in folded.refused]
    _check_view(stored, folded, number, len(trades))
    return letters


def _check_papers(broker: Broker, stored: Any, number: int) -> list[tuple[str, int, int]]:
    """Compare outcomes on paper with what the candles must lead to."""
    records = _read(broker, CANDLES, number)
    messages = {record.offset: _message(record) for record in records}
    decisions = [orjson.loads(record.value) for record in _read(broker, DECISIONS, number)]
    candles = {offset: message for offset, message in messages.items() if message is not None}
    must = candle_oracle.papers(decisions, candles)
    found = {
        f"{context.account}:{context.symbol}:{context.regime}": {
            name: (arm.paper_count, arm.paper_r) for name, arm in row.items()
        }
        for context, row in stored.rows.items()
        if any(arm.paper_count for arm in row.values())
    }
    if found.keys() != must.keys():
        raise ViolationError(f"papers of {number}: {sorted(found)}, must be {sorted(must)}")
    for context, outcomes in must.items():
        for name, rewards in outcomes.items():
            count, total = found[context][name]
            if count != len(rewards) or not math.isclose(total, sum(rewards), abs_tol=1e-9):
                raise ViolationError(
                    f"papers of {context} {name}: {count}, {total}, must be {rewards}"
                )
    return [(CANDLES, number, offset) for offset, message in messages.items() if message is None]


def _message(record: Any) -> dict[str, Any] | None:
    try:
        message: dict[str, Any] = orjson.loads(record.value or b"")
    except ValueError:
        return None
    is_good = message["schema_version"] == 1 and record.key == message["symbol"].encode()
    return message if is_good else None


def _check_view(stored: Any, folded: fold_oracle.Partition, number: int, trades: int) -> None:
    if stored is None:
        raise ViolationError(f"the view of {number} is empty")
    if stored.position.trades != trades:
        raise ViolationError(
            f"the view of {number} stands at trade {stored.position.trades} of {trades}"
        )
    rows = {
        f"{context.account}:{context.symbol}:{context.regime}:{strategy}": arm
        for context, row in stored.rows.items()
        for strategy, arm in row.items()
        if arm.count
    }
    expected = {
        f"{context}:{strategy}": arm
        for context, row in folded.rows.items()
        for strategy, arm in row.items()
    }
    if rows.keys() != expected.keys():
        raise ViolationError(f"rows of {number}: {sorted(rows)}, must be {sorted(expected)}")
    for name, arm in expected.items():
        if not _is_same(rows[name], arm, is_revised=name in folded.revised):
            raise ViolationError(f"row {name} of {number}: {rows[name]}, must be {arm}")
    remembered = {one.decision_id: one in stored.open for one in (*stored.open, *stored.closed)}
    must = {name: one.is_open for name, one in folded.remembered.items()}
    if remembered != must:
        raise ViolationError(f"decisions in the view of {number}: {remembered}, must be {must}")
    counted = {one.trade_id: one.revision for one in stored.trades}
    told = {trade_id: one.revision for (_, trade_id), one in folded.counted.items()}
    if counted != told:
        raise ViolationError(f"trades in the view of {number}: {counted}, must be {told}")


def _is_same(found: Any, must: Arm, *, is_revised: bool) -> bool:
    if (found.count, found.win_count, found.loss_count) != (
        must.count,
        must.win_count,
        must.loss_count,
    ):
        return False
    pairs = ((found.ema_reward, must.ema_reward), (found.total_r, must.total_r))
    if is_revised:  # corrected sums are equal but for the last bits
        return all(math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12) for a, b in pairs)
    return all(a == b for a, b in pairs)
