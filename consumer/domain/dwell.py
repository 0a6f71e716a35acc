"""How long a market stays in a regime."""

from schemas import MarketRegime


class Dwell:
    """Follows the regime of each market; a market is an account, a symbol and a timeframe."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[tuple[str, str, str], tuple[MarketRegime, int]] = {}

    def note(
        self, market: tuple[str, str, str], regime: MarketRegime, at_ms: int
    ) -> tuple[MarketRegime, float] | None:
        """Take the regime at a moment.

        Args:
            market: Account, symbol and timeframe.
            regime: What it is in now.
            at_ms: When [Unix ms].

        Returns:
            What it was in until now, and for how long [s, at least 0]; None while it stays the same.
        """
        known = self._since.get(market)
        if known is not None and known[0] is regime:
            return None
        self._since[market] = (regime, at_ms)
        if known is None:
            return None
        return known[0], max(0, at_ms - known[1]) / 1000
