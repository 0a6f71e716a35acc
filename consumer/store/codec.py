"""Partition states <-> the fields of Redis hashes and of snapshot files."""

from collections.abc import Iterable, Mapping
from functools import cache
from sys import intern
from typing import Any

import orjson

from consumer.domain.context import ContextKey, ParentKey
from consumer.domain.following import Followed, Lane, LastCandle, Series
from consumer.domain.open_decision import FoldedTrade, OpenDecision
from consumer.domain.partition_state import MarketKey
from consumer.domain.qtable import ArmStats
from consumer.domain.regime import Held
from schemas import MarketRegime, Side

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


def number(value: float) -> str:
    """Write a number with 17 significant digits: read back, it is the same to the last bit."""
    return f"{value:.17g}"


@cache
def _field_names(strategy: str) -> tuple[list[str], list[str]]:
    """Name the fields of an arm, and those on paper; asked for with every reward."""
    return [f"{strategy}:{name}" for name in _FIELDS], [
        f"{strategy}:{name}" for name in _PAPER_FIELDS
    ]


def arm_fields(strategy: str, stats: ArmStats) -> dict[str, str]:
    """Give the fields of one arm in its row's hash."""
    names, paper_names = _field_names(strategy)
    values = (
        str(stats.count),
        number(stats.ema_reward),
        number(stats.avg_reward),
        str(stats.win_count),
        str(stats.loss_count),
        number(stats.total_r),
        number(stats.sum_squares),
        number(stats.loss_squares),
        number(stats.recent_r),
    )
    fields = dict(zip(names, values, strict=True))
    if stats.paper_count:
        for name, key in zip(_PAPER_FIELDS, paper_names, strict=True):
            fields[key] = number(getattr(stats, name))
    if _has_features(stats):
        fields[f"{strategy}:features"] = _dump([stats.feature_sums, stats.paper_feature_sums])
    return fields


def decode_row(fields: Mapping[str, str]) -> dict[str, ArmStats]:
    """Read a row's hash; fields that belong to no arm are passed over."""
    strategies = [name.removesuffix(":count") for name in fields if name.endswith(":count")]
    return {
        strategy: ArmStats(
            int(fields[f"{strategy}:count"]),
            float(fields[f"{strategy}:ema_reward"]),
            int(fields[f"{strategy}:win_count"]),
            int(fields[f"{strategy}:loss_count"]),
            float(fields[f"{strategy}:total_r"]),
            float(fields[f"{strategy}:sum_squares"]),
            float(fields[f"{strategy}:loss_squares"]),
            float(fields[f"{strategy}:recent_r"]),
            int(fields.get(f"{strategy}:paper_count", 0)),
            float(fields.get(f"{strategy}:paper_r", 0.0)),
            float(fields.get(f"{strategy}:paper_squares", 0.0)),
            float(fields.get(f"{strategy}:paper_loss_squares", 0.0)),
            float(fields.get(f"{strategy}:recent_paper_r", 0.0)),
            *map(_floats, orjson.loads(fields.get(f"{strategy}:features", "[]"))),
        )
        for strategy in strategies
    }


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def encode_context(context: ContextKey) -> str:
    """Write a context so that a symbol with colons can be read back."""
    return _dump(list(context))


def decode_context(text: str) -> ContextKey:
    """Read what `encode_context` wrote."""
    account, symbol, regime, variant = orjson.loads(text)
    return ContextKey(account, symbol, MarketRegime(regime), variant)


def _has_features(stats: ArmStats) -> bool:
    return bool(stats.feature_sums or stats.paper_feature_sums)


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(map(float, values))


def parent_field(parent: ParentKey, strategy: str) -> str:
    """Name an arm of a parent; none of its parts holds a colon."""
    name = f"{parent.account}:{parent.regime or '*'}:{strategy}"
    return name if parent.variant is None else f"{name}:{parent.variant}"


def encode_parent(parent: ParentKey, strategy: str, stats: ArmStats) -> str:
    """Write an arm of a parent."""
    return _dump(
        [
            *parent,
            strategy,
            *stats[:-2],
            *([stats.feature_sums, stats.paper_feature_sums] if _has_features(stats) else ()),
        ]
    )


def decode_parents(texts: Iterable[str]) -> dict[ParentKey, dict[str, ArmStats]]:
    """Read all arms of all parents."""
    found: dict[ParentKey, dict[str, ArmStats]] = {}
    for text in texts:
        account, regime, variant, strategy, *values = orjson.loads(text)
        parent = ParentKey(account, None if regime is None else MarketRegime(regime), variant)
        count, ema, wins, losses, total, squares, loss_squares, recent, *on_paper = values
        paper_count, paper, paper_squares, paper_loss_squares, recent_paper, *sums = on_paper
        found.setdefault(parent, {})[strategy] = ArmStats(
            count,
            float(ema),
            wins,
            losses,
            float(total),
            float(squares),
            float(loss_squares),
            float(recent),
            paper_count,
            float(paper),
            float(paper_squares),
            float(paper_loss_squares),
            float(recent_paper),
            *map(_floats, sums),
        )
    return found


def encode_decision(decision: OpenDecision) -> str:
    """Write a remembered decision."""
    return _dump(
        [
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
    )


def decode_decision(decision_id: str, text: str) -> OpenDecision:
    """Read a remembered decision."""
    number, closed_number, account, symbol, side, regime, variant, strategy, *rest = orjson.loads(
        text
    )
    atr, atr_mult_sl, timestamp_ms, *features = rest
    return OpenDecision(
        decision_id,
        intern(account),
        intern(symbol),
        Side(side),
        MarketRegime(regime),
        variant,
        intern(strategy),
        float(atr),
        float(atr_mult_sl),
        timestamp_ms,
        _floats(features),
        number,
        closed_number,
    )


def split_decisions(
    decoded: Iterable[OpenDecision],
) -> tuple[list[OpenDecision], list[OpenDecision]]:
    """Part remembered decisions into open and closed ones."""
    open_: list[OpenDecision] = []
    closed: list[OpenDecision] = []
    for decision in decoded:
        (closed if decision.closed_number else open_).append(decision)
    return open_, closed


def encode_decision_id(account: str, number: int) -> str:
    """Write what belongs to the id of an answered signal."""
    return f"{account}:{number}"


def decode_decision_id(text: str) -> tuple[str, int]:
    """Read what `encode_decision_id` wrote."""
    account, number = text.split(":")
    return account, int(number)


def trade_field(account: str, trade_id: str) -> str:
    """Name a counted trade; an account holds no colon, a trade id may."""
    return f"{account}:{trade_id}"


def encode_trade(trade: FoldedTrade) -> str:
    """Write a counted trade."""
    return _dump(
        [
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
            *trade.parent_ordinals,
            trade.paper,
            *trade.features,
        ]
    )


def decode_trade(name: str, text: str) -> FoldedTrade:
    """Read a counted trade."""
    account, trade_id = name.split(":", 1)
    sequence, symbol, regime, variant, strategy, reward, ordinal, revision, *rest = orjson.loads(
        text
    )
    atr, atr_mult_sl, of_all, of_regime, paper, *features = rest
    return FoldedTrade(
        intern(account),
        trade_id,
        intern(symbol),
        MarketRegime(regime),
        variant,
        intern(strategy),
        float(reward),
        ordinal,
        revision,
        None if atr is None else float(atr),
        float(atr_mult_sl),
        sequence,
        (of_all, of_regime),
        None if paper is None else float(paper),
        _floats(features),
    )


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
        Side(side),
        MarketRegime(regime),
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
