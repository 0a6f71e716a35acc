"""What comes of signals on a log of candles, written a second time, apart from the product.

Knows the contract and the rules of docs/decisions/0015; goes signal by signal, not candle by candle.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.support.fold_oracle import LEVELS
from tests.support.path_oracle import PARTS

Candle = Mapping[str, Any]
Papers = dict[str, dict[str, list[float]]]
"""Outcomes by context and strategy, in the order in which they count."""


def outcome_r(
    levels: Sequence[float], *, is_long: bool, entry: float, atr: float, path: Sequence[Candle]
) -> tuple[int, float] | None:
    """Give how many candles a ladder lives through and what it earns [R]; None while it is open."""
    sign = 1.0 if is_long else -1.0
    targets = list(zip(levels[1:], PARTS, strict=True))
    earned, left = 0.0, 1.0
    for number, candle in enumerate(path, 1):
        opened, one, other = (
            sign * (candle[name] - entry) / atr for name in ("open", "high", "low")
        )
        if min(one, other) <= -levels[0]:
            return number, earned + left * min(opened, -levels[0])
        while targets and max(one, other) >= targets[0][0]:
            distance, part = targets.pop(0)
            earned += part * max(opened, distance)
            left -= part
        if not targets:
            return number, earned
    return None


def papers(
    decisions: Sequence[Mapping[str, Any]], candles: Mapping[int, Candle], timeframe: str = ""
) -> Papers:
    """Give what counts on paper after all candles.

    Args:
        decisions: By offset.
        candles: By offset, those that are messages.
        timeframe: Of the candles that all follow; empty: each its own.
    """
    taken: dict[tuple[str, str], list[tuple[int, Candle]]] = {}
    for offset, candle in _taken(candles):
        taken.setdefault((candle["symbol"], candle["timeframe"]), []).append((offset, candle))
    ended: list[tuple[int, int, str, dict[str, float]]] = []
    for number, said in enumerate(decisions):
        tpsl, since = said["tpsl"], _ms(said["signal_ts"])
        series = [
            (offset, candle)
            for offset, candle in taken.get((said["symbol"], timeframe or said["timeframe"]), ())
            if candle["open_time"] + (candle["close_time"] - candle["open_time"]) // 10 >= since
        ]
        if any(offset < said["candles_offset"] for offset, _ in series):
            continue  # it came too late to be followed
        path = [candle for _, candle in series]
        lived: dict[str, tuple[int, float]] = {}
        for name, levels in LEVELS.items():
            one = outcome_r(
                levels,
                is_long=said["side"] == "LONG",
                entry=tpsl["entry_reference"],
                atr=tpsl["atr"],
                path=path,
            )
            if one is None:
                break  # it counts when all have ended
            lived[name] = one
        else:
            last, _ = series[max(count for count, _ in lived.values()) - 1]
            context = f"{said['account']}:{said['symbol']}:{said['regime']}"
            rewards = {name: reward for name, (_, reward) in lived.items()}
            ended.append((last, number, context, rewards))
    counted: Papers = {}
    for _, _, context, rewards in sorted(ended, key=lambda one: one[:2]):
        for name, reward in rewards.items():
            counted.setdefault(context, {}).setdefault(name, []).append(reward)
    return counted


def _taken(candles: Mapping[int, Candle]) -> list[tuple[int, Candle]]:
    """Leave out what repeats or goes back."""
    ends: dict[tuple[str, str], int] = {}
    found = []
    for offset, candle in sorted(candles.items()):
        series = candle["symbol"], candle["timeframe"]
        if candle["open_time"] >= ends.get(series, 0):
            ends[series] = candle["close_time"]
            found.append((offset, candle))
    return found


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
