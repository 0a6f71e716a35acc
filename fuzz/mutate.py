"""Structure-aware mutation: messages are taken apart, spoiled somewhere, and written again."""

import contextlib
import json
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import Path
from random import Random
from typing import Any

from consumer.decide import decision_id_of
from fuzz import grammar
from fuzz.records import CANDLES, DECISIONS, SIGNALS, TRADES, Input
from schemas import MAX_MESSAGE_BYTES

_EXAMPLES = Path(__file__).parents[1] / "schemas" / "examples" / "good"
_IDS = {"signal_id", "trade_id"}
_FIXED_NUMBERS = {"schema_version"}
_LARGEST = 10**300
"""Larger ones are replaced, not counted with: an integer of JSON may be no float."""
_STRAINED = 0.15
"""Share of inputs that are good messages with numbers at their limits [1]."""
_FOLDERS = {
    SIGNALS: "signal",
    TRADES: "trade_closed",
    DECISIONS: "strategy_decision",
    CANDLES: "candle",
}


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written: names in their order, twice if need be."""


_MOST_NODES = 20_000
"""Values of a tree that is made larger: far beyond what any limit lets through."""


class Raw(bytes):
    """A value that is written as it is, JSON or not."""


def parsed(value: bytes) -> Any:
    """Read JSON so that it can be mutated."""
    return json.loads(value, object_pairs_hook=Pairs)


def written(node: Any) -> bytes:
    """Write what `parsed` read, or what became of it."""
    if isinstance(node, Raw):
        return bytes(node)
    if isinstance(node, Pairs):
        return b"{%s}" % b",".join(
            encode_basestring_ascii(name).encode() + b":" + written(child) for name, child in node
        )
    if isinstance(node, list):
        return b"[%s]" % b",".join(map(written, node))
    if isinstance(node, str):  # quicker than `dumps`
        return encode_basestring(node).encode("utf-8", "surrogatepass")
    return json.dumps(node).encode()


def _nodes(node: Any) -> int:
    """Count the values of a tree."""
    if isinstance(node, Raw) or not isinstance(node, list):
        return 1
    children = (child for _, child in node) if isinstance(node, Pairs) else node
    return 1 + sum(map(_nodes, children))


def seeds() -> list[Input]:
    """Give the golden messages, and trades that belong to the signals every batch begins with."""
    found = []
    for topic, folder in _FOLDERS.items():
        for path in sorted((_EXAMPLES / folder).glob("*.json")):
            value = path.read_bytes()
            found.append(Input(topic, value, json.loads(value)["symbol"].encode()))
    for number, revision in ((0, 0), (1, 0), (0, 1)):
        trade = {
            "schema_version": 1,
            "trade_id": f"trade-{number}",
            "symbol": "BTCUSDT",
            "side": "LONG",
            "closed_at": 1_767_225_700_000,
            "decision_id": decision_id_of("default", f"good-{number}"),
            "entry_price": 50_000.0,
            "exit_price": 50_500.0,
            "revision": revision,
        }
        found.append(Input(TRADES, json.dumps(trade).encode()))
    return found


class Mutator:
    """Makes inputs out of others; the same generator makes the same ones.

    Args:
        rng: The only source of randomness.
        pool: What to start from; may grow while it is in use.
    """

    def __init__(self, rng: Random, pool: list[Input]) -> None:
        self._rng = rng
        self._pool = pool
        self._parsed: dict[int, Pairs | None] = {}
        self._golden = [(one, parsed(one.value or b"")) for one in seeds()]

    def next(self) -> Input:
        """Make one input."""
        rng = self._rng
        if rng.random() < _STRAINED:
            return self._strained()
        number = rng.randrange(len(self._pool))
        parent = self._pool[number]
        value, symbol = parent.value, "BTCUSDT"
        tree = self._tree(number, value)
        if tree is not None:
            symbol = next((s for n, s in tree if n == "symbol" and isinstance(s, str)), symbol)
            for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
                tree = self._spoiled(tree)
            if isinstance(tree, Pairs) and rng.random() < 0.5:  # else it repeats its parent's
                fresh = f"id-{rng.getrandbits(40):x}"
                tree = Pairs((n, fresh if n in _IDS else child) for n, child in tree)
            value = written(tree)
        if rng.random() < 0.25:
            value = self._damaged(value or b"")
        key = parent.key
        if rng.random() < 0.10:
            key = grammar.key(rng, symbol)
        headers = parent.headers if len(parent.headers) < 5 else ()
        if rng.random() < 0.04:
            headers = grammar.headers(rng)
        timestamp = grammar.timestamp(rng) if rng.random() < 0.05 else parent.timestamp
        topic = parent.topic
        if rng.random() < 0.01:
            topic = rng.choice((SIGNALS, TRADES, DECISIONS, CANDLES))
        return Input(topic, value, key, headers, timestamp)

    def _strained(self) -> Input:
        """Take a good message to the limits of its numbers: half of them are accepted, and counted with."""
        parent, tree = self._rng.choice(self._golden)
        fresh = f"id-{self._rng.getrandbits(40):x}"
        tree = Pairs((n, fresh if n in _IDS else child) for n, child in self._stretched(tree))
        return Input(parent.topic, written(tree), parent.key, parent.headers, parent.timestamp)

    def _stretched(self, node: Any) -> Any:
        if isinstance(node, Pairs):
            return Pairs(
                (name, child if name in _FIXED_NUMBERS else self._stretched(child))
                for name, child in node
            )
        if isinstance(node, list):
            return [self._stretched(child) for child in node]
        is_number = isinstance(node, int | float) and not isinstance(node, bool)
        if not is_number or self._rng.random() < 0.9:
            return node
        return Raw(grammar.limit(self._rng))

    def _tree(self, number: int, value: bytes | None) -> Pairs | None:
        if number not in self._parsed:
            tree = None
            # others are damaged as bytes only; and trees are walked by recursion
            if value and len(value) < 20_000 and value.count(b"[") + value.count(b"{") < 200:
                with contextlib.suppress(ValueError, RecursionError):
                    tree = parsed(value)
            self._parsed[number] = tree if isinstance(tree, Pairs) else None
        return self._parsed[number]

    def _spoiled(self, node: Any) -> Any:
        """Give a copy of a tree that differs in one place."""
        rng = self._rng
        is_inner = isinstance(node, list) and node and not isinstance(node, Raw)
        if not is_inner or rng.random() < 0.04:
            return self._leaf(node)
        place = rng.randrange(len(node))
        if isinstance(node, Pairs):
            return self._spoiled_object(node, place)
        copy = list(node)
        match rng.randrange(6):
            case 0:
                del copy[place]
            case 1:
                copy.insert(place, copy[place])
            case 2:
                times = rng.choice((2, 30, 501))
                # several of these, one within another, would be a gigabyte
                copy = copy * min(times, max(1, _MOST_NODES // _nodes(copy)))
            case _:
                copy[place] = self._spoiled(copy[place])
        return copy

    def _spoiled_object(self, node: Pairs, place: int) -> Pairs:
        rng, copy = self._rng, Pairs(node)
        name, child = copy[place]
        match rng.randrange(14):
            case 0:
                del copy[place]
            case 1:
                copy.append((name, Raw(grammar.value(rng))))  # a name twice: the last one counts
            case 2:
                copy.insert(rng.randrange(len(copy)), (rng.choice(grammar.TEXTS), child))
            case 3:
                other = rng.randrange(len(copy))
                copy[place], copy[other] = (name, copy[other][1]), (copy[other][0], child)
            case 4:
                copy[place] = (rng.choice((name.upper(), name + " ", name + "\0", "")), child)
            case 5:
                rng.shuffle(copy)
            case 6:
                donor = self._tree_of_any()
                copy[place] = rng.choice(donor) if donor else copy[place]
            case _:
                copy[place] = (name, self._spoiled(child))
        return copy

    def _tree_of_any(self) -> Pairs | None:
        number = self._rng.randrange(len(self._pool))
        return self._tree(number, self._pool[number].value)

    def _leaf(self, node: Any) -> Any:
        rng = self._rng
        draw = rng.random()
        if draw < 0.55:
            return Raw(grammar.value(rng))
        if isinstance(node, bool | None):
            return rng.choice((None, True, False, 0, 1))
        if isinstance(node, int | float) and abs(node) < _LARGEST:
            factor = rng.choice((-1, 0, 0.5, 1 + 1e-15, 2, 10, 1e-6, 1e6, 1e13))
            return node * factor if draw < 0.9 else node + rng.choice((-1, 1, 0.5))
        if isinstance(node, str):
            word = rng.choice(grammar.TEXTS)
            return rng.choice((node + word, word + node, node[: len(node) // 2] + word, node * 40))
        return rng.choice(([node], Pairs([("a", node)]), Pairs(), []))

    def _damaged(self, value: bytes) -> bytes | None:
        """Spoil bytes, whatever they mean."""
        rng = self._rng
        at = rng.randrange(len(value) + 1)
        match rng.randrange(12):
            case 0:
                return value[:at]
            case 1:
                return value[at:]
            case 2:
                return value[:at] + rng.randbytes(rng.randrange(1, 9)) + value[at:]
            case 3 if value:
                at = min(at, len(value) - 1)
                return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
            case 4:
                return value[:at] + grammar.value(rng) + value[at:]
            case 5:
                return value.decode("latin-1").encode(rng.choice(("utf-16", "utf-32", "utf-7")))
            case 6:
                return rng.choice((b"\xef\xbb\xbf", b"\0", b" ", b"\x1e", b")]}',\n")) + value
            case 7:  # as large as allowed, one byte less, one byte more
                size = MAX_MESSAGE_BYTES + rng.randrange(-1, 2)
                return value + b" " * (size - len(value))
            case 8:
                return value * rng.randrange(2, 4)
            case 9:
                return rng.choice(
                    (None, b"", b"null", b"{}", b"[]", b'"{}"', b"0", grammar.bomb(rng))
                )
            case 10:
                return grammar.bomb(rng)
            case _:
                end = rng.randrange(at, len(value) + 1)
                return value[:at] + value[end:]
