"""Logs are merged as they were folded live, however the client gives them."""

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumer.merging import InputLog, LogMerger, MergedCandle, MergedDecision, MergedTrade
from tests.support.builders import START_MS
from tests.support.examples import examples

Named = tuple[str, int]
"""Of which log a record is, and its offset there."""

_KINDS = {MergedDecision: "decision", MergedTrade: "trade", MergedCandle: "candle"}

# transactions leave gaps between offsets
_offsets = st.lists(st.integers(1, 3), max_size=12).map(lambda steps: list(accumulate(steps)))
_seen = st.tuples(st.integers(0, 40), st.none() | st.integers(0, 40))


def record(offset: int, value: bytes = b"{}") -> Any:
    return SimpleNamespace(
        topic="log",
        partition=0,
        offset=offset,
        timestamp=START_MS,
        key=None,
        value=value,
        headers=(),
    )


def decision(table_offset: int, candles_offset: int | None) -> bytes:
    return json.dumps(
        {
            "decision_id": "00000000-0000-5000-8000-000000000000",
            "account": "default",
            "symbol": "BTCUSDT",
            "side": "LONG",
            "regime": "trend_up",
            "strategy": "scalp",
            "is_exploration": False,
            "table_offset": table_offset,
            "candles_offset": candles_offset,
            "tpsl": {"atr": 250.0, "atr_mult_sl": 0.8},
        }
    ).encode()


def chunks(records: Sequence[Any], sizes: Sequence[int]) -> Iterator[Sequence[Any]]:
    """Give records in pieces of such sizes, in turns."""
    at = turn = 0
    while at < len(records):
        yield records[at : at + sizes[turn % len(sizes)]]
        at, turn = at + sizes[turn % len(sizes)], turn + 1


@examples(1.0)
@given(
    st.lists(st.none() | _seen, max_size=10),
    _offsets,
    _offsets,
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_input_comes_before_the_first_decision_that_has_seen_it(
    made: list[tuple[int, int | None] | None],
    trades: list[int],
    candles: list[int],
    sizes: list[int],
) -> None:
    """None among the decisions is a record that no worker wrote."""
    merger = LogMerger()
    more: dict[InputLog, Iterator[Sequence[Any]]] = {
        merger.trades: chunks(list(map(record, trades)), sizes[::-1]),
        merger.candles: chunks(list(map(record, candles)), sizes),
    }
    decisions = [
        record(offset, b"{}" if seen is None else decision(*seen))
        for offset, seen in enumerate(made)
    ]
    found: list[Named] = []

    for some in chunks(decisions, sizes):
        merger.put(some)
        while merger.holds_decisions:
            found += [(_KINDS[type(one)], one.record.offset) for one in merger.take()]
            if (lacking := merger.lacking) is not None:
                lacking.put(next(more[lacking], None))

    wanted: list[Named] = []
    left = {"trade": trades, "candle": candles}
    for offset, seen in enumerate(made):
        for (kind, offsets), end in zip(left.items(), seen or (0, 0), strict=True):
            wanted += [(kind, one) for one in offsets if one < (end or 0)]
            left[kind] = [one for one in offsets if one >= (end or 0)]
        wanted.append(("decision", offset))
    assert found == wanted


def test_a_decision_that_has_seen_many_trades_does_not_hold_the_loop() -> None:
    merger = LogMerger()
    merger.put([record(0, decision(2_000, None))] * 600)
    given_at_once = []

    trades = chunks(list(map(record, range(2_000))), [100])
    while merger.holds_decisions:
        given_at_once.append(len(merger.take()))
        if merger.lacking is not None:
            merger.lacking.put(next(trades, None))

    assert sum(given_at_once) == 2_600
    assert max(given_at_once) <= 600
