"""Log lines (contract, section 8): one constructor, one place for each text."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Literal

import structlog

from consumer.decide import Decision
from consumer.domain.partition_state import FoldResult
from schemas import TradeClosed

LogRecords = Literal["all", "sampled", "off"]

_SAMPLE_EVERY = 100
"""With LOG_RECORDS=sampled one record in so many is logged: enough to see life, cheap at any rate."""

_CLIENT_INTERVAL_S = 10.0
"""Between two lines of a client from the same place: while a broker is away it writes hundreds a second."""

Logger = structlog.typing.FilteringBoundLogger


def make_logger(level: str, log_format: Literal["console", "json"]) -> Logger:
    """Make the worker's logger; it writes to standard error and never blocks on formatting.

    Args:
        level: Lines below it cost no formatting.
        log_format: `console` for people, `json` for machines.
    """
    renderer: Any
    for_terminal: list[Any] = []
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        for_terminal = [escaped]
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    logger: Logger = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *for_terminal,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    # the clients' own lines in the same form, so that a reason they only log is not lost
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Repeats())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for noisy in ("aiokafka", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return logger


def escaped(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what is not printable: ids are the producer's, and a terminal obeys some characters."""
    for name, value in fields.items():
        if isinstance(value, str) and name != "exception" and not value.isprintable():
            fields[name] = value.encode("unicode_escape").decode()
    return fields


class RecordLog:
    """Lines of single decisions and rewards.

    Args:
        logger: Where they go.
        records: `all`, `sampled` (one in a hundred) or `off`.
    """

    def __init__(self, logger: Logger, records: LogRecords) -> None:
        self._logger = logger
        is_enabled = records != "off" and logger.is_enabled_for(logging.INFO)
        self.every = 0 if not is_enabled else 1 if records == "all" else _SAMPLE_EVERY
        """How many decisions, or rewards, there are to one that is to be written; 0: none is."""

    def decision(self, decision: Decision) -> None:
        """Write the two lines of a decision."""
        symbol, regime, choice = decision.signal.symbol, decision.regime, decision.choice
        fields = {
            "account": decision.context.account,
            "symbol": symbol,
            "signal_id": decision.signal.signal_id,
            "decision_id": decision.decision_id,
            "regime": str(regime.regime),
        }
        self._logger.info(
            f"[REGIME] {symbol}: {regime.regime.name} (conf={regime.confidence:.0%}) - "
            f"{regime.reasoning}",
            **fields,
        )
        self._logger.info(
            f"[STRATEGY] {symbol}: {decision.profile.name} (explore={decision.is_exploration}, "
            f"conf={choice.confidence:.0%}) - {choice.reasoning}",
            **fields,
            strategy=str(choice.arm),
            mode=str(choice.mode),
            propensity=choice.propensity,
            table_offset=decision.table_offset,
        )

    def reward(self, trade: TradeClosed, result: FoldResult) -> None:
        """Write the line of a reward."""
        if result.context is None:
            return
        stats = result.stats
        self._logger.info(
            f"[RL UPDATE] {trade.symbol} {result.context.regime} {result.strategy}: "
            f"R={result.reward:+.2f}, EMA={stats.ema_reward:.2f}, count={stats.count}, "
            f"WR={stats.win_rate:.1%}",
            account=result.context.account,
            symbol=trade.symbol,
            trade_id=trade.trade_id,
            regime=str(result.context.regime),
            strategy=str(result.strategy),
            outcome=result.outcome,
            reward_r=result.reward,
        )


def started(logger: Logger, *, enabled: bool, epsilon: float, alpha: float, **fields: Any) -> None:
    """Write the line of a start."""
    word = "Enabled" if enabled else "Disabled"
    logger.info(
        f"[META-STRATEGY] {word} - epsilon={epsilon:.0%}, alpha={alpha:.0%}",
        epsilon=epsilon,
        alpha=alpha,
        **fields,
    )


class Throttle:
    """Lets a line through once an interval for each key, and counts the ones it held back.

    Args:
        interval_s: Time between two lines of a key [s].
        monotonic: The clock [s].
    """

    def __init__(self, interval_s: float, monotonic: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._last: dict[object, float] = {}
        self._held: dict[object, int] = {}

    def admit(self, key: object) -> Mapping[str, int] | None:
        """Give the fields to add when the line may go, None when it is held back."""
        now = self._monotonic()
        if now - self._last.get(key, float("-inf")) < self._interval_s:
            self._held[key] = self._held.get(key, 0) + 1
            return None
        self._last[key] = now
        held = self._held.pop(key, 0)
        return {"held_back": held} if held else {}


class _Repeats(logging.Filter):
    """Lets a line of another library through now and then, and says how many were held back."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle(_CLIENT_INTERVAL_S, time.monotonic)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line goes; the template is what tells places apart."""
        held = self._throttle.admit((record.name, record.levelno, record.msg))
        if held:
            record.msg = f"{record.getMessage()} (and {held['held_back']} more like it)"
            record.args = ()
        return held is not None
