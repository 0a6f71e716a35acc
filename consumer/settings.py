"""Environment, `.env` and profile files -> one frozen Settings."""

import difflib
import os
import re
from collections.abc import Iterable
from functools import cached_property
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import urlsplit

from aiokafka.conn import get_ip_port_afi
from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from consumer.connection import KafkaConnection, TopicNames, ssl_context
from consumer.decide import Decider
from consumer.domain.fold_settings import FoldSettings
from consumer.domain.ladder import ladders_of
from consumer.domain.policies.base import Policy
from consumer.domain.policies.catalog import LOOKS_AT_FEATURES, PolicyName, make_policy
from consumer.domain.policies.epsilon_greedy import EpsilonGreedy
from consumer.domain.policies.objective import Objective
from consumer.domain.qtable import HALF_LIFE
from consumer.domain.regime import RegimeDetector
from consumer.domain.selector import Selector
from consumer.domain.strategies import merge_profiles
from consumer.errors import SettingsError
from consumer.profiles import load_profiles
from consumer.secret_files import SECRETS, SecretFiles
from schemas import CloseReason, StrategyID, StrategyProfile

_EPSILON_GREEDY = frozenset(
    {
        "meta_strategy_epsilon",
        "meta_strategy_epsilon_min",
        "meta_strategy_epsilon_decay",
        "meta_strategy_min_samples",
        "meta_strategy_min_confidence_for_exploit",
    }
)
"""What no other policy reads."""


def _is_topic(name: str) -> str:
    if name in {".", ".."}:
        raise ValueError("must be another name: Kafka takes neither '.' nor '..'")
    return name


_Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$"), AfterValidator(_is_topic)]
_TopicOrNone = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{0,249}$"), AfterValidator(_is_topic)]
"""Empty when there is none."""
_MOST_POOLED = 64
"""Strategies whose statistics with all features stay below 900 kB, a broker takes 1 MB (consumer/pool.py)."""
_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Limit = Annotated[float, Field(gt=0.0, le=1e15)]
"""What is compared with a number of a message, which is no larger (schemas/fields.py)."""
_MOST_DAYS = 36_500.0
"""A century: longer than any log, and far from what milliseconds can still be counted in."""
_Seconds = Annotated[float, Field(ge=0.0, le=_MOST_DAYS * 86_400)]


class Settings(BaseSettings):
    """All settings, by the names of the contract (section 5) in lower case."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_file=".env",
        # compose files and charts write an empty value for "not set"
        env_ignore_empty=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    kafka_bootstrap_servers: str = "localhost:9092"
    kafka_group_id: Annotated[str, Field(min_length=1, max_length=200)] = "meta-strategy"
    kafka_processing_guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_signals_topic: _Topic = "signals"
    kafka_trade_closed_topic: _Topic = "trade-closed"
    kafka_candles_topic: _TopicOrNone = ""
    kafka_pool_topic: _TopicOrNone = ""
    kafka_decisions_topic: _Topic = "strategy-decisions"
    kafka_dead_letters_topic: _Topic = "strategy-dead-letters"
    kafka_start: Literal["earliest", "latest"] = "earliest"

    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    redis_cluster: bool = False

    meta_strategy_enabled: bool = True
    meta_strategy_candles_timeframe: Annotated[str, Field(max_length=32)] = ""
    meta_strategy_policy: PolicyName = "ucb"
    meta_strategy_objective: Objective = "profit"
    meta_strategy_half_life: Annotated[float, Field(gt=0.0, le=1e9)] = HALF_LIFE
    meta_strategy_epsilon: _Share = 0.10
    meta_strategy_epsilon_min: _Share | None = None
    meta_strategy_epsilon_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.995
    meta_strategy_alpha: Annotated[float, Field(gt=0.0, le=1.0)] = 0.20
    meta_strategy_min_samples: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    meta_strategy_min_confidence_for_exploit: _Share = 0.5
    meta_strategy_candidates: Literal["suitable", "all"] = "suitable"
    meta_strategy_cost_bps: Annotated[float, Field(ge=0.0, le=10_000.0)] | None = None
    meta_strategy_reward_unit: Literal["atr", "risk"] = "atr"
    meta_strategy_learn_exclude: Annotated[frozenset[CloseReason], NoDecode] = frozenset(
        {CloseReason.MANUAL, CloseReason.EXTERNAL}
    )
    meta_strategy_max_signal_age_s: _Seconds = 0.0
    meta_strategy_max_staleness_s: _Seconds = 60.0
    meta_strategy_decision_ttl_days: Annotated[float, Field(gt=0.0, le=_MOST_DAYS)] = 30.0
    meta_strategy_open_decisions_max: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    meta_strategy_dedupe_window: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    meta_strategy_profiles_file: Path | None = None
    meta_strategy_state_file: Path | None = None
    meta_strategy_key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "ms"
    meta_strategy_seed: int = 0
    default_strategy: str = StrategyID.ULTRA_AGGRESSIVE

    regime_trend_adx_threshold: Annotated[float, Field(gt=0.0, le=100.0)] = 25.0
    regime_trend_strength_threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    regime_low_vol_atr_pct: _Limit = 0.015
    regime_high_vol_atr_pct: _Limit = 0.04
    regime_extreme_vol_atr_pct: _Limit = 0.06
    regime_illiquid_volume: _Limit = 2_000_000.0
    regime_illiquid_depth: _Limit = 50_000.0
    regime_illiquid_spread_bps: _Limit = 10.0
    regime_atr_reference: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    regime_confirmation: Literal["off", "higher_timeframes"] = "off"
    regime_hysteresis: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    regime_min_dwell_s: Annotated[float, Field(ge=0.0, le=86_400.0 * 365)] = 0.0

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8000
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"
    log_records: Literal["all", "sampled", "off"] = "all"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read secrets from named files, too."""
        sources = [init_settings]
        for source in (env_settings, dotenv_settings):
            variables = cast("EnvSettingsSource", source).env_vars
            sources += [SecretFiles(settings_cls, variables), source]
        return tuple(sources)

    @model_validator(mode="before")
    @classmethod
    def _who_sets_epsilon_means_it(cls, data: Any) -> Any:
        if "meta_strategy_policy" not in data and _EPSILON_GREEDY & data.keys():
            return {**data, "meta_strategy_policy": "epsilon_greedy"}
        return data

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _are_servers(cls, value: str) -> str:
        servers = [part for part in map(str.strip, value.split(",")) if part]
        if unfit := [server for server in servers or [value] if not _is_server(server)]:
            raise ValueError(
                "must be host[:port], several with commas between, the port from 1 to 65535, an "
                f"IPv6 address in brackets; {unfit[0]!r} is not"
            )
        # where nothing is between two commas the client would look for a host without a name
        return ",".join(servers)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("meta_strategy_learn_exclude", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):  # `none` learns from every trade: an empty value is "not set"
            names = frozenset(part.strip() for part in value.split(",") if part.strip())
            return names - {"none"}
        return value

    @field_validator("meta_strategy_state_file")
    @classmethod
    def _can_be_a_file(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        try:
            if value.exists() and not value.is_file():
                raise ValueError("must be a file, or a name that is free")
            directory = directory_of(value)
        except OSError as error:
            raise ValueError(f"cannot be written: {error.strerror}") from None
        if not directory.is_dir():
            raise ValueError(f"{directory} must be a directory")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not text.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        parts = urlsplit(text)
        try:
            port = parts.port
        except ValueError:
            raise ValueError("the port must be a number from 1 to 65535") from None
        if parts.scheme != "unix" and (not parts.hostname or port == 0):
            raise ValueError("must name a host, and a port from 1 to 65535 or none")
        database = parts.path.strip("/") if parts.scheme != "unix" else ""
        if database and not database.isdigit():
            raise ValueError("the path must be the number of a database")
        try:
            # as the client does: a parameter that it does not take would end the process later
            ConnectionPool.from_url(text).make_connection()  # type: ignore[no-untyped-call]
        except (TypeError, ValueError, RedisError) as error:
            # a parameter's name is quoted, a value never is
            name = next(iter(re.findall(r"'(\w+)'", str(error))), "")
            raise ValueError(f"the client does not take its parameters {name}".rstrip()) from None
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.default_strategy not in self.all_profiles:
            raise ValueError(
                f"DEFAULT_STRATEGY: must be one of {', '.join(self.all_profiles)}, "
                f"was {self.default_strategy!r}"
            )
        if (
            self.meta_strategy_policy == "epsilon_greedy"
            and self.meta_strategy_objective != "profit"
        ):
            raise ValueError(
                "META_STRATEGY_OBJECTIVE: must be profit with META_STRATEGY_POLICY=epsilon_greedy, "
                f"which knows no other, was {self.meta_strategy_objective}"
            )
        low, high = self.regime_low_vol_atr_pct, self.regime_high_vol_atr_pct
        if not low <= high <= self.regime_extreme_vol_atr_pct:
            raise ValueError(
                "REGIME_HIGH_VOL_ATR_PCT: must lie between REGIME_LOW_VOL_ATR_PCT "
                f"({low:g}) and REGIME_EXTREME_VOL_ATR_PCT "
                f"({self.regime_extreme_vol_atr_pct:g}), was {high:g}"
            )
        if "SASL" in self.kafka_security_protocol:
            for name in ("kafka_sasl_username", "kafka_sasl_password"):
                if getattr(self, name) is None:
                    raise ValueError(
                        f"{name.upper()}: is needed with "
                        f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
                    )
        for name in ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{name.upper()}: {path} is no file")
        if "SSL" in self.kafka_security_protocol:
            self._read_certificates()
        if self.kafka_pool_topic and len(self.all_profiles) > _MOST_POOLED:
            raise ValueError(
                f"KAFKA_POOL_TOPIC: of at most {_MOST_POOLED} strategies what was learned fits into a "
                f"record, were {len(self.all_profiles)}"
            )
        topics = [
            self.kafka_signals_topic,
            self.kafka_trade_closed_topic,
            self.kafka_decisions_topic,
            self.kafka_dead_letters_topic,
            *filter(None, [self.kafka_candles_topic, self.kafka_pool_topic]),
        ]
        if len(set(topics)) < len(topics):
            raise ValueError(
                "KAFKA_SIGNALS_TOPIC: all topics must differ, were " + ", ".join(topics)
            )
        return self

    def _read_certificates(self) -> None:
        """Find now what would else end a connection, or the process, later."""
        cafile, certfile = _text(self.kafka_ssl_cafile), _text(self.kafka_ssl_certfile)
        try:
            ssl_context(cafile, None, None)
        except OSError as error:
            raise ValueError(
                f"KAFKA_SSL_CAFILE: {cafile} holds no certificates in PEM form ({error.strerror})"
            ) from None
        try:
            ssl_context(cafile, certfile, _text(self.kafka_ssl_keyfile))
        except OSError as error:
            raise ValueError(
                f"KAFKA_SSL_CERTFILE: {certfile} and KAFKA_SSL_KEYFILE are no pair of certificate "
                f"and open key in PEM form ({error.strerror})"
            ) from None

    # What the settings make

    @cached_property
    def all_profiles(self) -> dict[str, StrategyProfile]:
        """All strategies by id, in the order that settles ties."""
        path = self.meta_strategy_profiles_file
        return merge_profiles(() if path is None else load_profiles(path))

    @property
    def connection(self) -> KafkaConnection:
        """How to reach Kafka."""
        password = self.kafka_sasl_password
        return KafkaConnection(
            bootstrap_servers=self.kafka_bootstrap_servers,
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism,
            sasl_username=self.kafka_sasl_username,
            sasl_password=None if password is None else password.get_secret_value(),
            ssl_cafile=_text(self.kafka_ssl_cafile),
            ssl_certfile=_text(self.kafka_ssl_certfile),
            ssl_keyfile=_text(self.kafka_ssl_keyfile),
        )

    @property
    def topics(self) -> TopicNames:
        """Names of all topics."""
        return TopicNames(
            signals=self.kafka_signals_topic,
            trades=self.kafka_trade_closed_topic,
            decisions=self.kafka_decisions_topic,
            dead_letters=self.kafka_dead_letters_topic,
            candles=self.kafka_candles_topic,
            pool=self.kafka_pool_topic,
        )

    @property
    def fold(self) -> FoldSettings:
        """What the table depends on besides the logs."""
        return FoldSettings(
            alpha=self.meta_strategy_alpha,
            half_life=self.meta_strategy_half_life,
            reward_unit=self.meta_strategy_reward_unit,
            learn_exclude=self.meta_strategy_learn_exclude,
            decision_ttl_ms=round(self.meta_strategy_decision_ttl_days * 86_400_000),
            open_decisions_max=self.meta_strategy_open_decisions_max,
            dedupe_window=self.meta_strategy_dedupe_window,
            ladders=ladders_of(self.all_profiles),
            candles=self.meta_strategy_candles_timeframe if self.kafka_candles_topic else None,
            keeps_usual_atr=self.regime_atr_reference is not None,
        )

    @property
    def detector(self) -> RegimeDetector:
        """What tells the regime."""
        return RegimeDetector(
            trend_adx_threshold=self.regime_trend_adx_threshold,
            trend_strength_threshold=self.regime_trend_strength_threshold,
            low_vol_atr_pct_threshold=self.regime_low_vol_atr_pct,
            high_vol_atr_pct_threshold=self.regime_high_vol_atr_pct,
            extreme_vol_atr_pct_threshold=self.regime_extreme_vol_atr_pct,
            illiquid_volume_threshold=self.regime_illiquid_volume,
            illiquid_depth_threshold=self.regime_illiquid_depth,
            illiquid_spread_bps_threshold=self.regime_illiquid_spread_bps,
            atr_reference=self.regime_atr_reference,
            confirms_trends=self.regime_confirmation == "higher_timeframes",
            hysteresis=self.regime_hysteresis,
            min_dwell_ms=round(self.regime_min_dwell_s * 1000),
        )

    def unread(self) -> list[str]:
        """List variables that are set and that the policy does not read, each as a warning."""
        if self.meta_strategy_policy == "epsilon_greedy":
            return []
        told = f"is not read with META_STRATEGY_POLICY={self.meta_strategy_policy}"
        return [
            f"{name.upper()}: {told}" for name in sorted(_EPSILON_GREEDY & self.model_fields_set)
        ]

    @property
    def policy(self) -> Policy:
        """How to choose among the eligible strategies."""
        if self.meta_strategy_policy != "epsilon_greedy":
            return make_policy(
                self.meta_strategy_policy,
                self.all_profiles,
                unit=self.meta_strategy_reward_unit,
                half_life=self.meta_strategy_half_life,
                default_strategy=self.default_strategy,
                objective=self.meta_strategy_objective,
                follows=bool(self.kafka_candles_topic),
            )
        return EpsilonGreedy(
            base_epsilon=self.meta_strategy_epsilon,
            epsilon_min=self.meta_strategy_epsilon_min,
            epsilon_decay=self.meta_strategy_epsilon_decay,
            min_samples=self.meta_strategy_min_samples,
            min_confidence_for_exploit=self.meta_strategy_min_confidence_for_exploit,
            default_strategy=self.default_strategy,
        )

    @property
    def selector(self) -> Selector:
        """What chooses a strategy."""
        return Selector(
            self.all_profiles,
            self.policy,
            candidate_rule=self.meta_strategy_candidates,
            default_strategy=self.default_strategy,
            enabled=self.meta_strategy_enabled,
            cost_bps=self.meta_strategy_cost_bps,
        )

    @property
    def decider(self) -> Decider:
        """What decides signals."""
        return Decider(
            self.detector,
            self.selector,
            fold=self.fold,
            seed=self.meta_strategy_seed,
            max_signal_age_ms=round(self.meta_strategy_max_signal_age_s * 1000),
            measures=self.meta_strategy_policy in LOOKS_AT_FEATURES,
        )


def directory_of(file: Path) -> Path:
    """Give the nearest that is there of the places above a file: those that are missing are made."""
    return next(parent for parent in file.absolute().parents if parent.exists())


def _is_server(text: str) -> bool:
    try:
        # as the client does: where the port begins behind an IPv6 address is its own matter
        host, port, _ = get_ip_port_afi(text)
        host.encode("idna")  # what cannot be would end the process when the name is looked up
        if ":" in host:
            IPv6Address(host)
    except ValueError:
        return False
    return bool(re.fullmatch(r"[^\s,/@\[\]]+", host)) and 1 <= port <= 65535


_VARIABLES = {name.upper() for name in Settings.model_fields}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def load(**overrides: Any) -> Settings:
    """Read the settings from the environment and `.env`.

    Args:
        overrides: Values that win over both, by lower-case name.

    Raises:
        SettingsError: One line that names the variable, the problem and what is allowed.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None
    except UnicodeDecodeError:
        raise SettingsError(".env: is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from None


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    problem = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return problem
    variable = str(first["loc"][0]).upper()
    if variable in SECRETS:
        return f"{variable}: {problem}"
    value = first["input"]
    return f"{variable}: {problem[0].lower()}{problem[1:]}, was {value!r}".replace(
        "input should be", "must be"
    )


def given_variables() -> set[str]:
    """Name all variables of the environment and of `.env`, as they are written there."""
    in_file = DotEnvSettingsSource(Settings, case_sensitive=True, env_ignore_empty=False)
    return {*os.environ, *in_file.env_vars}


def unknown_variables(names: Iterable[str]) -> list[str]:
    """List variables of this package's prefixes that it does not know, each as a warning."""
    known = _VARIABLES | {f"{name}_FILE" for name in SECRETS}
    warnings = []
    for name in sorted(names):
        read_as = name.upper()  # values are read whatever the case of their names
        if read_as.startswith(("META_STRATEGY_", "REGIME_")) and read_as not in known:
            nearest = difflib.get_close_matches(read_as, known, n=1, cutoff=0.0)
            warnings.append(f"{name}: is no setting; the nearest is {nearest[0]}")
    return warnings
