"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["iso_utc"]


def iso_utc(ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC.

    >>> iso_utc(1_500_000_000_123)
    '2017-07-14T02:40:00.123Z'
    """
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
