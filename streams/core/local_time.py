"""The shop's days and quiet hours, by the table of its zone in the definitions."""

from __future__ import annotations

from typing import Final

from schemas.definitions import AlertRules
from schemas.zones import offset_minutes
from streams.core.features import DAY_MS

__all__ = ["day_ends_ms", "local_day", "quiet_until_ms"]

_MINUTE_MS: Final = 60_000


def local_day(rules: AlertRules, now_ms: int) -> int:
    """The shop's day, counted from 1970-01-01."""
    return _local_ms(rules, now_ms) // DAY_MS


def day_ends_ms(rules: AlertRules, now_ms: int) -> int:
    """When the shop's day that `now_ms` is in is over (ms since 1970 UTC)."""
    return _utc_ms(rules, (local_day(rules, now_ms) + 1) * DAY_MS, now_ms)


def quiet_until_ms(rules: AlertRules, now_ms: int) -> int:
    """When the quiet hours end that `now_ms` is in (ms since 1970 UTC); 0: it is in none.

    >>> nights = AlertRules(quiet=(21 * 60, 8 * 60), utc_offsets=((0, 60),))
    >>> hour = 3_600_000
    >>> quiet_until_ms(nights, 20 * hour) // hour, quiet_until_ms(nights, 7 * hour)
    (31, 0)
    """
    if rules.quiet is None:
        return 0
    start, end = rules.quiet
    local = _local_ms(rules, now_ms)
    minute = local % DAY_MS // _MINUTE_MS
    over_midnight = start > end
    inside = minute >= start or minute < end if over_midnight else start <= minute < end
    if not inside:
        return 0
    days = local // DAY_MS + (over_midnight and minute >= start)
    until_ms = _utc_ms(rules, days * DAY_MS + end * _MINUTE_MS, now_ms)
    # Set back, clocks show the end a second time: it is over already, and it is quiet again.
    return until_ms if until_ms > now_ms else now_ms + _MINUTE_MS


def _local_ms(rules: AlertRules, at_ms: int) -> int:
    return at_ms + offset_minutes(rules.utc_offsets, at_ms) * _MINUTE_MS


def _utc_ms(rules: AlertRules, local_ms: int, near_ms: int) -> int:
    """A local time in UTC, by the offset that holds then."""
    guess_ms = local_ms - offset_minutes(rules.utc_offsets, near_ms) * _MINUTE_MS
    return local_ms - offset_minutes(rules.utc_offsets, guess_ms) * _MINUTE_MS
