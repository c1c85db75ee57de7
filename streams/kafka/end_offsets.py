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
from kafka.errors import LeaderNotAvailableError

from streams.kafka import clients
from streams.kafka.access import KafkaAccess

__all__ = ["EndOffsets", "Partition"]

_PORTION: Final = 100  # partitions in one question at least; the answers are large, as objects
_PORTIONS: Final = 10  # questions at most: each is a round trip
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
        found: dict[Partition, int] = {}
        portions = _portions(partitions)
        for asked in portions:
            self._consumer.assign(asked)
            listed = self._list(self._consumer.end_offsets, asked)
            for partition in asked:
                self._consumer.seek(partition, listed[partition])
            unanswered = set(asked)
            deadline = time.monotonic() + self._timeout_seconds / len(portions)
            while unanswered and time.monotonic() < deadline:
                self._consumer.poll(timeout_ms=20, max_records=_ANY)
                unanswered = {tp for tp in unanswered if self._consumer.highwater(tp) is None}
            for tp in asked:
                found[tp.topic, tp.partition] = max(listed[tp], self._consumer.highwater(tp) or 0)
            self._consumer.unsubscribe()  # drops the watermarks: the next call fetches new ones
        return found

    def beginnings_of(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The first offset of each partition that the log still holds; all must exist."""
        found: dict[Partition, int] = {}
        for asked in _portions(partitions):
            self._consumer.assign(asked)  # else the leaders of other topics only may be known
            for tp, offset in self._list(self._consumer.beginning_offsets, asked).items():
                found[tp.topic, tp.partition] = offset
            self._consumer.unsubscribe()
        return found

    def _list(self, question: Any, asked: list[TopicPartition]) -> dict[TopicPartition, int]:
        try:
            found: dict[TopicPartition, int] = question(
                asked, timeout_ms=int(self._timeout_seconds * 1000)
            )
        except KeyError as error:  # kafka-python's way to say so
            raise LeaderNotAvailableError(f"no leader is known for {error.args[0]}") from error
        return found

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


def _portions(partitions: Collection[Partition]) -> list[list[TopicPartition]]:
    """The partitions in at most `_PORTIONS` lists, sorted, so that a topic is in few of them."""
    asked = [TopicPartition(*partition) for partition in sorted(partitions)]
    size = max(_PORTION, -(-len(asked) // _PORTIONS))
    return [asked[start : start + size] for start in range(0, len(asked), size)]
