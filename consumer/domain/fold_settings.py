"""All that the fold depends on besides the logs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from consumer.domain.ladder import Ladder, built_in_ladders
from consumer.domain.qtable import HALF_LIFE, decay_of
from consumer.domain.reward import RewardUnit
from schemas import CloseReason


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldSettings:
    """All that the fold depends on besides the logs."""

    alpha: float = 0.20
    """Weight of a new reward in the average [1], within (0, 1]."""
    half_life: float = HALF_LIFE
    """Later rewards of an arm after which one counts half in its recent sum, above 0."""
    reward_unit: RewardUnit = "atr"
    learn_exclude: frozenset[CloseReason] = frozenset({CloseReason.MANUAL, CloseReason.EXTERNAL})
    """Close reasons whose rewards are counted, not learned."""
    decision_ttl_ms: int = 30 * 86_400_000
    """Age at which a decision is forgotten [ms of record time]."""
    open_decisions_max: int = 100_000
    """Open decisions a partition remembers."""
    dedupe_window: int = 100_000
    """Decisions, and rewards, of an account by which a repeat is known."""
    ladders: Mapping[str, Ladder] = field(default_factory=built_in_ladders)
    """Of every strategy, by id: those that a trade may echo, and that its path is walked for."""
    candles: str | None = None
    """Timeframe of the candles that signals are followed by; empty: each signal's own; None: no signal is
    followed, the paths of trades are learned from."""
    keeps_usual_atr: bool = False
    """Whether the mean ATR of each market is kept: limits of regimes are relative to it."""

    @property
    def decay(self) -> float:
        """What is left of a reward's weight in the recent sum after a later one [1]."""
        return decay_of(self.half_life)
