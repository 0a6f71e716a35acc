"""Two views in Redis, compared by what they hold."""

import re
from collections.abc import Mapping
from typing import Final

from consumer.domain.stored import Position
from consumer.store.blocks import BLOCK_HASHES
from consumer.store.keys import HASHES
from consumer.store.raw import RawPartition

Fields = Mapping[str, str]

_IN_BLOCKS: Final = (*BLOCK_HASHES, "trades-revised")
_PARTITION: Final = re.compile(r".*\{\d+\}:")


def out_of_blocks(view: Mapping[str, Fields]) -> dict[str, dict[str, str]]:
    """Give what is kept in blocks one by one: which entries share one tells only when they were written.

    Args:
        view: Fields by key; keys of whole partitions.
    """
    found = {
        key: dict(fields) for key, fields in view.items() if key.split("}:")[-1] not in _IN_BLOCKS
    }
    for start in {place[0] for key in view if (place := _PARTITION.match(key))}:
        raw = RawPartition(*(dict(view.get(start + name, {})) for name in HASHES))
        if raw.is_whole:
            stored = raw.decode(start, "look at it")
            found[start + "decisions-closed"] = {
                one.decision_id: repr(one) for one in stored.closed
            }
            found[start + "decision-ids"] = {
                f"{account}:{decision_id}": str(number)
                for account, decision_id, number in stored.decision_ids
            }
            found[start + "trades"] = {
                f"{one.account}:{one.trade_id}": repr(one) for one in stored.trades
            }
    return found


def is_same(key: str, one: Fields | None, other: Fields | None) -> bool:
    """Compare what a key holds in two views that `out_of_blocks` gave, to the last bit.

    Only the watermark of the decisions may differ, by one: a transaction's marker takes an offset,
    and to stand before it or behind it is the same. One that is being written anew is like no other.
    """
    if one is None or other is None:
        return False
    if not key.endswith(":watermark"):
        return one == other
    names = {*one, *other}
    if not names.issubset(Position._fields):  # the token of a rewrite
        return False
    apart = {name: abs(int(one.get(name, -9)) - int(other.get(name, -9))) for name in names}
    return apart.pop("decisions", 9) <= 1 and not any(apart.values())
