"""What the logs must add up to: the contract's rules written a second time, apart from the product.

Reads nothing but the records of `strategy-decisions` and `trade-closed`, and imports nothing of the
product: what it gives is compared with Redis to the last bit.
"""

import json
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from consumer.stream.read_record import ReadRecord
from tests.support.path_oracle import paper_r

SL = {
    "defensive": 1.0,
    "moderate": 1.0,
    "moderate_aggressive": 1.0,
    "balanced_aggressive": 1.5,
    "ultra_aggressive": 1.0,
    "scalp": 0.8,
    "trend_rider": 2.0,
}
LEVELS = {
    "defensive": (1.0, 1.5, 2.5, 4.0),
    "moderate": (1.0, 2.0, 3.5, 5.5),
    "moderate_aggressive": (1.0, 2.5, 4.0, 6.0),
    "balanced_aggressive": (1.5, 4.0, 6.0, 10.0),
    "ultra_aggressive": (1.0, 3.0, 5.0, 8.0),
    "scalp": (0.8, 1.2, 1.8, 2.5),
    "trend_rider": (2.0, 5.0, 8.0, 12.0),
}
CORRECTED = frozenset(
    {"ema_reward", "avg_reward", "total_r", "sum_squares", "loss_squares", "recent_r"}
)
PAPER = ("paper_count", "paper_r", "paper_squares", "paper_loss_squares", "recent_paper_r")
TRENDING = {
    "moderate",
    "moderate_aggressive",
    "balanced_aggressive",
    "ultra_aggressive",
    "trend_rider",
}
RANGING = {"defensive", "moderate", "ultra_aggressive", "scalp"}
HIGH_VOL = set(SL) - {"scalp"}
LOW_VOL = {"defensive", "moderate", "moderate_aggressive", "ultra_aggressive", "scalp"}
SUITABLE = {
    "trend_up": TRENDING,
    "trend_down": TRENDING,
    "range_low_vol": RANGING & LOW_VOL,
    "range_high_vol": RANGING & HIGH_VOL,
    "high_volatility": HIGH_VOL,
    "illiquid": {"defensive", "scalp"},
    "unknown": set(SL),
}
COLD_START = {
    "trend_up": "ultra_aggressive",
    "trend_down": "ultra_aggressive",
    "range_low_vol": "scalp",
    "range_high_vol": "moderate",
    "high_volatility": "defensive",
    "illiquid": "defensive",
    "unknown": "ultra_aggressive",
}


# --- Rows of the table


@dataclass(slots=True)
class Arm:
    """Statistics of one strategy in one context."""

    count: int = 0
    ema_reward: float = 0.0
    win_count: int = 0
    loss_count: int = 0
    total_r: float = 0.0
    sum_squares: float = 0.0
    loss_squares: float = 0.0
    recent_r: float = 0.0
    paper_count: int = 0
    paper_r: float = 0.0
    paper_squares: float = 0.0
    paper_loss_squares: float = 0.0
    recent_paper_r: float = 0.0

    def fields(self, strategy: str) -> dict[str, float]:
        """Give the fields that the contract names."""
        return {
            f"{strategy}:count": self.count,
            f"{strategy}:ema_reward": self.ema_reward,
            f"{strategy}:avg_reward": self.total_r / self.count if self.count else 0.0,
            f"{strategy}:win_count": self.win_count,
            f"{strategy}:loss_count": self.loss_count,
            f"{strategy}:total_r": self.total_r,
            f"{strategy}:sum_squares": self.sum_squares,
            f"{strategy}:loss_squares": self.loss_squares,
            f"{strategy}:recent_r": self.recent_r,
        } | {f"{strategy}:{name}": getattr(self, name) for name in PAPER if self.paper_count}


Row = dict[str, Arm]


@dataclass(slots=True)
class _Decision:
    content: dict[str, Any]
    timestamp_ms: int
    is_open: bool = True


@dataclass(slots=True)
class _Counted:
    reward: float
    revision: int
    context: str
    strategy: str
    atr: float | None
    ordinal: int
    """Which of its arm's rewards, from 1; 0 when excluded."""


@dataclass(slots=True)
class Partition:
    """The fold of one partition."""

    alpha: float = 0.2
    decay: float = 2.0 ** (-1.0 / 300.0)
    unit: str = "atr"
    exclude: frozenset[str] = frozenset({"manual", "external"})
    ttl_ms: int = 30 * 86_400_000
    rows: dict[str, Row] = field(default_factory=dict)
    """By `<account>:<SYMBOL>:<regime>`."""
    remembered: dict[str, _Decision] = field(default_factory=dict)
    counted: dict[tuple[str, str], _Counted] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    """Code by offset of what goes to the dead letters."""
    duplicates: list[int] = field(default_factory=list)
    revised: set[str] = field(default_factory=set)
    """Arms whose sums were corrected: equal but for the last bits."""

    def admit(self, content: dict[str, Any], timestamp_ms: int) -> None:
        """Remember a decision; the first record of an id wins."""
        self.remembered.setdefault(content["decision_id"], _Decision(content, timestamp_ms))

    def learn(self, record: ReadRecord) -> None:
        """Fold one closed trade."""
        try:
            trade = json.loads(record.value or b"")
            assert trade["schema_version"] == 1
            assert record.key == trade["symbol"].encode()
        except (ValueError, TypeError, KeyError, AssertionError):
            self.refused[record.offset] = "malformed"
            return
        account = trade.get("account") or "default"
        revision = trade.get("revision") or 0
        known = self.counted.get((account, trade["trade_id"]))
        if known is not None:
            if revision <= known.revision:
                self.duplicates.append(record.offset)
            else:
                self._revise(known, trade, revision)
            return
        if revision > 0:
            self.refused[record.offset] = "unknown_trade"
            return
        decision = self._decision_of(trade, account, record.timestamp)
        if decision is not None:
            said = decision.content
            regime, strategy, atr = said["regime"], said["strategy"], said["tpsl"]["atr"]
        elif trade.get("strategy") and trade.get("regime"):
            regime, strategy, atr = trade["regime"], trade["strategy"], None
            if trade.get("variant"):
                regime += f":{trade['variant']}"
        else:
            self.refused[record.offset] = "unknown_decision"
            return
        reward = self._reward(trade, strategy, atr)
        if decision is not None:
            decision.is_open = False
        context = f"{account}:{trade['symbol']}:{regime}"
        ordinal = 0
        if trade.get("close_reason") not in self.exclude:
            arm = self.rows.setdefault(context, {}).setdefault(strategy, Arm())
            arm.ema_reward = (
                reward
                if arm.count == 0
                else (1 - self.alpha) * arm.ema_reward + self.alpha * reward
            )
            arm.count += 1
            arm.win_count += reward > 0
            arm.loss_count += reward < 0
            arm.total_r += reward
            arm.sum_squares += reward * reward
            arm.loss_squares += reward * reward if reward < 0 else 0.0
            arm.recent_r = self.decay * arm.recent_r + reward
            ordinal = arm.count
            self._learn_path(trade, context, atr)
        own_atr = trade.get("atr")
        self.counted[account, trade["trade_id"]] = _Counted(
            reward, revision, context, strategy, atr if own_atr is None else own_atr, ordinal
        )

    def _learn_path(self, trade: Mapping[str, Any], context: str, atr: float | None) -> None:
        own = trade.get("atr")
        levels_atr, unit = (own if atr is None else atr), (atr if own is None else own)
        if not trade.get("path") or levels_atr is None or unit is None:
            return
        exits = trade.get("exits")
        found = {
            strategy: paper_r(
                levels,
                is_long=trade["side"] == "LONG",
                entry=trade["entry_price"],
                atr=levels_atr,
                path=trade["path"],
                exit_price=exits[-1]["price"] if exits else trade["exit_price"],
            )
            * levels_atr
            / unit
            - (trade.get("fees") or 0.0) / unit
            for strategy, levels in LEVELS.items()
        }
        if max(map(abs, found.values())) > 1000:
            return
        for strategy, earned in found.items():
            reward = earned if self.unit == "atr" else earned / SL[strategy]
            arm = self.rows[context].setdefault(strategy, Arm())
            arm.paper_count += 1
            arm.paper_r += reward
            arm.paper_squares += reward * reward
            arm.paper_loss_squares += reward * reward if reward < 0 else 0.0
            arm.recent_paper_r = self.decay * arm.recent_paper_r + reward

    def _decision_of(
        self, trade: Mapping[str, Any], account: str, timestamp_ms: int
    ) -> _Decision | None:
        wanted = {"account": account, "symbol": trade["symbol"], "side": trade["side"]}
        if trade.get("decision_id") is not None:
            found = [self.remembered.get(trade["decision_id"])]
        else:
            found = [
                d
                for d in self.remembered.values()
                if d.is_open and wanted.items() <= d.content.items()
            ]
        newest = found[-1] if found else None
        if newest is None or timestamp_ms - newest.timestamp_ms > self.ttl_ms:
            return None
        return newest

    def _reward(self, trade: Mapping[str, Any], strategy: str, atr: float | None) -> float:
        reward = trade.get("realized_r")
        if reward is None:
            unit = atr if trade.get("atr") is None else trade["atr"]
            assert unit is not None
            entry, exit_ = trade["entry_price"], trade.get("exit_price")
            if trade.get("exits"):
                weights = [part["fraction"] for part in trade["exits"]]
                prices = [part["price"] for part in trade["exits"]]
                exit_ = added(p * w for p, w in zip(prices, weights, strict=True)) / added(weights)
            move = exit_ - entry if trade["side"] == "LONG" else entry - exit_
            reward = move / unit - (trade.get("fees") or 0.0) / unit
        return reward if self.unit == "atr" else reward / SL[strategy]

    def _revise(self, known: _Counted, trade: Mapping[str, Any], revision: int) -> None:
        new = self._reward(trade, known.strategy, known.atr)
        old, known.reward, known.revision = known.reward, new, revision
        if known.ordinal == 0:
            return
        arm = self.rows[known.context][known.strategy]
        later = arm.count - known.ordinal
        weight = (1 - self.alpha) ** later * (1 if known.ordinal == 1 else self.alpha)
        arm.ema_reward += weight * (new - old)
        arm.win_count += (new > 0) - (old > 0)
        arm.loss_count += (new < 0) - (old < 0)
        arm.total_r += new - old
        arm.sum_squares += new * new - old * old
        arm.loss_squares += (new * new if new < 0 else 0.0) - (old * old if old < 0 else 0.0)
        arm.recent_r += self.decay**later * (new - old)
        self.revised.add(f"{known.context}:{known.strategy}")


Watcher = Callable[[dict[str, Any], Partition], None]


def _unwatched(_: dict[str, Any], __: Partition) -> None:
    """Let a decision pass."""


def fold(
    decisions: Iterable[ReadRecord],
    trades: Iterable[ReadRecord],
    *,
    watch: Watcher = _unwatched,
    **settings: Any,
) -> dict[int, Partition]:
    """Fold both logs, partition by partition.

    Args:
        decisions: All committed records of `strategy-decisions`, by offset.
        trades: All records of `trade-closed`, by offset.
        watch: Called with each decision and the table as it was when it was made.
        **settings: Of `Partition`.
    """
    logs: dict[int, tuple[list[ReadRecord], list[ReadRecord]]] = {}
    for record in decisions:
        logs.setdefault(record.partition, ([], []))[0].append(record)
    for record in trades:
        logs.setdefault(record.partition, ([], []))[1].append(record)
    found = {}
    for number, (decided, traded) in logs.items():
        state = found[number] = Partition(**settings)
        # a trade at offset t sees exactly the decisions with table_offset <= t
        said = [(json.loads(record.value), record.timestamp) for record in decided]
        at = 0
        for content, timestamp_ms in sorted(said, key=lambda pair: pair[0]["table_offset"]):
            while at < len(traded) and traded[at].offset < content["table_offset"]:
                state.learn(traded[at])
                at += 1
            watch(content, state)
            state.admit(content, timestamp_ms)
        for record in traded[at:]:
            state.learn(record)
    return found


def expected_table(found: Mapping[int, Partition], prefix: str) -> dict[str, dict[str, float]]:
    """Give what `HGETALL` must show, by key, as numbers."""
    return {
        f"{prefix}:{{{number}}}:q:{context}": {
            name: value
            for strategy, arm in row.items()
            for name, value in arm.fields(strategy).items()
        }
        for number, partition in found.items()
        for context, row in partition.rows.items()
    }


def assert_table(
    table: Mapping[str, Mapping[str, str]], found: Mapping[int, Partition], prefix: str
) -> None:
    """Compare Redis with the oracle: every key, every field, every bit."""
    expected = expected_table(found, prefix)
    assert sorted(table) == sorted(expected)
    revised = {
        f"{prefix}:{{{number}}}:q:{arm}"
        for number, partition in found.items()
        for arm in partition.revised
    }
    for key, fields in expected.items():
        for name, value in fields.items():
            text = table[key].get(name)
            assert text is not None, f"{key} has no field {name}"
            strategy, _, quantity = name.rpartition(":")
            # a path is walked another way here: equal but for the last bits, too
            is_near = quantity in PAPER[1:] or (
                f"{key}:{strategy}" in revised and quantity in CORRECTED
            )
            if is_near:
                assert math.isclose(float(text), value, rel_tol=1e-12, abs_tol=1e-12), (key, name)
            else:
                assert float(text) == value, f"{key} {name}: is {text}, must be {value!r}"


# --- Decisions


def added(values: Iterable[float]) -> float:
    """Add one after the other; `sum` does more than that since Python 3.12."""
    found = 0.0
    for value in values:
        found += value
    return found


@lru_cache(maxsize=1024)  # asked for the same few again and again
def decision_id(account: str, signal_id: str) -> str:
    """Give the id that the contract gives a signal's decision."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"meta-strategy:{account}:{signal_id}"))


def regime_of(market: Mapping[str, Any]) -> tuple[str, float]:
    """Give regime and confidence by section 2 with its default limits."""
    volume, depth, spread = (market.get(n) for n in ("volume_24h", "depth_5bps", "spread_bps"))
    ratios = [
        *([2e6 / volume if volume else math.inf] if volume is not None else []),
        *([5e4 / depth if depth else math.inf] if depth is not None else []),
        *([spread / 10] if spread is not None else []),
    ]
    if any(ratio > 1 for ratio in ratios):
        return "illiquid", min(1.0, max(ratios) / 2)
    atr_pct = market.get("atr_pct")
    if atr_pct is None:
        atr_pct = market["atr"] / market["current_price"]
    if atr_pct > 0.06:
        return "high_volatility", min(1.0, atr_pct / 2 / 0.06)
    adx, strength = market.get("adx"), market.get("trend_strength")
    if adx is None or strength is None:
        return "unknown", 0.0
    if adx > 25 and abs(strength) > 0.3:
        confidence = 0.5 * min(adx / 50, 1) + 0.5 * min(abs(strength) / 0.6, 1)
        return ("trend_up" if strength > 0 else "trend_down"), confidence
    if adx <= 25 and abs(strength) <= 0.3:
        confidence = 1 - 0.25 * adx / 25 - 0.25 * abs(strength) / 0.3
        if atr_pct > 0.04:
            return "range_high_vol", confidence
        return "range_low_vol", confidence - (0.2 if atr_pct >= 0.015 else 0.0)
    return "unknown", 0.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What a decision may say, the draw left open."""

    regime: str
    regime_confidence: float
    candidates: Sequence[str]
    greedy: str
    mode: str
    """When it does not explore."""
    reasoning: str | None
    """When it exploits."""
    propensities: dict[str, float]
    confidences: dict[str, float]
    """By the strategy that is chosen."""


def levels_of(strategy: str, side: str, price: float, atr: float) -> tuple[float, ...]:
    """Give stop and targets [quote]."""
    sign = 1 if side == "LONG" else -1
    sl, *tps = LEVELS[strategy]
    return (price - sign * sl * atr, *(price + sign * tp * atr for tp in tps))


def expected_decision(signal: Mapping[str, Any], row: Row, *, epsilon: float = 0.1) -> Expected:
    """Decide a signal by section 3: default settings, `epsilon_greedy`.

    Args:
        signal: The message.
        row: The context's row as it was.
        epsilon: Exploration rate.
    """
    market = signal["market"]
    regime, confidence = regime_of(market)
    price, atr = market["current_price"], market["atr"]
    candidates = [
        strategy
        for strategy in SL
        if strategy in SUITABLE[regime] and min(levels_of(strategy, signal["side"], price, atr)) > 0
    ]
    cold = COLD_START[regime]
    if regime.startswith("trend") and confidence >= 0.9:
        cold = "trend_rider"
    if cold not in candidates:
        cold = candidates[0]
    counts = {strategy: row.get(strategy, Arm()).count for strategy in candidates}
    confidences = {strategy: 1 - 2 ** (-n / 4) for strategy, n in counts.items()}
    greedy, mode, reasoning = cold, "heuristic", None
    if sum(arm.count for arm in row.values()) >= 5:
        best = max(candidates, key=lambda s: row.get(s, Arm()).ema_reward)
        if confidences[best] >= 0.5:
            greedy, mode = best, "exploit"
            reasoning = f"Exploitation: highest Q-value={row.get(best, Arm()).ema_reward:.3f}"
    share = epsilon / len(candidates)
    propensities = {s: share + (1 - epsilon) * (s == greedy) for s in candidates}
    return Expected(
        regime, confidence, candidates, greedy, mode, reasoning, propensities, confidences
    )


def by_source(
    decisions: Iterable[ReadRecord],
) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """Give each decision with the place of its signal."""
    for record in decisions:
        decision = json.loads(record.value)
        yield (decision["source"]["partition"], decision["source"]["offset"]), decision
