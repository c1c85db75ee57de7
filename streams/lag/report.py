"""One look at all consumer groups, and what is made of it: JSON, and rows for ClickHouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from streams.lag.status import STATUSES, GroupLag

__all__ = ["LagReport", "document", "group_document", "table_columns"]

_OK: Final = STATUSES.index("ok")


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


def table_columns(report: LagReport, *, everything: bool = True) -> dict[str, list[Any]]:
    """The `consumer_lag` table's columns; -1 and NaN where there is no number.

    everything: also the partitions of other groups than ours that have nothing to catch up on.
    """
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "observed_at", "consumer_group", "topic", "partition", "committed", "log_end",
            "lag_records", "lag_seconds", "records_per_second", "retention_ratio", "status",
            "subscribed",
        )
    }  # fmt: skip
    for group in report.groups:
        c = group.columns
        quiet = (c.lag == 0) & (c.status == _OK) & (not (everything or group.ours))
        rows = np.flatnonzero(~quiet).tolist()
        shown = [group.row(index) for index in rows]
        columns["observed_at"] += [report.observed_at_ms] * len(rows)
        columns["consumer_group"] += [group.consumer_group] * len(rows)
        for name in ("topic", "partition", "status"):
            columns[name] += [getattr(each, name) for each in shown]
        for name in ("committed", "log_end", "lag_records"):
            columns[name] += [_or(getattr(each, name), -1) for each in shown]
        for name in ("lag_seconds", "records_per_second", "retention_ratio"):
            columns[name] += [_or(getattr(each, name), float("nan")) for each in shown]
        columns["subscribed"] += [int(each.subscribed) for each in shown]
    return columns


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
