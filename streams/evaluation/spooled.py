"""A history on disk, read back in groups of customers: one after the other fits into memory.

    blocks ──▶ spool by customer and time ──▶ each group's records ──▶ its orders as columns

What is kept in memory of the whole history is one number per customer. So millions of customers
need no more of it than one group does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.core.events.events import DecodeRules
from streams.core.events.records import CLICKSTREAM, ORDERS, SOURCES, Records
from streams.core.hashing import hashes
from streams.evaluation.history import History, Undone, check_orders, history_of
from streams.evaluation.rhythm import usual_gap_days
from streams.replay.records import Block
from streams.replay.spool import Spool

__all__ = ["Group", "SpooledHistory", "Survey"]

PARTITIONS: Final = 64
RUN_RECORDS: Final = 100_000
"""Objects of so many records are in memory at a time, and what they leave of it is in pieces that
don't go back to the system: of 500,000 nearly 200 MB."""
GROUP_RECORDS: Final = 400_000
"""In memory at a time; with their state about 270 MB."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Group:
    """The orders of some customers; user_hash: uint64 [users], xxh64 of each customer's id."""

    history: History
    user_hash: NDArray[np.uint64]

    def numbers(self, user_hash: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Which customers have these hashes, all of them customers here: int64 [k]."""
        by_hash, ascending = self._by_hash
        found: NDArray[np.int64] = by_hash[np.searchsorted(ascending, user_hash)]
        return found

    @cached_property
    def _by_hash(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        by_hash = np.argsort(self.user_hash)
        return by_hash, self.user_hash[by_hash]


@dataclass(frozen=True)
class Survey:
    """What is known of a whole history once it was read through. Times: ms since 1970 UTC."""

    first_ms: int
    last_ms: int
    """Of the placed orders."""
    customers: int
    orders: int
    clicks: bool
    """Whether there are any."""
    gap_days: NDArray[np.float64]
    """The usual gap of each customer who has one, ascending, in days."""


class SpooledHistory:
    """Files are added, then it is surveyed, then each group may be read any number of times."""

    def __init__(self, directory: Path, rules: DecodeRules) -> None:
        self._directory = directory
        self._rules = rules
        self._spool = Spool(directory / "records", "murmur2", PARTITIONS, RUN_RECORDS)
        self._files: list[str] = []
        self._groups: list[list[int]] = []

    def add(self, blocks: Iterable[Block]) -> Iterator[int]:
        """Write a file's records; yields how many so far. Raises SettingsError if the disk is
        full."""
        name = f"{len(self._files):05}"
        yield from self._spool.add(name, blocks, {}, export=False)
        self._files.append(name)

    def survey(self, progress: Progress) -> Survey:
        """Read everything once. Raises SettingsError if nothing can be learned of it, or for an
        order in a currency without a rate."""
        self._groups = list(_grouped(self._spool.summary(self._files).records))
        orders = customers = 0
        clicks = False
        spans, amounts, gaps, names = [], [], [np.empty(0)], [""]
        for number in range(len(self._groups)):
            records = self.records(number)
            clicks |= len(records[CLICKSTREAM]) > 0
            history = history_of(records[ORDERS], self._rules)
            self._keep(number, history)
            if len(history.ts_ms):
                orders, customers = orders + len(history.ts_ms), customers + len(history.users)
                spans.append((history.first_ms, int(history.ts_ms.max())))
                amounts.append((float(history.amount.min()), float(history.amount.max())))
                standing = history.standing()
                gaps.append(usual_gap_days(standing.user, standing.ts_ms))
                names = history.users[:1]
            progress("read", (number + 1) / len(self._groups))
        low, high = (min(a for a, _ in amounts), max(b for _, b in amounts)) if orders else (0, 0)
        check_orders(orders, customers, names[0], low, high)
        return Survey(
            min(first for first, _ in spans), max(last for _, last in spans),
            customers, orders, clicks, np.sort(np.concatenate(gaps)),
        )  # fmt: skip

    def __len__(self) -> int:
        """Groups, once it was surveyed."""
        return len(self._groups)

    def records(self, number: int) -> tuple[Records, Records]:
        """A group's clicks and orders, each in time order."""
        found: dict[int, list[Records]] = {source: [] for source in SOURCES}
        for source, _, records in self._spool.read(self._files, self._groups[number]):
            found[source].append(records)
        clicks, orders = (Records.concat(found[source]) for source in SOURCES)
        return clicks, orders

    def group(self, number: int) -> Group:
        """A group's orders as columns."""
        with np.load(self._columns(number), allow_pickle=False) as columns:
            undone = Undone(*(columns[f"undone_{name}"] for name in _UNDONE))
            history = History(
                columns["users"].tolist(), columns["user"], columns["ts_ms"], columns["amount"],
                Records.empty(), undone,
            )  # fmt: skip
            return Group(history, columns["user_hash"])

    def _keep(self, number: int, history: History) -> None:
        columns: dict[str, NDArray[Any]] = {name: getattr(history, name) for name in _ORDERS}
        columns |= {f"undone_{name}": getattr(history.undone, name) for name in _UNDONE}
        columns["users"] = np.array(history.users, np.str_)
        columns["user_hash"] = hashes(history.users)
        np.savez(self._columns(number), allow_pickle=False, **columns)

    def _columns(self, number: int) -> Path:
        return self._directory / f"orders-{number:05}.npz"


_ORDERS: Final = ("user", "ts_ms", "amount")
_UNDONE: Final = ("order", "ts_ms", "amount")


def _grouped(records: Sequence[int]) -> Iterator[list[int]]:
    """Partitions with so many records each, in groups that hold about as many as fit."""
    group: list[int] = []
    held = 0
    for partition, count in enumerate(records):
        if group and held + count > GROUP_RECORDS:
            yield group
            group, held = [], 0
        group.append(partition)
        held += count
    yield group
