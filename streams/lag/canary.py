"""Canaries: which are on their way, how long they took, and how old the newest readable one is.

The lag monitor sends one to every partition of the clickstream every few seconds, and looks for its
row in ClickHouse: what it measures is the whole pipeline, also when no event comes. This module
decides; `streams.lag.canary_run` asks Kafka and ClickHouse. All times are milliseconds since 1970,
by the monitor's clock.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from streams.telemetry.metrics import Metrics

__all__ = ["LOST_MS", "CanaryRow", "CanaryWatch", "OnItsWay"]

LOST_MS: Final = 3_600_000
"""A canary that can't be read after an hour is given up, and counted as `lost`."""
_SAME_MS: Final = 1_000
"""A row of another life of the topic has the same offset, but hardly the same second."""


class CanaryRow(NamedTuple):
    """A row of `canaries`."""

    partition: int
    offset: int
    recorded_ms: int


class OnItsWay(NamedTuple):
    """Where the canaries of one partition are that were sent and not read yet."""

    partition: int
    first_offset: int
    last_offset: int


@dataclass
class _Partition:
    first_sent_ms: int
    waiting: dict[int, tuple[int, int]] = field(default_factory=dict)
    """offset -> the record's time, and when it was sent; in the order of sending."""
    newest_read_ms: int = 0
    """When the newest readable one was sent; 0: none was read."""


class CanaryWatch:
    """What was sent and read; used by the thread that sends, the one that reads, and the pages."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._partitions: dict[int, _Partition] = {}
        self._read_before: Mapping[int, int] = {}
        self.troubles: dict[str, str] = {}
        """What does not work now: `send` or `read` -> why."""

    def known_before(self, newest: Iterable[tuple[int, int]]) -> None:
        """What was readable when the monitor started: partition and time of the newest canary."""
        self._read_before = dict(newest)

    def sent(self, partition: int, offset: int, recorded_ms: int, sent_ms: int) -> None:
        """One is in the topic at this offset, with this time of its record."""
        with self._lock:
            found = self._partitions.setdefault(partition, _Partition(sent_ms))
            found.waiting.pop(offset, None)  # of a topic that was deleted since
            found.waiting[offset] = recorded_ms, sent_ms

    def keep(self, partitions: Iterable[int]) -> None:
        """Forget all other partitions: the topic does not have them any more."""
        with self._lock:
            for gone in set(self._partitions) - set(partitions):
                del self._partitions[gone]

    def on_their_way(self) -> tuple[list[OnItsWay], int]:
        """What to look for; and how many were just given up."""
        lost, latest_ms = 0, self._now_ms() - LOST_MS
        with self._lock:
            for each in self._partitions.values():
                old = [at for at, (_, sent_ms) in each.waiting.items() if sent_ms < latest_ms]
                lost += len(old)
                for at in old:
                    del each.waiting[at]
            found = [
                OnItsWay(number, min(each.waiting), max(each.waiting))
                for number, each in sorted(self._partitions.items())
                if each.waiting
            ]
        return found, lost

    def read(self, rows: Iterable[CanaryRow]) -> list[float]:
        """These rows are readable now. Returns how many seconds those that waited have taken."""
        now_ms, took = self._now_ms(), []
        with self._lock:
            for row in rows:
                found = self._partitions.get(row.partition)
                if found is None or row.offset not in found.waiting:
                    continue
                recorded_ms, sent_ms = found.waiting[row.offset]
                if abs(row.recorded_ms - recorded_ms) < _SAME_MS:
                    del found.waiting[row.offset]
                    found.newest_read_ms = max(found.newest_read_ms, sent_ms)
                    took.append(max(0, now_ms - sent_ms) / 1000)
        return took

    def feed(self, metrics: Metrics) -> None:
        """From now on the metric of ages shows what is known at the time of the question."""
        metrics.canary_age_seconds.samples = self._samples

    def _samples(self) -> Iterator[tuple[Sequence[str], float]]:
        for number, each in self._all():
            yield (str(number),), self._age_seconds(number, each)

    def _all(self) -> list[tuple[int, _Partition]]:
        with self._lock:
            return sorted(self._partitions.items())

    def _age_seconds(self, number: int, found: _Partition) -> float:
        """Of the newest readable one, of this monitor or one before it; without any, of the first
        that was sent: it can't be read for as long as that."""
        since_ms = found.newest_read_ms or self._read_before.get(number) or found.first_sent_ms
        return max(0, self._now_ms() - since_ms) / 1000

    def document(self) -> dict[str, Any]:
        """For the page /v1/canary."""
        return {
            "troubles": dict(self.troubles),
            "partitions": [
                {
                    "partition": number,
                    "age_seconds": self._age_seconds(number, each),
                    "newest_readable_sent_at_ms": each.newest_read_ms or None,
                    "waiting": len(each.waiting),
                }
                for number, each in self._all()
            ],
        }

    def page(self, path: str) -> tuple[str, str, bytes] | None:
        """The page /v1/canary; None for another path."""
        if path.rstrip("/") != "/v1/canary":
            return None
        return "200 OK", "application/json; charset=utf-8", json.dumps(self.document()).encode()
