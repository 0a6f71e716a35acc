"""Flips of a market's regime, and how long it stayed."""

from consumer.domain.dwell import Dwell
from schemas import MarketRegime

EURUSD = ("default", "EURUSD", "15m")


def test_a_flip_tells_what_was_left_and_for_how_long() -> None:
    dwell = Dwell()

    assert dwell.note(EURUSD, MarketRegime.TREND_UP, 1_000) is None
    assert dwell.note(EURUSD, MarketRegime.TREND_UP, 5_000) is None
    assert dwell.note(EURUSD, MarketRegime.UNKNOWN, 61_000) == (MarketRegime.TREND_UP, 60.0)
    assert dwell.note(EURUSD, MarketRegime.TREND_UP, 61_500) == (MarketRegime.UNKNOWN, 0.5)


def test_markets_are_told_apart() -> None:
    dwell = Dwell()
    dwell.note(EURUSD, MarketRegime.TREND_UP, 0)

    for other in (("paper", *EURUSD[1:]), ("default", "GBPUSD", "15m"), (*EURUSD[:2], "1h")):
        assert dwell.note(other, MarketRegime.UNKNOWN, 1_000) is None

    assert dwell.note(EURUSD, MarketRegime.UNKNOWN, 2_000) == (MarketRegime.TREND_UP, 2.0)


def test_a_signal_from_before_the_flip_makes_no_negative_time() -> None:
    dwell = Dwell()
    dwell.note(EURUSD, MarketRegime.TREND_UP, 5_000)

    assert dwell.note(EURUSD, MarketRegime.UNKNOWN, 3_000) == (MarketRegime.TREND_UP, 0.0)
