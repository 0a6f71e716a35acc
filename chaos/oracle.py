"""What the logs must add up to, computed apart from the product, partition by partition.

Knows the contract and nothing of the worker. Decisions are compared with the rules of section 3 on the
table as it was at their `table_offset`; the table is compared with Redis to the last bit.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import orjson
from aiokafka.structs import ConsumerRecord

from chaos.feed import TIMEFRAME
from chaos.fold import Fold, message_of
from tests.support import candle_oracle
from tests.support.candle_oracle import Papers
from tests.support.fold_oracle import decision_id, expected_decision, levels_of


@dataclass(slots=True)
class Findings:
    """What a comparison came to; everything but the counts in the first part has to be 0."""

    signals: int = 0
    decisions: int = 0
    repeats: int = 0
    bad: int = 0
    degraded: int = 0
    trades: int = 0
    learned: int = 0
    repeated_trades: int = 0
    corrected_trades: int = 0
    refused_trades: int = 0
    candles: int = 0
    outcomes: int = 0
    """On paper."""
    told: int = 0
    """Records by which partitions let others know."""
    cells: int = 0
    replayed: int = 0
    # faults
    missing: int = 0
    doubled: int = 0
    unasked: int = 0
    out_of_order: int = 0
    wrong: int = 0
    letters_missing: int = 0
    letters_too_many: int = 0
    told_again: int = 0
    """Partitions and accounts of which no more was told than had been before."""
    told_wrong: int = 0
    cells_differing: int = 0
    replays_differing: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep an example of a fault."""
        if len(self.examples) < 20:
            self.examples.append(text)

    def add(self, other: Self) -> None:
        """Add what was found in another partition."""
        for each in fields(self):
            if each.name != "examples":
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        for text in other.examples:
            self.note(text)


def judge_partition(
    number: int,
    signals: Sequence[ConsumerRecord],
    decisions: Sequence[ConsumerRecord],
    trades: Sequence[ConsumerRecord],
    letters: Mapping[tuple[str, int, int], int],
    *,
    fold: Fold,
    found: Findings,
) -> None:
    """Compare one partition's decisions and dead letters with what its inputs demand.

    Args:
        number: Which partition.
        signals: All records, by offset.
        decisions: All committed records, by offset.
        trades: All records, by offset.
        letters: Committed dead letters, counted by topic, partition and offset.
        fold: An empty one; afterwards what Redis must hold.
        found: Is added to.
    """
    by_offset, answers, seen_at = {}, set(), -1
    expected: dict[int, dict[str, Any]] = {}
    ids: dict[str, OrderedDict[str, None]] = {}
    for record in signals:
        by_offset[record.offset] = record
        found.signals += 1
        message = message_of(record)
        if message is None or "market" not in message or "signal_id" not in message:
            found.bad += 1
            _judge_letter(record, letters, found, wanted=1)
            continue
        _judge_letter(record, letters, found, wanted=0)
        account = message.get("account") or "default"
        known = ids.setdefault(account, OrderedDict())
        if message["signal_id"] in known:
            found.repeats += 1
            continue
        known[message["signal_id"]] = None
        if len(known) > fold.window:
            known.popitem(last=False)
        expected[record.offset] = message

    at = 0
    for record in decisions:
        said = orjson.loads(record.value)
        found.decisions += 1
        found.degraded += said["degraded"]
        offset = said["source"]["offset"]
        is_double = offset in answers
        if said["source"]["partition"] != number or (offset <= seen_at and not is_double):
            found.out_of_order += 1
            found.note(f"partition {number}: {record.offset} answers {offset} after {seen_at}")
        seen_at = max(seen_at, offset)
        while at < len(trades) and trades[at].offset < said["table_offset"]:
            fold.learn(trades[at])
            at += 1
        if is_double:
            found.doubled += 1
            found.note(f"partition {number}: signal {offset} is answered twice")
        elif (signal := expected.get(offset)) is None:
            found.unasked += 1
            found.note(f"partition {number}: {offset} wants no answer")
        elif fault := _fault_of(said, signal, fold):
            found.wrong += 1
            found.note(f"partition {number}: signal {offset}: {fault}")
        answers.add(offset)
        fold.admit(said)
    for record in trades[at:]:
        fold.learn(record)
    missing = expected.keys() - answers
    found.missing += len(missing)
    if missing:
        found.note(f"partition {number}: no answer to {sorted(missing)[:5]}")
    found.trades += len(trades)
    found.learned += fold.learned
    found.repeated_trades += fold.repeats
    found.corrected_trades += fold.corrected
    found.refused_trades += len(fold.refused)
    for record in trades:
        _judge_letter(record, letters, found, wanted=int(record.offset in fold.refused))


def judge_candles(
    decisions: Sequence[ConsumerRecord],
    candles: Sequence[ConsumerRecord],
    letters: Mapping[tuple[str, int, int], int],
    found: Findings,
) -> Papers:
    """Compare the dead letters of a partition's candles; give what signals must have earned on paper.

    Args:
        decisions: All committed records, by offset.
        candles: All records, by offset.
        letters: Committed dead letters, counted by topic, partition and offset.
        found: Is added to.
    """
    messages: dict[int, dict[str, Any]] = {}
    for record in candles:
        message = message_of(record)
        is_candle = message is not None and "close_time" in message
        _judge_letter(record, letters, found, wanted=int(not is_candle))
        if message is not None and is_candle:
            messages[record.offset] = message
    found.candles += len(messages)
    found.bad += len(candles) - len(messages)
    said = [orjson.loads(record.value) for record in decisions]
    return candle_oracle.papers(said, messages, timeframe=TIMEFRAME)


def judge_pool(
    number: int,
    decisions: Sequence[ConsumerRecord],
    pool: Sequence[ConsumerRecord],
    learned: int,
    found: Findings,
) -> None:
    """Compare what a partition told others with what it learned, and what it knew of them.

    Args:
        number: Which partition.
        decisions: All its committed records, by offset.
        pool: All committed records of all partitions, by offset.
        learned: Rewards and outcomes on paper that it has learned.
        found: Is added to.
    """
    totals: dict[str, list[int]] = {}
    for record in pool:
        said = orjson.loads(record.value)
        if said["partition"] == number:
            arms = [arm for regime, _, arm in said["parents"] if regime is None]
            totals.setdefault(said["account"], []).append(sum(arm[0] + arm[8] for arm in arms))
    for account, told in totals.items():
        found.told += len(told)
        if told != sorted(set(told)):
            found.told_again += 1
            found.note(f"partition {number}: told of {account}'s rewards more than once: {told}")
    if sum(told[-1] for told in totals.values()) > learned:
        found.told_wrong += 1
        found.note(f"partition {number}: told of more than the {learned} rewards it has learned")
    known = [orjson.loads(record.value)["pool_offset"] for record in decisions]
    if known != sorted(known):
        found.told_wrong += 1
        found.note(f"partition {number}: knew less of the pool than before")


def _judge_letter(
    record: ConsumerRecord,
    letters: Mapping[tuple[str, int, int], int],
    found: Findings,
    *,
    wanted: int,
) -> None:
    count = letters.get((record.topic, record.partition, record.offset), 0)
    if count != wanted:
        found.letters_missing += max(0, wanted - count)
        found.letters_too_many += max(0, count - wanted)
        found.note(f"{record.topic} {record.partition}/{record.offset}: {count} dead letters")


def _fault_of(said: Mapping[str, Any], signal: Mapping[str, Any], fold: Fold) -> str:
    account = signal.get("account") or "default"
    if said["decision_id"] != decision_id(account, signal["signal_id"]):
        return "decision_id"
    row = fold.rows.get(f"{account}:{signal['symbol']}:{said['regime']}", {})
    wanted = expected_decision(signal, row)
    if said["regime"] != wanted.regime:
        return f"regime {said['regime']}, must be {wanted.regime}"
    if said["propensities"].keys() != set(wanted.candidates):
        return "candidates"
    if any(abs(said["propensities"][s] - p) > 1e-9 for s, p in wanted.propensities.items()):
        return f"propensities {said['propensities']}, must be {wanted.propensities}"
    if said["mode"] != "explore":
        if said["strategy"] != wanted.greedy or said["mode"] != wanted.mode:
            return f"{said['mode']} {said['strategy']}, must be {wanted.mode} {wanted.greedy}"
        if wanted.reasoning is not None and said["reasoning"] != wanted.reasoning:
            return f"reasoning {said['reasoning']}, must be {wanted.reasoning}"
    market, tpsl = signal["market"], said["tpsl"]
    prices = levels_of(said["strategy"], signal["side"], market["current_price"], market["atr"])
    for name, price in zip(
        ("stop_loss", "take_profit_1", "take_profit_2", "take_profit_3"), prices, strict=True
    ):
        if abs(tpsl[name] - price) > 1e-9 * abs(price):
            return f"{name} {tpsl[name]}, must be {price}"
    return ""


def compare_rows(
    number: int,
    prefix: str,
    fold: Fold,
    papers: Papers,
    table: Mapping[str, Mapping[str, str]],
    found: Findings,
) -> None:
    """Compare a partition's rows in Redis with the fold: every key, every field, every bit.

    Args:
        number: Which partition.
        prefix: What every key starts with.
        fold: Of all its records.
        papers: What its signals must have earned on paper.
        table: Every hash of a context in Redis, by key.
        found: Is added to.
    """
    begin = f"{prefix}:{{{number}}}:q:"
    there = {key.removeprefix(begin): row for key, row in table.items() if key.startswith(begin)}
    for context in there.keys() ^ (fold.rows.keys() | papers.keys()):
        found.cells_differing += 1
        found.note(f"{begin}{context} is only in {'Redis' if context in there else 'the logs'}")
    for context in there.keys() & fold.rows.keys():
        for strategy, arm in fold.rows[context].items():
            is_revised = f"{context}:{strategy}" in fold.revised
            for name, value in arm.fields(strategy).items():
                found.cells += 1
                text = there[context].get(name, "nan")
                tolerance = 1e-12 * max(1.0, abs(value)) * (1 + arm.count) if is_revised else 0.0
                if not abs(float(text) - value) <= tolerance:
                    found.cells_differing += 1
                    found.note(f"{begin}{context} {name} is {text}, must be {value!r}")
    for context in there.keys() & papers.keys():
        for strategy, rewards in papers[context].items():
            must = {"paper_count": float(len(rewards)), "paper_r": sum(rewards)}
            found.outcomes += len(rewards)
            for name, value in must.items():
                found.cells += 1
                text = there[context].get(f"{strategy}:{name}", "nan")
                if not abs(float(text) - value) <= 1e-9 * max(1.0, abs(value)):
                    found.cells_differing += 1
                    found.note(f"{begin}{context} {strategy}:{name} is {text}, must be {value!r}")
