"""Decisions and trades folded into a state, one by one, where messages do not matter."""

from typing import Any

from consumer.domain.open_decision import OpenDecision
from consumer.domain.partition_state import PartitionState
from schemas import MarketRegime, Side, TradeClosed
from tests.support.builders import make_trade


def decide(state: PartitionState, name: str, account: str = "default", ts: int = 0) -> None:
    """Fold one decision."""
    found = OpenDecision(
        f"{account}/{name}", account, "EURUSD", Side.LONG, MarketRegime.TREND_UP, None, "scalp", 1.0, 1.0, ts
    )  # fmt: skip
    state.admit(found, is_exploration=False)
    state.position = state.position._replace(decisions=state.position.decisions + 1)


def pair(state: PartitionState, name: str, account: str = "default") -> None:
    """Fold one decision and its trade."""
    decide(state, name, account)
    trade = make_trade(
        trade_id=f"t-{name}",
        symbol="EURUSD",
        side="LONG",
        account=account,
        decision_id=f"{account}/{name}",
        realized_r=0.5,
    )
    state.fold_trade(TradeClosed.model_validate(trade), 0)
    state.position = state.position._replace(trades=state.position.trades + 1)


def remembered_by(state: PartitionState) -> Any:
    """Give what it remembers, to compare."""
    found = state.stored()
    return (
        found.position,
        sorted(map(repr, found.open)),
        sorted(map(repr, found.closed)),
        sorted(found.decision_ids),
        sorted(map(repr, found.trades)),
    )
