"""The demo's signals: the same seed gives the same ones, and none knows the future."""

from dataclasses import replace
from random import Random

import pytest

from consumer.local.market_bars import BarSeries, MarketBar, shipped_bars
from consumer.local.paper_signals import WARMUP_BARS, EntryRule, plan_entries
from schemas import Side, Signal


def make_series(symbol: str = "AAPL", bars: int = 300, seed: int = 1) -> BarSeries:
    rng, price, made = Random(seed), 100.0, []
    for number in range(bars):
        close = price * (1 + rng.gauss(0, 0.01))
        high, low = max(price, close) * 1.002, min(price, close) * 0.998
        made.append(MarketBar(number * 3_600_000, price, high, low, close, 1000.0))
        price = close
    return BarSeries(symbol, made, 3_600_000)


def test_the_same_seed_gives_the_same_entries() -> None:
    series = [make_series()]

    assert plan_entries(series, 50, seed=3) == plan_entries(series, 50, seed=3)
    assert plan_entries(series, 50, seed=3) != plan_entries(series, 50, seed=4)


def test_entries_come_in_the_order_of_market_time() -> None:
    entries = plan_entries([make_series("AAPL"), make_series("MSFT", seed=2)], 100, seed=1)

    times = [entry.replay_time for entry in entries]
    assert times == sorted(times)
    assert {entry.series.symbol for entry in entries} == {"AAPL", "MSFT"}
    assert (
        len({(entry.series.symbol, *time) for entry, time in zip(entries, times, strict=True)})
        == 100
    )


def test_what_happens_after_a_bar_does_not_change_its_signal() -> None:
    """A paper trader that looks ahead earns what nobody can earn."""
    series = make_series()
    every = len(series.bars) - WARMUP_BARS - 1
    cut = 200
    other = make_series(seed=9)
    changed = replace(series, bars=[*series.bars[:cut], *other.bars[cut:]])

    whole = {e.index: e for e in plan_entries([series], every, seed=1)}
    twisted = {e.index: e for e in plan_entries([changed], every, seed=1)}

    before = range(WARMUP_BARS, cut)
    assert [whole[i].to_signal("s", 0) for i in before] == [
        twisted[i].to_signal("s", 0) for i in before
    ]


def test_more_signals_than_bars_walk_the_bars_again() -> None:
    entries = plan_entries([make_series(bars=100)], 100, seed=1)

    usable = 100 - WARMUP_BARS - 1
    assert [sum(entry.lap == lap for entry in entries) for lap in range(3)] == [
        usable,
        usable,
        100 - 2 * usable,
    ]


def test_too_few_bars_are_told() -> None:
    with pytest.raises(ValueError, match="the bars give no signal: more than 60 are needed"):
        plan_entries([make_series(bars=WARMUP_BARS)], 1, seed=1)


def test_a_flat_market_gives_no_signal() -> None:
    """Without a range there is no ATR to place a stop by."""
    bars = [MarketBar(n * 1000, 5.0, 5.0, 5.0, 5.0, 1.0) for n in range(100)]

    with pytest.raises(ValueError, match="the bars give no signal"):
        plan_entries([BarSeries("AAPL", bars, 1000)], 1, seed=1)


def test_shipped_bars_give_valid_signals_of_every_rule() -> None:
    entries = plan_entries(shipped_bars(), 300, seed=1)

    signals = [entry.to_signal(f"s-{number}", 1) for number, entry in enumerate(entries)]

    assert {entry.rule for entry in entries} == set(EntryRule)
    assert {signal.side for signal in signals} == set(Side)
    for signal in signals:
        assert Signal.model_validate_json(signal.model_dump_json()) == signal
        assert (signal.market.volume_24h is None) == (signal.symbol == "EURUSD")
