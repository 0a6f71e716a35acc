"""What every policy takes and gives."""

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from consumer.domain.draws import Draws
from consumer.domain.features import NO_FEATURES, Features
from consumer.domain.qtable import NO_ROW, Row
from schemas import MarketRegime, Mode

NO_PARENTS: Final[tuple[Row, Row]] = (NO_ROW, NO_ROW)
"""Of a context in which nothing was learned anywhere."""


class Situation(NamedTuple):
    """What a policy knows when it chooses."""

    regime: MarketRegime
    regime_confidence: float
    """How sure the regime is [1]."""
    row: Row
    """What is known of each arm in this context."""
    candidates: tuple[str, ...]
    """Ids of the eligible arms, in the order that settles ties; at least one."""
    parents: tuple[Row, Row] = NO_PARENTS
    """The same over all symbols: of the account, and of the regime in it."""
    trusts_paper: bool = True
    """Whether outcomes on paper agreed with those that were earned."""
    features: Features = NO_FEATURES
    """Of the signal, where they are kept."""


class Choice(NamedTuple):
    """An arm, with all that explains it and lets another policy be judged by it."""

    arm: str
    propensities: Mapping[str, float]
    """Probability of every candidate [1]; they sum to 1."""
    mode: Mode
    confidence: float
    """In the arm's Q-value [1]."""
    reasoning: str

    @property
    def propensity(self) -> float:
        """Probability with which this arm was chosen, within (0, 1]."""
        return self.propensities[self.arm]


class Policy(Protocol):
    """Chooses an arm; deterministic for its inputs, and honest about its propensities."""

    @property
    def name(self) -> str:
        """What `META_STRATEGY_POLICY` calls it."""

    @property
    def leans_on_parents(self) -> bool:
        """Whether it looks at the rows over all symbols; if not, they need not be looked up."""

    @property
    def initial_epsilon(self) -> float:
        """Exploration rate of a context without rewards [1]; 0 where none explores at a fixed rate."""

    def choose(self, situation: Situation, draws: Draws) -> Choice:
        """Pick one of the candidates; the only randomness is `draws`."""

    def parameters(self) -> Mapping[str, float | str]:
        """Give all that changes its choices, for the policy's version."""
