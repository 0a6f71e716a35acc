"""Who may do what: the files of `deploy/kafka` and `deploy/redis` on the real servers."""

import asyncio
import re
import ssl
from collections.abc import Awaitable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from consumer.domain.fold_settings import FoldSettings
from consumer.local.server import free_port
from consumer.settings import Settings
from consumer.store.client import connect
from consumer.store.meta import Meta
from consumer.store.redis_view import RedisView
from consumer.store.table import TableReader
from tests.support.builders import make_signal
from tests.support.executor import signals, trade_for
from tests.support.kafka_io import KafkaIo, Out, content, eventually, keyed
from tests.support.secured import Secured, serving
from tests.support.secured_servers import (
    REDIS_FILES,
    SECRET,
    SecuredRedis,
    find_tls_server,
    write_redis_users,
)
from tests.support.servers import WorkerProcess

# the first test waits for the servers, and for a dozen of Kafka's commands, each a JVM
pytestmark = pytest.mark.timeout(600)

CLUSTER_COMMANDS = {"command", "cluster|slots"}
INPUTS = {"signals", "trade-closed"}
OUTPUTS = {"strategy-decisions", "strategy-dead-letters"}
POOL = {"strategy-pool"}


def allowed_commands(user: str) -> set[str]:
    """Read the commands of a user in the file of rules."""
    for line in (REDIS_FILES / "users.acl").read_text().splitlines():
        if line.startswith(f"user {user} "):
            return set(re.findall(r" \+(\S+)", line))
    raise AssertionError(user)


async def used_commands(redis: Redis) -> set[str]:
    """Name the commands that were not refused since the statistics were reset."""
    found = await redis.info("commandstats")
    return {
        name.removeprefix("cmdstat_")
        for name, counts in found.items()
        if counts["calls"] > counts["failed_calls"]
    }


async def refused_commands(redis: Redis) -> set[str]:
    """Name what the rules refused."""
    return {entry["object"] for entry in await redis.acl_log()}


# What a worker needs, and no more


async def test_a_worker_and_its_commands_live_with_the_least_rights(
    secured: Secured, tmp_path: Path
) -> None:
    """Whole life of a deployment: serve, be killed, be followed, be read, be folded anew."""
    async with (
        secured.redis_client() as redis,
        secured.clients("executor", writes=True) as executor,
        secured.clients("router") as router,
    ):
        # as on the first day: no script is loaded, nothing is there to be read
        await redis.flushall()
        await redis.script_flush()
        await redis.config_resetstat()
        await redis.acl_log_reset()
        before = len(await router.read("strategy-decisions"))
        async with serving(secured.worker()) as first:
            await executor.send("signals", [keyed(s) for s in signals(20, seed=5)])
            await executor.send("signals", [Out(value=b"poison", key=b"X")])
            async with router.tail("strategy-decisions") as tail:
                decided = [content(record) for record in await tail.count(before + 20)]
            decided = [d for d in decided if d["signal_id"].startswith("s5-")]
            await executor.send("trade-closed", [keyed(trade_for(d)) for d in decided[:10]])
            await first.until_metric(lambda m: m.value("meta_strategy_rewards_total") == 10)
            for path in ("/api/summary", "/api/state", "/api/active", "/api/qtable/BTCUSDT"):
                assert (await first.get(path))[0] == 200
        # killed: the next one takes its transactional id over
        async with serving(secured.worker()) as second:
            await executor.send("signals", [keyed(make_signal(signal_id="after the kill"))])
            async with router.tail("strategy-decisions") as tail:
                assert len(await tail.count(before + 21)) == before + 21
            doctor = await secured.run("doctor")
            assert doctor.code == 0, doctor
            assert "error" not in doctor.out
            warnings = [line["event"] for line in second.lines() if line["level"] == "warning"]
            assert (await second.terminate())[0] == 0
        assert [w for w in warnings if "maxmemory-policy cannot be read" not in w] == []
        assert await refused_commands(redis) <= {"client|setinfo", "config|get"}
        by_worker = await used_commands(redis)

        file = str(tmp_path / "export.json")
        for command in (
            ["topics", "create"],
            ["qtable", "show"],
            ["qtable", "export", file],
            ["qtable", "import", file, "--yes"],
            ["qtable", "rebuild", "--yes"],
            ["dead-letters", "list"],
            ["dead-letters", "replay", "--yes"],
            ["doctor"],
            ["topics", "migrate", "--partitions", "3", "--yes"],
            ["qtable", "rebuild", "--yes"],  # back to the old topics
        ):
            done = await secured.run(*command, user="operator")
            assert done.code == 0, (command, done)
        assert await refused_commands(redis) <= {"client|setinfo", "config|get"}
        by_all = await used_commands(redis)

        # nothing is allowed that nobody uses
        assert allowed_commands("worker") - CLUSTER_COMMANDS <= by_worker
        assert allowed_commands("operator") - CLUSTER_COMMANDS <= by_all


# Kafka: what each user may not


async def kafka_refuses(what: Awaitable[object], error: type[Exception]) -> None:
    with pytest.raises(error):
        async with asyncio.timeout(20):
            await what


async def read_one(clients: KafkaIo, topic: str) -> None:
    (found,) = await clients.admin.describe_topics([topic])
    if found["error_code"] == TopicAuthorizationFailedError.errno:
        raise TopicAuthorizationFailedError(topic)  # a consumer would ask again for ever
    async with clients.consumer() as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.getone()


@pytest.mark.parametrize(
    ("user", "may_write", "may_read"),
    [
        ("executor", INPUTS, set()),
        ("selector", OUTPUTS | POOL, {*INPUTS, *POOL, "strategy-decisions"}),
        ("router", set(), {"strategy-decisions"}),
    ],
)
async def test_topics_are_closed_to_all_but_those_who_need_them(
    secured: Secured, user: str, may_write: set[str], may_read: set[str]
) -> None:
    async with secured.clients(user, writes=bool(may_write)) as clients:
        for topic in sorted((INPUTS | OUTPUTS | POOL) - may_read):
            await kafka_refuses(read_one(clients, topic), TopicAuthorizationFailedError)
        if may_write:
            for topic in sorted({*INPUTS, *OUTPUTS, *POOL, "foreign"} - may_write):
                await kafka_refuses(
                    clients.send(topic, [Out(value=b"{}", key=b"X", partition=0)]),
                    TopicAuthorizationFailedError,
                )


@pytest.mark.parametrize("user", ["executor", "selector", "router", "operator"])
async def test_nobody_makes_or_deletes_other_topics(secured: Secured, user: str) -> None:
    async with secured.clients(user) as clients:
        created = await clients.admin.create_topics([NewTopic("foreign", 1, 1)])
        deleted = await clients.admin.delete_topics(["signals"])
        changed = await clients.admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, "signals", {"retention.ms": "1"})]
            if user != "operator"
            else [ConfigResource(ConfigResourceType.BROKER, "1", {"log.retention.ms": "1"})]
        )

    assert [code for _, code, *_ in created.topic_errors] == [29]
    assert [code for _, code in deleted.topic_error_codes] == [29]
    codes = [code for response in changed for code, *_ in response.resources]
    assert codes == [31 if user == "operator" else 29]


async def test_settings_that_were_refused_are_not_told_as_set(secured: Secured) -> None:
    """The client does not raise what a broker answers: who believed it would lose the memory to retention."""
    short = {"retention.ms": "31536000000"}
    async with secured.clients("operator") as clients:
        await clients.admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, "trade-closed", short)]
        )
    try:
        refused = await secured.run("topics", "create")  # as the worker's user, who may not
    finally:
        mended = await secured.run("topics", "create", user="operator")

    assert refused.code == 1, refused
    assert refused.own_lines == ["meta-strategy: topic trade-closed: Topic authorization failed."]
    assert mended.code == 0, mended
    assert (
        "trade-closed: has 2 partitions; set cleanup.policy=delete, retention.ms=-1, retention.bytes=-1"
        in mended.out
    )


async def test_a_worker_is_let_into_its_own_group_only(secured: Secured) -> None:
    for user, group in (("selector", "foreign"), ("router", "meta-strategy")):
        consumer = AIOKafkaConsumer(
            "strategy-decisions", **secured.connection(user).options(), group_id=group
        )
        try:
            await kafka_refuses(consumer.start(), GroupAuthorizationFailedError)
        finally:
            await consumer.stop()


@pytest.mark.parametrize(
    "transactional_id", ["meta-strategy", "meta-strategy-router-1", "other-worker-1"]
)
async def test_foreign_transactional_ids_are_refused(
    secured: Secured, transactional_id: str
) -> None:
    """Whoever may take an id over can shut a worker out."""
    for user in ("selector", "executor"):
        producer = AIOKafkaProducer(
            **secured.connection(user).options(), transactional_id=transactional_id
        )
        try:
            await kafka_refuses(producer.start(), TransactionalIdAuthorizationFailed)
        finally:
            await producer.stop()


@pytest.mark.parametrize("command", ["import", "rebuild"])
async def test_a_group_that_may_not_be_asked_about_is_not_taken_for_an_empty_one(
    secured: Secured, tmp_path: Path, command: str
) -> None:
    """Else the table would be replaced under running workers."""
    file = tmp_path / "export.json"
    assert (await secured.run("qtable", "export", str(file), user="operator")).code == 0
    arguments = [str(file)] if command == "import" else []

    done = await secured.run(
        "qtable", command, *arguments, "--yes", user="operator", KAFKA_GROUP_ID="foreign"
    )

    assert done.code == 1, done
    assert "KAFKA_SASL_USERNAME=operator is not allowed" in done.own_lines[-1]
    assert "foreign" in done.own_lines[-1]


# What is refused is told in one line that names the variable


async def test_doctor_tells_the_causes_of_a_refused_connection_apart(
    secured: Secured, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.password"
    wrong.write_text(f"{SECRET}-wrong")
    other_ca = str(secured.directory / "other" / "ca.crt")
    good_ca = secured.certificates / "ca.crt"
    front = f"127.0.0.1:{secured.front.port}"
    nowhere = f"127.0.0.1:{free_port()}"

    def redis(url: str) -> dict[str, str]:
        return {"REDIS_URL_FILE": "", "REDIS_URL": url}

    password = (secured.redis_users / "worker.password").read_text().strip()
    cases: dict[str, tuple[dict[str, str], str, str]] = {
        "wrong password": (
            {"KAFKA_SASL_PASSWORD_FILE": str(wrong)},
            "kafka: KAFKA_SASL_PASSWORD: ",
            "KAFKA_SASL_USERNAME=selector",
        ),
        "unknown user": (
            {"KAFKA_SASL_USERNAME": "nobody"},
            "kafka: KAFKA_SASL_PASSWORD: ",
            "KAFKA_SASL_USERNAME=nobody",
        ),
        "unknown authority": (
            {"KAFKA_SSL_CAFILE": other_ca},
            "kafka: KAFKA_SSL_CAFILE: ",
            "certificate",
        ),
        "the system's authorities": (
            {"KAFKA_SSL_CAFILE": ""},
            "kafka: KAFKA_SSL_CAFILE: ",
            "certificate",
        ),
        "plaintext": (
            {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"},
            "kafka: KAFKA_SECURITY_PROTOCOL: ",
            "is PLAINTEXT",
        ),
        "password without TLS": (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
            "kafka: KAFKA_SECURITY_PROTOCOL: ",
            "is SASL_PLAINTEXT",
        ),
        "TLS without a user": (
            {"KAFKA_SECURITY_PROTOCOL": "SSL"},
            "kafka: KAFKA_SECURITY_PROTOCOL: ",
            "is SSL",
        ),
        "another mechanism": (
            {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
            "kafka: KAFKA_SASL_MECHANISM: ",
            "SCRAM-SHA-256",
        ),
        "nobody there": (
            {"KAFKA_BOOTSTRAP_SERVERS": nowhere},
            "kafka: KAFKA_BOOTSTRAP_SERVERS: ",
            nowhere,
        ),
        "Redis: wrong password": (
            redis(f"rediss://worker:{SECRET}-wrong@{front}/0?ssl_ca_certs={good_ca}"),
            "redis: REDIS_URL: ",
            "password",
        ),
        "Redis: no user": (
            redis(f"rediss://{front}/0?ssl_ca_certs={good_ca}"),
            "redis: REDIS_URL: ",
            "authenticated",
        ),
        "Redis: unknown authority": (
            redis(f"rediss://worker:{password}@{front}/0?ssl_ca_certs={other_ca}"),
            "redis: REDIS_URL: ",
            "certificate",
        ),
        "Redis: plaintext": (
            redis(f"redis://worker:{password}@{front}/0"),
            "redis: REDIS_URL: ",
            "",
        ),
    }

    for name, (settings, start, word) in cases.items():
        done = await secured.run("doctor", **settings)

        assert done.code == 1, (name, done)
        errors = [line for line in done.out.splitlines() if line.startswith("error")]
        assert len(errors) == 1, (name, done)
        assert start in errors[0], (name, done)
        assert word in errors[0], (name, done)
        assert done.err == "", name


async def refused_worker(worker: WorkerProcess, *words: str) -> str:
    """Wait for the line that says why a worker cannot serve."""
    worker.start()
    try:

        def line() -> str:
            said = [str(found.get("event", "")) for found in worker.lines()]
            plain = [text for text in worker.text().splitlines() if not text.startswith("{")]
            return next((text for text in said + plain if all(word in text for word in words)), "")

        found: str = await eventually(line, what=f"a line with {words}: {worker.tail()}")
        assert "Traceback" not in worker.text()
        assert SECRET not in worker.text()
        return found
    except AssertionError:
        print(worker.tail())
        raise
    finally:
        worker.kill()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"KAFKA_SASL_PASSWORD_FILE": "WRONG"},
            ("trying again: KAFKA_SASL_PASSWORD: ",),
        ),
        ({"KAFKA_SIGNALS_TOPIC": "foreign"}, ("foreign", "KAFKA_SASL_USERNAME")),
        ({"KAFKA_GROUP_ID": "foreign"}, ("trying again", "Authorization", "foreign")),
    ],
    ids=["password", "topic", "group"],
)
async def test_a_refused_worker_says_why(
    secured: Secured, tmp_path: Path, settings: dict[str, str], words: tuple[str, ...]
) -> None:
    wrong = tmp_path / "wrong.password"
    wrong.write_text(f"{SECRET}-wrong")
    given = {name: str(wrong) if value == "WRONG" else value for name, value in settings.items()}

    await refused_worker(secured.worker(**given), *words)


async def test_a_worker_of_the_dashboards_user_says_why(secured: Secured) -> None:
    url = secured.redis_url("dashboards")
    worker = secured.worker(REDIS_URL_FILE="", REDIS_URL=url)

    await refused_worker(worker, "Redis refuses", "no permissions")


# Redis: what each user may not

ANY_KEY = "ms:{0}:meta"
FORBIDDEN = [
    *(
        ["FLUSHALL"],
        ["FLUSHDB"],
        ["CONFIG", "SET", "maxmemory", "1"],
        ["CONFIG", "GET", "requirepass"],
    ),
    *(
        ["KEYS", "*"],
        ["SCAN", "0"],
        ["EVAL", "return 1", "0"],
        ["SCRIPT", "FLUSH"],
        ["ACL", "LIST"],
    ),
    *(["DEBUG", "SLEEP", "0"], ["SHUTDOWN"], ["REPLICAOF", "NO", "ONE"], ["SAVE"], ["MONITOR"]),
    *(["CLIENT", "LIST"], ["CLIENT", "KILL", "TYPE", "normal"], ["FUNCTION", "LIST"], ["INFO"]),
    *(["SET", ANY_KEY, "1"], ["RENAME", ANY_KEY, "ms:other"], ["EXPIRE", ANY_KEY, "1"]),
    *(["DUMP", ANY_KEY], ["MIGRATE", "h", "1", ANY_KEY, "0", "1"], ["PUBLISH", "channel", "x"]),
    ["SUBSCRIBE", "channel"],
]
WRITES = [["HSET", ANY_KEY, "a", "1"], ["HDEL", ANY_KEY, "a"], ["DEL", ANY_KEY]]
FOREIGN = [["HGETALL", "other"], ["HSET", "other", "a", "1"], ["DEL", "other"]]


@pytest.mark.parametrize("user", ["worker", "operator", "dashboards"])
async def test_redis_refuses_what_is_not_needed(secured: Secured, user: str) -> None:
    async with Redis.from_url(secured.redis_url(user), decode_responses=True) as client:
        assert await client.ping()
        assert await client.hgetall("ms:{0}:unknown") == {}
        forbidden = [*FORBIDDEN, *FOREIGN, *(WRITES if user == "dashboards" else [])]
        if user == "operator":
            forbidden.remove(["CONFIG", "GET", "requirepass"])
        for command in forbidden:
            with pytest.raises(ResponseError, match=r"(?i)permissions|not allowed"):
                await client.execute_command(*command)


@pytest.mark.parametrize(
    "script",
    [
        "return redis.call('FLUSHALL')",
        "return redis.call('HGETALL', 'other')",
        "return redis.call('HGETALL', KEYS[1])",
        "return redis.call('CONFIG', 'GET', '*')",
        "return redis.call('SET', 'ms:x', '1')",
    ],
)
async def test_a_script_may_no_more_than_its_user(secured: Secured, script: str) -> None:
    async with Redis.from_url(secured.redis_url("worker"), decode_responses=True) as client:
        sha = await client.script_load(script)

        with pytest.raises(ResponseError, match=r"(?i)ACL|permission"):
            await client.evalsha(sha, 1, "other")


async def test_without_user_or_tls_redis_is_closed(secured: Secured) -> None:
    front = f"127.0.0.1:{secured.front.port}"
    ca = secured.certificates / "ca.crt"

    for url in (
        f"rediss://{front}/0?ssl_ca_certs={ca}",
        f"rediss://default:@{front}/0?ssl_ca_certs={ca}",
        f"redis://{front}/0",
        f"rediss://{front}/0?ssl_ca_certs={secured.directory / 'other' / 'ca.crt'}",
    ):
        async with Redis.from_url(url, socket_timeout=5) as client:
            with pytest.raises((RedisConnectionError, ResponseError, ssl.SSLError)):
                await client.ping()


async def test_the_worker_s_user_is_enough_in_a_cluster(tmp_path: Path) -> None:
    """A cluster's client asks for the nodes and for the commands' keys besides."""
    write_redis_users(tmp_path / "users", "127.0.0.1:0")
    server = SecuredRedis(
        tmp_path / "redis", tmp_path / "redis.log", tmp_path / "users", more="cluster-enabled yes"
    )
    await server.start()
    admin = server.admin_client()
    try:
        await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await eventually(lambda: is_cluster_ok(admin), what="the cluster")
        await admin.acl_log_reset()
        await admin.config_resetstat()
        password = (tmp_path / "users" / "worker.password").read_text().strip()
        client = connect(f"redis://worker:{password}@{server.address}", cluster=True)
        view = RedisView(
            client,
            client,
            prefix="ms",
            meta=Meta(FoldSettings(), 2, Settings().topics),
        )
        try:
            assert await view.positions([0, 1]) == {0: None, 1: None}
            assert not (await view.read_raw(1)).is_whole
            assert await TableReader(client, "ms", 2).open_decisions(5) == []
        finally:
            await view.close()
        assert await refused_commands(admin) <= {"client|setinfo"}
        assert await used_commands(admin) >= CLUSTER_COMMANDS
    finally:
        await admin.aclose()
        await server.stop()


async def is_cluster_ok(admin: Redis) -> bool:
    return "cluster_state:ok" in str(await admin.execute_command("CLUSTER", "INFO"))


async def test_a_server_with_tls_takes_the_files_as_they_are(
    secured: Secured, tmp_path: Path
) -> None:
    program = find_tls_server()
    if program is None:
        pytest.skip("no redis-server or valkey-server with TLS on this machine")
    server = SecuredRedis(
        tmp_path / "redis",
        tmp_path / "redis.log",
        secured.redis_users,
        program=program,
        certificates=secured.certificates,
    )
    await server.start()
    try:
        password = (secured.redis_users / "worker.password").read_text().strip()
        query = f"?ssl_ca_certs={secured.certificates / 'ca.crt'}"
        async with Redis.from_url(
            f"rediss://worker:{password}@{server.address}/0{query}"
        ) as client:
            assert await client.ping()
        async with Redis.from_url(f"redis://worker:{password}@{server.address}/0") as client:
            with pytest.raises(RedisConnectionError):
                await client.ping()
    finally:
        await server.stop()
