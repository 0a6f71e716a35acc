"""FastStream over aiokafka, in batches, at least once: it has no transaction over input and output."""

import asyncio
import logging

import uvloop
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage
from redis.asyncio import Redis

from bench.environment import (
    BATCH,
    BOOTSTRAP_SERVERS,
    DECISIONS,
    GROUP_ID,
    REDIS_URL,
    SIGNALS,
    TRADES,
)
from bench.ordinary_job import FOLD, OrdinaryJob

broker = KafkaBroker(
    BOOTSTRAP_SERVERS, enable_idempotence=True, max_batch_size=1 << 18, logger=None
)
app = FastStream(broker, logger=None)
publisher = broker.publisher(DECISIONS)
redis = Redis.from_url(REDIS_URL)
jobs: list[OrdinaryJob] = []


@app.on_startup
async def load() -> None:
    """Load the script, once Redis can be asked."""
    jobs.append(OrdinaryJob(await redis.script_load(FOLD)))


@broker.subscriber(
    SIGNALS,
    TRADES,
    group_id=GROUP_ID,
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,
    isolation_level="read_committed",
    batch=True,
    max_records=BATCH,
    batch_timeout_ms=1000,
)
async def work_off(message: KafkaMessage) -> None:
    """Decide and learn a batch; its offsets are committed afterwards."""
    sent = [
        await publisher.publish(
            value,
            key=source.key,
            partition=source.partition,
            headers={name: text.decode() for name, text in headers},
            no_confirm=True,
        )
        for source, value, headers in await jobs[0].work_off(redis, message.raw_message)
    ]
    await asyncio.gather(*sent)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    uvloop.run(app.run())
