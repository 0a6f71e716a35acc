"""Names of the keys in Redis (contract, section 4)."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from consumer.domain.context import ContextKey

LAYOUT_VERSION = 7
"""Layout of everything below; another one is refused at opening."""


def context_name(context: ContextKey) -> str:
    """Give `<account>:<SYMBOL>:<regime>`, with `:<variant>` where there is one."""
    name = f"{context.account}:{context.symbol}:{context.regime}"
    return name if context.variant is None else f"{name}:{context.variant}"


HashName = Literal[
    "watermark",
    "meta",
    "contexts",
    "decisions",
    "decisions-closed",
    "decision-ids",
    "trades",
    "trades-revised",
    "totals",
    "parents",
    "markets",
    "followed",
    "series",
]
"""A partition's hashes, but those of its rows; what each holds is said in `raw.RawPartition`."""

HASHES: Final[tuple[HashName, ...]] = get_args(HashName)
"""In the order of the scripts' keys."""


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one input partition; all carry its hash tag, so they share a slot."""

    prefix: str
    partition: int

    def key(self, name: HashName) -> str:
        """Give the key of a hash."""
        return f"{self.prefix}:{{{self.partition}}}:{name}"

    @property
    def fixed(self) -> list[str]:
        """All keys but the rows, in the order the scripts expect."""
        return [self.key(name) for name in HASHES]

    @property
    def row_prefix(self) -> str:
        """What the key of every row starts with."""
        return f"{self.prefix}:{{{self.partition}}}:q:"

    def row(self, context: ContextKey) -> str:
        """Hash: one context of the Q-table."""
        return self.row_prefix + context_name(context)
