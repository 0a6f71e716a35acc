"""What Kafka's logs, transactions and group answer: the same steps for the real one and the fake.

A step is a verb, the client that does it, what it needs, and the answer. Producers are named
`id` or `id/number`: the same transactional id, another producer. What is read is waited for.
"""

from typing import Any, NamedTuple


class Step(NamedTuple):
    """One step of a scenario."""

    verb: str
    who: str = ""
    what: Any = None
    answer: Any = "done"


def start(who: str) -> Step:
    """Start a producer."""
    return Step("start", who)


def begin(who: str) -> Step:
    """Begin a transaction."""
    return Step("begin", who)


def send(who: str, value: str, answer: str = "done") -> Step:
    """Send a record to partition 0."""
    return Step("send", who, value, answer)


def offsets(who: str, offset: int, answer: str = "done") -> Step:
    """Add the group's offset of partition 0, beside the producer's name."""
    return Step("offsets", who, offset, answer)


def commit(who: str, answer: str = "done") -> Step:
    """Commit the transaction."""
    return Step("commit", who, None, answer)


def abort(who: str) -> Step:
    """Abort the transaction."""
    return Step("abort", who)


def read(*values: str) -> Step:
    """Read what is committed in partition 0."""
    return Step("read", answer=list(values))


def end(offset: int) -> Step:
    """Ask for the end of what is decided in partition 0."""
    return Step("end", answer=offset)


def held(offset: int, metadata: str = "") -> Step:
    """Ask for the group's offset of partition 0; -1: none."""
    return Step("held", answer=(offset, metadata))


def join(who: str) -> Step:
    """Join the group; it has an assignment then."""
    return Step("join", who)


def leave(who: str) -> Step:
    """Leave the group."""
    return Step("leave", who)


def claim(who: str, offset: int, answer: str = "done") -> Step:
    """Commit an offset of partition 0 as the member that it was when it joined, beside its name."""
    return Step("claim", who, offset, answer)


def late(who: str, offset: int, answer: str = "done") -> Step:
    """Commit an offset of partition 0 as a member that has left."""
    return Step("late", who, offset, answer)


def outsider(who: str, offset: int, answer: str = "done") -> Step:
    """Commit an offset of partition 0 without being a member."""
    return Step("outsider", who, offset, answer)


def forget(who: str, what: str) -> Step:
    """Let a member be of the generation before, or one that the group never had."""
    return Step("forget", who, what)


SCENARIOS: dict[str, list[Step]] = {
    "a transaction is read when it is committed, and its marker takes an offset": [
        start("a"), begin("a"), send("a", "x"), read(), end(0), commit("a"), read("x"), end(2),
    ],
    "aborted records are passed over": [
        start("a"), begin("a"), send("a", "x"), abort("a"), begin("a"), send("a", "y"),
        commit("a"), read("y"), end(4),
    ],
    "nothing behind an open transaction is read": [
        start("a"), start("b"), begin("a"), send("a", "x"), begin("b"), send("b", "y"),
        commit("b"), read(), end(0), commit("a"), read("x", "y"), end(4),
    ],
    "who takes an id over ends its transaction": [
        start("a"), begin("a"), send("a", "x"), start("a/2"), read(), end(2),
        begin("a/2"), send("a/2", "y"), commit("a/2"), read("y"), end(4),
    ],
    "who lost its id cannot commit": [
        start("a"), begin("a"), send("a", "x"), start("a/2"), commit("a", "fenced"), read(),
    ],
    "who lost its id cannot begin anew": [
        start("a"), start("a/2"), begin("a"), send("a", "x", "fenced"), read(), end(0),
    ],
    "who lost its id cannot add offsets": [
        start("a"), start("a/2"), begin("a"), offsets("a", 5, "fenced"), held(-1),
    ],
    "offsets hold when their transaction is committed": [
        start("a"), begin("a"), offsets("a", 5), held(-1), commit("a"), held(5, "a"),
    ],
    "aborted offsets never hold": [
        start("a"), begin("a"), offsets("a", 5), abort("a"), begin("a"), send("a", "x"),
        commit("a"), read("x"), held(-1),
    ],
    "who takes an id over ends the offsets that wait": [
        start("a"), begin("a"), offsets("a", 5), start("a/2"), held(-1), commit("a", "fenced"),
        begin("a/2"), offsets("a/2", 6), commit("a/2"), held(6, "a/2"),
    ],
    "a member's commit holds at once": [
        join("c"), claim("c", 3), held(3, "c"),
    ],
    "offsets of a transaction that came before a member's commit are passed over": [
        join("c"), start("a"), begin("a"), offsets("a", 5), claim("c", 3), held(3, "c"),
        send("a", "x"), commit("a"), read("x"), held(3, "c"),
    ],
    "offsets of a transaction that came after a member's commit hold": [
        join("c"), start("a"), begin("a"), claim("c", 3), offsets("a", 5), held(3, "c"),
        commit("a"), held(5, "a"),
    ],
    "a transaction's offsets need no member": [
        join("c"), start("a"), begin("a"), offsets("a", 5), commit("a"), held(5, "a"),
    ],
    "a former generation is refused": [
        join("c"), claim("c", 3), forget("c", "generation"), claim("c", 4, "refused"),
        held(3, "c"),
    ],
    "a stranger is refused": [
        join("c"), claim("c", 3), forget("c", "member"), claim("c", 4, "refused"), held(3, "c"),
    ],
    "who was a member is refused by a group that has none any more": [
        join("c"), claim("c", 3), leave("c"), late("c", 2, "refused"), held(3, "c"),
    ],
    "who the group forgot is nobody, from whom a group without members takes everything": [
        join("c"), claim("c", 3), leave("c"), outsider("d", 2), held(2, "d"),
    ],
    "while there are members nobody else commits": [
        join("c"), outsider("d", 4, "refused"), held(-1), leave("c"), outsider("d", 4),
        held(4, "d"),
    ],
}  # fmt: skip
