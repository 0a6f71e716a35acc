"""The worker's yardstick: the ordinary job on plain aiokafka, exactly once.

One producer, one transaction for each `getmany` batch, one Redis pipeline to read and one to write. It
does the visible work of the contract with the same message models, so that a ratio compares designs and
not amounts of work.
"""

import asyncio
import signal

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
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


async def main() -> None:
    """Work until SIGTERM."""
    redis = Redis.from_url(REDIS_URL)
    job = OrdinaryJob(await redis.script_load(FOLD))
    consumer = AIOKafkaConsumer(
        SIGNALS,
        TRADES,
        bootstrap_servers=BOOTSTRAP_SERVERS,
        group_id=GROUP_ID,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP_SERVERS,
        transactional_id=f"{GROUP_ID}-plain",
        linger_ms=0,
        max_batch_size=1 << 18,
        transaction_timeout_ms=10_000,
    )
    await consumer.start()
    await producer.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while not stop.is_set():
        found = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
        if not found:
            continue
        records = [record for batch in found.values() for record in batch]
        async with producer.transaction():
            for source, value, headers in await job.work_off(redis, records):
                await producer.send(
                    DECISIONS,
                    value,
                    key=source.key,
                    partition=source.partition,
                    headers=headers,
                )
            await producer.send_offsets_to_transaction(
                {tp: batch[-1].offset + 1 for tp, batch in found.items()}, GROUP_ID
            )
    await consumer.stop()
    await producer.stop()
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main())
