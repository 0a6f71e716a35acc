"""The worker's own policies, by its own code: its selector chooses, its fold learns."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from consumer.domain.context import ContextKey
from consumer.domain.draws import KeyedDraws
from consumer.domain.features import NO_FEATURES
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.following import Entry
from consumer.domain.ladder import ladders_of
from consumer.domain.open_decision import OpenDecision
from consumer.domain.partition_state import PartitionState
from consumer.domain.policies.base import Policy
from consumer.domain.policies.catalog import LOOKS_AT_FEATURES, PolicyName, make_policy
from consumer.domain.policies.epsilon_greedy import EpsilonGreedy
from consumer.domain.selector import Selector
from consumer.domain.strategies import STRATEGY_PROFILES, CandidateRule
from consumer.wire import decode_candle
from lab.backtest import Ahead, candles_of
from lab.outcomes import Outcomes
from quality.scene import Scene
from quality.worlds import Question
from schemas import Side, StrategyID, TradeClosed

_ACCOUNT = "quality"
_PRICE, _ATR = 1000.0, 1.0  # no ladder comes near zero: every strategy is a candidate
_NOT_REMEMBERED = "none"  # as a decision id: the strategy that a trade echoes counts


SUITABLE_ONLY = "suitable only"


class Entrant(NamedTuple):
    """One way to set the worker up."""

    policy: PolicyName
    rule: CandidateRule = "all"
    follows: bool = False
    """Whether it gets candles, by which every signal is followed on paper."""

    @property
    def name(self) -> str:
        """What people call it."""
        words: list[str] = [self.policy]
        if self.follows:
            words.append("candles")
        if self.rule == "suitable":
            words.append(SUITABLE_ONLY)
        return ", ".join(words)


ENTRANTS = (
    Entrant("epsilon_greedy"),
    Entrant("ucb"),
    Entrant("kernel_ucb"),
    Entrant("linear"),
    Entrant("thompson"),
    Entrant("full_information"),
    Entrant("full_information", follows=True),
)
NARROWED = tuple(one._replace(rule="suitable") for one in ENTRANTS)


def entrants(scene: Scene) -> Iterator[Entrant]:
    """Give those that a scene can tell apart.

    Without prices `full_information` is `kernel_ucb`, where nothing is measured `linear` is; where
    rewards are drawn, no profile says which strategies suit.
    """
    for one in ENTRANTS:
        if one.policy == "full_information" and scene.path_of is None:
            continue
        if one.policy == "linear" and not scene.world.features.size:
            continue
        yield one
    if scene.path_of is not None:
        yield from NARROWED


class Product:
    """Decides and learns as the worker does, with the settings it has by default.

    Args:
        entrant: Which policy, and which candidates it has.
        scene: What it decides.
        seed: Of all draws.
    """

    def __init__(self, entrant: Entrant, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._seed = seed
        self._path_of = None
        self._followed: Outcomes | None = None
        if entrant.follows and scene.outcomes is not None:
            self._followed = scene.outcomes
            self._candles = Ahead(candles_of(scene.outcomes))
        elif entrant.policy == "full_information":
            self._path_of = scene.path_of
        candles = None if self._followed is None else ""
        self._measures = entrant.policy in LOOKS_AT_FEATURES and scene.world.features.size > 0
        self._state = PartitionState(
            FoldSettings(ladders=ladders_of(STRATEGY_PROFILES), candles=candles)
        )
        self._selector = Selector(
            STRATEGY_PROFILES,
            _policy(entrant, self._state.settings),
            candidate_rule=entrant.rule,
            default_strategy=StrategyID.ULTRA_AGGRESSIVE,
        )
        self._arms = [str(name) for name in STRATEGY_PROFILES]

    def choose(self, question: Question) -> int:
        """Give the column of a strategy."""
        if self._followed is not None:
            for record in self._candles.until(self._followed.entries[question.number].close_ms):
                self._state.fold_candle(decode_candle(record))
        context = self._context(question)
        choice = self._selector.choose(
            self._scene.regimes[question.number],
            self._state.table.row(context),
            KeyedDraws(self._seed, str(question.number)),
            side=Side.LONG,
            entry=_PRICE,
            atr=_ATR,
            parents=self._state.table.parent_rows(context),
            trusts_paper=self._state.calibration(_ACCOUNT).is_trusted,
            features=question.features if self._measures else NO_FEATURES,
        )
        if self._measures or self._followed is not None:
            self._remember(context, question, choice.arm)
        return self._arms.index(choice.arm)

    def learn(self, question: Question, arm: int, reward: float) -> None:
        """Fold a closed trade."""
        told: dict[str, Any] = {
            "schema_version": 1,
            "trade_id": str(question.number),
            "symbol": self._context(question).symbol,
            "side": Side.LONG,
            "closed_at": 0,
            "account": _ACCOUNT,
            "decision_id": str(question.number) if self._measures else _NOT_REMEMBERED,
            "strategy": self._arms[arm],
            "regime": self._scene.regimes[question.number].regime,
            "entry_price": _PRICE,
            "exit_price": _PRICE,  # says nothing where R is given
            "realized_r": reward,
        }
        if self._measures and self._scene.outcomes is not None:
            told["side"] = self._scene.outcomes.entries[question.number].side
        if self._path_of is not None:
            told |= self._path_of(question.number, arm)
        # a decision that is too old by then is known no more
        closed_ms = int(self._scene.world.closed_ms[question.number, arm]) if self._measures else 0
        self._state.fold_trade(TradeClosed(**told), closed_ms)
        self._state.take_changes()  # no view asks for them

    def _remember(self, context: ContextKey, question: Question, arm: str) -> None:
        """Let the fold know what was measured of a signal, and follow it by the candles that come."""
        outcomes = self._scene.outcomes
        entry = None if outcomes is None else outcomes.entries[question.number]
        remembered = OpenDecision(
            str(question.number),
            context.account,
            context.symbol,
            Side.LONG if entry is None else entry.side,
            context.regime,
            None,
            arm,
            _ATR if entry is None else entry.atr,
            STRATEGY_PROFILES[arm].r_sl,
            int(self._scene.world.decided_ms[question.number]),
            question.features,
        )
        followed_by = None
        if entry is not None and self._followed is not None:
            price = entry.series.bars[entry.index].close
            followed_by = Entry(price, entry.close_ms, entry.series.timeframe)
        self._state.admit(remembered, is_exploration=False, entry=followed_by)

    def _context(self, question: Question) -> ContextKey:
        symbol = str(question.symbol)
        if self._followed is not None:
            symbol = self._followed.entries[question.number].series.symbol  # as candles say it
        return ContextKey(_ACCOUNT, symbol, self._scene.regimes[question.number].regime)


def _policy(entrant: Entrant, fold: FoldSettings) -> Policy:
    default = StrategyID.ULTRA_AGGRESSIVE
    if entrant.policy == "epsilon_greedy":
        return EpsilonGreedy(default_strategy=default)
    return make_policy(
        entrant.policy,
        STRATEGY_PROFILES,
        unit=fold.reward_unit,
        half_life=fold.half_life,
        default_strategy=default,
        follows=entrant.follows,
    )
