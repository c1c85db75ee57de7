"""Decides the partition of a key, as Kafka's own clients do, for many keys at once.

Clickstream and orders are co-partitioned because both are sent through it.
"""

from __future__ import annotations

from collections.abc import Sequence

from streams.core.partitioning import PartitionerName, partitions_of_keys

__all__ = ["KeyAssigner"]


class KeyAssigner:
    """Remembers the partition of each key; hashes the unknown ones of a block together."""

    def __init__(self, partitions: int, name: PartitionerName = "murmur2") -> None:
        self.partitions = partitions
        self._name: PartitionerName = name
        self._known: dict[bytes, int] = {}
        self._keyless = 0

    def assign(self, keys: Sequence[bytes | None]) -> list[int]:
        """The partition of each key; records without one go round robin."""
        known = self._known
        fresh = set(keys).difference(known)
        fresh.discard(None)
        if fresh:
            unknown = [key for key in fresh if key is not None]
            found = partitions_of_keys(unknown, self._name, self.partitions)
            known.update(zip(unknown, found.tolist(), strict=True))
        if None not in keys:
            return list(map(known.__getitem__, keys))  # type: ignore[arg-type]
        return [self._next() if key is None else known[key] for key in keys]

    def _next(self) -> int:
        self._keyless += 1
        return self._keyless % self.partitions
