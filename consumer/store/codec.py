"""Partition states <-> the fields of Redis hashes and of snapshot files."""

from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from math import fsum
from sys import intern
from typing import Any, Final

import orjson

from consumer.domain.context import ContextKey, ParentKey
from consumer.domain.features import FeatureSums
from consumer.domain.following import Followed, Lane, LastCandle, Series
from consumer.domain.open_decision import REGIMES, SIDES, FoldedTrade, OpenDecision
from consumer.domain.qtable import ArmStats, Row
from consumer.domain.quick import quick
from consumer.domain.regime import Held
from consumer.domain.stored import MarketKey
from schemas import MarketRegime

_FIELDS = (
    "count",
    "ema_reward",
    "avg_reward",
    "win_count",
    "loss_count",
    "total_r",
    "sum_squares",
    "loss_squares",
    "recent_r",
)
_PAPER_FIELDS = (
    "paper_count",
    "paper_r",
    "paper_squares",
    "paper_loss_squares",
    "recent_paper_r",
)
"""Only where there are outcomes on paper: most tables have none."""

_NUMBERS: Final = len(fields(ArmStats)) - 2
"""Of an arm without features."""

_NO_SUMS: Final[FeatureSums] = ()

_DIGITS: Final = "%.17g"  # native code takes half as long again for an f-string


def number(value: float) -> str:
    """Write a number with 17 significant digits: read back, it is the same to the last bit."""
    return _DIGITS % value


def _like(value: float, other: float, text: str) -> str:
    """Write a number that may be another one, whose text is known: with a first reward most of an arm's are."""
    # not zero: the negative one equals it, and has another text
    return text if value == other != 0.0 else number(value)


@cache
def _field_names(strategy: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the fields of an arm, and those on paper; asked for with every reward."""
    return tuple(f"{strategy}:{name}" for name in _FIELDS), tuple(
        f"{strategy}:{name}" for name in _PAPER_FIELDS
    )


def arm_fields(strategy: str, stats: ArmStats) -> list[str]:
    """Give the fields of one arm in its row's hash: name, value, ..."""
    names, paper_names = _field_names(strategy)
    total, squares = stats.total_r, stats.sum_squares
    total_text, squares_text = number(total), number(squares)
    fields = [
        names[0],
        str(stats.count),
        names[1],
        _like(stats.ema_reward, total, total_text),
        names[2],
        _like(stats.avg_reward, total, total_text),
        names[3],
        str(stats.win_count),
        names[4],
        str(stats.loss_count),
        names[5],
        total_text,
        names[6],
        squares_text,
        names[7],
        _like(stats.loss_squares, squares, squares_text),
        names[8],
        _like(stats.recent_r, total, total_text),
    ]
    if stats.paper_count:
        for name, key in zip(_PAPER_FIELDS, paper_names, strict=True):
            fields += (key, number(getattr(stats, name)))
    if stats.feature_sums or stats.paper_feature_sums:
        sums = _dump([stats.feature_sums, stats.paper_feature_sums])
        fields += (f"{strategy}:features", sums)
    return fields


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def _load(text: str) -> list[Any]:
    # of a list native code knows where its parts are; anything else it would have to walk through
    found = orjson.loads(text)
    if not isinstance(found, list):
        raise TypeError(f"{text[:20]!r} is no list")
    return found


def encode_row(context: ContextKey, row: Row) -> str:
    """Write a context and all of its row: what an opening reads, one field instead of a hash of sixty."""
    # in order of the ids: a row's own order is that of its first rewards, and in which order a trade and a
    # candle were folded between two decisions does not matter, nor may it show
    account, symbol, regime, variant = context
    arms = {str(name): _numbers(row[name]) for name in sorted(row)}
    return _dump([account, symbol, regime, variant, arms])


def decode_row(text: str) -> tuple[ContextKey, dict[str, ArmStats]]:
    """Read what `encode_row` wrote."""
    account, symbol, regime, variant, found = _load(text)
    arms: dict[str, list[Any]] = found
    context = quick(ContextKey, (intern(account), intern(symbol), REGIMES[regime], variant))
    return context, {strategy: _stats(numbers) for strategy, numbers in arms.items()}


# One by one, in both directions: native code goes through a tuple of them in Python's way, for each of thousands


def _numbers(stats: ArmStats) -> list[Any]:
    numbers: list[Any] = [
        stats.count,
        stats.ema_reward,
        stats.win_count,
        stats.loss_count,
        stats.total_r,
        stats.sum_squares,
        stats.loss_squares,
        stats.recent_r,
        stats.paper_count,
        stats.paper_r,
        stats.paper_squares,
        stats.paper_loss_squares,
        stats.recent_paper_r,
    ]
    if stats.feature_sums or stats.paper_feature_sums:
        numbers += (stats.feature_sums, stats.paper_feature_sums)
    return numbers


def _stats(numbers: list[Any]) -> ArmStats:
    """Read what `_numbers` gave."""
    earned, on_paper = _NO_SUMS, _NO_SUMS
    if len(numbers) == _NUMBERS + 2:
        on_paper, earned = _floats(numbers.pop()), _floats(numbers.pop())
    if len(numbers) != _NUMBERS:
        raise ValueError(f"an arm has {len(numbers)} numbers")
    fsum(numbers)  # raises where one is no number
    return ArmStats(
        numbers[0],
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
        numbers[6],
        numbers[7],
        numbers[8],
        numbers[9],
        numbers[10],
        numbers[11],
        numbers[12],
        earned,
        on_paper,
    )


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple([float(value) for value in values])


def parent_field(parent: ParentKey, strategy: str) -> str:
    """Name an arm of a parent; none of its parts holds a colon."""
    name = f"{parent.account}:{parent.regime or '*'}:{strategy}"
    return name if parent.variant is None else f"{name}:{parent.variant}"


def encode_parent(parent: ParentKey, strategy: str, stats: ArmStats) -> str:
    """Write an arm of a parent."""
    return _dump([*parent, strategy, *_numbers(stats)])


def decode_parents(texts: Iterable[str]) -> dict[ParentKey, dict[str, ArmStats]]:
    """Read all arms of all parents."""
    found: dict[ParentKey, dict[str, ArmStats]] = {}
    for text in texts:
        account, regime, variant, strategy, *numbers = _load(text)
        parent = ParentKey(account, None if regime is None else REGIMES[regime], variant)
        found.setdefault(parent, {})[strategy] = _stats(numbers)
    return found


def _decision_entry(decision: OpenDecision) -> list[Any]:
    return [
        decision.decision_id,
        decision.number,
        decision.closed_number,
        decision.account,
        decision.symbol,
        decision.side,
        decision.regime,
        decision.variant,
        decision.strategy,
        decision.atr,
        decision.atr_mult_sl,
        decision.timestamp_ms,
        *decision.features,  # few tables have them: nothing where there are none
    ]


def _decision(entry: list[Any]) -> OpenDecision:
    """Read what `_decision_entry` gave."""
    decision_id, number, closed_number, account, symbol, side, regime, variant = entry[:8]
    strategy, atr, atr_mult_sl, timestamp_ms = entry[8:12]
    features = entry[12:]
    return OpenDecision(
        decision_id,
        intern(account),
        intern(symbol),
        SIDES[side],
        REGIMES[regime],
        variant,
        intern(strategy),
        float(atr),
        float(atr_mult_sl),
        timestamp_ms,
        _floats(features) if features else (),
        number,
        closed_number,
    )


def encode_decision(decision: OpenDecision) -> str:
    """Write an open decision."""
    return _dump(_decision_entry(decision))


def decode_decision(text: str) -> OpenDecision:
    """Read an open decision."""
    return _decision(_load(text))


def encode_decisions(decisions: Iterable[OpenDecision]) -> bytes:
    """Write a block of closed decisions."""
    return orjson.dumps([_decision_entry(decision) for decision in decisions])


def decode_decisions(text: str) -> list[OpenDecision]:
    """Read a block of closed decisions."""
    return [_decision(entry) for entry in _load(text)]


def encode_ids(ids: Iterable[tuple[str, int]]) -> bytes:
    """Write a block of ids of answered signals, and their numbers."""
    return orjson.dumps(list(ids))


def decode_ids(text: str) -> list[tuple[str, int]]:
    """Read a block of ids and numbers."""
    return [(decision_id, int(number)) for decision_id, number in _load(text)]


def trade_field(account: str, trade_id: str) -> str:
    """Name a revised trade; an account holds no colon, a trade id may."""
    return f"{account}:{trade_id}"


def _trade_entry(trade: FoldedTrade) -> list[Any]:
    return [
        trade.trade_id,
        trade.sequence,
        trade.symbol,
        trade.regime,
        trade.variant,
        trade.strategy,
        trade.reward,
        trade.ordinal,
        trade.revision,
        trade.atr,
        trade.atr_mult_sl,
        trade.ordinal_of_all,
        trade.ordinal_of_regime,
        trade.paper,
        *trade.features,
    ]


def _trade(account: str, entry: list[Any]) -> FoldedTrade:
    """Read what `_trade_entry` gave."""
    trade_id, sequence, symbol, regime, variant, strategy, reward, ordinal = entry[:8]
    revision, atr, atr_mult_sl, of_all, of_regime, paper = entry[8:14]
    features = entry[14:]
    return FoldedTrade(
        intern(account),
        trade_id,
        intern(symbol),
        REGIMES[regime],
        variant,
        intern(strategy),
        float(reward),
        ordinal,
        revision,
        None if atr is None else float(atr),
        float(atr_mult_sl),
        sequence,
        of_all,
        of_regime,
        None if paper is None else float(paper),
        _floats(features) if features else (),
    )


def encode_trade(trade: FoldedTrade) -> str:
    """Write a revised trade."""
    return _dump(_trade_entry(trade))


def decode_trade(name: str, text: str) -> FoldedTrade:
    """Read a revised trade."""
    account, _ = name.split(":", 1)
    return _trade(account, _load(text))


def encode_trades(trades: Iterable[FoldedTrade]) -> bytes:
    """Write a block of counted trades of one account."""
    return orjson.dumps([_trade_entry(trade) for trade in trades])


def decode_trades(account: str, text: str) -> list[FoldedTrade]:
    """Read a block of counted trades."""
    return [_trade(account, entry) for entry in _load(text)]


def block_name(account: str, last: int, count: int) -> str:
    """Name a block by whose it is, the number of its last entry, and how many entries it has.

    An account holds no colon.
    """
    return f"{account}:{last}:{count}"


def block_of(name: str) -> tuple[str, int, int]:
    """Read what `block_name` gave."""
    account, last, count = name.split(":")
    return account, int(last), int(count)


def encode_followed(one: Followed) -> str:
    """Write a followed signal."""
    lanes = {name: list(lane) for name, lane in one.lanes.items()}
    *told, _, real_r, paper_r, features = one[1:]
    return _dump([*told, lanes, real_r, paper_r, *features])


def decode_followed(decision_id: str, text: str) -> Followed:
    """Read a followed signal."""
    account, symbol, side, regime, variant, strategy, entry, atr, *rest = orjson.loads(text)
    timeframe, since_ms, timestamp_ms, number, lanes, real_r, paper_r, *features = rest
    return Followed(
        decision_id,
        intern(account),
        intern(symbol),
        SIDES[side],
        REGIMES[regime],
        variant,
        intern(strategy),
        float(entry),
        float(atr),
        intern(timeframe),
        since_ms,
        timestamp_ms,
        number,
        {
            intern(name): Lane(rung, float(gross), float(left))
            for name, (rung, gross, left) in lanes.items()
        },
        None if real_r is None else float(real_r),
        None if paper_r is None else float(paper_r),
        _floats(features),
    )


def series_field(series: Series) -> str:
    """Name a series; a symbol holds no space."""
    return " ".join(series)


def encode_last_candle(last: LastCandle) -> str:
    """Write where a series stands."""
    return _dump(list(last))


def decode_series(name: str, text: str) -> tuple[Series, LastCandle]:
    """Read where a series stands."""
    symbol, timeframe = name.split(" ", 1)
    open_ms, close_ms, close = orjson.loads(text)
    return (intern(symbol), intern(timeframe)), LastCandle(open_ms, close_ms, float(close))


def market_field(market: MarketKey) -> str:
    """Name a market; account and symbol hold no space."""
    return " ".join(market)


def encode_held(held: Held) -> str:
    """Write what is known of a market; its ATR only where that is kept."""
    text = f"{held.regime} {held.since_ms}"
    return f"{text} {number(held.mean_atr)} {held.signals}" if held.signals else text


def decode_market(name: str, text: str) -> tuple[MarketKey, Held]:
    """Read a market and what is known of it."""
    account, symbol, timeframe = name.split(" ", 2)
    regime, since_ms, *usual = text.split()
    mean_atr, signals = usual or (0.0, 0)
    market = (intern(account), intern(symbol), intern(timeframe))
    return market, Held(MarketRegime(regime), int(since_ms), float(mean_atr), int(signals))
