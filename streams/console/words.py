"""How values are written on a page: numbers, money, shares, times and ages. Pure.

>>> money(1234.5, "EUR"), share(0.0712), count(12345), seconds(4000)
('1,234.50 EUR', '7.1 %', '12,345', '1.1 h')
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

__all__ = [
    "DASH",
    "byte_count",
    "clock_time",
    "count",
    "day",
    "heat",
    "iso",
    "money",
    "number",
    "seconds",
    "share",
    "shown",
]

DASH: Final = "–"


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def count(value: float | None) -> str:
    return DASH if _absent(value) else f"{value:,.0f}"


def number(value: float | None) -> str:
    """Four digits that count.

    >>> number(0.28794), number(12.345), number(1234.5), number(0)
    ('0.2879', '12.35', '1,234', '0')
    """
    if value is None or _absent(value):
        return DASH
    if float(value).is_integer():
        return f"{value:,.0f}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    digits = 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1
    return f"{value:,.{digits}f}"


def money(value: float | None, currency: str = "") -> str:
    """Hundredths below 10,000, whole amounts above."""
    if value is None or _absent(value):
        return DASH
    text = f"{value:,.2f}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{text} {currency}".rstrip()


def share(value: float | None) -> str:
    """Per cent, with a place more where it is small.

    >>> share(0.5), share(0.00012), share(1)
    ('50 %', '0.01 %', '100 %')
    """
    if value is None or _absent(value):
        return DASH
    percent = value * 100
    digits = 0 if percent in (0, 100) or abs(percent) >= 10 else 1 if abs(percent) >= 1 else 2
    return f"{percent:.{digits}f} %"


def heat(value: float | None) -> int:
    """How strong the ground of a share is, 0 to 10: by its root, since most shares are small.

    >>> heat(0.0), heat(0.04), heat(0.25), heat(1.0), heat(None)
    (0, 2, 5, 10, 0)
    """
    if value is None or _absent(value):
        return 0
    return round(10 * math.sqrt(min(max(value, 0.0), 1.0)))


def seconds(value: float | None) -> str:
    """A length of time in its largest unit.

    >>> seconds(0.25), seconds(42), seconds(150), seconds(7200), seconds(200_000)
    ('0.25 s', '42 s', '2.5 min', '2 h', '2.3 d')
    """
    if value is None or _absent(value):
        return DASH
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if abs(value) >= size:
            return f"{value / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{value:.2g} s" if abs(value) < 10 else f"{value:.0f} s"


def byte_count(value: float | None) -> str:
    """
    >>> byte_count(512), byte_count(2_500_000)
    ('512 B', '2.4 MiB')
    """
    if value is None or _absent(value):
        return DASH
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def _at(at_ms: float, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, zone)


def clock_time(at_ms: float | None, zone: tzinfo = UTC) -> str:
    """
    >>> clock_time(1_700_000_000_000)
    '2023-11-14 22:13:20'
    """
    return DASH if not at_ms else f"{_at(at_ms, zone):%Y-%m-%d %H:%M:%S}"


def day(at_ms: float | None, zone: tzinfo = UTC) -> str:
    return DASH if not at_ms else f"{_at(at_ms, zone):%Y-%m-%d}"


def iso(at_ms: float | None) -> str:
    """For `<time datetime>`, CSV and machines: UTC, to the millisecond; '' without a time."""
    if not at_ms:
        return ""
    return _at(at_ms, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_BY_KIND: Final[Mapping[str, Callable[[Any], str]]] = {
    "count": count, "number": number, "share": share, "heat": share, "seconds": seconds,
    "bytes": byte_count,
    "words": lambda value: "; ".join(map(str, value)) or DASH, "link": lambda value: str(value[0]),
    "tag": lambda value: str(value).replace("_", " "),
}  # fmt: skip


def shown(value: Any, kind: str, zone: tzinfo = UTC, currency: str = "") -> str:
    """A value of a page as text, by its kind (`streams.console.page.Kind`)."""
    if value is None or value == "":
        return DASH
    if kind == "money":
        return money(value, currency)
    if kind in ("time", "date"):
        return (clock_time if kind == "time" else day)(value, zone)
    return _BY_KIND.get(kind, str)(value)
