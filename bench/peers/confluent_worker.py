"""confluent-kafka (librdkafka), exactly once: one thread, one transaction for each `consume` batch."""

import signal

from confluent_kafka import Consumer, Producer
from redis import Redis

from bench.environment import (
    BATCH,
    BOOTSTRAP_SERVERS,
    DECISIONS,
    GROUP_ID,
    REDIS_URL,
    SIGNALS,
    TRADES,
)
from bench.ordinary_job import FOLD, Incoming, OrdinaryJob

# `consume` waits this long for a full batch [s]: with less, a batch is what there is
_WAIT_S = 0.01


def main() -> None:
    """Work until SIGTERM."""
    redis = Redis.from_url(REDIS_URL)
    job = OrdinaryJob(redis.script_load(FOLD))
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP_SERVERS,
            "group.id": GROUP_ID,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": BOOTSTRAP_SERVERS,
            "transactional.id": f"{GROUP_ID}-confluent",
            "transaction.timeout.ms": 10_000,
        }
    )
    producer.init_transactions()
    consumer.subscribe([SIGNALS, TRADES])
    is_stopped = False

    def stop(*_: object) -> None:
        nonlocal is_stopped
        is_stopped = True

    signal.signal(signal.SIGTERM, stop)
    while not is_stopped:
        messages = [m for m in consumer.consume(BATCH, timeout=_WAIT_S) if m.error() is None]
        if not messages:
            continue
        records = [
            Incoming(m.topic(), m.partition(), m.offset(), m.key(), m.value()) for m in messages
        ]
        producer.begin_transaction()
        for source, value, headers in job.work_off_blocking(redis, records):
            producer.produce(
                DECISIONS, value, key=source.key, partition=source.partition, headers=headers
            )
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
    consumer.close()


if __name__ == "__main__":
    main()
