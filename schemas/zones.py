"""A time zone as numbers: from when on local time is how far ahead of UTC.

Rules of zones come from the machine's tables, which differ between machines and change. So they are
looked up once, when definitions are applied, and what was found is part of the definitions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from schemas.errors import SettingsError

__all__ = ["YEARS_AHEAD", "offset_minutes", "utc_offsets"]

YEARS_AHEAD: Final = 10
"""For so long the table knows when clocks change; after that the last offset holds. Definitions
that are applied again have a new table."""
_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000


def utc_offsets(zone: str, from_ms: int, until_ms: int) -> tuple[tuple[int, int], ...]:
    """The offsets of `zone` (as in the IANA database) from one time to another (ms since 1970 UTC):
    pairs of since when (ms) and minutes ahead of UTC. The first one is since 0.

    Raises SettingsError for a zone that this machine does not know.

    >>> utc_offsets("Europe/Berlin", 1_767_225_600_000, 1_798_761_600_000)
    ((0, 60), (1774746000000, 120), (1792890000000, 60))
    """
    try:
        rules = ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise SettingsError(
            f"Time zone {zone!r} is not known here. Name one as in Europe/Berlin; if it is one, "
            "install the tables: pip install tzdata"
        ) from error

    def at(ms: int) -> int:
        offset = datetime.fromtimestamp(ms / 1000, UTC).astimezone(rules).utcoffset()
        return round(offset.total_seconds() / 60) if offset is not None else 0

    found = [(0, at(from_ms))]
    for day_ms in range(from_ms, until_ms, _DAY_MS):
        before, after = found[-1][1], at(day_ms + _DAY_MS)
        if before != after:  # between the two, to the minute
            low, high = day_ms // _MINUTE_MS, (day_ms + _DAY_MS) // _MINUTE_MS
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if at(middle * _MINUTE_MS) == before else (low, middle)
            found.append((high * _MINUTE_MS, after))
    return tuple(found)


def offset_minutes(offsets: tuple[tuple[int, int], ...], at_ms: int) -> int:
    """Minutes ahead of UTC at a time (ms since 1970 UTC); 0 by an empty table.

    >>> offset_minutes(((0, 60), (1774746000000, 120)), 1774745999999)
    60
    """
    found = 0
    for since_ms, minutes in offsets:
        if since_ms <= at_ms:
            found = minutes
    return found
