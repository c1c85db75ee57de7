"""Charts as inline SVG: lines, dots and bars on two axes. No script, no font, no network."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Series", "chart", "nice_ticks"]

WIDTH: Final = 420
HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 20, 10, 42
_PLOT_WIDTH: Final = WIDTH - _LEFT - _RIGHT
_PLOT_HEIGHT: Final = HEIGHT - _TOP - _BOTTOM


@dataclass(frozen=True)
class Series:
    """One thing to draw: `points` are (x, y); `style` names a CSS class that gives the colour."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str
    kind: Literal["line", "dots", "bars", "guide"] = "line"


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    length: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        return round(self.start + (value - low) / ((high - low) or 1.0) * self.length, 1)


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`.

    >>> nice_ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_names: Sequence[tuple[float, str]] | None = None,
    logarithmic: bool = False,
    title: str,
) -> str:
    """An `<svg>` of the series. `x_names` replaces the x ticks; `logarithmic` is for both axes."""
    x = _Scale(*x_range, _LEFT, _PLOT_WIDTH, logarithmic)
    y = _Scale(*y_range, HEIGHT - _BOTTOM, -_PLOT_HEIGHT, logarithmic)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">',
        *_axes(x, y, x_label, y_label, x_names),
    ]
    bars = [s for s in series if s.kind == "bars"]
    for i, one in enumerate(bars):
        parts.append(_bars(one, i, len(bars), x, y))
    for one in series:
        if one.kind in ("line", "guide") and one.points:
            path = " ".join(f"{x(a)},{y(b)}" for a, b in one.points)
            css = "guide" if one.kind == "guide" else f"line {one.style}"
            parts.append(f'<polyline class="{css}" points="{path}"/>')
        elif one.kind == "dots":
            parts += [
                f'<circle class="dot {one.style}" cx="{x(a)}" cy="{y(b)}" r="3.5"/>'
                for a, b in one.points
            ]
    return "".join([*parts, "</svg>", _legend(series)])


def _axes(
    x: _Scale, y: _Scale, x_label: str, y_label: str, x_names: Sequence[tuple[float, str]] | None
) -> list[str]:
    bottom = HEIGHT - _BOTTOM
    parts = []
    for value, text in _ticks(y):
        at = y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{at}" x2="{WIDTH - _RIGHT}" y2="{at}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{at + 3.5}" text-anchor="end">{text}</text>'
        )
    for value, text in x_names if x_names is not None else _ticks(x):
        parts.append(
            f'<text class="tick" x="{x(value)}" y="{bottom + 15}" text-anchor="middle">'
            f"{html.escape(text)}</text>"
        )
    parts.append(
        f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{WIDTH - _RIGHT}" y2="{bottom}"/>'
    )
    middle = _LEFT + _PLOT_WIDTH / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
    )
    centre = _TOP + _PLOT_HEIGHT / 2
    parts.append(
        f'<text class="label" transform="translate(12 {centre}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    return parts


def _ticks(scale: _Scale) -> list[tuple[float, str]]:
    if scale.logarithmic:
        powers = range(math.floor(math.log10(scale.low)), math.floor(math.log10(scale.high)) + 1)
        steps = (1, 2, 5) if len(powers) <= 3 else (1,)
        values = [m * 10.0**p for p in powers for m in steps]
        return [(v, _short(v)) for v in values if scale.low <= v <= scale.high]
    ticks = nice_ticks(scale.low, scale.high)
    return [(value, _short(value)) for value in ticks]


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def _bars(one: Series, index: int, of: int, x: _Scale, y: _Scale) -> str:
    """Bars side by side: x is the number of the group, 0, 1, ..."""
    room = _PLOT_WIDTH / max(len(one.points), 1)
    width = 0.76 * room / of
    base = y(max(y.low, 0.0))
    parts = []
    for a, b in one.points:
        left = x(a) - 0.38 * room + index * width
        top = y(b)
        parts.append(
            f'<rect class="bar {one.style}" x="{left:.1f}" y="{min(top, base)}" '
            f'width="{width:.1f}" height="{abs(base - top):.1f}"/>'
        )
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    named = [s for s in series if s.name]
    if not named:
        return ""
    items = "".join(
        f'<span><i class="key {"guide" if s.kind == "guide" else s.style}"></i>'
        f"{html.escape(s.name)}</span>"
        for s in named
    )
    return f'<div class="legend">{items}</div>'
