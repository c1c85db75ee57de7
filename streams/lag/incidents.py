"""When a group's status becomes an incident, and when it ends: one message each, with the same id.

Pure: what a look saw in, messages out. `streams.lag.webhook` sends them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from streams.lag.evaluator import GROUP_ORDER, GroupStatus
from streams.lag.report import LagReport
from streams.lag.status import GroupLag

__all__ = ["Incident", "Incidents", "Notice"]

_QUIET_LOOKS: Final = 3  # in a row, before an incident ends: a status may tremble
_PARTITIONS: Final = 20  # that a message names


@dataclass(frozen=True)
class Incident:
    """id: the same in the message that opens it and in the one that closes it."""

    id: str
    consumer_group: str
    since_ms: int


@dataclass(frozen=True)
class Notice:
    """One message about an incident."""

    incident: Incident
    state: Literal["open", "close"]
    body: Mapping[str, Any]


class Incidents:
    """The open incidents. A group that can't be seen neither opens nor closes one; a monitor that
    is blind itself is for the alert on `tideline_lag_monitor_up`."""

    def __init__(self, from_status: GroupStatus = "error") -> None:
        self._worst = GROUP_ORDER.index(from_status)
        self._open: dict[str, Incident] = {}
        self._quiet: dict[str, int] = {}

    def look(self, report: LagReport) -> list[Notice]:
        """What to send after this look."""
        notices = []
        for group in report.groups:
            status, name = group.status, group.consumer_group
            if status == "unknown":
                continue
            bad = GROUP_ORDER.index(status) >= self._worst
            if bad:
                self._quiet[name] = 0
                if name not in self._open:
                    incident = _incident(name, report.observed_at_ms)
                    self._open[name] = incident
                    notices.append(_notice(incident, "open", group, report.observed_at_ms))
            elif name in self._open:
                self._quiet[name] = self._quiet.get(name, 0) + 1
                if self._quiet[name] >= _QUIET_LOOKS:
                    notices.append(
                        _notice(self._open.pop(name), "close", group, report.observed_at_ms)
                    )
        if report.answered and not report.problems:
            gone = set(self._open) - {group.consumer_group for group in report.groups}
            notices += [
                _notice(self._open.pop(name), "close", None, report.observed_at_ms)
                for name in sorted(gone)
            ]
        return notices


def _incident(group: str, since_ms: int) -> Incident:
    """Deterministic: two monitors that see the same agree if they look at the same time."""
    text = f"{group}\n{since_ms}".encode()
    return Incident(hashlib.sha256(text).hexdigest()[:16], group, since_ms)


def _notice(
    incident: Incident, state: Literal["open", "close"], group: GroupLag | None, now_ms: int
) -> Notice:
    body: dict[str, Any] = {
        "id": incident.id,
        "state": state,
        "consumer_group": incident.consumer_group,
        "since_ms": incident.since_ms,
        "observed_at_ms": now_ms,
        "status": "gone" if group is None else group.status,
    }
    if group is not None:
        bad = [each for each in group.partitions if each.subscribed and each.status != "ok"]
        body |= {
            "total_records": group.total_records,
            "max_seconds": group.max_seconds,
            "members": group.members,
            "partitions_not_ok": len(bad),
            "partitions": [
                {
                    "topic": each.topic,
                    "partition": each.partition,
                    "status": each.status,
                    "lag_records": each.lag_records,
                    "since_ms": each.since_ms,
                    "owner": each.owner,
                }
                for each in bad[:_PARTITIONS]
            ],
        }
    return Notice(incident, state, body)
