"""No work at all: signals in, ready records of a decision's size out, exactly once, with plain aiokafka.

What is left when deciding and Redis cost nothing. It reads no trades, and its records are no decisions.
"""

import asyncio
import signal

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.environment import BATCH, BOOTSTRAP_SERVERS, DECISIONS, GROUP_ID, SIGNALS

VALUE = b"x" * 1_345
"""As large as the worker's decisions on average; a test compares."""

_HEADERS = [
    ("decision_id", b"00000000-0000-5000-8000-000000000000"),
    ("strategy", b"ultra_aggressive"),
    ("regime", b"range_low_vol"),
    ("schema_version", b"1"),
]


async def main() -> None:
    """Work until SIGTERM."""
    consumer = AIOKafkaConsumer(
        SIGNALS,
        bootstrap_servers=BOOTSTRAP_SERVERS,
        group_id=GROUP_ID,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP_SERVERS,
        transactional_id=f"{GROUP_ID}-floor",
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
        async with producer.transaction():
            for batch in found.values():
                for record in batch:
                    await producer.send(
                        DECISIONS,
                        VALUE,
                        key=record.key,
                        partition=record.partition,
                        headers=_HEADERS,
                    )
            await producer.send_offsets_to_transaction(
                {tp: batch[-1].offset + 1 for tp, batch in found.items()}, GROUP_ID
            )
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    uvloop.run(main())
