"""Header names that are no UTF-8: the broker takes them, so reading must not end at them."""

import struct
from time import perf_counter

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from consumer.stream import clients
from consumer.stream.header_names import KeptRecords, TolerantRecords
from consumer.stream.read_record import ReadRecord
from tests.support.raw_batches import GZIP, UNCOMPRESSED, raw_batch

BAD = b"\xff\xfe\xf0a"
LOG = TopicPartition("signals", 0)
Found = list[tuple[int, bytes | None, list[tuple[str, bytes]]]]


def read(*batches: bytes, start: int = 0, aborted: list[tuple[int, int]] | None = None) -> Found:
    """Read batches that stand one behind the other, from an offset on."""
    data, offset = b"", 0
    for batch in batches:
        data += struct.pack(">q", offset) + batch[8:]
        offset += struct.unpack_from(">i", batch, 23)[0] + 1
    records = TolerantRecords(
        LOG, KeptRecords(data), aborted, start, None, None, True, fetcher.READ_COMMITTED
    )
    return [(r.offset, r.value, list(r.headers)) for r in records]


def numbered(*values: bytes, bad: int | None = None, compression: int = UNCOMPRESSED) -> bytes:
    """Make a batch of records; the headers of one have a bad name."""
    records = [(b"k", value, [("good", b"x")]) for value in values]
    if bad is None:
        return raw_batch(records, compression=compression)
    records[bad][2].append(("AAAA", b"y"))
    return raw_batch(records, replaced=[(b"AAAA", BAD)])


def values(found: Found) -> list[bytes | None]:
    return [value for _, value, _ in found]


def test_the_client_reads_through_it() -> None:
    """Names of the pinned client: another version must not make this silently useless."""
    assert clients.fetcher is fetcher
    assert fetcher.MemoryRecords is KeptRecords
    assert fetcher.PartitionRecords is TolerantRecords


@given(
    st.lists(
        st.tuples(
            st.none() | st.binary(max_size=4),
            st.none() | st.binary(max_size=4),
            st.lists(st.tuples(st.text(min_size=1, max_size=4), st.binary(max_size=4)), max_size=2),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_record_tells_what_the_clients_own_does(
    records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]],
) -> None:
    data = raw_batch(records)
    arguments = (None, 0, None, None, True, fetcher.READ_COMMITTED)
    before_s = perf_counter()
    ours = list(TolerantRecords(LOG, KeptRecords(data), *arguments))
    theirs = list(TolerantRecords.__base__(LOG, MemoryRecords(data), *arguments))

    assert len(ours) == len(theirs) == len(records)
    for one, other in zip(ours, theirs, strict=True):
        assert type(one) is ReadRecord
        for name in ("topic", "partition", "offset", "timestamp", "key", "value", "headers"):
            assert getattr(one, name) == getattr(other, name), name
        texts = (one.key, one.value, *(t for k, v in one.headers for t in (k, v)))
        assert one.size == sum(len(text) for text in texts if text is not None)
        assert before_s <= one.received_s <= perf_counter()


@pytest.mark.parametrize(("magic", "timestamp_ms"), [(0, -1), (1, 7)])
def test_records_of_the_old_formats_are_read(magic: int, timestamp_ms: int) -> None:
    """Those of the first one have no time: Kafka calls that -1."""
    builder = LegacyRecordBatchBuilder(magic, 0, 1 << 16)
    builder.append(0, timestamp=7, key=b"k", value=b"v")

    (record,) = TolerantRecords(
        LOG, KeptRecords(bytes(builder.build())), None, 0, None, None, True, fetcher.READ_COMMITTED
    )

    assert (record.key, record.value, record.timestamp) == (b"k", b"v", timestamp_ms)


@pytest.mark.parametrize("compression", [UNCOMPRESSED, GZIP])
def test_good_batches_are_read_as_they_are(compression: int) -> None:
    one = raw_batch([(b"k", b"1", [("a", b"b")]), (None, None, [])], compression=compression)

    assert read(one, raw_batch([(b"k", b"3", [("é", b"")])])) == [
        (0, b"1", [("a", b"b")]),
        (1, None, []),
        (2, b"3", [("é", b"")]),
    ]


def test_a_bad_name_among_good_ones_is_read_with_backslashes() -> None:
    found = read(
        numbered(b"a"), numbered(b"b", b"c", b"d", bad=1), numbered(b"e", compression=GZIP)
    )

    assert values(found) == [b"a", b"b", b"c", b"d", b"e"]
    assert [offset for offset, _, _ in found] == [0, 1, 2, 3, 4]
    assert found[2][2] == [("good", b"x"), ("\\xff\\xfe\\xf0a", b"y")]


def test_bad_names_in_two_batches_are_read() -> None:
    found = read(numbered(b"a", b"b", bad=0), numbered(b"c", bad=0))

    assert values(found) == [b"a", b"b", b"c"]


def test_reading_begins_in_the_middle_of_a_batch() -> None:
    assert values(read(numbered(b"a", b"b", b"c", bad=0), start=1)) == [b"b", b"c"]


def test_what_was_aborted_stays_out() -> None:
    """Reading from the beginning again must come to the same about each transaction."""
    batches = [
        transactional(numbered(b"aborted"), producer=7),
        marker(producer=7, kind=0),
        transactional(numbered(b"aborted, too"), producer=7),
        numbered(b"badly named", bad=0),
        transactional(numbered(b"behind, aborted"), producer=7),
        marker(producer=7, kind=0),
        transactional(numbered(b"committed"), producer=7),
    ]

    found = read(*batches, aborted=[(7, 0), (7, 2)])

    assert values(found) == [b"badly named", b"committed"]


def transactional(batch: bytes, *, producer: int, attributes: int = 0x10) -> bytes:
    """Make a batch one of a producer's transaction."""
    data = bytearray(batch)
    struct.pack_into(">h", data, 21, attributes)
    struct.pack_into(">q", data, 43, producer)
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


def marker(*, producer: int, kind: int) -> bytes:
    """Make the end of a transaction; kind 0 aborts it."""
    batch = raw_batch([(struct.pack(">hh", 0, kind), struct.pack(">hi", 0, 0), [])])
    return transactional(batch, producer=producer, attributes=0x30)


def test_what_is_cut_off_is_left() -> None:
    whole = numbered(b"a", bad=0)

    records = TolerantRecords(
        LOG, KeptRecords(whole + whole[:40]), None, 0, None, None, True, fetcher.READ_COMMITTED
    )

    assert [r.value for r in records] == [b"a"]
