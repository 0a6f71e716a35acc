"""The hashes of one partition as the scripts would leave them, in dictionaries."""

import orjson

from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.store.blocks import BLOCK_HASHES, BlockNames
from consumer.store.keys import HASHES, PartitionKeys
from consumer.store.meta import Meta
from consumer.store.raw import RawPartition
from consumer.store.redis_delta import Part, RedisDelta, prepared

KEYS = PartitionKeys("ms", 0)


class Hashes:
    """A partition's keys and what they hold."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, str]] = {}

    def apply(self, delta: RedisDelta, part: Part) -> None:
        """Put a part of a write in place; whether it may be is not looked at."""
        keys = [*delta.keys.fixed, *part.rows]
        blocks = 1 + 3 * int(str(part.arguments[0]))
        for number, field, text in zip(*[iter(part.arguments[1:blocks])] * 3, strict=True):
            self._hash(keys[int(number) - 1])[str(field)] = _text(text)
        for before, text in zip(*[iter(part.arguments[blocks:])] * 2, strict=True):
            changes = orjson.loads(text)
            for number, command, arguments in zip(*[iter(changes)] * 3, strict=True):
                place = int(before) - number if number < 0 else number
                fields = self._hash(keys[place - 1])
                if command == "HSET":
                    fields |= dict(zip(arguments[::2], arguments[1::2], strict=True))
                else:
                    assert command == "HDEL"
                    for field in arguments:
                        fields.pop(field, None)
        position = delta.position._asdict()
        self._hash(KEYS.key("watermark")).update({name: str(at) for name, at in position.items()})

    @property
    def position(self) -> Position:
        """Where they stand."""
        mark = self._hash(KEYS.key("watermark"))
        return Position(*(int(mark.get(name, 0)) for name in Position._fields))

    def _hash(self, key: str) -> dict[str, str]:
        return self.keys.setdefault(key, {})

    def raw(self, meta: Meta) -> RawPartition:
        """Give them as they would be read, in turned order: a hash has none."""
        self.keys[KEYS.key("meta")] = meta.fields
        found = [self.keys.get(KEYS.key(name), {}) for name in HASHES]
        return RawPartition(*(dict(reversed(one.items())) for one in found))


def _text(argument: str | bytes) -> str:
    return argument if isinstance(argument, str) else argument.decode()


class Writer:
    """Writes one state into hashes, as a worker does.

    Args:
        state: As it stands in them, or to be written as a whole first.
        hashes: Where to.
    """

    def __init__(self, state: PartitionState, hashes: Hashes) -> None:
        self._state = state
        self._hashes = hashes
        self._since = state.position
        self._blocks = BlockNames()

    def know(self, raw: RawPartition) -> None:
        """Take note of the blocks that are there."""
        for name in BLOCK_HASHES:
            self._blocks.read(name, raw.blocks(name))

    def rewrite(self) -> None:
        """Write everything into empty hashes."""
        self._state.touch_all()
        self._hashes.keys.clear()
        self._blocks = BlockNames()
        whole = self.prepared(Position())
        self._state.pack()
        for part in (*whole.parts(1), whole.last_part):
            self._hashes.apply(whole, part)

    def write(self) -> None:
        """Write what has changed, as the script lets it."""
        at = self._hashes.position
        if self._state.is_scattered or not at.reaches(self._since):
            self.rewrite()
            return
        delta = self.prepared(self._since)
        self._state.pack()
        if delta.position.reaches(at) and at != delta.position:
            self._hashes.apply(delta, delta.whole)

    def prepared(self, since: Position) -> RedisDelta:
        """Take what has changed."""
        self._since = self._state.position
        return prepared(KEYS, 0, self._state, since, self._blocks)
