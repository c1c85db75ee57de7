"""The benchmark's two charts, as SVG files that stand alone: no script, no font, no network."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Bar", "Line", "bars", "curve"]

_INK, _SOFT, _GRID = "#1f2937", "#6b7280", "#e5e7eb"
_FONT: Final = "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\""
COLOURS: Final = {
    "peer": "#9ca3af", "floor": "#d6a656", "tideline": "#7fb5c8", "whole": "#0f6d8c",
    "p50": "#0f6d8c", "p99": "#b4552d",
}  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """One contender: its rate, the lowest and highest round, and a key of `COLOURS`."""

    label: str
    value: float
    low: float
    high: float
    colour: str


@dataclass(frozen=True)
class Line:
    """One curve: `points` are (x, y)."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, colour: str = _INK,
    weight: str = "normal",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" {_FONT} font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}" text-anchor="{anchor}">{html.escape(words)}</text>'
    )


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{html.escape(title)}">'
    )
    back = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, back, *parts, "</svg>"]) + "\n"


def bars(title: str, subtitle: str, found: Sequence[Bar], legend: Sequence[tuple[str, str]]) -> str:
    """Rates as horizontal bars on a logarithmic scale, a thin line from lowest to highest round.

    `legend`: (key of `COLOURS`, words). Raises ValueError without bars.
    """
    if not found:
        raise ValueError("a chart needs at least one bar")
    width, left, right, top, row = 760, 230, 90, 92, 25
    height = top + row * len(found) + 44
    low = 10.0 ** math.floor(math.log10(min(bar.low for bar in found)))
    high = 10.0 ** math.ceil(math.log10(max(bar.high for bar in found)))

    def x(value: float) -> float:
        share = (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low) or 1)
        return left + share * (width - left - right)

    bottom = top + row * len(found)
    parts = [_text(16, 26, title, size=16, weight="600"),
             _text(16, 46, subtitle, colour=_SOFT)]  # fmt: skip
    at = 16.0
    for key, words in legend:
        parts.append(f'<rect x="{at}" y="60" width="11" height="11" fill="{COLOURS[key]}"/>')
        parts.append(_text(at + 16, 70, words, size=11, colour=_SOFT))
        at += 30 + 6.1 * len(words)
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        value = 10.0**power
        parts.append(f'<line x1="{x(value):.1f}" y1="{top - 6}" x2="{x(value):.1f}" '
                     f'y2="{bottom}" stroke="{_GRID}"/>')  # fmt: skip
        parts.append(_text(x(value), bottom + 16, f"{value:,.0f}", anchor="middle", size=11,
                           colour=_SOFT))  # fmt: skip
    for i, bar in enumerate(found):
        y = top + i * row
        middle = y + row / 2 - 2
        parts.append(_text(left - 8, middle + 4, bar.label, anchor="end"))
        parts.append(f'<rect x="{left}" y="{y}" width="{x(bar.value) - left:.1f}" '
                     f'height="{row - 6}" fill="{COLOURS[bar.colour]}"/>')  # fmt: skip
        parts.append(f'<line x1="{x(bar.low):.1f}" y1="{middle:.1f}" x2="{x(bar.high):.1f}" '
                     f'y2="{middle:.1f}" stroke="{_INK}" stroke-width="1.5"/>')  # fmt: skip
        parts.append(_text(max(x(bar.value), x(bar.high)) + 7, middle + 4, f"{bar.value:,.0f}",
                           size=11))  # fmt: skip
    parts.append(_text((left + width - right) / 2, height - 8, "events per second (log scale)",
                       anchor="middle", size=11, colour=_SOFT))  # fmt: skip
    return _svg(width, height, title, parts)


def curve(title: str, subtitle: str, lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """Curves on a linear x axis and a logarithmic y axis, both from what the points span.

    Raises ValueError without points.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("a chart needs at least one point")
    width, height, left, right, top, bottom = 760, 380, 84, 60, 80, 330
    x_high = max(p[0] for p in points) * 1.01
    y_low = 10.0 ** math.floor(math.log10(min(p[1] for p in points)))
    y_high = 10.0 ** math.ceil(math.log10(max(p[1] for p in points) * 1.001))

    def x(value: float) -> float:
        return left + value / x_high * (width - left - right)

    def y(value: float) -> float:
        share = (math.log10(value) - math.log10(y_low)) / (math.log10(y_high) - math.log10(y_low))
        return bottom - share * (bottom - top)

    parts = [_text(16, 26, title, size=16, weight="600"),
             _text(16, 46, subtitle, colour=_SOFT)]  # fmt: skip
    for power in range(round(math.log10(y_low)), round(math.log10(y_high)) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**power
            if value > y_high:
                continue
            parts.append(f'<line x1="{left}" y1="{y(value):.1f}" x2="{width - right}" '
                         f'y2="{y(value):.1f}" stroke="{_GRID}"/>')  # fmt: skip
            parts.append(_text(left - 8, y(value) + 4, f"{value:,g}", anchor="end", size=11,
                               colour=_SOFT))  # fmt: skip
    parts += [
        _text(x(value), bottom + 17, f"{value:,.0f}", anchor="middle", size=11, colour=_SOFT)
        for value in sorted({p[0] for p in points})
    ]
    for line in lines:
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line.points)
        colour = COLOURS[line.colour]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" fill="{colour}"/>'
                  for a, b in line.points]  # fmt: skip
        if line.points:
            last = line.points[-1]
            parts.append(_text(x(last[0]) + 9, y(last[1]) + 4, line.label, size=12,
                               colour=colour, weight="600"))  # fmt: skip
    parts.append(_text((left + width - right) / 2, height - 12, x_label, anchor="middle", size=11,
                       colour=_SOFT))  # fmt: skip
    middle = (top + bottom) / 2
    parts.append(f'<g transform="rotate(-90 20 {middle})">'
                 + _text(20, middle, y_label, anchor="middle", size=11, colour=_SOFT)
                 + "</g>")  # fmt: skip
    return _svg(width, height, title, parts)
