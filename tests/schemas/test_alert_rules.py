"""What is wrong with rules of alerts and contacts, and zones as numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.definitions import (
    MAX_CONTACT_DAYS,
    MAX_CONTACTS,
    STANDARD,
    AlertRules,
    ContactCap,
    Definitions,
    alert_problems,
)
from schemas.errors import SettingsError
from schemas.zones import YEARS_AHEAD, offset_minutes, utc_offsets

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
T0 = 1_767_225_600_000  # 2026-01-01 UTC


def problems(cap: ContactCap | None = None, **rules: Any) -> list[str]:
    return alert_problems(Definitions(1, "v1", alerts=AlertRules(**rules), caps=cap))


def test_what_ships_and_what_is_right_has_no_problem() -> None:
    assert alert_problems(STANDARD) == []
    assert problems(
        ContactCap(MAX_CONTACTS, MAX_CONTACT_DAYS * DAY_MS), enter=0.6, leave=0.6, cooldown_ms=0,
        per_day=50, quiet=(21 * 60, 8 * 60), utc_offsets=((0, 60), (T0, 120)),
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"enter": 0.0}, "alerts.enter is 0"), ({"enter": 60.0}, "alerts.enter is 60"),
        ({"leave": 1.0}, "alerts.leave is 1"), ({"enter": 0.4, "leave": 0.5}, "flicker"),
        ({"cooldown_ms": -1}, "alerts.cooldown"), ({"per_day": -1}, "alerts.per_day is -1"),
        ({"quiet": (60, 60)}, "alerts.quiet"), ({"quiet": (0, 1_440)}, "alerts.quiet"),
        ({"quiet": (-1, 60)}, "alerts.quiet"),
        ({"utc_offsets": ((5, 0), (5, 60))}, "utc_offsets"),
        ({"utc_offsets": ((0, 1_440),)}, "utc_offsets"),
        ({"cap": ContactCap(0, DAY_MS)}, "caps.contacts is 0"),
        ({"cap": ContactCap(MAX_CONTACTS + 1, DAY_MS)}, "caps.contacts is 11"),
        ({"cap": ContactCap(1, 0)}, "caps.per"),
        ({"cap": ContactCap(1, MAX_CONTACT_DAYS * DAY_MS + 1)}, "caps.per"),
    ],
)  # fmt: skip
def test_each_problem_is_named(rules: dict[str, Any], named: str) -> None:
    (found,) = problems(**rules)
    assert named in found


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Africa/Casablanca",
             "Australia/Lord_Howe"],
)  # fmt: skip
def test_table_says_what_the_zone_says_at_every_hour(zone: str) -> None:
    until_ms = T0 + YEARS_AHEAD * 366 * DAY_MS
    table = utc_offsets(zone, T0, until_ms)
    assert table[0][0] == 0
    assert list(table) == sorted(set(table))
    rules = ZoneInfo(zone)
    for at_ms in range(T0, T0 + 800 * DAY_MS, HOUR_MS):
        told = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(rules).utcoffset()
        assert told is not None
        assert offset_minutes(table, at_ms) == told.total_seconds() / 60
    for since_ms, minutes in table[1:]:  # to the minute
        for near_ms, expected in ((since_ms, minutes), (since_ms - 60_000, None)):
            told = datetime.fromtimestamp(near_ms / 1000, UTC).astimezone(rules).utcoffset()
            assert told is not None
            assert (told.total_seconds() / 60 == minutes) == (expected is not None)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe", "a\0b"])
def test_zone_that_is_none_is_refused_with_a_remedy(zone: str) -> None:
    with pytest.raises(SettingsError, match="Name one as in Europe/Berlin"):
        utc_offsets(zone, T0, T0 + DAY_MS)
