"""True end offsets, also from a broker whose ListOffsets understates them.

Tansu (the local broker) answers "latest" with the first offset of the last batch plus one, so a
batch of a thousand records hides 999 of them. The high watermark in a fetch's answer is right on
every broker. So: ask ListOffsets, fetch from there, take the high watermark. At the true end of a
partition a fetch brings nothing, so on Apache Kafka this costs one empty answer.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Final

from kafka import TopicPartition

from streams.kafka import clients
from streams.kafka.access import KafkaAccess

__all__ = ["EndOffsets", "Partition"]

_ANY: Final = 1_000_000  # records at a time: a partition that has some answers once they are taken

Partition = tuple[str, int]
"""(topic, partition)"""


class EndOffsets:
    """Reads end offsets (the next record's offset). Blocks; kafka-python's errors pass through."""

    def __init__(self, where: KafkaAccess | Sequence[str], timeout_seconds: float = 10.0) -> None:
        self._access = KafkaAccess.of(where)
        self._timeout_seconds = timeout_seconds
        self._prober: Any = None
        self._consumer = self._new_consumer("read_uncommitted")

    def _new_consumer(self, isolation_level: str) -> Any:
        return clients.consumer(
            self._access,
            client_id="tideline-offsets",
            isolation_level=isolation_level,
            fetch_max_wait_ms=10,
            # In a session, a broker leaves out what has not changed since the last fetch: the
            # answer for a log that stands still would be waited for until the timeout.
            enable_incremental_fetch_sessions=False,
            max_partition_fetch_bytes=1,  # one batch at most: only the response's header matters
            bootstrap_timeout_ms=int(self._timeout_seconds * 1000),
        )

    def of(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The end offset of each partition; all must exist."""
        asked = [TopicPartition(*partition) for partition in partitions]
        if not asked:
            return {}
        self._consumer.assign(asked)
        listed = self._consumer.end_offsets(asked, timeout_ms=int(self._timeout_seconds * 1000))
        for partition in asked:
            self._consumer.seek(partition, listed[partition])
        unanswered = set(asked)
        deadline = time.monotonic() + self._timeout_seconds
        while unanswered and time.monotonic() < deadline:
            self._consumer.poll(timeout_ms=20, max_records=_ANY)
            unanswered = {tp for tp in unanswered if self._consumer.highwater(tp) is None}
        ends = {tp: max(listed[tp], self._consumer.highwater(tp) or 0) for tp in asked}
        self._consumer.unsubscribe()  # drops the watermarks, so that the next call fetches new ones
        return {(tp.topic, tp.partition): end for tp, end in ends.items()}

    def beginnings_of(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The first offset of each partition that the log still holds; all must exist."""
        asked = [TopicPartition(*partition) for partition in partitions]
        if not asked:
            return {}
        timeout_ms = int(self._timeout_seconds * 1000)
        found = self._consumer.beginning_offsets(asked, timeout_ms=timeout_ms)
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    def nothing_between(self, partition: Partition, start: int, end: int) -> bool:
        """Whether there is no record in [start, end): only markers of transactions, what was
        aborted, or compacted away. Reads at most one record; needs the right to read the topic."""
        if self._prober is None:
            self._prober = self._new_consumer("read_committed")
        place = TopicPartition(*partition)
        self._prober.assign([place])
        self._prober.seek(place, start)
        deadline = time.monotonic() + min(1.0, self._timeout_seconds)
        try:
            while time.monotonic() < deadline:
                if self._prober.poll(timeout_ms=20, max_records=1):
                    return False
                if self._prober.position(place) >= end:
                    return True
            return False
        finally:
            self._prober.unsubscribe()

    def close(self) -> None:
        self._consumer.close()
        if self._prober is not None:
            self._prober.close()

    def __enter__(self) -> EndOffsets:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
