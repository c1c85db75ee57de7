"""Record batches: every codec, cut-off fetches, damage. aiokafka's own builder writes them."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.record_batches import _Header, is_v2, read_batches

Row = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
PIECE = st.none() | st.binary(max_size=300)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**45),
        PIECE,
        PIECE,
        st.lists(st.tuples(st.text(max_size=5), PIECE), max_size=3),
    ),
    min_size=1,
    max_size=40,
)


def batch(rows: list[Row], first_offset: int = 0, codec: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for i, (at_ms, key, value, headers) in enumerate(rows):
        builder.append(i, at_ms, key, value, headers)
    return struct.pack(">q", first_offset) + bytes(builder.build())[8:]


def reference(data: bytes) -> list[tuple[int, int, bytes | None, bytes | None]]:
    """The records as aiokafka reads them."""
    found = []
    batches = MemoryRecords(data)
    while batches.has_next():
        found += [(r.offset, r.timestamp, r.key, r.value) for r in batches.next_batch()]
    return found


def rows_of(records: Any) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return list(
        zip(
            records.offsets.tolist(),
            records.timestamps_ms.tolist(),
            records.keys,
            records.values,
            strict=True,
        )
    )


@settings(deadline=None)  # the first call compiles the kernel
@given(ROWS, ROWS, st.sampled_from([0, 1, 2, 3, 4]), st.integers(0, 2**40))
def test_any_batches_are_read_as_aiokafka_reads_them(
    one: list[Row], two: list[Row], codec: int, first: int
) -> None:
    data = batch(one, first, codec) + batch(two, first + len(one))
    assert is_v2(data)
    records, next_offset, _ = read_batches(data, first, check_crcs=True)
    assert rows_of(records) == reference(data)
    assert next_offset == first + len(one) + len(two)


@settings(deadline=None)
@given(ROWS, st.data())
def test_a_fetch_may_begin_before_what_is_wanted(rows: list[Row], data: Any) -> None:
    wanted = data.draw(st.integers(0, len(rows)))
    records, next_offset, _ = read_batches(batch(rows), wanted, check_crcs=True)
    assert records.offsets.tolist() == list(range(wanted, len(rows)))
    assert next_offset == len(rows)


@settings(deadline=None)
@given(ROWS, ROWS, st.data())
def test_a_fetch_may_end_within_a_batch(one: list[Row], two: list[Row], data: Any) -> None:
    first, second = batch(one), batch(two, len(one))
    cut = data.draw(st.integers(0, len(second) - 1))
    records, next_offset, _ = read_batches(first + second[:cut], 0, check_crcs=True)
    assert rows_of(records) == reference(first)
    assert next_offset == len(one)


@settings(deadline=None)
@given(ROWS, st.data())
def test_damage_fails_the_checksum(rows: list[Row], data: Any) -> None:
    whole = bytearray(batch(rows))
    at = data.draw(st.integers(21, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="checksum"):
        read_batches(bytes(whole), 0, check_crcs=True)


@pytest.mark.parametrize("at", range(21, 61))
def test_a_flipped_sign_anywhere_in_the_header_is_a_wrong_checksum(at: int) -> None:
    whole = bytearray(batch([(0, None, None, [])]))
    whole[at] ^= 128
    with pytest.raises(ValueError, match="checksum"):
        read_batches(bytes(whole), 0, check_crcs=True)


def test_good_batches_before_a_damaged_one_are_handed_out() -> None:
    rows: list[Row] = [(1_000, b"k", b"v", [])]
    damaged = bytearray(batch(rows, 1))
    damaged[-1] ^= 1
    data = batch(rows) + bytes(damaged) + batch(rows, 2)
    records, next_offset, _ = read_batches(data, 0, check_crcs=True)
    assert (records.offsets.tolist(), next_offset) == ([0], 1)
    with pytest.raises(ValueError, match="checksum"):
        read_batches(data[len(batch(rows)) :], 1, check_crcs=True)


@pytest.mark.parametrize("seed", range(20))
def test_damage_with_a_right_checksum_reads_nothing_beyond_the_batch(seed: int) -> None:
    """A broken producer: lengths point anywhere. An error or wrong records, never a crash."""
    rng = random.Random(seed)
    rows: list[Row] = [(1_000 + i, b"key%d" % i, b"v" * i, []) for i in range(30)]
    good = batch(rows)
    refused = 0
    for _ in range(200):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(57, len(data))] = rng.choice(
                [0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)]
            )
        data[17:21] = struct.pack(">I", calc_crc32c(bytes(data[21:])))
        try:
            records, _, _ = read_batches(bytes(data), 0, check_crcs=True)
        except ValueError:
            refused += 1
            continue
        inside = records.data.size
        assert np.all(records.key_at + records.key_bytes <= inside)
        assert np.all(records.value_at + records.value_bytes <= inside)
        assert len(records.keys) == len(records.values) == len(records)
    assert refused > 0


def test_control_batches_take_up_offsets_but_hold_nothing_to_read() -> None:
    rows: list[Row] = [(1_000, b"k", b"v", [])]
    control = bytearray(batch(rows, 1))
    control[22] |= 0x20
    control[17:21] = struct.pack(">I", calc_crc32c(bytes(control[21:])))
    data = batch(rows) + bytes(control) + batch(rows, 2)
    records, next_offset, _ = read_batches(data, 0, check_crcs=True)
    assert (records.offsets.tolist(), next_offset) == ([0, 2], 3)


def test_the_logs_own_time_replaces_the_producers() -> None:
    stamped = bytearray(batch([(1_000, b"k", b"v", []), (2_000, b"k", b"v", [])]))
    stamped[22] |= 0x08
    stamped[35:43] = struct.pack(">q", 7_777)
    stamped[17:21] = struct.pack(">I", calc_crc32c(bytes(stamped[21:])))
    records, _, _ = read_batches(bytes(stamped), 0, check_crcs=True)
    assert records.timestamps_ms.tolist() == [7_777, 7_777]


def test_nothing_fetched_is_no_records() -> None:
    records, next_offset, _ = read_batches(b"", 5, check_crcs=True)
    assert (len(records), next_offset) == (0, 5)
    assert not is_v2(b"")


# A producer's next move in a log: it sends a record, commits or aborts what it has sent.
MOVES = st.lists(
    st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from(["send", "send", "commit", "abort"])),
    max_size=40,
)


def transactional(producer: int, offset: int, key: bytes, value: bytes, control: bool) -> bytes:
    """One batch of one record of a transaction; `control`: a marker."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, 0, 1 << 16)
    builder.append(0, 1_000, key, value, [])
    data = bytearray(struct.pack(">q", offset) + bytes(builder.build())[8:])
    if control:
        data[22] |= 0x20
        data[17:21] = struct.pack(">I", calc_crc32c(bytes(data[21:])))
    return bytes(data)


def log_of(moves: list[tuple[int, str]]) -> tuple[bytes, list[tuple[int, int]], list[int]]:
    """(bytes, aborted transactions, offsets that read_committed shows); producer 3 is plain."""
    data, aborted, shown = b"", [], []
    begun: dict[int, list[int]] = {}
    offset = 0
    ends = [(producer, "commit") for producer in (1, 2)]  # nothing stays open
    for producer, move in moves + ends:
        if producer == 3:
            data += batch([(1_000, b"plain", b"%d" % offset, [])], offset)
            shown.append(offset)
        elif move == "send":
            data += transactional(producer, offset, b"k", b"%d" % offset, control=False)
            begun.setdefault(producer, []).append(offset)
        elif sent := begun.pop(producer, []):
            kind = 0 if move == "abort" else 1
            marker = struct.pack(">hh", 0, kind), struct.pack(">hi", 0, 0)
            data += transactional(producer, offset, *marker, control=True)
            if move == "abort":
                aborted.append((producer, sent[0]))
            else:
                shown += sent
        else:
            continue
        offset += 1
    return data, aborted, sorted(shown)


@settings(deadline=None)
@given(MOVES, st.just(0) | st.integers(0, 60))
def test_records_of_aborted_transactions_are_left_out(
    moves: list[tuple[int, str]], first: int
) -> None:
    data, aborted, shown = log_of(moves)
    # A broker lists the transactions that reach into the fetched range, which begins at `first`.
    records, next_offset, skipped = read_batches(data, first, check_crcs=True, aborted=aborted)
    holes = [offset for start, stop in skipped for offset in range(start, stop)]
    everything = sorted(holes + records.offsets.tolist())
    assert everything == list(range(first, next_offset))
    assert records.offsets.tolist() == [offset for offset in shown if offset >= first]
    if first == 0:  # aiokafka goes back when a fetch begins before the offset that it wants
        theirs = PartitionRecords(
            TopicPartition("t", 0), MemoryRecords(data), aborted, 0, None, None, True, 1
        )
        assert records.offsets.tolist() == [record.offset for record in theirs]
        assert next_offset == theirs.next_fetch_offset


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("kind", [0, 0x08, 0x10, 0x20, 0x30])
def test_a_batch_is_what_its_attributes_say(codec: int, kind: int) -> None:
    """Bits 0 to 2 are the codec, 3 whose time it is, 4 a transaction's, 5 a marker's."""
    header = _Header(0, 0, 0, 2, 0, codec | kind, 0, 5, 7, 0, 0, 0, 1)
    assert header.codec == codec
    assert header.appended_ms == (7 if kind == 0x08 else -1)
    assert header.is_transactional == (kind in (0x10, 0x30))
    assert header.is_control == (kind in (0x20, 0x30))
