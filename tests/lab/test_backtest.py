"""Backtests on bars whose outcomes are known, and on random ones for what holds on any."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from consumer import settings
from consumer.local.market_bars import BarSeries, BarsError, MarketBar, shipped_bars
from consumer.local.paper_signals import Entry, EntryRule
from lab import backtest, bars, entries, report, results, tables
from lab import study as studies
from lab.measures import (
    WEEK_MS,
    block_weeks,
    cvar,
    drawdown,
    sharpe,
    sharpe_annual,
    weekly_interval,
    weeks_of,
)
from lab.outcomes import Costs, Outcomes, walk_all
from lab.progress import silent
from schemas import MarketRegime, Side

HOUR = 3_600_000
FREE = Costs(fees_bps=0.0)
PROFILES = settings.load().all_profiles
SCALP = list(PROFILES).index("scalp")
TREND_RIDER = list(PROFILES).index("trend_rider")
ULTRA = list(PROFILES).index("ultra_aggressive")


def series_of(*prices: float | tuple[float, float, float, float], symbol: str = "X") -> BarSeries:
    """Hourly bars: of a price that stands still, or of open, high, low, close."""
    rows = [price if isinstance(price, tuple) else (price,) * 4 for price in prices]
    return BarSeries(
        symbol, [MarketBar(n * HOUR, *row, volume=None) for n, row in enumerate(rows)], HOUR
    )


def entry_at(series: BarSeries, index: int = 0, side: Side = Side.LONG, atr: float = 1.0) -> Entry:
    """An entry at the open of the next bar, in an uptrend."""
    return Entry(series, index, 0, EntryRule.COIN, side, 0.5, atr, 35.0, 0.6)


def walked(*found: Entry, costs: Costs = FREE) -> Outcomes:
    return walk_all(found, PROFILES, costs, track=silent)


def random_series(count: int, seed: int, symbol: str = "X") -> BarSeries:
    """A random walk with steps of 0.3 %."""
    rng, price, rows = Random(seed), 100.0, []
    for _ in range(count):
        opened = price
        price *= 1.0 + rng.gauss(0.0, 0.003)
        reach = abs(rng.gauss(0.0, 0.1))
        rows.append((opened, max(opened, price) + reach, min(opened, price) - reach, price))
    return series_of(*rows, symbol=symbol)


def random_days(count: int, seed: int) -> BarSeries:
    """The same walk, a bar a day."""
    hours = random_series(count, seed)
    days = [bar._replace(open_ms=24 * bar.open_ms) for bar in hours.bars]
    return BarSeries("X", days, 24 * HOUR)


def on_random_bars(count: int, seed: int, every: int, costs: Costs = FREE) -> Outcomes:
    """Entries at every so many bars of a random walk, all in an uptrend."""
    series = random_series(count, seed)
    return walked(*(entry_at(series, n, atr=0.5) for n in range(60, count - 1, every)), costs=costs)


def run(found: Outcomes, **overrides: object) -> backtest.Run:
    loaded = settings.load(**{"meta_strategy_seed": 3, **overrides})
    signals = backtest.encode_signals(found, loaded.detector, track=silent)
    return backtest.run(loaded, "policy", found, signals, track=silent)


# Outcomes


def test_a_trade_enters_at_the_next_open_and_earns_its_ladder() -> None:
    """Scalp: 0.4 at 1.2, 0.3 at 1.8, 0.3 at 2.5 ATR over the open of the second bar."""
    found = walked(entry_at(series_of(90, (100, 103, 100, 103), 103)))

    assert found.net_r[0, SCALP] == pytest.approx(0.4 * 1.2 + 0.3 * 1.8 + 0.3 * 2.5)
    assert found.closed_ms[0, SCALP] == 2 * HOUR
    assert not found.is_open[0, SCALP]


def test_a_gap_over_the_stop_fills_at_the_open() -> None:
    """The stop of scalp lies at 99.2; the market opens at 97."""
    found = walked(entry_at(series_of(100, 100, (97, 98, 96, 98), 98)))

    assert found.net_r[0, SCALP] == pytest.approx(-3.0)


def test_costs_lower_every_outcome_by_fees_over_atr() -> None:
    series = random_series(300, seed=1)
    moments = [entry_at(series, n, atr=0.5 + n / 100) for n in range(60, 250, 10)]

    free, paid = walked(*moments), walked(*moments, costs=Costs(fees_bps=3.0, spread_bps=2.0))

    for number, entry in enumerate(moments):
        cost = 0.0005 * series.bars[entry.index + 1].open / entry.atr
        assert paid.cost_r[number] == pytest.approx(cost)
        assert paid.net_r[number] == pytest.approx(free.net_r[number] - cost)
    assert (free.closed_ms == paid.closed_ms).all()


def test_a_level_below_zero_leaves_the_signal_out() -> None:
    """Short trend_rider at 12 ATR: below zero with an ATR of 9 at a price of 100."""
    series = series_of(100, 100, 100)

    found = walked(entry_at(series), entry_at(series, side=Side.SHORT, atr=9.0))

    assert (len(found), found.left_out) == (1, 1)


def test_signals_that_cannot_be_traded_are_told() -> None:
    with pytest.raises(BarsError, match="no signal can be traded"):
        walked(entry_at(series_of(100, 100, 100), side=Side.SHORT, atr=9.0))


# Censoring


def test_an_open_trade_counts_as_marked_and_is_not_learned() -> None:
    """Bars end at +2 ATR: scalp has closed 0.7 of it on its way, the rest is marked at 2."""
    found = walked(entry_at(series_of(100, 100, (100, 102, 100, 102))))

    made = run(found, meta_strategy_epsilon=0.0)

    assert found.is_open[0].all()
    assert found.net_r[0, SCALP] == pytest.approx(0.4 * 1.2 + 0.3 * 1.8 + 0.3 * 2.0)
    assert made.state is not None
    assert made.state.totals.decisions == 1
    assert made.state.totals.rewards == 0


def test_a_trade_at_the_time_limit_is_closed_not_open() -> None:
    found = walked(entry_at(series_of(*[100] * 122)), entry_at(series_of(*[100] * 121)))

    assert not found.is_open.any()
    assert walked(entry_at(series_of(*[100] * 120))).is_open.all()


def test_early_ranking_by_marks_is_not_upside_down() -> None:
    """One signal falls to its stop at once, one rises by 0.1 ATR an hour.

    After 45 hours scalp has earned all it can of the second; trend_rider, which will earn far more
    of it, has closed its loss alone.
    """
    falls = series_of(100, *[90] * 150, symbol="FALLS")
    falls = replace(falls, bars=[*falls.bars[:1], *series_of(0, 100, *[90] * 150).bars[1:]])
    rises = series_of(*[100 + n / 10 for n in range(150)], symbol="RISES")
    found = walked(entry_at(falls), entry_at(rises))

    early = {row.strategy: row for row in tables.ranking(found, 45 * HOUR)}
    late = [row.strategy for row in tables.ranking(found, 150 * HOUR)]
    rider, scalp = early["trend_rider"], early["scalp"]

    assert (rider.closed, rider.open, scalp.closed, scalp.open) == (1, 1, 2, 0)
    assert rider.closed_r is not None
    assert scalp.closed_r is not None
    assert rider.closed_r < scalp.closed_r
    assert rider.marked_r > scalp.marked_r
    assert late.index("trend_rider") < late.index("scalp")


def test_a_mark_looks_at_no_bar_that_has_not_closed() -> None:
    series = series_of(100, 100, 101, 104, 90)
    found = walked(entry_at(series))

    assert found.mark(0, TREND_RIDER, 2 * HOUR) == pytest.approx(0.0)
    assert found.mark(0, TREND_RIDER, 3 * HOUR) == pytest.approx(1.0)
    assert found.mark(0, TREND_RIDER, 4 * HOUR - 1) == pytest.approx(1.0)
    assert found.mark(0, TREND_RIDER, 4 * HOUR) == pytest.approx(4.0)


def test_equity_ends_at_the_sum_of_all_trades_and_sees_open_losses() -> None:
    """The trade falls by 1.5 ATR before it comes back: a drawdown that its end does not show."""
    series = series_of(100, 100, 98.5, 100, 100)
    found = walked(entry_at(series))
    default = backtest.Run("d", np.array([TREND_RIDER]))

    study = results.compare(found, [default], default, 1, track=silent)

    (one,) = study.results
    assert one.equity[-1] == pytest.approx(one.total_r) == pytest.approx(0.0)
    assert one.drawdown == pytest.approx(1.5)
    assert (one.open, one.exits[-1]) == (1, 1)


# The worker's own pipeline


def test_no_reward_changes_a_decision_before_its_exit() -> None:
    """Two futures that differ from bar 700 on: decisions up to there are the same, later not all."""
    past = random_series(1200, seed=5)
    other = random_series(1200, seed=6)
    shift = past.bars[699].close / other.bars[700].open
    future = [
        bar._replace(**{k: getattr(bar, k) * shift for k in ("open", "high", "low", "close")})
        for bar in other.bars[700:]
    ]
    changed = BarSeries("X", [*past.bars[:700], *future], HOUR)
    moments = range(60, 1150, 3)

    runs = []
    for series in (past, changed):
        # the same signals in both, so that only rewards can tell the futures apart
        found = [replace(entry_at(past, n, atr=0.5), series=series) for n in moments]
        runs.append(
            run(
                walked(*found),
                meta_strategy_policy="epsilon_greedy",
                meta_strategy_candidates="all",
            )
        )

    before = [n for n, moment in enumerate(moments) if moment < 700]
    assert (runs[0].arms[before] == runs[1].arms[before]).all()
    assert (runs[0].arms != runs[1].arms).any()


def test_a_reward_is_known_at_its_exit_and_not_before() -> None:
    """All are stopped in the bar that closes at 5 h; signals at 1, 3, 4 and 5 h."""
    series = series_of(100, 100, 100, 100, (100, 100, 90, 90), 90, 90)

    made = run(walked(*(entry_at(series, n) for n in (0, 2, 3, 4))))

    assert made.learned is not None
    assert made.learned.tolist() == [0, 0, 0, 3]


def test_the_same_seed_gives_the_same_study() -> None:
    found = on_random_bars(600, seed=2, every=5)

    drawn = {"meta_strategy_policy": "epsilon_greedy"}
    first, again = run(found, **drawn), run(found, **drawn)
    other = run(found, **drawn, meta_strategy_seed=4)

    assert (first.arms == again.arms).all()
    assert first.explored == again.explored > 0
    assert (first.arms != other.arms).any()


def test_the_disabled_worker_is_the_default_baseline() -> None:
    found = on_random_bars(400, seed=2, every=5)
    loaded = settings.load()
    signals = backtest.encode_signals(found, loaded.detector, track=silent)

    disabled = run(found, meta_strategy_enabled=False)
    default, single, by_context = backtest.baselines(found, signals, "ultra_aggressive")

    assert (disabled.arms == default.arms).all()
    assert (default.arms == ULTRA).all()
    rows = np.arange(len(found))
    means = [found.net_r[rows, one.arms].mean() for one in (default, single, by_context)]
    assert means == sorted(means)
    assert not single.is_reachable
    assert not by_context.is_reachable


@pytest.mark.parametrize("fees_bps", [0.0, 5.0])
def test_the_table_learns_what_the_report_shows(fees_bps: float) -> None:
    """Rewards that the worker works out from prices and fees, and ours, are the same."""
    found = on_random_bars(600, seed=9, every=7, costs=Costs(fees_bps=fees_bps))

    made = run(found)

    assert made.state is not None
    assert made.refused == 0
    rows = np.arange(len(found))
    closed = ~found.is_open[rows, made.arms]
    learned = {
        arm: (stats.count, stats.total_r)
        for row in made.state.table.rows.values()
        for arm, stats in row.items()
    }
    for column, arm in enumerate(found.arms):
        ours = found.net_r[rows, made.arms][closed & (made.arms == column)]
        assert learned.get(arm, (0, 0.0)) == (ours.size, pytest.approx(ours.sum()))


# Signals and bars


def test_a_signal_within_a_bar_counts_at_its_close(tmp_path: Path) -> None:
    """What is known at the close must not be traded at an open before it."""
    series = random_series(100, seed=1, symbol="EURUSD")
    file = tmp_path / "signals.csv"
    file.write_text(
        "Time,symbol,side,confidence\n"
        "1970-01-04T00:00:00Z,EURUSD,long,0.3\n"  # the close of bar 71
        "1970-01-04T00:30:00Z,EURUSD,SHORT,\n"  # within bar 72
        "1970-01-01T05:00:00Z,EURUSD,LONG,\n",  # before the indicators are there
        encoding="utf-8",
    )

    found, left_out = entries.from_file([series], file, track=silent)

    assert [(one.index, one.side, one.confidence) for one in found] == [
        (71, Side.LONG, 0.3),
        (72, Side.SHORT, 1.0),
    ]
    assert left_out == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,symbol\n", "column side is missing"),
        ("time,symbol,side\n1,X,up\n", "row 2: column side: must be LONG or SHORT, was 'up'"),
        ("time,symbol,side\nsoon,X,LONG\n", "row 2: column time: 'soon' is no ISO 8601 time"),
        (
            "time,symbol,side,confidence\n2020-01-01,X,LONG,7\n",
            "row 2: column confidence: must lie within 0 .. 1, was '7'",
        ),
        ("time,symbol,side\n2020-01-01,Y,LONG\n", "there are no bars of Y"),
    ],
)
def test_a_wrong_file_of_signals_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "signals.csv"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(BarsError, match=message):
        entries.from_file([random_series(100, seed=1)], file, track=silent)


def test_a_rule_gives_its_own_signals_in_order_of_time() -> None:
    found = entries.by_rule(shipped_bars(), EntryRule.STRETCH, 1, track=silent)

    assert {entry.rule for entry in found} == {EntryRule.STRETCH}
    assert {entry.series.symbol for entry in found} == {"EURUSD", "GOOGL"}
    times = [entry.close_ms for entry in found]
    assert times == sorted(times)


def test_bars_are_merged_to_a_longer_timeframe() -> None:
    hours = series_of((1, 3, 1, 2), (2, 2, 0.5, 1), (1, 4, 1, 4), (4, 5, 4, 5), (5, 6, 5, 5.5))

    merged = bars.merge(hours, 2 * HOUR)

    assert [tuple(bar) for bar in merged.bars] == [
        (0, 1, 3, 0.5, 1, None),
        (2 * HOUR, 1, 5, 1, 5, None),
        (4 * HOUR, 5, 6, 5, 5.5, None),
    ]
    assert merged.timeframe == "2h"
    with pytest.raises(BarsError, match="bars of 1h cannot be merged"):
        bars.merge(hours, HOUR // 2)
    with pytest.raises(BarsError, match="timeframe must be a number and one of"):
        bars.length_ms("fast")


def test_a_symbol_names_one_file_and_fits_the_messages(tmp_path: Path) -> None:
    file = tmp_path / "BTCUSDT_15m.csv"
    file.write_text(
        "time,open,high,low,close\n2020-01-01,1,1,1,1\n2020-01-02,1,1,1,1\n", encoding="utf-8"
    )

    (named,) = bars.load([file], symbol="sol/usdt")

    assert named.symbol == "sol/usdt"
    with pytest.raises(BarsError, match="symbol must be 1 to 32 letters"):
        bars.load([file], symbol="so what")
    with pytest.raises(BarsError, match="names the bars of one file, there are 2"):
        bars.load([], symbol="X")
    with pytest.raises(BarsError, match="BTCUSDT: is there twice"):
        bars.load([file, file])


def test_data_are_described_so_that_they_are_found_again() -> None:
    whole = random_series(400, seed=1)
    holed = BarSeries("X", [*whole.bars[:100], *whole.bars[103:200], *whole.bars[330:]], HOUR)

    found = bars.describe(holed)

    assert (found.gaps, found.missing, found.long_gaps) == (2, 133, 1)
    assert found.sha256 == bars.describe(holed).sha256 != bars.describe(whole).sha256


# Measures


def test_measures_by_hand() -> None:
    assert drawdown(np.array([-1.0, 2.0, 0.5, 3.0, 1.0])) == 2.0
    assert drawdown(np.array([-4.0, -2.0])) == 4.0  # from 0, where it began
    assert cvar(np.array([5.0, -3.0, 1.0, -1.0])) == -3.0
    assert cvar(np.arange(100.0)) == 2.0  # mean of 0 .. 4


def test_weeks_begin_on_monday() -> None:
    sunday_ms = 3 * 86_400_000  # 4 January 1970

    weeks = weeks_of(np.array([sunday_ms, sunday_ms + 86_400_000 - 1, sunday_ms + 86_400_000]))

    assert weeks.tolist() == [0, 0, 1]


def test_equal_profits_have_no_sharpe_ratio() -> None:
    """Their mean is rounded, so that their deviation is not 0 but 1.7e-17."""
    assert sharpe(np.full(3, 0.1)) is None
    assert sharpe(np.array([0.1])) is None


def test_too_few_weeks_give_no_interval() -> None:
    values, weeks = np.arange(70.0), np.arange(70) % 7

    assert weekly_interval(values, weeks, 1) is None
    assert sharpe_annual(values, weeks) is None
    assert weekly_interval(values, np.arange(70) % 10, 1) is not None


def test_weeks_are_resampled_whole() -> None:
    """Trades of a week are all alike: 300 of them tell as little as 30 weeks do."""
    rng = np.random.default_rng(1)
    by_week = rng.normal(size=30)
    weeks = np.repeat(np.arange(30), 10)

    found = weekly_interval(by_week[weeks], weeks, 1)

    assert found is not None
    assert found.value == pytest.approx(by_week.mean())
    # the standard error of 30 weeks; a percentile interval of so few is some 5 % narrower
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * by_week.std() / 30**0.5, rel=0.1)


def test_blocks_hold_what_nine_of_ten_trades_live_through() -> None:
    lived_ms = np.array([WEEK_MS] * 80 + [5 * WEEK_MS] * 19 + [40 * WEEK_MS])

    assert block_weeks(lived_ms) == 5
    assert block_weeks(np.array([4 * HOUR])) == 1
    assert block_weeks(np.array([WEEK_MS, WEEK_MS + 1])) == 2


def test_trades_that_live_for_months_are_resampled_months_at_a_time() -> None:
    """Each earns what the next 13 weeks move: 400 trades tell as much as some 30 independent ones.

    Of many studies 87 in 100 intervals hold the mean: neighbouring blocks share moves, and 31 blocks are
    few. By single weeks it is 43. 0.08 and 0.24 are 3 standard errors of a share, of 150 and of 40.
    """

    def held(length: int, studies: int) -> float:
        count = 0
        for seed in range(studies):
            moves = np.random.default_rng(seed).normal(size=412)
            values = np.convolve(moves, np.ones(13), "valid")
            found = weekly_interval(values, np.arange(400), seed, length)
            assert found is not None
            count += found.low <= 0.0 <= found.high
        return count / studies

    assert held(13, 150) > 0.87 - 0.08
    assert held(1, 40) < 0.43 + 0.24


def test_too_few_blocks_give_no_interval() -> None:
    values, weeks = np.arange(99.0), np.arange(99)

    assert weekly_interval(values, weeks, 1, 13) is not None  # 8 blocks, the last of 8 weeks
    assert weekly_interval(values, weeks, 1, 15) is None


def test_daily_trades_have_intervals_by_their_own_lives() -> None:
    """Scalp is out within days, trend_rider after months; a comparison goes by the longer."""
    days = random_days(2600, seed=3)
    found = walked(*(entry_at(days, n, atr=0.5) for n in range(60, 2400, 3)))
    rider, scalp = (
        backtest.Run(name, np.full(len(found), arm))
        for name, arm in (("rider", TREND_RIDER), ("scalp", SCALP))
    )

    study = results.compare(found, [rider, scalp], scalp, 1, track=silent)

    long, short = study.results
    weeks = (found.closed_ms[:, TREND_RIDER] - found.opened_ms) / WEEK_MS
    assert long.mean_weeks == np.ceil(np.percentile(weeks, 90)) > 4
    assert short.mean_weeks < long.mean_weeks == long.gain_weeks
    one_week = weekly_interval(long.net_r, weeks_of(found.opened_ms), 1)
    assert one_week is not None
    assert long.mean_interval is not None
    assert long.mean_interval.high - long.mean_interval.low > 1.3 * (one_week.high - one_week.low)


def test_a_policy_with_too_few_blocks_is_compared_with_the_baseline_by_name() -> None:
    """Forty weeks: eight blocks of scalp's trades, not of trend_rider's."""
    days = random_days(280, seed=3)
    found = walked(*(entry_at(days, n, atr=0.5) for n in range(279)))
    loaded = settings.load()
    signals = backtest.encode_signals(found, loaded.detector, track=silent)
    rider, scalp = (
        backtest.Run(name, np.full(len(found), arm))
        for name, arm in (("rider", TREND_RIDER), ("scalp", SCALP))
    )

    study = results.compare(found, [rider, scalp], scalp, 1, track=silent)
    shown = report.Study(found, signals, study, [], [], {})
    long, short = study.results

    assert short.mean_interval is not None
    assert long.gain is None
    assert report.verdict(shown, long).endswith(
        f"Too few weeks to compare with scalp: {study.weeks}, taken {long.gain_weeks} weeks at a time."
    )


# The report


def test_the_report_says_what_is_open_and_what_is_not_enough() -> None:
    found = on_random_bars(400, seed=4, every=3)
    loaded = settings.load(meta_strategy_seed=3)
    signals = backtest.encode_signals(found, loaded.detector, track=silent)
    made = backtest.run(loaded, "epsilon_greedy", found, signals, track=silent)
    default, *hindsight = backtest.baselines(found, signals, "ultra_aggressive")
    study = results.compare(found, [made, default, *hindsight], default, 1, track=silent)

    page = report.render(report.Study(found, signals, study, [], [], {"seed": "3"}))

    text = page[page.index("<h1>") :]
    assert "not enough data" in text
    assert "unreachable: knows the outcomes" in text
    assert "Too few weeks to compare" in text  # 14 days
    assert f"{study.results[0].open}<small>" in text
    assert set(signals.regimes) == {MarketRegime.TREND_UP}
    head = page[: page.index("<h1>")]
    assert "src=" not in head.split("<script")[0]
    assert "<link" not in page


def test_a_study_of_the_shipped_bars() -> None:
    """All signals in every row, uniform and default among them, and figures that are numbers."""
    asked = studies.Asked(signals="stretch", timeframe="1d", seed=2)

    found = studies.make(asked, track=silent)

    figures = studies.figures(found)
    names = [row["name"] for row in figures["policies"]]
    assert names[:3] == ["ucb", "always ultra_aggressive", "uniform"]
    assert {row["trades"] for row in figures["policies"]} == {figures["signals"]}
    assert [one["timeframe"] for one in figures["data"]] == ["1d", "1d"]
    assert figures["policies"][1]["gain_r"] is None
    assert any("no difference" in line or "worse" in line for line in studies.lines(found))
