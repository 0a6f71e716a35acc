"""A wrong value stops the start with one line; a secret is never shown."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from aiokafka.conn import collect_hosts

from consumer.app import run_worker
from consumer.domain.policies.epsilon_greedy import EpsilonGreedy
from consumer.errors import SettingsError
from consumer.profiles import load_profiles
from consumer.settings import (
    Settings,
    given_variables,
    load,
    unknown_variables,
)
from schemas import CloseReason, StrategyID

SECRET = "canary-7351-secret"  # noqa: S105 - that is what is tested


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor an .env file of the developer may decide a test."""
    for name in list(os.environ):
        known = name.upper().removesuffix("_FILE").lower() in Settings.model_fields
        if known or name.startswith(("META_STRATEGY_", "REGIME_", "KAFKA_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def problem() -> str:
    with pytest.raises(SettingsError) as caught:
        load()
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "name", ["epsilon_greedy", "ucb", "kernel_ucb", "thompson", "full_information"]
)
def test_policies_are_chosen_by_name(env: Any, name: str) -> None:
    """Each has a version of its own, and what changes its choices changes the version."""
    env(META_STRATEGY_POLICY=name)
    found = load()
    env(META_STRATEGY_POLICY=name, META_STRATEGY_HALF_LIFE="50", META_STRATEGY_EPSILON="0.3")
    other = load()

    assert found.policy.name == name
    assert other.fold.half_life == 50.0
    assert found.decider.policy_version != other.decider.policy_version


DEFAULTS: dict[str, Any] = {
    "kafka_bootstrap_servers": "localhost:9092",
    "kafka_group_id": "meta-strategy",
    "kafka_processing_guarantee": "exactly_once",
    "kafka_signals_topic": "signals",
    "kafka_trade_closed_topic": "trade-closed",
    "kafka_candles_topic": "",
    "kafka_decisions_topic": "strategy-decisions",
    "kafka_dead_letters_topic": "strategy-dead-letters",
    "kafka_start": "earliest",
    "redis_cluster": False,
    "meta_strategy_enabled": True,
    "meta_strategy_policy": "ucb",
    "meta_strategy_half_life": 300.0,
    "meta_strategy_epsilon": 0.10,
    "meta_strategy_alpha": 0.20,
    "meta_strategy_epsilon_decay": 0.995,
    "meta_strategy_min_samples": 5,
    "meta_strategy_min_confidence_for_exploit": 0.5,
    "meta_strategy_candidates": "suitable",
    "meta_strategy_reward_unit": "atr",
    "meta_strategy_max_signal_age_s": 0,
    "meta_strategy_max_staleness_s": 60,
    "meta_strategy_decision_ttl_days": 30,
    "meta_strategy_key_prefix": "ms",
    "meta_strategy_seed": 0,
    "meta_strategy_dedupe_window": 100_000,
    "meta_strategy_open_decisions_max": 100_000,
    "meta_strategy_state_file": None,
    "meta_strategy_profiles_file": None,
    "default_strategy": "ultra_aggressive",
    "regime_trend_adx_threshold": 25,
    "regime_trend_strength_threshold": 0.3,
    "regime_low_vol_atr_pct": 0.015,
    "regime_high_vol_atr_pct": 0.04,
    "regime_extreme_vol_atr_pct": 0.06,
    "regime_illiquid_volume": 2_000_000,
    "regime_illiquid_depth": 50_000,
    "regime_illiquid_spread_bps": 10,
    "http_host": "127.0.0.1",
    "http_port": 8000,
}
NAMED = [
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_GROUP_ID",
    "KAFKA_PROCESSING_GUARANTEE",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_CAFILE",
    "KAFKA_SSL_CERTFILE",
    "KAFKA_SSL_KEYFILE",
    "REDIS_URL",
    "REDIS_CLUSTER",
    "META_STRATEGY_ENABLED",
    "META_STRATEGY_POLICY",
    "META_STRATEGY_EPSILON",
    "META_STRATEGY_ALPHA",
    "META_STRATEGY_EPSILON_MIN",
    "META_STRATEGY_EPSILON_DECAY",
    "META_STRATEGY_MIN_SAMPLES",
    "META_STRATEGY_MIN_CONFIDENCE_FOR_EXPLOIT",
    "META_STRATEGY_CANDIDATES",
    "META_STRATEGY_REWARD_UNIT",
    "META_STRATEGY_LEARN_EXCLUDE",
    "META_STRATEGY_MAX_SIGNAL_AGE_S",
    "META_STRATEGY_MAX_STALENESS_S",
    "META_STRATEGY_DECISION_TTL_DAYS",
    "META_STRATEGY_PROFILES_FILE",
    "META_STRATEGY_KEY_PREFIX",
    "META_STRATEGY_SEED",
    "META_STRATEGY_DEDUPE_WINDOW",
    "META_STRATEGY_OPEN_DECISIONS_MAX",
    "KAFKA_START",
    "META_STRATEGY_STATE_FILE",
    "DEFAULT_STRATEGY",
    "REGIME_TREND_ADX_THRESHOLD",
    "REGIME_TREND_STRENGTH_THRESHOLD",
    "REGIME_LOW_VOL_ATR_PCT",
    "REGIME_HIGH_VOL_ATR_PCT",
    "REGIME_EXTREME_VOL_ATR_PCT",
    "REGIME_ILLIQUID_VOLUME",
    "REGIME_ILLIQUID_DEPTH",
    "REGIME_ILLIQUID_SPREAD_BPS",
    "HTTP_HOST",
    "HTTP_PORT",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "LOG_RECORDS",
    "KAFKA_SIGNALS_TOPIC",
    "KAFKA_TRADE_CLOSED_TOPIC",
    "KAFKA_CANDLES_TOPIC",
    "KAFKA_POOL_TOPIC",
    "KAFKA_DECISIONS_TOPIC",
    "KAFKA_DEAD_LETTERS_TOPIC",
]


def test_defaults_are_the_contracts() -> None:
    found = load()

    assert {name: getattr(found, name) for name in DEFAULTS} == DEFAULTS
    assert found.redis_url.get_secret_value() == "redis://localhost:6379/0"
    assert found.meta_strategy_learn_exclude == {CloseReason.MANUAL, CloseReason.EXTERNAL}


def test_epsilon_stays_constant_by_default(env: Any) -> None:
    env(META_STRATEGY_POLICY="epsilon_greedy")

    assert load().policy.epsilon(10**6) == 0.10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("META_STRATEGY_EPSILON", "0.1"),
        ("META_STRATEGY_EPSILON_MIN", "0.01"),
        ("META_STRATEGY_EPSILON_DECAY", "0.9"),
        ("META_STRATEGY_MIN_SAMPLES", "5"),
        ("META_STRATEGY_MIN_CONFIDENCE_FOR_EXPLOIT", "0.5"),
    ],
)
def test_who_sets_what_only_epsilon_greedy_reads_means_it(env: Any, name: str, value: str) -> None:
    env(**{name: value})
    assert load().policy.name == "epsilon_greedy"
    assert load().unread() == []

    env(**{name: value, "META_STRATEGY_POLICY": "thompson"})
    assert load().policy.name == "thompson"
    assert load().unread() == [f"{name}: is not read with META_STRATEGY_POLICY=thompson"]

    env(**{name: "", "META_STRATEGY_POLICY": "", "META_STRATEGY_ALPHA": "0.3"})
    assert load().policy.name == "ucb"


def test_every_variable_of_the_contract_is_known() -> None:
    assert [name for name in NAMED if name.lower() not in Settings.model_fields] == []


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        (
            "KAFKA_BOOTSTRAP_SERVERS",
            [
                *(" ", ",", ":9092", "h:abc", "h:", "h:0", "h:-1", "h:65536", "a b:9092"),
                *("a,b:abc", "http://h:9092", "h:9092/", "u@h:9092", "a:b:9092", "a..b:9092"),
                *("[::1", "[::1]]", "[::1]:x", "[]", "x" * 64),
            ],
        ),
        ("KAFKA_PROCESSING_GUARANTEE", ["at_most_once", "EXACTLY"]),
        ("KAFKA_SECURITY_PROTOCOL", ["TLS"]),
        ("KAFKA_SASL_MECHANISM", ["MD5"]),
        ("KAFKA_SIGNALS_TOPIC", ["a b", "x" * 250, ".", ".."]),
        ("KAFKA_CANDLES_TOPIC", ["a b", "x" * 250, ".", ".."]),
        ("KAFKA_POOL_TOPIC", ["a b", "x" * 250, ".", ".."]),
        ("KAFKA_START", ["now"]),
        (
            "REDIS_URL",
            ["localhost:6379", "http://localhost", "redis", "redis://h:x", "redis://h:99999"],
        ),
        ("REDIS_CLUSTER", ["maybe"]),
        ("META_STRATEGY_ENABLED", ["2", "perhaps"]),
        ("META_STRATEGY_POLICY", ["greedy"]),
        ("META_STRATEGY_EPSILON", ["-0.1", "1.1", "nan", "inf", "ten", "10%"]),
        ("META_STRATEGY_ALPHA", ["0", "-1", "1.5", "nan"]),
        ("META_STRATEGY_EPSILON_MIN", ["-0.1", "2"]),
        ("META_STRATEGY_EPSILON_DECAY", ["0", "1.1"]),
        ("META_STRATEGY_MIN_SAMPLES", ["-1", "2.5", "five"]),
        ("META_STRATEGY_MIN_CONFIDENCE_FOR_EXPLOIT", ["-0.1", "1.5"]),
        ("META_STRATEGY_CANDIDATES", ["some"]),
        ("META_STRATEGY_REWARD_UNIT", ["usd"]),
        ("META_STRATEGY_LEARN_EXCLUDE", ["manual,bored", "Manual!"]),
        ("META_STRATEGY_MAX_SIGNAL_AGE_S", ["-1", "inf", "3153600001", "1e308"]),
        ("META_STRATEGY_MAX_STALENESS_S", ["-1", "nan", "3153600001"]),
        ("META_STRATEGY_DECISION_TTL_DAYS", ["0", "-3", "36501", "1e300", "1e305"]),
        ("META_STRATEGY_HALF_LIFE", ["0", "1.1e9", "1e308"]),
        ("META_STRATEGY_KEY_PREFIX", ["a b", "a:{b}", "x" * 300]),
        ("META_STRATEGY_SEED", ["1.5", "lucky"]),
        ("META_STRATEGY_DEDUPE_WINDOW", ["0", "-1"]),
        ("META_STRATEGY_OPEN_DECISIONS_MAX", ["0", "x"]),
        ("DEFAULT_STRATEGY", ["yolo", "Scalp"]),
        ("REGIME_TREND_ADX_THRESHOLD", ["0", "101", "-1"]),
        ("REGIME_TREND_STRENGTH_THRESHOLD", ["0", "1.1"]),
        ("REGIME_LOW_VOL_ATR_PCT", ["0", "nan"]),
        ("REGIME_HIGH_VOL_ATR_PCT", ["-0.04"]),
        ("REGIME_EXTREME_VOL_ATR_PCT", ["0", "1e308"]),
        ("REGIME_ILLIQUID_VOLUME", ["-1", "2M", "1.1e15"]),
        ("REGIME_ILLIQUID_DEPTH", ["x", "1.1e15"]),
        ("REGIME_ILLIQUID_SPREAD_BPS", ["-10", "inf", "1.1e15"]),
        ("HTTP_PORT", ["-1", "65536", "http"]),
        ("LOG_LEVEL", ["LOUD"]),
        ("LOG_FORMAT", ["xml"]),
        ("LOG_RECORDS", ["some"]),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    variable: str, values: list[str], env: Any
) -> None:
    for value in values:
        env(**{variable: value})

        assert variable in problem(), f"{variable}={value}"


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "a,b:abc", ["'b:abc'", "host[:port]", "65535"]),
        ("META_STRATEGY_CANDIDATES", "some", ["suitable", "all"]),
        ("META_STRATEGY_REWARD_UNIT", "usd", ["atr", "risk"]),
        ("META_STRATEGY_EPSILON", "1.5", ["1"]),
        ("DEFAULT_STRATEGY", "yolo", [str(strategy) for strategy in StrategyID]),
        ("META_STRATEGY_LEARN_EXCLUDE", "bored", [str(reason) for reason in CloseReason]),
        ("META_STRATEGY_DECISION_TTL_DAYS", "1e305", ["36500"]),
        ("HTTP_PORT", "65536", ["65535"]),
    ],
)
def test_a_wrong_value_is_told_what_is_allowed(
    variable: str, value: str, allowed: list[str], env: Any
) -> None:
    env(**{variable: value})

    text = problem()

    assert [word for word in allowed if word not in text] == []


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("META_STRATEGY_EPSILON", "0", 0.0),
        ("META_STRATEGY_EPSILON", "1", 1.0),
        ("META_STRATEGY_ALPHA", "1", 1.0),
        ("META_STRATEGY_ENABLED", "false", False),
        ("META_STRATEGY_ENABLED", "True", True),
        ("META_STRATEGY_SEED", "-9", -9),
        ("META_STRATEGY_LEARN_EXCLUDE", "timeout", frozenset({CloseReason.TIMEOUT})),
        (
            "META_STRATEGY_LEARN_EXCLUDE",
            "manual, liquidation",
            frozenset({"manual", "liquidation"}),
        ),
        ("META_STRATEGY_MAX_SIGNAL_AGE_S", "2.5", 2.5),
        ("META_STRATEGY_MAX_SIGNAL_AGE_S", "3153600000", 3_153_600_000),
        ("META_STRATEGY_DECISION_TTL_DAYS", "36500", 36_500),
        ("KAFKA_SIGNALS_TOPIC", "...", "..."),
        ("KAFKA_CANDLES_TOPIC", "candles", "candles"),
        ("KAFKA_POOL_TOPIC", "strategy-pool", "strategy-pool"),
        ("HTTP_PORT", "0", 0),
        ("KAFKA_START", "latest", "latest"),
    ],
)
def test_a_good_value_is_taken(variable: str, value: str, wanted: Any, env: Any) -> None:
    env(**{variable: value})

    assert getattr(load(), variable.lower()) == wanted


@pytest.mark.parametrize(
    "value",
    [
        "kafka",
        "kafka_1.local.:9092",
        "a:9092,b:9093",
        "a:9092, b ,c:1",
        "a:9092,",
        "10.0.0.1:65535",
        "::1",
        "[::1]",
        "[::1]:9092",
        "[fe80::1%eth0]:9092",
        "1:2:3:4:5:6:7:8:9092",
        "bücher.example:9092",
    ],
)
def test_servers_are_taken_as_the_client_takes_them(value: str, env: Any) -> None:
    env(KAFKA_BOOTSTRAP_SERVERS=value)

    read = collect_hosts(load().connection.bootstrap_servers, randomize=False)

    assert read == [found for found in collect_hosts(value, randomize=False) if found[0]]


def test_the_environment_wins_over_the_env_file(env: Any) -> None:
    Path(".env").write_text("META_STRATEGY_EPSILON=0.3\nMETA_STRATEGY_ALPHA=0.4\nOTHER=1\n")
    env(META_STRATEGY_ALPHA="0.5")

    found = load()

    assert (found.meta_strategy_epsilon, found.meta_strategy_alpha) == (0.3, 0.5)


def test_a_wrong_value_in_the_env_file_is_told_too() -> None:
    Path(".env").write_text("META_STRATEGY_EPSILON=many\n")

    assert "META_STRATEGY_EPSILON" in problem()


def test_an_env_file_that_is_no_text_is_one_line() -> None:
    Path(".env").write_bytes(b"\xff\xfe\x00")

    assert problem() == ".env: is not UTF-8 text"


def test_an_env_file_that_may_not_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is not the one that wrote it."""

    def refuse(file: object, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    Path(".env").touch()
    monkeypatch.setattr("dotenv.main.open", refuse, raising=False)  # root may read all

    assert problem() == ".env: Permission denied"


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (".", "must be a file"),
        ("/", "must be a file"),
        ("/dev/null", "must be a file"),
        ("taken/state.json", "taken must be a directory"),
        ("taken/below/state.json", "taken must be a directory"),
        ("x" * 256, "File name too long"),
    ],
)
def test_a_state_file_that_could_never_be_one_is_told_at_the_start(
    path: str, named: str, env: Any
) -> None:
    """A clean stop would be too late: what it was to keep is gone by then."""
    Path("taken").touch()
    env(META_STRATEGY_STATE_FILE=path)

    text = problem()

    assert text.startswith("META_STRATEGY_STATE_FILE: ")
    assert named in text


def test_a_state_file_where_a_worker_may_write_nothing_is_told_at_its_start(
    env: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command, which may be another user's, only reads it."""
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path)  # root may write all
    env(META_STRATEGY_STATE_FILE="new/state.json")
    settings = load()

    with pytest.raises(SettingsError, match=f"^META_STRATEGY_STATE_FILE: .* in {tmp_path}:"):
        run_worker(settings, lambda _: None)


@pytest.mark.parametrize("path", ["state.json", "new/below/state.json", "link"])
def test_a_state_file_need_not_be_there(path: str, env: Any) -> None:
    """Directories that are missing are made."""
    Path("link").symlink_to("nowhere")
    env(META_STRATEGY_STATE_FILE=path)

    assert load().meta_strategy_state_file == Path(path)


def test_settings_never_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        load().meta_strategy_epsilon = 0.5  # type: ignore[misc]


def test_settings_reach_the_rules(env: Any) -> None:
    env(
        META_STRATEGY_EPSILON="0.4",
        META_STRATEGY_EPSILON_MIN="0.1",
        META_STRATEGY_EPSILON_DECAY="0.5",
        META_STRATEGY_MIN_SAMPLES="9",
        META_STRATEGY_MIN_CONFIDENCE_FOR_EXPLOIT="0.7",
        META_STRATEGY_ALPHA="0.3",
        META_STRATEGY_REWARD_UNIT="risk",
        META_STRATEGY_LEARN_EXCLUDE="timeout",
        META_STRATEGY_DECISION_TTL_DAYS="2",
        META_STRATEGY_OPEN_DECISIONS_MAX="11",
        META_STRATEGY_DEDUPE_WINDOW="12",
        REGIME_TREND_ADX_THRESHOLD="20",
        REGIME_TREND_STRENGTH_THRESHOLD="0.4",
        REGIME_LOW_VOL_ATR_PCT="0.01",
        REGIME_HIGH_VOL_ATR_PCT="0.03",
        REGIME_EXTREME_VOL_ATR_PCT="0.05",
        REGIME_ILLIQUID_VOLUME="1",
        REGIME_ILLIQUID_DEPTH="2",
        REGIME_ILLIQUID_SPREAD_BPS="3",
    )
    found = load()

    assert [found.policy.epsilon(n) for n in (0, 1, 9)] == [0.4, 0.2, 0.1]
    assert isinstance(found.policy, EpsilonGreedy)
    assert (found.policy.min_samples, found.policy.min_confidence_for_exploit) == (9, 0.7)
    fold = found.fold
    assert (fold.alpha, fold.reward_unit, fold.learn_exclude) == (0.3, "risk", {"timeout"})
    assert (fold.decision_ttl_ms, fold.open_decisions_max, fold.dedupe_window) == (
        2 * 86_400_000,
        11,
        12,
    )
    limits = found.detector
    assert (limits.trend_adx_threshold, limits.trend_strength_threshold) == (20, 0.4)
    assert limits.low_vol_atr_pct_threshold == 0.01
    assert limits.high_vol_atr_pct_threshold == 0.03
    assert limits.extreme_vol_atr_pct_threshold == 0.05
    assert limits.illiquid_volume_threshold == 1
    assert limits.illiquid_depth_threshold == 2
    assert limits.illiquid_spread_bps_threshold == 3


# --- secrets


def test_secrets_are_never_shown(env: Any) -> None:
    env(KAFKA_SASL_PASSWORD=SECRET, REDIS_URL=f"redis://user:{SECRET}@localhost:6379/0")

    found = load()

    shown = [repr(found), str(found), repr(found.connection), str(found.model_dump())]
    shown += [found.model_dump_json(), f"{found.redis_url} {found.kafka_sasl_password}"]
    assert not [text for text in shown if SECRET in text]
    assert found.connection.sasl_password == SECRET
    assert SECRET in found.redis_url.get_secret_value()


@pytest.mark.parametrize(
    "url", [f"http://user:{SECRET}@host", SECRET, f"redis:{SECRET}", f"redis://u:{SECRET}@h:port"]
)
def test_a_wrong_secret_is_not_shown_either(url: str, env: Any) -> None:
    env(REDIS_URL=url)

    text = problem()

    assert "REDIS_URL" in text
    assert SECRET not in text


def test_a_secret_comes_from_a_file(env: Any) -> None:
    Path("password").write_text(f"{SECRET}\n")
    Path("url").write_text("rediss://host:6380/1\n")
    env(KAFKA_SASL_PASSWORD_FILE="password", REDIS_URL_FILE="url")  # noqa: S106 - a path

    found = load()

    assert found.kafka_sasl_password is not None
    assert found.kafka_sasl_password.get_secret_value() == SECRET
    assert found.redis_url.get_secret_value() == "rediss://host:6380/1"


@pytest.mark.parametrize("variable", ["KAFKA_SASL_PASSWORD_FILE", "REDIS_URL_FILE"])
@pytest.mark.parametrize("path", ["missing", "."])
def test_a_secret_file_that_cannot_be_read_is_one_line(variable: str, path: str, env: Any) -> None:
    """Starting without a password that somebody meant to give would be worse."""
    env(**{variable: path})

    assert variable in problem()


def test_a_secret_file_that_is_no_text_is_one_line(env: Any) -> None:
    Path("binary").write_bytes(b"\xff\xfe\x00")
    env(KAFKA_SASL_PASSWORD_FILE="binary")  # noqa: S106 - a path

    assert "KAFKA_SASL_PASSWORD_FILE" in problem()


def test_a_wrong_value_in_a_secret_file_names_the_variable(env: Any) -> None:
    Path("url").write_text(f"http://{SECRET}")
    env(REDIS_URL_FILE="url")

    text = problem()

    assert "REDIS_URL" in text
    assert SECRET not in text


def dotenv(**variables: str) -> None:
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def test_the_env_file_may_name_files_of_secrets_too() -> None:
    Path("password").write_text(f"{SECRET}\n")
    Path("url").write_text("rediss://host:6380/1\n")
    dotenv(KAFKA_SASL_PASSWORD_FILE="password", REDIS_URL_FILE="url")  # noqa: S106 - a path

    found = load()

    assert found.kafka_sasl_password is not None
    assert found.kafka_sasl_password.get_secret_value() == SECRET
    assert found.redis_url.get_secret_value() == "rediss://host:6380/1"


@pytest.mark.parametrize(
    ("in_environment", "in_file"),
    [
        ({"REDIS_URL": "redis://wanted"}, {"REDIS_URL_FILE": "other"}),
        ({"REDIS_URL": "redis://wanted"}, {"REDIS_URL_FILE": "missing"}),
        ({"REDIS_URL_FILE": "wanted"}, {"REDIS_URL": "redis://other"}),
        ({"REDIS_URL_FILE": "wanted"}, {"REDIS_URL_FILE": "other"}),
        ({"REDIS_URL_FILE": "wanted"}, {"REDIS_URL_FILE": "other", "REDIS_URL": "redis://other"}),
        ({"REDIS_URL_FILE": ""}, {"REDIS_URL_FILE": "wanted"}),
        ({}, {"REDIS_URL": "", "REDIS_URL_FILE": "wanted"}),
    ],
)
def test_a_secret_in_the_environment_wins_over_the_env_file(
    in_environment: dict[str, str], in_file: dict[str, str], env: Any
) -> None:
    """Either way of giving it: the demo names its own Redis to workers that run beside a `.env`."""
    Path("wanted").write_text("redis://wanted")
    Path("other").write_text("redis://other")
    env(**in_environment)
    dotenv(**in_file)

    assert load().redis_url.get_secret_value() == "redis://wanted"


@pytest.mark.parametrize(
    "in_file",
    [
        {"REDIS_URL_FILE": "missing"},
        {"REDIS_URL_FILE": "url", "REDIS_URL": "redis://host"},
        {"REDIS_URL_FILE": "wrong"},
    ],
)
def test_a_secret_file_that_the_env_file_names_wrongly_is_one_line(in_file: dict[str, str]) -> None:
    Path("url").write_text("redis://host")
    Path("wrong").write_text(f"http://{SECRET}")
    dotenv(**in_file)

    text = problem()

    assert "REDIS_URL" in text
    assert SECRET not in text


# --- names that nobody knows


def test_names_in_the_env_file_are_looked_at_too(env: Any) -> None:
    dotenv(META_STRATEGY_POLICI="ucb", META_STRATEGY_ALPHA="0.3", REGIME_X="", REDIS_URL_FILE="url")
    env(META_STRATEGY_EPSILN="0.2")

    warned = unknown_variables(given_variables())

    assert [warning.split(":")[0] for warning in warned] == [
        "META_STRATEGY_EPSILN",
        "META_STRATEGY_POLICI",
        "REGIME_X",
    ]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("META_STRATEGY_EPSILN", "META_STRATEGY_EPSILON"),
        ("META_STRATEGY_REWARDUNIT", "META_STRATEGY_REWARD_UNIT"),
        ("REGIME_HIGH_VOL_ATR", "REGIME_HIGH_VOL_ATR_PCT"),
        ("REGIME_TREND_ADX_TRESHOLD", "REGIME_TREND_ADX_THRESHOLD"),
    ],
)
def test_an_unknown_variable_is_warned_about_with_the_nearest_name(name: str, nearest: str) -> None:
    (warning,) = unknown_variables([name, "PATH", "META_STRATEGY_ALPHA"])

    assert nearest in warning.split(name, 1)[1]
    assert "\n" not in warning


def test_an_unknown_variable_in_lower_case_is_warned_about_too(env: Any) -> None:
    """Values are read from such names, too."""
    env(meta_strategy_alpha="0.4", redis_url_file="")
    dotenv(regime_hysterese="0.1", Meta_Strategy_Seed="3")
    env(meta_strategy_alhpa="0.3")

    assert (load().meta_strategy_alpha, load().meta_strategy_seed) == (0.4, 3)
    assert unknown_variables(given_variables()) == [
        "meta_strategy_alhpa: is no setting; the nearest is META_STRATEGY_ALPHA",
        "regime_hysterese: is no setting; the nearest is REGIME_HYSTERESIS",
    ]


def test_an_unknown_variable_like_no_other_is_warned_about_too() -> None:
    (warning,) = unknown_variables(["META_STRATEGY_ZZZZZZZZZZZZZZZZZZZ"])

    assert "META_STRATEGY_ZZZZZZZZZZZZZZZZZZZ" in warning


def test_known_and_foreign_variables_are_not_warned_about() -> None:
    assert unknown_variables([*NAMED, "REDIS_URL_FILE", "KAFKA_SASL_PASSWORD_FILE"]) == []
    assert unknown_variables(["KAFKA_HOME", "REDIS_X", "HOME", "MY_META_STRATEGY_X"]) == []


# --- profiles

GOOD = """
[[profiles]]
strategy_id = "custom"
name = "My Custom Strategy"
r_sl = 1.2
r_tp1 = 2.8
r_tp2 = 4.5
r_tp3 = 7.0
suitable_for_trending = true

[[profiles]]
strategy_id = "scalp"
name = "Quicker Scalp"
r_sl = 0.5
r_tp1 = 1
r_tp2 = 1.5
r_tp3 = 2
"""


def test_profiles_from_a_file_join_the_built_in_ones(env: Any) -> None:
    Path("profiles.toml").write_text(GOOD)
    env(META_STRATEGY_PROFILES_FILE="profiles.toml", DEFAULT_STRATEGY="custom")

    found = load()

    assert list(found.all_profiles) == [*StrategyID, "custom"]
    assert found.all_profiles["scalp"].r_sl == 0.5
    custom = found.all_profiles["custom"]
    assert (custom.r_tp3, custom.suitable_for_trending, custom.suitable_for_low_vol) == (
        7.0,
        True,
        False,
    )
    shares = (custom.partial_close_tp1, custom.partial_close_tp2, custom.partial_close_tp3)
    assert shares == (0.4, 0.3, 0.3)
    assert found.default_strategy == "custom"


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (changed("r_sl = 1.2", "r_sl = 0.0"), "r_sl"),
        (changed("r_sl = 1.2", "r_sl = -1.0"), "r_sl"),
        (changed("r_sl = 1.2", "r_sl = nan"), "r_sl"),
        (changed("r_sl = 1.2", "r_sl = inf"), "r_sl"),
        (changed("r_sl = 1.2", 'r_sl = "1.2"'), "r_sl"),
        (changed("r_sl = 1.2\n", ""), "r_sl"),
        (changed("r_tp1 = 2.8", "r_tp1 = 4.5"), "r_tp1"),
        (changed("r_tp2 = 4.5", "r_tp2 = 7.5"), "r_tp"),
        (changed("r_tp3 = 7.0", "r_tp3 = 7.0\npartial_close_tp1 = 0.5"), "partial_close"),
        (changed("r_tp3 = 7.0", "r_tp3 = 7.0\npartial_close_tp1 = -0.4"), "partial_close_tp1"),
        (changed("r_tp3 = 7.0", 'r_tp3 = 7.0\naggressiveness = "mad"'), "aggressiveness"),
        (changed('"custom"', '"No Name"'), "strategy_id"),
        (changed('strategy_id = "custom"\n', ""), "strategy_id"),
        (changed('"My Custom Strategy"', '""'), "name"),
    ],
)
def test_a_wrong_profile_is_one_line_that_names_the_field(text: str, named: str, env: Any) -> None:
    """Wrong exits would trade: the start is the last moment to say so."""
    Path("profiles.toml").write_text(text)
    env(META_STRATEGY_PROFILES_FILE="profiles.toml")

    found = problem()

    assert named in found
    assert "profiles.toml" in found


@pytest.mark.parametrize(
    "text",
    [
        "not = [toml",
        "profiles = 1",
        "[profiles]\nr_sl = 1.0",
        "[[profile]]\nr_sl = 1.0",
        "profiles = [1, 2]",
        GOOD + GOOD,
        GOOD.replace("r_sl", "r_stop"),
        changed("suitable_for_trending", "suitable_for_trendng"),
    ],
    ids=["no TOML", "number", "table", "other name", "numbers", "twice", "no field", "misspelt"],
)
def test_a_wrong_profiles_file_is_one_line(text: str, env: Any) -> None:
    Path("profiles.toml").write_text(text)
    env(META_STRATEGY_PROFILES_FILE="profiles.toml")

    assert "profiles.toml" in problem()


@pytest.mark.parametrize("path", ["missing.toml", "."])
def test_a_profiles_file_that_cannot_be_read_is_one_line(path: str, env: Any) -> None:
    env(META_STRATEGY_PROFILES_FILE=path)

    assert "META_STRATEGY_PROFILES_FILE" in problem() or path in problem()


def test_a_profiles_file_that_is_no_text_is_one_line(env: Any) -> None:
    Path("profiles.toml").write_bytes(b"\xff\xfe\x00")
    env(META_STRATEGY_PROFILES_FILE="profiles.toml")

    assert "profiles.toml" in problem()


def test_profiles_are_read_in_their_order() -> None:
    Path("profiles.toml").write_text(GOOD)

    found = load_profiles(Path("profiles.toml"))

    assert [profile.strategy_id for profile in found] == ["custom", "scalp"]


def test_what_is_told_of_too_many_strategies_would_fit_into_no_record(env: Any) -> None:
    one = GOOD.split("[[profiles]]")[1]
    Path("profiles.toml").write_text(
        "".join("[[profiles]]" + one.replace('"custom"', f'"custom_{n}"') for n in range(58))
    )
    env(META_STRATEGY_PROFILES_FILE="profiles.toml")
    assert len(load().all_profiles) == 65

    env(META_STRATEGY_PROFILES_FILE="profiles.toml", KAFKA_POOL_TOPIC="strategy-pool")

    assert "KAFKA_POOL_TOPIC: of at most 64 strategies" in problem()
