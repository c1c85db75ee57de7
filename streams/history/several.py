"""Several files as one source: their records in time order, and a report of each."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any

from streams.history.report import Report
from streams.history.source import BLOCK_RECORDS, EventHistory, OrderHistory
from streams.replay.records import Block, InputRecord

__all__ = ["Histories"]


@dataclass(frozen=True)
class Histories:
    """At least one file. An order that is in several files comes once from each."""

    files: Sequence[OrderHistory | EventHistory]

    @property
    def reports(self) -> list[Report]:
        return [file.report for file in self.files]

    @property
    def expected_records(self) -> int:
        return sum(file.expected_records for file in self.files)

    def __iter__(self) -> Iterator[Block]:
        if len(self.files) == 1:
            yield from self.files[0]
            return
        merged = heapq.merge(*map(_records, self.files), key=attrgetter("timestamp_ms"))
        while block := list(islice(merged, BLOCK_RECORDS)):
            yield block

    def summary(self) -> dict[str, Any]:
        """What was read, and how: of one file, or of each under `files`."""
        found = [report.as_dict() for report in self.reports]
        return found[0] if len(found) == 1 else {"files": found}


def _records(file: OrderHistory | EventHistory) -> Iterator[InputRecord]:
    for block in file:
        yield from block
