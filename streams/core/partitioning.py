"""Which partition a key belongs to, and which records are in another one.

A shard has all of a customer's events only if producers of both topics choose partitions alike. A
producer with another hash gives one customer two lives, in two shards that overwrite each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from streams.core.events.records import Records
from streams.kernels.partitioners import CRC32, FNV1A, MURMUR2, crc32_table, key_partitions

__all__ = ["Partitioner", "PartitionerName", "explain_misplaced", "partitions_of_keys"]

PartitionerName = Literal["murmur2", "crc32", "fnv1a"]

_WHICH: Final[dict[str, int]] = {"murmur2": MURMUR2, "crc32": CRC32, "fnv1a": FNV1A}
_TABLE: Final = crc32_table()
_ADDED: Final = "`tideline repartition` moves the state to more"
_BY_HAND: Final = (
    "no partitioner known here puts them there; perhaps the producer names the partition itself, "
    f"or partitions were added ({_ADDED})"
)
_TELLING: Final = 1_000  # to 1: the odds against a number of partitions that fits by chance
_USED_BY: Final[dict[str, str]] = {
    "murmur2": "Java's clients, kafka-python, aiokafka, kafkajs from version 2, franz-go",
    "crc32": "librdkafka: confluent-kafka, node-rdkafka, rust-rdkafka, php-rdkafka",
    "fnv1a": "Sarama for Go",
}


@dataclass(frozen=True)
class Partitioner:
    """How producers choose among `partitions` partitions: by which hash of the key."""

    name: PartitionerName
    partitions: int

    def of(self, records: Records) -> NDArray[np.int32]:
        """The partition of each record's key, int32 [n]; -1: it has none."""
        return self.of_keys(records.data, records.key_at, records.key_bytes)

    def of_keys(
        self, data: NDArray[np.uint8], at: NDArray[np.int64], size: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """As `of`, for keys in data[at[i] : at[i] + size[i]]; a size below 0 means no key.

        A multiple of `partitions` splits each partition and mixes none: every key of partition p is
        then in p, p + partitions, p + 2 partitions and so on, whatever the hash.
        """
        found = np.empty(len(at), np.int32)
        data = data.view()
        data.flags.writeable = False  # one compiled version, whatever the buffer is
        key_partitions(data, at, size, _WHICH[self.name], self.partitions, _TABLE, found)
        return found

    def misplaced(self, records: Records, partition: int) -> NDArray[np.int64]:
        """The positions of records whose key belongs to another partition, int64 [k]."""
        of_key = self.of(records)
        return np.flatnonzero((of_key != partition) & (of_key >= 0))


def explain_misplaced(records: Records, partition: int, expected: Partitioner) -> str:
    """Who may have written `records`, none of which `expected` puts into `partition`, in words.

    >>> none = np.zeros(2, np.int64)
    >>> sent = Records.of(none, none, [b"P1", b"P2"], [b"", b""])
    >>> explain_misplaced(sent, 3, Partitioner("murmur2", 4))  # doctest: +ELLIPSIS
    'no partitioner known here puts them there; perhaps the producer names the partition itself, ...
    """

    def fits(name: PartitionerName, partitions: int) -> bool:
        return not len(Partitioner(name, partitions).misplaced(records, partition))

    n = expected.partitions
    for name in get_args(PartitionerName):
        if name != expected.name and fits(name, n):
            return f"{name} puts them there, the default of {_USED_BY[name]}"
    for added in range(n + 1, 4 * n + 1):
        if added ** len(records) >= _TELLING and fits(expected.name, added):
            return f"{expected.name} of {added} partitions puts them there: {_ADDED}"
    return _BY_HAND


def partitions_of_keys(
    keys: Sequence[bytes], name: PartitionerName, partitions: int
) -> NDArray[np.int32]:
    """The partition of each key, int32 [n].

    >>> partitions_of_keys([b"21", b"foobar"], "murmur2", 1 << 20).tolist()
    [194796, 293822]
    """
    none = np.empty(len(keys), np.int64)
    return Partitioner(name, partitions).of(Records.of(none, none, keys, keys))
