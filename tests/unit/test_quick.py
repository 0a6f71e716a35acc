"""What is made without its constructor is what the constructor would have made."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ConfigDict, TypeAdapter

from consumer.decide import Decision, entry_of
from consumer.domain.context import ContextKey
from consumer.domain.following import Entry
from consumer.domain.partition_state import FoldResult, PartitionState
from consumer.domain.policies.base import Choice, Situation
from consumer.domain.policies.beliefs import Estimate
from consumer.domain.policies.estimators import Estimator
from consumer.domain.policies.ucb import Ucb
from consumer.domain.regime import Held
from consumer.domain.tpsl import Levels
from consumer.learn import learn
from consumer.process import is_compiled
from consumer.settings import load
from consumer.wire import DecisionEncoder, OutRecord
from schemas import Signal, TradeClosed
from tests.support.builders import START_MS, FakeRecord, make_signal, make_trade

_STRICT = ConfigDict(arbitrary_types_allowed=True, strict=True)


def _everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, ...]]:
    made: list[tuple[Any, ...]] = []

    def noted(kind: type, name: str) -> None:
        method = getattr(kind, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            made.extend(one for one in (*args, result) if isinstance(one, tuple))
            return result

        monkeypatch.setattr(kind, name, called)

    noted(Ucb, "choose")
    noted(PartitionState, "_find_arm")
    noted(Estimator, "estimate")
    settings = load()
    state = PartitionState(settings.fold)
    signal = Signal.model_validate(make_signal())
    decision = settings.decider.decide(signal, state, now_ms=START_MS, degraded=False)
    assert decision is not None
    yield DecisionEncoder("ucb", "").encode(decision, FakeRecord(b""))
    yield from (decision, decision.levels, entry_of(signal, decision.price), decision.context)
    yield from state.markets.values()
    yield decision.remembered(7).context
    trade = TradeClosed.model_validate(make_trade(decision_id=decision.decision_id))
    result = learn(state, trade, offset=0, timestamp_ms=START_MS)
    assert isinstance(result, tuple)
    yield from (result, state.position)
    again = Signal.model_validate(make_signal(signal_id="again"))
    assert settings.decider.decide(again, state, now_ms=START_MS, degraded=False) is not None
    yield from (one for one in made if hasattr(one, "_fields"))


@pytest.mark.skipif(is_compiled(), reason="compiled types keep no annotations")
def test_fields_have_their_number_and_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(_everything(monkeypatch))

    for value in found:
        assert len(value) == len(type(value)._fields)  # type: ignore[attr-defined]
        for field, kind in zip(value, type(value).__annotations__.values(), strict=True):
            TypeAdapter(tuple[kind], config=_STRICT).validate_python((field,))  # type: ignore[valid-type]
    assert set(map(type, found)) >= {
        Decision,
        ContextKey,
        Levels,
        Situation,
        Choice,
        Estimate,
        FoldResult,
        OutRecord,
        Entry,
        Held,
    }
