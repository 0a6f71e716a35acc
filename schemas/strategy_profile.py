"""A strategy: how far its exits lie from the entry, and what it suits."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from schemas.fields import Fraction, Message, StrategyName
from schemas.vocabulary import Aggressiveness, StrategyID

_LARGEST_MULTIPLE = 1000.0  # R is bounded by it: a wider ladder could never be paid


def _built_in(strategy_id: str) -> str:
    return StrategyID(strategy_id) if strategy_id in set(StrategyID) else str(strategy_id)


class StrategyProfile(Message):
    """Take-profit and stop-loss ladder in ATR multiples, with the regimes it suits."""

    strategy_id: Annotated[StrategyName, AfterValidator(_built_in)] = Field(
        description="Lower case, unique; a StrategyID where it is one of the seven."
    )
    name: str = Field(min_length=1, max_length=64, description="For people.")
    description: str = Field("", max_length=500)
    r_sl: float = Field(gt=0.0, le=_LARGEST_MULTIPLE, description="Stop loss [ATR].")
    r_tp1: float = Field(gt=0.0, le=_LARGEST_MULTIPLE, description="First target [ATR].")
    r_tp2: float = Field(gt=0.0, le=_LARGEST_MULTIPLE, description="Second target [ATR].")
    r_tp3: float = Field(gt=0.0, le=_LARGEST_MULTIPLE, description="Third target [ATR].")
    partial_close_tp1: Fraction = Field(0.4, description="Share closed at TP1.")
    partial_close_tp2: Fraction = Field(0.3, description="Share closed at TP2.")
    partial_close_tp3: Fraction = Field(0.3, description="Share closed at TP3.")
    aggressiveness: Aggressiveness = Field(Aggressiveness.MODERATE, strict=False)
    suitable_for_trending: bool = False
    suitable_for_ranging: bool = False
    suitable_for_high_vol: bool = False
    suitable_for_low_vol: bool = False
    expected_win_rate: Fraction = Field(0.5, description="As its author expects it, 0 to 1.")
    expected_risk_reward: float = Field(
        1.0, gt=0.0, le=_LARGEST_MULTIPLE, description="Expected reward per risk [1]."
    )

    @model_validator(mode="after")
    def _is_a_ladder(self) -> "StrategyProfile":
        if not self.r_tp1 < self.r_tp2 < self.r_tp3:
            raise ValueError("r_tp1, r_tp2, r_tp3: must rise")
        total = self.partial_close_tp1 + self.partial_close_tp2 + self.partial_close_tp3
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"partial_close_tp1..3: must sum to 1, were {total:.6g}")
        return self

    def to_tpsl_config(self) -> dict[str, float]:
        """Give the ladder as a trading profile takes it: multiples [ATR] and shares [1]."""
        return {
            "atr_mult_sl": self.r_sl,
            "atr_mult_tp1": self.r_tp1,
            "atr_mult_tp2": self.r_tp2,
            "atr_mult_tp3": self.r_tp3,
            "partial_close_tp1": self.partial_close_tp1,
            "partial_close_tp2": self.partial_close_tp2,
            "partial_close_tp3": self.partial_close_tp3,
        }
