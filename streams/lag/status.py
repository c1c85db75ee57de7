"""Consumer lag from a partition's committed and end offsets: arithmetic only.

A group that has not committed is not "behind by the whole log", and an unknown
offset is not zero: both have no number. The committed offset must be read *before* the end offset,
else a moving log makes lag negative; it is clamped at 0 all the same (as Burrow does).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from streams.kafka.end_offsets import Partition

__all__ = ["GroupLag", "PartitionLag", "Status", "partition_lag", "partition_lags"]

Status = Literal["ok", "lagging", "uncommitted", "unknown"]


@dataclass(frozen=True)
class PartitionLag:
    """One partition of one consumer group; None is "no number", never 0 or -1."""

    topic: str
    partition: int
    committed: int | None
    log_end: int | None
    lag_records: int | None
    status: Status


@dataclass(frozen=True)
class GroupLag:
    """A consumer group's partitions, and the totals over those with a number."""

    consumer_group: str
    partitions: tuple[PartitionLag, ...]

    @property
    def total_records(self) -> int | None:
        lags = [p.lag_records for p in self.partitions if p.lag_records is not None]
        return sum(lags) if lags else None

    @property
    def max_records(self) -> int | None:
        return max(
            (p.lag_records for p in self.partitions if p.lag_records is not None), default=None
        )

    @property
    def status(self) -> Status:
        """The worst of the partitions; an unknown one is worse than a lagging one."""
        worst_first: tuple[Status, ...] = ("unknown", "lagging", "uncommitted")
        seen = {p.status for p in self.partitions}
        return next((status for status in worst_first if status in seen), "ok")


def partition_lag(
    partition: Partition,
    committed: Mapping[Partition, int] | None,
    log_end: Mapping[Partition, int],
    allowed_lag_records: int = 0,
) -> PartitionLag:
    """One partition's lag.

    `committed` holds the partitions with a committed offset (a negative one counts as none) and is
    None if the broker gave no answer; `log_end` holds those whose end is known.

    >>> partition_lag(("orders", 0), {("orders", 0): 7}, {("orders", 0): 10}).lag_records
    3
    >>> partition_lag(("orders", 0), {("orders", 0): -1}, {("orders", 0): 10}).status
    'uncommitted'
    """
    topic, number = partition
    end = log_end.get(partition)
    if committed is None:
        return PartitionLag(topic, number, None, end, None, "unknown")
    offset = committed.get(partition, -1)
    if offset < 0:
        return PartitionLag(topic, number, None, end, None, "uncommitted")
    if end is None:
        return PartitionLag(topic, number, offset, None, None, "unknown")
    lag = max(0, end - offset)
    status: Status = "ok" if lag <= allowed_lag_records else "lagging"
    return PartitionLag(topic, number, offset, end, lag, status)


def partition_lags(
    partitions: Iterable[Partition],
    committed: Mapping[Partition, int] | None,
    log_end: Mapping[Partition, int],
    allowed_lag_records: int = 0,
) -> tuple[PartitionLag, ...]:
    """`partition_lag` of each, in order of topic and partition."""
    return tuple(
        partition_lag(partition, committed, log_end, allowed_lag_records)
        for partition in sorted(partitions)
    )
