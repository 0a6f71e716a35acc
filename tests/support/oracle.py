"""The table as the contract words it, computed the slow way: nothing here is the product's.

Decisions and trades are plain dicts. Each run merges the two logs anew, looks everything up by
walking through lists, and computes each cell from the list of its rewards as they stand at the end.
"""

from fractions import Fraction
from typing import Any

Arm = tuple[str, str, str, str | None, str]
"""Account, symbol, regime, variant, strategy."""


def merged(decisions: list[dict[str, Any]], trades: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the logs in order: a trade at offset t sees the decisions with `table_offset` <= t."""
    order: list[dict[str, Any]] = []
    rest = list(decisions)
    for trade in sorted(trades, key=lambda one: one["offset"]):
        while rest and rest[0]["table_offset"] <= trade["offset"]:
            order.append(rest.pop(0))
        order.append(trade)
    return order + rest


def earned(trade: dict[str, Any], known_atr: float | None) -> Fraction | None:
    """Realized R of a trade; None when there is no ATR to divide by."""
    message = trade["message"]
    if message.get("realized_r") is not None:
        return Fraction(message["realized_r"])
    atr = message.get("atr") or known_atr
    if atr is None:
        return None
    if message.get("exits"):
        leave = sum(Fraction(x["price"]) * Fraction(x["fraction"]) for x in message["exits"])
        leave /= sum(Fraction(x["fraction"]) for x in message["exits"])
    else:
        leave = Fraction(message["exit_price"])
    entry = Fraction(message["entry_price"])
    move = leave - entry if message["side"] == "LONG" else entry - leave
    return (move - Fraction(message.get("fees") or 0)) / Fraction(atr)


class Fold:
    """What a pair of logs amounts to.

    Args:
        stops: `atr_mult_sl` of each strategy.
        alpha: Weight of a new reward.
        unit: `atr` or `risk`.
        exclude: Close reasons that are not learned from.
        ttl_ms: Age at which a decision is gone.
        open_max: Open decisions that are remembered.
        window: Decisions, and rewards, of an account by which a repeat is known.
    """

    def __init__(
        self,
        stops: dict[str, float],
        *,
        alpha: float,
        unit: str,
        exclude: set[str],
        ttl_ms: int,
        open_max: int,
        window: int,
    ) -> None:
        self.stops, self.alpha, self.unit, self.exclude = stops, alpha, unit, exclude
        self.ttl_ms, self.open_max, self.window = ttl_ms, open_max, window
        self.answered: list[dict[str, Any]] = []
        self.open: list[dict[str, Any]] = []
        self.closed: list[dict[str, Any]] = []
        self.rewards: list[dict[str, Any]] = []
        """Counted trades in log order, each with its reward as it stands now."""
        self.outcomes: list[str] = []
        """What became of each trade: an outcome or the code of its dead letter."""

    def run(self, decisions: list[dict[str, Any]], trades: list[dict[str, Any]]) -> "Fold":
        """Fold both logs."""
        for record in merged(decisions, trades):
            if "decision_id" in record:
                self._decide(record)
            else:
                self.outcomes.append(self._close(record))
        return self

    def _decide(self, decision: dict[str, Any]) -> None:
        mine = [one for one in self.answered if one["account"] == decision["account"]]
        if decision["decision_id"] in [one["decision_id"] for one in mine[-self.window :]]:
            return
        self.answered.append(decision)
        self._expire(decision["ts"])
        ids = [one["decision_id"] for one in self.open + self.closed]
        if decision["decision_id"] not in ids:
            self.open.append(decision)
        self.open = self.open[-self.open_max :]

    def _expire(self, now: int) -> None:
        self.open = [one for one in self.open if now - one["ts"] <= self.ttl_ms]
        self.closed = [one for one in self.closed if now - one["ts"] <= self.ttl_ms]

    def _close(self, trade: dict[str, Any]) -> str:
        message = trade["message"]
        account = message.get("account") or "default"
        revision = message.get("revision") or 0
        mine = [one for one in self.rewards if one["account"] == account]
        for known in mine[-self.window :]:
            if known["trade_id"] == message["trade_id"]:
                return self._revise(known, trade, revision)
        if revision > 0:
            return "unknown_trade"
        return self._count(trade, account)

    def _count(self, trade: dict[str, Any], account: str) -> str:
        message = trade["message"]
        decision = self._decision_of(trade, account)
        if decision is not None:
            regime, variant = decision["regime"], decision["variant"]
            strategy, stop, atr = decision["strategy"], decision["stop"], decision["atr"]
        elif message.get("strategy") and message.get("regime"):
            regime, variant = message["regime"], message.get("variant")
            strategy, stop, atr = message["strategy"], self.stops[message["strategy"]], None
        else:
            return "unknown_decision"
        r = earned(trade, atr)
        if r is None:
            return "unknown_decision"
        if decision in self.open:
            self.open.remove(decision)
            self.closed.append(decision)
            # as many closed ones are kept for their further trades: the contract names no number
            self.closed = self.closed[-self.open_max :]
        excluded = message.get("close_reason") in self.exclude
        reward = r / Fraction(stop) if self.unit == "risk" else r
        arm: Arm = (account, message["symbol"], regime, variant, strategy)
        self.rewards.append(
            {
                "account": account,
                "trade_id": message["trade_id"],
                "revision": 0,
                "arm": arm,
                "reward": reward,
                "atr": atr,
                "stop": stop,
                "excluded": excluded,
            }
        )
        if excluded:
            return "excluded"
        return "win" if reward > 0 else "loss" if reward < 0 else "flat"

    def _decision_of(self, trade: dict[str, Any], account: str) -> dict[str, Any] | None:
        message = trade["message"]
        alive = [one for one in self.open if trade["ts"] - one["ts"] <= self.ttl_ms]
        if message.get("decision_id"):
            alive += [one for one in self.closed if trade["ts"] - one["ts"] <= self.ttl_ms]
            for one in alive:
                if one["decision_id"] == message["decision_id"]:
                    return one
            return None
        place = (account, message["symbol"], message["side"])
        for one in reversed(alive):
            if (one["account"], one["symbol"], one["side"]) == place:
                return one
        return None

    def _revise(self, known: dict[str, Any], trade: dict[str, Any], revision: int) -> str:
        if revision <= known["revision"]:
            return "duplicate"
        r = earned(trade, known["atr"])
        if r is None:
            return "unknown_decision"
        known["revision"] = revision
        if known["excluded"]:
            return "excluded"
        known["reward"] = r / Fraction(known["stop"]) if self.unit == "risk" else r
        return "revised"

    def cells(self) -> dict[Arm, dict[str, float]]:
        """Compute every cell of the table from the rewards of its arm, the first one first."""
        arms: dict[Arm, list[float]] = {}
        for one in self.rewards:
            if not one["excluded"]:
                arms.setdefault(one["arm"], []).append(float(one["reward"]))
        table: dict[Arm, dict[str, float]] = {}
        for arm, values in arms.items():
            ema = values[0]
            for value in values[1:]:
                ema = (1 - self.alpha) * ema + self.alpha * value
            table[arm] = {
                "count": len(values),
                "ema_reward": ema,
                "avg_reward": sum(values) / len(values),
                "win_count": len([value for value in values if value > 0]),
                "loss_count": len([value for value in values if value < 0]),
                "total_r": sum(values),
            }
        return table
