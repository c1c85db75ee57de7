"""Partitions are those that the clients' own partitioners choose."""

from __future__ import annotations

import random
import zlib

import numpy as np
import pytest
from aiokafka.partitioner import murmur2

from streams.core.events.records import Records
from streams.core.partitioning import Partitioner, PartitionerName, partitions_of_keys

KEYS = [random.Random(n).randbytes(n % 41) for n in range(1_000)]


@pytest.mark.parametrize("partitions", [1, 3, 4, 12, 97])
def test_murmur2_is_that_of_kafkas_clients(partitions: int) -> None:
    theirs = [(murmur2(key) & 0x7FFFFFFF) % partitions for key in KEYS]
    assert partitions_of_keys(KEYS, "murmur2", partitions).tolist() == theirs


@pytest.mark.parametrize("partitions", [1, 3, 4, 12, 97])
def test_crc32_is_that_of_librdkafka(partitions: int) -> None:
    theirs = [zlib.crc32(key) % partitions for key in KEYS]
    assert partitions_of_keys(KEYS, "crc32", partitions).tolist() == theirs


def test_fnv1a_is_that_of_sarama() -> None:
    # Published vectors of FNV-1a, 32 bits (draft-eastlake-fnv, appendix C).
    vectors = {b"": 0x811C9DC5, b"a": 0xE40C292C, b"b": 0xE70C2DE5, b"foobar": 0xBF9CF968}
    for partitions in (3, 4, 97):
        signed = [h - (1 << 32) if h >> 31 else h for h in vectors.values()]
        theirs = [abs(h) % partitions for h in signed]
        assert partitions_of_keys(list(vectors), "fnv1a", partitions).tolist() == theirs


@pytest.mark.parametrize("name", ["murmur2", "crc32", "fnv1a"])
@pytest.mark.parametrize("partitions", [1, 2, 3, 4, 12, 97])
def test_a_multiple_of_partitions_splits_each_and_mixes_none(
    name: PartitionerName, partitions: int
) -> None:
    before = partitions_of_keys(KEYS, name, partitions)
    for times in (2, 3, 7):
        after = partitions_of_keys(KEYS, name, times * partitions)
        assert (after % partitions == before).all()
        assert len(np.unique(after)) > len(np.unique(before))


@pytest.mark.parametrize("name", ["murmur2", "crc32", "fnv1a"])
def test_misplaced_records_are_those_of_other_partitions(name: PartitionerName) -> None:
    n = len(KEYS)
    keys = [None if i % 5 == 0 else key for i, key in enumerate(KEYS)]
    at = np.arange(n, dtype=np.int64)
    records = Records.of(at, at, keys, keys)
    partitioner = Partitioner(name, 4)
    of_key = partitions_of_keys(KEYS, name, 4)
    right = [i for i in range(n) if keys[i] is None or of_key[i] == 2]
    assert set(partitioner.misplaced(records, 2).tolist()) == set(range(n)) - set(right)
    assert len(partitioner.misplaced(records[np.array(right)], 2)) == 0


def test_a_record_without_a_key_belongs_to_no_partition() -> None:
    one = np.zeros(1, np.int64)
    assert Partitioner("murmur2", 4).of(Records.of(one, one, [None], [b"v"])).tolist() == [-1]
