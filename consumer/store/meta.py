"""What a partition's fold depends on: kept beside it, and compared before it is used."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from consumer.connection import TopicNames
from consumer.domain.features import FEATURES
from consumer.domain.fold_settings import FoldSettings
from consumer.errors import RefusedError
from consumer.store.codec import number
from consumer.store.keys import LAYOUT_VERSION

_REBUILD = "run `meta-strategy qtable rebuild` to fold the logs anew"


@dataclass(frozen=True, slots=True)
class Meta:
    """Identity of a view: the fold's settings and the logs it was made from.

    Args:
        fold: Settings of the fold.
        partitions: Partition count of the input topics.
        topics: Names of the logs.
    """

    fold: FoldSettings
    partitions: int
    topics: TopicNames

    @property
    def fields(self) -> dict[str, str]:
        """Give the fields of the `meta` hash, the fingerprint of the others among them."""
        content = {
            "layout": str(LAYOUT_VERSION),
            "partitions": str(self.partitions),
            "trades_topic": self.topics.trades,
            "decisions_topic": self.topics.decisions,
            "candles_topic": self.topics.candles,
            "reward_unit": self.fold.reward_unit,
            "alpha": number(self.fold.alpha),
            "half_life": number(self.fold.half_life),
            "learn_exclude": ",".join(sorted(self.fold.learn_exclude)),
            "decision_ttl_ms": str(self.fold.decision_ttl_ms),
            "open_decisions_max": str(self.fold.open_decisions_max),
            "dedupe_window": str(self.fold.dedupe_window),
            "ladders": _digest(
                {name: astuple(ladder) for name, ladder in self.fold.ladders.items()}
            ),
            "candles": self.fold.candles or "",
            "usual_atr": "kept" if self.fold.keeps_usual_atr else "",
            "features": _digest({"names": FEATURES}),
        }
        return content | {"fingerprint": _digest(content)}

    def check(self, stored: Mapping[str, str], where: str, way_out: str = _REBUILD) -> None:
        """Compare a stored meta with this one.

        Args:
            stored: Its fields.
            where: What it was stored with, for an error.
            way_out: What else is to be done than to set back what differs.

        Raises:
            RefusedError: They differ; the message names the first field and the ways out.
        """
        for name, value in self.fields.items():
            if stored.get(name) != value:
                raise RefusedError(
                    f"{where} was folded with {name}={stored.get(name, 'nothing')}, this worker "
                    f"has {name}={value}: set it back, or {way_out}"
                    + (
                        "; for a changed partition count run `meta-strategy topics migrate`"
                        if name == "partitions"
                        else ""
                    )
                )


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
