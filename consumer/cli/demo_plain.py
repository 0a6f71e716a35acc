"""The demo's screen as plain lines, and the words that both screens share."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from consumer.words import plural
from schemas import MarketRegime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from consumer.local.demo import Result
    from consumer.local.replay_tally import ReplayTally
    from consumer.local.table_reader import Arm, ArmRow

# So many lines in all: enough to see it move, few enough to read.
_PROGRESS_LINES = 5
_TRUSTED_REWARDS = 5  # one lucky trade is no best strategy

_REGIME_ORDER = {regime: place for place, regime in enumerate(MarketRegime)}

STRATEGY_HEADER = ("strategy", "chosen", "explored", "trades", "mean R", "win rate")
# what it is best by is said: the first number of the table is another one
LEARNED_TITLE = (
    "Learned: the best strategy of each symbol and regime, by mean R "
    f"(from {_TRUSTED_REWARDS} rewards on)"
)
LEARNED_HEADER = ("symbol", "regime", "best strategy", "Q [R]", "rewards", "win rate", "mean R")


class Pointer(NamedTuple):
    """Where to look next."""

    what: str
    where: str


def count(number: float | None, form: str) -> str:
    """Write a number that may not be known yet."""
    return "-" if number is None else format(number, form)


def strategy_rows(tally: ReplayTally) -> list[tuple[str, ...]]:
    """Give the cells of each strategy, the most chosen first."""
    ranked = sorted(tally.strategies.items(), key=lambda item: (-item[1].chosen, item[0]))
    return [
        (
            name,
            f"{one.chosen:,}",
            f"{one.explored:,}",
            f"{one.trades:,}",
            count(one.mean_r, "+.2f"),
            count(one.win_rate, ".0%"),
        )
        for name, one in ranked
    ]


def regimes(tally: ReplayTally) -> list[tuple[str, int]]:
    """Give how often each regime was seen, the most frequent first."""
    return sorted(tally.regimes.items(), key=lambda item: (-item[1], item[0]))


def pace(tally: ReplayTally) -> str:
    """Say how fast the answers come."""
    return (
        f"signal to decision p50 {count(tally.latency_ms(0.5), '.0f')} ms,"
        f" p99 {count(tally.latency_ms(0.99), '.0f')} ms; {tally.signals_per_s:.0f} signals/s"
    )


def best_arms(result: Result) -> list[tuple[Arm, ArmRow]]:
    """Find the strategy with the highest mean reward of each symbol and regime, as the page does.

    One with too few rewards to be trusted comes first only where all have so few.
    """
    best: dict[tuple[str, str], tuple[Arm, ArmRow]] = {}
    for arm, row in sorted(result.learned.items()):
        place = (arm.symbol, arm.regime)
        if row.count and (place not in best or _merit(row) > _merit(best[place][1])):
            best[place] = (arm, row)
    return sorted(
        best.values(),
        key=lambda pair: (pair[0].symbol, _REGIME_ORDER[MarketRegime(pair[0].regime)]),
    )


def _merit(row: ArmRow) -> tuple[bool, float]:
    return row.count >= _TRUSTED_REWARDS, row.total_r / row.count


def learned_rows(result: Result) -> list[tuple[str, ...]]:
    """Give the cells of the best strategy of each symbol and regime."""
    return [
        (
            arm.symbol,
            arm.regime,
            arm.strategy,
            f"{row.ema_reward:+.2f}",
            f"{row.count:,}",
            f"{row.win_count / row.count:.0%}",
            f"{row.total_r / row.count:+.2f}",
        )
        for arm, row in best_arms(result)
    ]


def verdict(result: Result) -> str:
    """Say what was checked, when all of it held."""
    tally = result.tally
    return (
        f"{tally.decided:,} {plural(tally.decided, 'signal')}, each with exactly one decision;"
        f" {tally.trades:,} {plural(tally.trades, 'trade')}, each with its reward in Redis; no dead letters."
    )


def timing(result: Result) -> str:
    """Say how long it took."""
    tally = result.tally
    return f"Replay {tally.busy_s:.1f} s, all in all {result.seconds:.1f} s; {pace(tally)}"


def pointers(result: Result) -> list[Pointer]:
    """Tell where to look next; without `keep` it is gone by then, but its forms stay the same."""
    site = result.site
    best = max(best_arms(result), key=lambda pair: pair[1].count, default=None)
    key = best[1].key if best else "ms:{0}:q:paper:EURUSD:trend_up"
    symbol = best[0].symbol if best else "EURUSD"
    topics = site.topics
    return [
        Pointer("page", site.page_url),
        Pointer("metrics", f"{site.page_url}metrics"),
        Pointer("table", f"{site.page_url}api/qtable/{symbol}"),
        Pointer("Redis", f"redis-cli -u {site.redis_url} HGETALL '{key}'"),
        Pointer("Kafka", site.bootstrap_servers),
        Pointer("topics", f"{topics.signals}, {topics.decisions}, {topics.trade_closed}"),
        Pointer("logs", str(site.logs)),
    ]


KEEP_HINT = (
    "Everything stops now. To look around afterwards, at page, metrics and topics, add --keep."
)
STOP_HINT = "All of it runs on: Ctrl-C stops it."


class PlainScreen:
    """Lines for files, pipes and logs.

    Args:
        write: Takes one line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    @contextlib.contextmanager
    def step(self, doing: str) -> Iterator[Callable[[str], None]]:  # noqa: ARG002
        """Write how a step ended, and how long it took."""
        began_at = time.monotonic()
        yield lambda done: self.note(f"{done} ({time.monotonic() - began_at:.1f} s)")

    def note(self, line: str) -> None:
        """Write a line."""
        self._write(line)

    @contextlib.contextmanager
    def replaying(self, tally: ReplayTally) -> Iterator[Callable[[], None]]:
        """Write a line now and then, by the part that is done."""
        written = 0

        def frame() -> None:
            nonlocal written
            part = tally.decided * _PROGRESS_LINES // tally.signals
            if part > written:
                written = part
                self.note(
                    f"{tally.decided:,} of {tally.signals:,} {plural(tally.signals, 'signal')} decided,"
                    f" {tally.rewards:,} {plural(tally.rewards, 'trade')} learned from; {pace(tally)}"
                )

        yield frame

    def summary(self, result: Result) -> None:
        """Write what was learned, the verdict, and where to look next."""
        tally = result.tally
        self.note("")
        self._table(STRATEGY_HEADER, strategy_rows(tally), left=1)
        self.note("")
        self.note("Regimes: " + ", ".join(f"{name} {seen:,}" for name, seen in regimes(tally)))
        self.note("")
        self.note(LEARNED_TITLE)
        self._table(LEARNED_HEADER, learned_rows(result), left=3)
        self.note("")
        if result.shortfalls:
            self.note("Missing or wrong:")
            for line in result.shortfalls:
                self.note(f"  {line}")
        else:
            self.note(f"Complete: {verdict(result)}")
        self.note(timing(result))
        if result.keep:
            for pointer in pointers(result):
                self.note(f"  {pointer.what:8} {pointer.where}")
        self.note(STOP_HINT if result.keep else KEEP_HINT)

    def _table(self, header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            cells = [
                cell.ljust(width) if at < left else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            self.note(("  " + "  ".join(cells)).rstrip())
