"""Quix Streams, exactly once by its own checkpoints: a record at a time, a transaction an interval."""

from typing import Any

from quixstreams import Application, message_context
from redis import Redis

from bench.environment import BOOTSTRAP_SERVERS, DECISIONS, GROUP_ID, REDIS_URL, SIGNALS, TRADES
from bench.ordinary_job import FOLD, Incoming, OrdinaryJob, Outgoing

# its default of 5 s would be the latency: a decision is visible once its checkpoint is committed [s]
_COMMIT_INTERVAL_S = 0.1


def main() -> None:
    """Work until SIGTERM."""
    redis = Redis.from_url(REDIS_URL)
    job = OrdinaryJob(redis.script_load(FOLD))
    application = Application(
        broker_address=BOOTSTRAP_SERVERS,
        consumer_group=GROUP_ID,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=_COMMIT_INTERVAL_S,
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="WARNING",
    )

    def work_off(value: bytes, key: bytes) -> list[Outgoing]:
        context = message_context()
        record = Incoming(context.topic, context.partition, context.offset, key, value)
        return job.work_off_blocking(redis, [record])

    def decide(value: bytes, key: bytes, _: int, __: Any) -> list[Outgoing]:
        return work_off(value, key)

    def learn(value: bytes, key: bytes, _: int, __: Any) -> None:
        work_off(value, key)

    def topic(name: str) -> Any:
        return application.topic(
            name,
            key_deserializer="bytes",
            value_deserializer="bytes",
            key_serializer="bytes",
            value_serializer="bytes",
        )

    (
        application.dataframe(topic(SIGNALS))
        .apply(decide, expand=True, metadata=True)
        .set_headers(lambda made, _key, _timestamp, _headers: made.headers)
        .apply(lambda made: made.value)
        .to_topic(topic(DECISIONS))
    )
    application.dataframe(topic(TRADES)).update(learn, metadata=True)
    application.run()


if __name__ == "__main__":
    main()
