"""Decisions made again from the logs alone, by the product's own code: the same bytes (I12)."""

from collections.abc import Sequence

import orjson
from aiokafka.structs import ConsumerRecord

from consumer.domain.partition_state import PartitionState
from consumer.domain.pooled import NOWHERE, Elsewhere, Pool
from consumer.learn import learn
from consumer.pipeline import Pipeline, decoded_trade
from consumer.settings import Settings


def replay(
    settings: Settings,
    signals: Sequence[ConsumerRecord],
    decisions: Sequence[ConsumerRecord],
    trades: Sequence[ConsumerRecord],
) -> list[str]:
    """Make each decision of a partition again; say which ones differ from what was published.

    Time and the mark `degraded` are taken from the decision: they are no part of the rule.
    """
    pipeline = Pipeline(settings.decider)
    state = PartitionState(settings.fold)
    by_offset = {record.offset: record for record in signals}
    differing, at = [], 0
    for record in decisions:
        said = orjson.loads(record.value)
        while at < len(trades) and trades[at].offset < said["table_offset"]:
            trade = trades[at]
            learn(state, decoded_trade(trade), offset=trade.offset, timestamp_ms=trade.timestamp)
            at += 1
        # candles move no estimate of the policy; of them a decision holds where they stood
        state.position = state.position._replace(
            trades=said["table_offset"], candles=said.get("candles_offset") or 0
        )
        # the same holds of what other partitions told
        number = said["pool_offset"]
        state.elsewhere = NOWHERE if number is None else Elsewhere(Pool(number))
        source = by_offset[said["source"]["offset"]]
        step = pipeline.step(
            state, (), [source], now_ms=record.timestamp, degraded=said["degraded"]
        )
        if step.repeated:
            continue  # a double: told by I1, and allowed at least once
        again = [out.value for out in step.decisions]
        if again != [record.value]:
            differing.append(
                f"{record.partition}/{record.offset}: made again {again}, was {record.value!r}"
            )
    return differing
