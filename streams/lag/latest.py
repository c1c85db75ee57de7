"""The newest report, as long as it is new: what metrics and JSON show, and when they show nothing.

A monitor that can't see must not go on showing what it last saw. So everything is made at the time
of the question, and a report that is too old is as good as none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote

import numpy as np

from streams.lag.report import LagReport, document, group_document
from streams.lag.status import STATUSES, Columns, GroupLag
from streams.lag.times import REASONS
from streams.lag.trends import retention_ratio, seconds_to_close, seconds_to_loss
from streams.telemetry.collectors import SampledGauge
from streams.telemetry.health import Health, pages
from streams.telemetry.metrics import GROUP_STATUSES, Metrics

__all__ = ["Latest"]

_MISSED: Final = 3  # intervals without a report, after which the monitor is blind
_SLACK_SECONDS: Final = 10.0
_JSON: Final = "application/json; charset=utf-8"

_Samples = Iterator[tuple[Sequence[str], float]]


class Latest:
    """Holds the newest report; `publish` sets it, from another thread than the readers'."""

    def __init__(
        self, interval_seconds: float, now_ms: Callable[[], int], stuck_seconds: float = 0.0
    ) -> None:
        self._now_ms = now_ms
        self._interval_seconds = interval_seconds
        self._stuck_seconds = stuck_seconds
        self._started_ms = now_ms()
        self._report: LagReport | None = None

    def publish(self, report: LagReport) -> None:
        self._report = report

    def why_blind(self) -> str:
        """Why nothing can be said now; '': something can."""
        report = self._report
        if report is None:
            return "no look at Kafka has ended yet"
        age = (self._now_ms() - report.observed_at_ms) / 1000
        limit = _MISSED * self._interval_seconds + 2 * report.poll_seconds + _SLACK_SECONDS
        if age > limit:
            return f"the last look at Kafka was {age:.0f} s ago"
        return "" if report.answered else "Kafka does not answer"

    def health(self) -> Health:
        """Not ready while it is blind. A restart would help only if no look has ended for too long,
        for one that reaches no broker ends, too."""
        report = self._report
        ended_ms = self._started_ms if report is None else report.observed_at_ms
        age = (self._now_ms() - ended_ms) / 1000 - _MISSED * self._interval_seconds
        stuck = self._stuck_seconds and age > self._stuck_seconds
        why = self.why_blind()
        return Health((why,) if stuck else (), (why,) if why else ())

    def fresh(self) -> LagReport | None:
        """The newest report; None if it is too old. One without answers is fresh: it says so."""
        report = self._report
        return None if report is None or (report.answered and self.why_blind()) else report

    # Metrics

    def feed(self, metrics: Metrics) -> None:
        """From now on the metrics show the newest report."""

        def up() -> float:
            report = self.fresh()
            return float(report is not None and report.answered and not report.problems)

        def poll_seconds() -> float:
            return self._report.poll_seconds if self._report else 0.0

        metrics.lag_monitor_up.set_function(up)
        metrics.live.set_function(lambda: not self.health().dead)
        metrics.ready.set_function(lambda: not self.health().unready)
        metrics.lag_monitor_poll_seconds.set_function(poll_seconds)
        numbers: dict[SampledGauge, Callable[[Columns], Any]] = {
            metrics.consumer_lag_records: lambda c: np.where(c.lag < 0, np.nan, c.lag),
            metrics.consumer_lag_seconds: lambda c: c.lag_seconds,
            metrics.consumer_lag_records_per_second: lambda c: c.velocity,
            metrics.consumer_time_to_close_seconds: lambda c: seconds_to_close(c.lag, c.velocity),
            metrics.consumer_retention_used_ratio: lambda c: retention_ratio(
                c.committed, c.log_start, c.log_end
            ),
            metrics.consumer_time_to_loss_seconds: lambda c: seconds_to_loss(
                c.committed, c.log_start, c.log_end, c.velocity
            ),
            metrics.consumer_committed: lambda c: np.where(
                c.status == STATUSES.index("unknown"), np.nan, c.committed >= 0
            ),
            metrics.consumer_subscribed: lambda c: np.where(c.subscribed, np.nan, 0.0),
        }
        for gauge, values in numbers.items():
            gauge.samples = self._per_partition(values)
        metrics.consumer_status.samples = lambda: self._words(lambda c: c.status, STATUSES)
        metrics.consumer_lag_seconds_unknown.samples = lambda: self._words(
            lambda c: c.reason, REASONS
        )
        metrics.partition_hot.samples = self._hot
        per_group: dict[SampledGauge, Callable[[GroupLag], float | None]] = {
            metrics.consumer_group_lag_records: lambda g: g.total_records,
            metrics.consumer_group_lag_seconds: lambda g: g.max_seconds,
            metrics.consumer_group_members: lambda g: g.members,
            metrics.consumer_group_window_ratio: lambda g: (
                float(g.columns.window_ratio.min()) if len(g.names) else None
            ),
        }
        for gauge, value in per_group.items():
            gauge.samples = self._per_group(value)
        metrics.consumer_group_status.samples = self._group_statuses
        metrics.consumer_group_role.samples = self._roles

    def _groups(self) -> Iterable[GroupLag]:
        report = self.fresh()
        return report.groups if report is not None else ()

    def _per_partition(self, values: Callable[[Columns], Any]) -> Callable[[], _Samples]:
        def samples() -> _Samples:
            for group in self._groups():
                for place, value in zip(group.names, values(group.columns).tolist(), strict=True):
                    if np.isfinite(value):
                        yield _labels(group, place), value

        return samples

    def _words(self, codes: Callable[[Columns], Any], words: Sequence[str]) -> _Samples:
        for group in self._groups():
            for place, code in zip(group.names, codes(group.columns).tolist(), strict=True):
                if words[code]:
                    yield (*_labels(group, place), words[code]), 1.0

    def _hot(self) -> _Samples:
        hot = {
            group.names[row]
            for group in self._groups()
            for row in np.flatnonzero(group.columns.hot).tolist()
        }
        for topic, partition in sorted(hot):
            yield (topic, str(partition)), 1.0

    def _per_group(self, value: Callable[[GroupLag], float | None]) -> Callable[[], _Samples]:
        def samples() -> _Samples:
            for group in self._groups():
                found = value(group)
                if found is not None:
                    yield (group.consumer_group,), found

        return samples

    def _group_statuses(self) -> _Samples:
        for group in self._groups():
            for status in GROUP_STATUSES:
                yield (group.consumer_group, status), float(group.status == status)

    def _roles(self) -> _Samples:
        for group in self._groups():
            if group.role:
                yield (group.consumer_group, group.role), 1.0

    # JSON

    def page(self, path: str) -> tuple[str, str, bytes] | None:
        """The JSON pages: /healthz, /readyz, /v1/groups, /v1/groups/{group}; None for another
        path."""
        found = pages(self.health)(path)
        if found is not None:
            return found
        if path.rstrip("/") == "/v1/groups":
            return self._answer(lambda report: document(report, partitions=False))
        if path.startswith("/v1/groups/"):
            name = unquote(path.removeprefix("/v1/groups/"))
            return self._answer(lambda report: _one(report, name))
        return None

    def _answer(self, make: Callable[[LagReport], dict[str, Any] | None]) -> tuple[str, str, bytes]:
        report = self.fresh()
        if report is None:
            return _json(503, {"blind": self.why_blind()})
        found = make(report)
        if found is None:
            return _json(404, {"error": "the monitor watches no such group"})
        return _json(200, {"blind": self.why_blind(), **found})


def _one(report: LagReport, name: str) -> dict[str, Any] | None:
    group = report.group(name)
    if group is None:
        return None
    return {"observed_at_ms": report.observed_at_ms, **group_document(group)}


def _json(status: int, body: dict[str, Any]) -> tuple[str, str, bytes]:
    words = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}
    return words[status], _JSON, json.dumps(body, ensure_ascii=False).encode()


def _labels(group: GroupLag, place: tuple[str, int]) -> tuple[str, str, str]:
    return group.consumer_group, place[0], str(place[1])
