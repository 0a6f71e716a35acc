"""Record batches that no client of ours would write, but a broker takes."""

import struct
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import RecordMetadata

UNCOMPRESSED, GZIP = 0, 1
_CRC_AT, _CRC_OF = 17, 21


def raw_batch(
    records: Sequence[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]],
    *,
    timestamp_ms: int = 0,
    replaced: Sequence[tuple[bytes, bytes]] = (),
    compression: int = UNCOMPRESSED,
) -> bytes:
    """Write a batch of records, then put other bytes of the same length into it.

    Args:
        records: Key, value and headers of each.
        timestamp_ms: Of all.
        replaced: What, by what.
        compression: The codec.
    """
    builder: Any = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, timestamp=timestamp_ms, key=key, value=value, headers=headers)
    data = bytearray(builder.build())
    for old, new in replaced:
        assert len(old) == len(new)
        assert old in data
        data = data.replace(old, new)
    struct.pack_into(">I", data, _CRC_AT, calc_crc32c(bytes(data[_CRC_OF:])))
    return bytes(data)


async def send_raw(bootstrap_servers: str, log: TopicPartition, data: bytes) -> RecordMetadata:
    """Send a batch as it is; give where its first record stands."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, enable_idempotence=False, max_request_size=4 << 20
    )
    await producer.start()
    try:
        batch = producer.create_batch()
        batch.append(key=None, value=b"", timestamp=None)
        batch._build()
        batch._buffer = data  # what the client sends is what was built
        return await (await producer.send_batch(batch, log.topic, partition=log.partition))
    finally:
        await producer.stop()
