"""Names of the keys in Redis (contract, section 4)."""

from dataclasses import dataclass

from consumer.domain.context import ContextKey

LAYOUT_VERSION = 6
"""Layout of everything below; another one is refused at opening."""


def context_name(context: ContextKey) -> str:
    """Give `<account>:<SYMBOL>:<regime>`, with `:<variant>` where there is one."""
    name = f"{context.account}:{context.symbol}:{context.regime}"
    return name if context.variant is None else f"{name}:{context.variant}"


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one input partition; all carry its hash tag, so they share a slot."""

    prefix: str
    partition: int

    def _key(self, name: str) -> str:
        return f"{self.prefix}:{{{self.partition}}}:{name}"

    @property
    def watermark(self) -> str:
        """Hash: the next offset to fold of each log; `rebuild` while it is written anew."""
        return self._key("watermark")

    @property
    def meta(self) -> str:
        """Hash: what the fold depends on."""
        return self._key("meta")

    @property
    def contexts(self) -> str:
        """Hash: each row once more in one field, by its name: an opening reads these."""
        return self._key("contexts")

    @property
    def decisions(self) -> str:
        """Hash: remembered decisions by id."""
        return self._key("decisions")

    @property
    def decision_ids(self) -> str:
        """Hash: the ids by which a repeated signal is known."""
        return self._key("decision-ids")

    @property
    def trades(self) -> str:
        """Hash: counted trades by account and id."""
        return self._key("trades")

    @property
    def totals(self) -> str:
        """Hash: counters over the life of the partition."""
        return self._key("totals")

    @property
    def parents(self) -> str:
        """Hash: the arms of the rows over all symbols."""
        return self._key("parents")

    @property
    def markets(self) -> str:
        """Hash: the regime of each market, and since when."""
        return self._key("markets")

    @property
    def followed(self) -> str:
        """Hash: signals that are followed on paper, by decision id."""
        return self._key("followed")

    @property
    def series(self) -> str:
        """Hash: the last candle of each symbol and timeframe."""
        return self._key("series")

    @property
    def fixed(self) -> list[str]:
        """All keys but the rows, in the order the scripts expect."""
        return [
            self.watermark,
            self.meta,
            self.contexts,
            self.decisions,
            self.decision_ids,
            self.trades,
            self.totals,
            self.parents,
            self.markets,
            self.followed,
            self.series,
        ]

    @property
    def row_prefix(self) -> str:
        """What the key of every row starts with."""
        return self._key("q:")

    def row(self, context: ContextKey) -> str:
        """Hash: one context of the Q-table."""
        return self.row_prefix + context_name(context)
