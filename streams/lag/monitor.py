"""Watches consumer lag from outside the workers: one poll is one `LagReport`.

It is a process beside the workers: kafka-python's admin blocks, and a monitor inside a worker dies
with it. A bad answer does not stop it: the lag becomes `unknown`, with a problem in words, and the
next group, topic or poll follows.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka.errors import KafkaError

from schemas.errors import BrokerUnavailable
from streams.kafka.access import kafka_access
from streams.kafka.admin import committed_offsets, connect, partition_counts
from streams.kafka.end_offsets import EndOffsets, Partition
from streams.lag.status import GroupLag, partition_lags
from streams.settings import Settings
from streams.telemetry.metrics import LAG_STATUSES, Metrics

__all__ = [
    "LagReport",
    "poll",
    "poll_once",
    "publish",
    "reports",
    "table_columns",
    "unreachable",
    "watched",
]

T = TypeVar("T")


@dataclass(frozen=True)
class LagReport:
    """The result of one poll. `problems` says, in words, which answers were missing."""

    observed_at_ms: int
    groups: tuple[GroupLag, ...]
    problems: tuple[str, ...] = ()
    poll_seconds: float = 0.0


def watched(settings: Settings) -> dict[str, dict[str, int]]:
    """Consumer group -> topic -> partitions as configured (used where the broker does not say)."""
    names, kafka = settings.topic_names, settings.kafka
    return {
        kafka.app_id: {
            names.clickstream: kafka.partitions,
            names.orders: kafka.partitions,
        },
        names.learner_group: {names.examples: 1},
    }


def poll_once(settings: Settings, timeout_seconds: float = 10.0) -> LagReport:
    """Connect, poll, disconnect. Raises BrokerUnavailable only if no broker can be reached."""
    access = kafka_access(settings)
    with connect(access, timeout_seconds) as admin, EndOffsets(access, timeout_seconds) as ends:
        return poll(admin, ends, watched(settings))


def poll(admin: Any, ends: EndOffsets, groups: Mapping[str, Mapping[str, int]]) -> LagReport:
    """One poll. In this order, so that lag can't come out negative:

    1. Partition counts of every topic.
    2. Committed offsets, group by group: kafka-python raises for all if one of several fails.
    3. End offsets, topic by topic.
    """
    started = time.monotonic()
    problems: list[str] = []

    def ask(what: str, question: Callable[..., T], *args: Any) -> T | None:
        # ValueError: kafka-python could not parse the answer, as with Tansu's group descriptions
        try:
            return question(*args)
        except (KafkaError, OSError, ValueError) as error:
            problems.append(f"{what}: {type(error).__name__}")
            return None

    names = sorted({topic for topics in groups.values() for topic in topics})
    counted = ask("partition counts", partition_counts, admin, names)
    counts: Mapping[str, int] = {} if counted is None else counted
    missing = [] if counted is None else [name for name in names if name not in counted]
    problems.extend(f"topic {n} does not exist; run `tideline topics --create`" for n in missing)

    partitions: dict[str, list[Partition]] = {
        group: [
            (topic, number)
            for topic, configured in topics.items()
            for number in range(counts.get(topic, configured))
        ]
        for group, topics in groups.items()
    }
    committed = {
        group: ask(f"committed offsets of {group}", committed_offsets, admin, group)
        for group in groups
    }
    log_end: dict[Partition, int] = {}
    answers = counted is not None or any(offsets is not None for offsets in committed.values())
    for name in sorted(set(names) - set(missing)) if answers else ():
        of_topic = {p for group in partitions.values() for p in group if p[0] == name}
        log_end |= ask(f"end offsets of {name}", ends.of, of_topic) or {}
    return LagReport(
        time.time_ns() // 1_000_000,
        tuple(
            GroupLag(group, partition_lags(partitions[group], committed[group], log_end))
            for group in groups
        ),
        tuple(problems),
        time.monotonic() - started,
    )


def unreachable(settings: Settings, why: str) -> LagReport:
    """The report of a poll that reached no broker: everything is `unknown`."""
    groups = tuple(
        GroupLag(
            group,
            partition_lags([(t, p) for t, n in topics.items() for p in range(n)], None, {}),
        )
        for group, topics in watched(settings).items()
    )
    return LagReport(time.time_ns() // 1_000_000, groups, (why,))


def reports(
    settings: Settings,
    interval_seconds: float,
    timeout_seconds: float = 10.0,
    pause: Callable[[float], bool | None] = time.sleep,
) -> Generator[LagReport]:
    """A report every `interval_seconds`; reconnects by itself.

    `pause` waits for a number of seconds; the reports end when it returns True.
    """
    access = kafka_access(settings)
    while True:
        with (
            contextlib.suppress(BrokerUnavailable),
            connect(access, timeout_seconds) as admin,
            EndOffsets(access, timeout_seconds) as ends,
        ):
            while True:
                started = time.monotonic()
                report = poll(admin, ends, watched(settings))
                yield report
                if report.problems and all(g.status == "unknown" for g in report.groups):
                    break  # no answer at all: connect again
                if pause(max(0.0, interval_seconds - (time.monotonic() - started))):
                    return
        yield unreachable(settings, "Kafka does not answer")
        if pause(interval_seconds):
            return


def publish(report: LagReport, metrics: Metrics) -> None:
    """Set the gauges. A lag that is no number has no sample."""
    metrics.lag_monitor_up.set(not report.problems)
    metrics.lag_monitor_poll_seconds.set(report.poll_seconds)
    for group in report.groups:
        for each in group.partitions:
            labels = (group.consumer_group, each.topic, str(each.partition))
            if each.lag_records is not None:
                metrics.consumer_lag_records.labels(*labels).set(each.lag_records)
            else:
                metrics.consumer_lag_records.remove(*labels)
            for status in LAG_STATUSES:
                metrics.consumer_status.labels(*labels, status).set(each.status == status)


def table_columns(report: LagReport) -> dict[str, list[Any]]:
    """The `consumer_lag` table's columns; -1 where there is no number."""

    def number(value: int | None) -> int:
        return -1 if value is None else value

    rows = [(group.consumer_group, each) for group in report.groups for each in group.partitions]
    return {
        "observed_at": [report.observed_at_ms] * len(rows),
        "consumer_group": [group for group, _ in rows],
        "topic": [each.topic for _, each in rows],
        "partition": [each.partition for _, each in rows],
        "committed": [number(each.committed) for _, each in rows],
        "log_end": [number(each.log_end) for _, each in rows],
        "lag_records": [number(each.lag_records) for _, each in rows],
        "status": [each.status for _, each in rows],
    }
