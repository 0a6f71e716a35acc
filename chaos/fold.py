"""The fold of one partition's logs, apart from the product: what Redis must hold, to the last bit."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka.structs import ConsumerRecord

from tests.support.fold_oracle import Arm, Row, added

EXCLUDED = frozenset({"manual", "external"})
ALPHA = 0.2
DECAY = 2.0 ** (-1.0 / 300.0)
MAX_BYTES = 64 * 1024


@dataclass(slots=True)
class _Decision:
    decision_id: str
    account: str
    symbol: str
    side: str
    regime: str
    strategy: str
    atr: float


@dataclass(slots=True)
class _Counted:
    reward: float
    revision: int
    context: str
    strategy: str
    atr: float | None
    ordinal: int


@dataclass(slots=True)
class Fold:
    """The fold of one partition, with the windows of the contract.

    Args:
        window: Ids, and rewards, of an account by which a repeat is known.
        open_max: Open decisions that are remembered; closed ones as many again.
    """

    window: int
    open_max: int
    rows: dict[str, Row] = field(default_factory=dict)
    """By `<account>:<SYMBOL>:<regime>`."""
    open: OrderedDict[str, _Decision] = field(default_factory=OrderedDict)
    closed: OrderedDict[str, _Decision] = field(default_factory=OrderedDict)
    counted: dict[str, OrderedDict[str, _Counted]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    """Code by offset of what goes to the dead letters; `bad` for what is no message."""
    repeats: int = 0
    corrected: int = 0
    learned: int = 0
    revised: set[str] = field(default_factory=set)
    """Arms whose sums were corrected: equal but for the last bits."""
    _ids: dict[str, OrderedDict[str, None]] = field(default_factory=dict)
    _by_symbol: dict[tuple[str, str, str], OrderedDict[str, None]] = field(default_factory=dict)

    def admit(self, said: Mapping[str, Any]) -> None:
        """Remember a decision."""
        account, name = said["account"], said["decision_id"]
        ids = self._ids.setdefault(account, OrderedDict())
        if name in ids:
            return
        ids[name] = None
        if len(ids) > self.window:
            ids.popitem(last=False)
        if name in self.open or name in self.closed:
            return
        decision = _Decision(
            name,
            account,
            said["symbol"],
            said["side"],
            said["regime"],
            said["strategy"],
            said["tpsl"]["atr"],
        )
        self.open[name] = decision
        self._by_symbol.setdefault(_place(decision), OrderedDict())[name] = None
        if len(self.open) > self.open_max:
            _, oldest = self.open.popitem(last=False)
            del self._by_symbol[_place(oldest)][oldest.decision_id]

    def _close(self, decision: _Decision) -> None:
        if self.open.pop(decision.decision_id, None) is None:
            return
        del self._by_symbol[_place(decision)][decision.decision_id]
        self.closed[decision.decision_id] = decision
        if len(self.closed) > self.open_max:
            self.closed.popitem(last=False)

    def learn(self, record: ConsumerRecord) -> None:
        """Fold one closed trade."""
        trade = message_of(record)
        if trade is None or "trade_id" not in trade:
            self.refused[record.offset] = "bad"
            return
        account = trade.get("account") or "default"
        revision = trade.get("revision") or 0
        counted = self.counted.setdefault(account, OrderedDict())
        known = counted.get(trade["trade_id"])
        if known is not None:
            if revision <= known.revision:
                self.repeats += 1
            else:
                self._revise(known, trade, revision)
            return
        if revision > 0:
            self.refused[record.offset] = "unknown_trade"
            return
        decision = self._decision_of(trade, account)
        if decision is not None:
            regime, strategy, atr = decision.regime, decision.strategy, decision.atr
        elif trade.get("strategy") and trade.get("regime"):
            regime, strategy, atr = trade["regime"], trade["strategy"], None
        else:
            self.refused[record.offset] = "unknown_decision"
            return
        reward = _reward(trade, atr)
        if decision is not None:
            self._close(decision)
        context = f"{account}:{trade['symbol']}:{regime}"
        ordinal = 0
        if trade.get("close_reason") not in EXCLUDED:
            arm = self.rows.setdefault(context, {}).setdefault(strategy, Arm())
            arm.ema_reward = (
                reward if arm.count == 0 else (1 - ALPHA) * arm.ema_reward + ALPHA * reward
            )
            arm.count += 1
            arm.win_count += reward > 0
            arm.loss_count += reward < 0
            arm.total_r += reward
            arm.sum_squares += reward * reward
            arm.loss_squares += reward * reward if reward < 0 else 0.0
            arm.recent_r = DECAY * arm.recent_r + reward
            ordinal = arm.count
            self.learned += 1
        kept = atr if atr is not None else trade.get("atr")
        counted[trade["trade_id"]] = _Counted(reward, revision, context, strategy, kept, ordinal)
        if len(counted) > self.window:
            counted.popitem(last=False)

    def _decision_of(self, trade: Mapping[str, Any], account: str) -> _Decision | None:
        name = trade.get("decision_id")
        if name is None:
            listed = self._by_symbol.get((account, trade["symbol"], trade["side"]))
            return self.open[next(reversed(listed))] if listed else None
        found = self.open.get(name) or self.closed.get(name)
        if found is None or (found.account, found.symbol) != (account, trade["symbol"]):
            return None
        return found

    def _revise(self, known: _Counted, trade: Mapping[str, Any], revision: int) -> None:
        new = _reward(trade, known.atr)
        old, known.reward, known.revision = known.reward, new, revision
        self.corrected += 1
        if known.ordinal == 0:
            return
        arm = self.rows[known.context][known.strategy]
        weight = (1 - ALPHA) ** (arm.count - known.ordinal)
        arm.ema_reward += weight * (1 if known.ordinal == 1 else ALPHA) * (new - old)
        arm.win_count += (new > 0) - (old > 0)
        arm.loss_count += (new < 0) - (old < 0)
        arm.total_r += new - old
        arm.sum_squares += new * new - old * old
        arm.loss_squares += (new * new if new < 0 else 0.0) - (old * old if old < 0 else 0.0)
        arm.recent_r += DECAY ** (arm.count - known.ordinal) * (new - old)
        self.revised.add(f"{known.context}:{known.strategy}")


def _place(decision: _Decision) -> tuple[str, str, str]:
    return decision.account, decision.symbol, decision.side


def _reward(trade: Mapping[str, Any], atr: float | None) -> float:
    if trade.get("realized_r") is not None:
        return float(trade["realized_r"])
    unit = trade["atr"] if trade.get("atr") is not None else atr
    assert unit is not None
    entry, leave = trade["entry_price"], trade.get("exit_price")
    if trade.get("exits"):
        weights = [part["fraction"] for part in trade["exits"]]
        prices = [part["price"] for part in trade["exits"]]
        leave = added(p * w for p, w in zip(prices, weights, strict=True)) / added(weights)
    move = leave - entry if trade["side"] == "LONG" else entry - leave
    return float(move / unit - (trade.get("fees") or 0.0) / unit)


def message_of(record: ConsumerRecord) -> dict[str, Any] | None:
    """Read a record; None for what goes to the dead letters whatever the table says.

    The traffic's own bad messages are told here, not any that could be thought of.
    """
    value = record.value or b""
    if len(value) > MAX_BYTES:
        return None
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or found.get("schema_version") != 1:
        return None
    if "symbol" not in found or record.key != found["symbol"].encode():
        return None
    return found
