"""One look at all consumer groups, and what is made of it: JSON, and rows for ClickHouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.tables import TABLES
from streams.lag.status import STATUSES, GroupLag
from streams.lag.trends import retention_ratio

__all__ = ["LagReport", "document", "group_document", "table_columns"]

_OK: Final = STATUSES.index("ok")
_NUMBERS: Final = (
    "partition", "committed", "log_end", "lag_records", "lag_seconds", "records_per_second",
    "retention_ratio", "subscribed",
)  # fmt: skip


@dataclass(frozen=True)
class LagReport:
    """One look. `problems` says, in words, which answers were missing."""

    observed_at_ms: int
    groups: tuple[GroupLag, ...]
    problems: tuple[str, ...] = ()
    poll_seconds: float = 0.0
    answered: bool = True
    """False: no broker gave any answer."""

    def group(self, name: str) -> GroupLag | None:
        return next((each for each in self.groups if each.consumer_group == name), None)


def group_document(group: GroupLag, *, partitions: bool = True) -> dict[str, Any]:
    """A group as JSON; null where there is no number."""
    found: dict[str, Any] = {
        "consumer_group": group.consumer_group,
        "status": group.status,
        "ours": group.ours,
        "members": group.members,
        "total_records": group.total_records,
        "max_records": group.max_records,
        "max_seconds": group.max_seconds,
        "records_per_second": _rounded(group.records_per_second),
        "partition_count": len(group.names),
    }
    if partitions:
        found["partitions"] = [
            {key: _rounded(value) for key, value in asdict(each).items()}
            for each in group.partitions
        ]
    return found


def document(
    report: LagReport, *, partitions: bool = True, only: Sequence[str] = ()
) -> dict[str, Any]:
    """The report as JSON; `only` names groups, all if there are none."""
    return {
        "observed_at_ms": report.observed_at_ms,
        "up": report.answered and not report.problems,
        "groups": [
            group_document(each, partitions=partitions)
            for each in report.groups
            if not only or each.consumer_group in only
        ],
        "problems": list(report.problems),
    }


def table_columns(report: LagReport, *, everything: bool = True) -> dict[str, Any]:
    """The `consumer_lag` table's columns, lists of words and arrays of numbers, all of one length;
    -1 and NaN where there is no number. Made of arrays: of tens of thousands of partitions, objects
    would be the largest thing that the monitor holds.

    everything: also the partitions of other groups than ours that have nothing to catch up on.
    """
    words: dict[str, list[str]] = {"consumer_group": [], "topic": [], "status": []}
    numbers: dict[str, list[NDArray[Any]]] = {name: [np.zeros(0, np.int64)] for name in _NUMBERS}
    for group in report.groups:
        c = group.columns
        quiet = (c.lag == 0) & (c.status == _OK) & (not (everything or group.ours))
        rows = np.flatnonzero(~quiet)
        names = [group.names[row] for row in rows.tolist()]
        words["consumer_group"] += [group.consumer_group] * len(rows)
        words["topic"] += [topic for topic, _ in names]
        words["status"] += [STATUSES[code] for code in c.status[rows].tolist()]
        numbers["partition"].append(np.array([number for _, number in names], np.int64))
        for name, column in (
            ("committed", c.committed), ("log_end", c.log_end), ("lag_records", c.lag)
        ):  # fmt: skip
            numbers[name].append(np.maximum(column[rows], -1))
        unread = retention_ratio(c.committed[rows], c.log_start[rows], c.log_end[rows])
        for name, found in (
            ("lag_seconds", c.lag_seconds[rows]),
            ("records_per_second", c.velocity[rows]),
            ("retention_ratio", unread),
        ):
            numbers[name].append(np.where(np.isfinite(found), found, np.nan))
        numbers["subscribed"].append(c.subscribed[rows])
    columns: dict[str, Any] = {name: np.concatenate(parts) for name, parts in numbers.items()}
    columns["observed_at"] = np.full(len(columns["partition"]), report.observed_at_ms, np.int64)
    columns |= words
    return {name: columns[name] for name in TABLES["consumer_lag"].columns}


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
