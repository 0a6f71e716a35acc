"""Use case: a signal -> a decision."""

import hashlib
import uuid
from sys import intern
from typing import Final, NamedTuple

from consumer.domain.context import ContextKey
from consumer.domain.draws import KeyedDraws
from consumer.domain.features import NO_FEATURES, Features, features_of
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.following import Entry
from consumer.domain.open_decision import OpenDecision
from consumer.domain.partition_state import DEFAULT_ACCOUNT, PartitionState
from consumer.domain.policies.base import NO_PARENTS, Choice
from consumer.domain.quick import quick
from consumer.domain.regime import Held, RegimeDetector, RegimeResult
from consumer.domain.selector import Selector
from consumer.domain.tpsl import Levels, levels
from consumer.errors import BadMessageError
from schemas import DeadLetterCode, Mode, Signal, StrategyProfile

_EXPLORE: Final = Mode.EXPLORE


def decision_id_of(account: str, signal_id: str) -> str:
    """Give the id of a signal's decision: the same signal always gives the same id.

    It is `uuid5(NAMESPACE_URL, "meta-strategy:<account>:<signal_id>")`, made without the UUID
    objects, which take most of its time.

    Source: contract, section 1; RFC 9562, section 5.5.
    """
    name = _NAMESPACE + f"meta-strategy:{account}:{signal_id}".encode()
    h = _sha1(name, usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANTS[h[16]]}{h[17:20]}-{h[20:32]}"


_sha1: Final = hashlib.sha1
_NAMESPACE: Final = uuid.NAMESPACE_URL.bytes
_VARIANTS: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""Of the RFC: the upper two of a digit's bits are 10."""


def entry_of(signal: Signal, price: float) -> Entry:
    """Give what a decision is followed by.

    Args:
        signal: What was decided.
        price: Its market's.
    """
    return quick(Entry, (price, signal.ts, signal.timeframe))


class Decision(NamedTuple):
    """All that a decision says, before it is written down."""

    decision_id: str
    context: ContextKey
    """The row of the Q-table it was chosen from."""
    signal: Signal
    price: float
    """Of the signal [quote]: what its exits lie around."""
    atr: float
    """Of the signal [quote]: what its exits are measured by."""
    regime: RegimeResult
    choice: Choice
    profile: StrategyProfile
    levels: Levels
    ts_ms: int
    """When it was made [Unix ms]; its Kafka record carries the same time."""
    table_offset: int
    """Offset in `trade-closed` up to which the table was folded."""
    candles_offset: int | None
    """Offset in `candles` up to which signals were followed; None where none are."""
    pool_offset: int | None
    """Offset up to which the log of the pool was read; None where nothing is pooled."""
    degraded: bool
    held: Held | None
    """What was known of the market before."""
    features: Features
    """Of the signal, where they are kept."""

    def remembered(self, number: int) -> OpenDecision:
        """Give what a reward will have to know of it, with its number in the partition."""
        account, symbol, regime, variant = self.context
        return OpenDecision(
            self.decision_id,
            account,
            symbol,
            self.signal.side,
            regime,
            variant,
            self.choice.arm,
            self.atr,
            self.profile.r_sl,
            self.ts_ms,
            self.features,
            number,
            0,
        )

    @property
    def is_exploration(self) -> bool:
        """Whether the strategy was drawn at random."""
        return self.choice.mode is _EXPLORE


class Decider:
    """Decides signals; the same signal, table and seed give the same decision.

    Args:
        detector: Tells the regime.
        selector: Chooses the strategy.
        fold: How the tables came to be that are decided from.
        seed: Of all draws, equal in all workers.
        max_signal_age_ms: Older signals are refused; 0 accepts any age.
        measures: Whether the policy looks at the features of signals.
    """

    def __init__(
        self,
        detector: RegimeDetector,
        selector: Selector,
        *,
        fold: FoldSettings,
        seed: int,
        max_signal_age_ms: int = 0,
        measures: bool = False,
    ) -> None:
        self.detector = detector
        self.selector = selector
        self.policy_version = selector.version(detector, fold, seed, max_signal_age_ms)
        self._seed = seed
        self.max_signal_age_ms = max_signal_age_ms
        self._measures = measures
        self._leans_on_parents = selector.policy.leans_on_parents

    def decide(
        self, signal: Signal, state: PartitionState, *, now_ms: int, degraded: bool
    ) -> Decision | None:
        """Decide one signal and remember the decision in `state`.

        Returns:
            The decision; None when the signal was answered before.

        Raises:
            BadMessageError: `stale_signal` or `invalid_levels`; nothing is remembered then.
        """
        account = signal.account or DEFAULT_ACCOUNT
        decision_id = decision_id_of(account, signal.signal_id)
        if state.decisions.knows(account, decision_id):
            return None
        age_ms = now_ms - signal.ts
        if 0 < self.max_signal_age_ms < age_ms:
            raise BadMessageError(
                DeadLetterCode.STALE_SIGNAL,
                f"ts: is {age_ms / 1000:.1f} s old, at most {self.max_signal_age_ms / 1000:g} s "
                "are accepted",
            )
        decision = self.make(signal, state, decision_id, now_ms=now_ms, degraded=degraded)
        state.admit_new(
            decision.remembered(state.totals.next_sequence()),
            is_exploration=decision.is_exploration,
            entry=entry_of(signal, decision.price),
        )
        return decision

    def make(
        self,
        signal: Signal,
        state: PartitionState,
        decision_id: str,
        *,
        now_ms: int,
        degraded: bool,
    ) -> Decision:
        """Make the decision of a signal from a state, which stays as it is.

        Raises:
            BadMessageError: `invalid_levels`.
        """
        market, side = signal.market, signal.side
        price, atr = market.current_price, market.atr
        account = signal.account or DEFAULT_ACCOUNT
        symbol = intern(signal.symbol)  # many are remembered, of few symbols
        held = state.markets.get((account, symbol, signal.timeframe))
        regime = self.detector.regime_of(market, signal.higher_timeframes, held, signal.ts)
        context = quick(ContextKey, (account, symbol, regime.regime, None))
        features = features_of(signal) if self._measures else NO_FEATURES
        parents = NO_PARENTS
        if self._leans_on_parents:
            parents = state.elsewhere.parent_rows(context, state.table.parent_rows(context))
        choice = self.selector.choose(
            regime,
            state.table.row(context),
            KeyedDraws(self._seed, decision_id),
            side=side,
            entry=price,
            atr=atr,
            spread_bps=market.spread_bps,
            parents=parents,
            trusts_paper=state.calibration(account).is_trusted,
            features=features,
        )
        return quick(
            Decision,
            (
                decision_id,
                context,
                signal,
                price,
                atr,
                regime,
                choice,
                self.selector.profiles[choice.arm],
                levels(self.selector.ladders[choice.arm], side, price, atr),
                now_ms,
                state.position.trades,
                None if state.following is None else state.position.candles,
                state.elsewhere.number,
                degraded,
                held,
                features,
            ),
        )
