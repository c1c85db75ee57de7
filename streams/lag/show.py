"""What the commands print of a report: tables, sparklines, and what to do about a status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from streams.lag.evaluator import group_status
from streams.lag.report import LagReport

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "REMEDIES", "explained", "group_rows", "partition_rows", "sparkline", "watch_table", "worst_of",
]  # fmt: skip

REMEDIES: Final[Mapping[str, tuple[str, str]]] = {
    # status: what it means, what to do
    "ok": ("it keeps up", ""),
    "uncommitted": (
        "the group has not committed an offset here",
        "If the consumer should be running: does it subscribe to the topic, and may it read it?",
    ),
    "pending": (
        "behind, and not watched for long enough to judge",
        "Wait, or ask the running monitor: --monitor URL.",
    ),
    "warn": (
        "it reads, but the lag does not shrink",
        "Too slow for the load: look at its CPU and at what it writes to; add consumers up to the "
        "number of partitions; if one partition is hot, look for a key that has most records.",
    ),
    "stall": (
        "the committed offset does not move, though a member has the partition",
        "It hangs, or fails on a record again and again: read the owner's log; then restart it.",
    ),
    "stop": (
        "nothing was committed for longer than its commits reach back, and no member has it",
        "The consumer is gone: start it. If it runs, it has left the group: read its log.",
    ),
    "rewind": (
        "the committed offset went back",
        "Somebody reset it, or a consumer restored an old one: records are read twice until it is "
        "where it was. Find out who, before it is repeated.",
    ),
    "unknown": (
        "Kafka did not say",
        "Is the topic there, and may this user describe the group and the topic? `tideline doctor`",
    ),
}

_BARS: Final = "▁▂▃▄▅▆▇█"
_COLOURS: Final[Mapping[str, str]] = {"warn": "yellow", "error": "red", "unknown": "magenta"}


def worst_of(groups: Iterable[Mapping[str, Any]]) -> str:
    """The worst status of group documents."""
    return group_status(group["status"] for group in groups)


def group_rows(groups: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Of group documents: GROUP, STATUS, MEMBERS, LAG, SECONDS, RECORDS/S, PARTITIONS."""
    for group in groups:
        yield (
            group["consumer_group"],
            group["status"],
            _count(group["members"]),
            _count(group["total_records"]),
            _tenth(group["max_seconds"]),
            _signed(group["records_per_second"]),
            str(group["partition_count"]),
        )


def partition_rows(report: LagReport) -> Iterator[tuple[str, ...]]:
    """GROUP, TOPIC, PARTITION, COMMITTED, LOG END, LAG, SECONDS, STATUS."""
    for group in report.groups:
        for each in group.partitions:
            yield (
                group.consumer_group,
                each.topic,
                str(each.partition),
                _count(each.committed),
                _count(each.log_end),
                _count(each.lag_records),
                each.no_seconds if each.lag_seconds is None else _tenth(each.lag_seconds),
                each.status,
            )


def sparkline(values: Sequence[int]) -> str:
    """The course of a lag, from 0 to its highest value; a gap where it was not known (negative).

    >>> sparkline([0, 1, 7, -1, 14])
    '▁▂▅ █'
    """
    top = max(*values, 1) if values else 1
    return "".join(
        " " if value < 0 else _BARS[-(-value * (len(_BARS) - 1) // top)] for value in values
    )


def watch_table(report: LagReport, groups: Sequence[str] = ()) -> Table:
    """One line per group, for a live terminal."""
    from rich.table import Table  # noqa: PLC0415  (a tenth of a second)
    from rich.text import Text  # noqa: PLC0415

    at = datetime.fromtimestamp(report.observed_at_ms / 1000, UTC)
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = f"{at:%H:%M:%S} UTC"
    if report.problems:
        table.caption = "\n".join(f"could not tell: {problem}" for problem in report.problems)
    for heading in ("GROUP", "STATUS", "LAG", "SECONDS", "RECORDS/S", "CLOSES IN", "COURSE"):
        table.add_column(heading)
    for group in report.groups:
        if groups and group.consumer_group not in groups:
            continue
        speed, total = group.records_per_second, group.total_records
        closes = total / -speed if speed and total and speed < 0 else None
        cells = (
            group.consumer_group,
            group.status,
            _count(total),
            _tenth(group.max_seconds),
            _signed(speed),
            "" if closes is None else _duration(closes),
            sparkline(group.history_records.tolist()),
        )
        table.add_row(*(Text(cell, style=_COLOURS.get(group.status, "")) for cell in cells))
    return table


def explained(group: Mapping[str, Any], now_ms: int) -> Iterator[str]:
    """Lines about a group document: what each kind of partition has, and what to do."""
    total = group["total_records"]
    yield (
        f"{group['consumer_group']}: {group['status']}"
        + ("" if total is None else f", {total:,} records behind")
        + ("" if group["max_seconds"] is None else f", {_duration(group['max_seconds'])}")
        + ("" if group["members"] is None else f", {group['members']} members")
    )
    partitions = group["partitions"]
    for status in reversed(tuple(REMEDIES)):
        those = [each for each in partitions if each["status"] == status and each["subscribed"]]
        if not those or status == "ok":
            continue
        meaning, remedy = REMEDIES[status]
        yield ""
        yield f"{status}: {meaning}."
        yield from (_line(each, now_ms) for each in those)
        yield f"  {remedy}"
    left = [each for each in partitions if not each["subscribed"] and each["lag_records"]]
    if left:
        topics = ", ".join(sorted({each["topic"] for each in left}))
        yield ""
        yield f"No member subscribes any more to {topics}: its lag is left out, and can only grow."


def _line(each: Mapping[str, Any], now_ms: int) -> str:
    parts = [f"  {each['topic']}/{each['partition']}"]
    if each["lag_records"] is not None:
        parts.append(f"{each['lag_records']:,} records")
    if each["lag_seconds"] is not None:
        parts.append(f"{_duration(each['lag_seconds'])} behind")
    elif each["no_seconds"]:
        parts.append(f"age not known ({each['no_seconds']})")
    if each["records_per_second"] is not None:
        parts.append(f"{_signed(each['records_per_second'])} records/s")
    if each["seconds_to_close"]:
        parts.append(f"closes in {_duration(each['seconds_to_close'])}")
    if each["retention_ratio"]:
        parts.append(f"{each['retention_ratio']:.0%} of the log unread")
    if each["seconds_to_loss"] is not None:
        parts.append(f"data loss in {_duration(each['seconds_to_loss'])}")
    if each["hot"]:
        parts.append("hot")
    parts.append(f"since {_duration((now_ms - each['since_ms']) / 1000)}")
    parts.append(f"owner {each['owner']}" if each["owner"] else "no known owner")
    return ", ".join(parts)


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _tenth(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+,.1f}"


def _duration(seconds: float) -> str:
    """In the largest unit of which there are at least two; hours from three on.

    >>> [_duration(s) for s in (3.21, 119, 7_300, 200_000)]
    ['3 s', '119 s', '122 min', '2 days']
    """
    for least, size, unit in ((172_800, 86_400, "days"), (10_800, 3_600, "h"), (120, 60, "min")):
        if seconds >= least:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
