"""A picture of moves between segments: what was left on one side, what was entered on the other.

A ribbon is as thick as the moves are many, and stands beside others of its segment without crossing
them there. Coordinates are those of an SVG of `WIDTH`, no wider than a phone: it has text. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

__all__ = ["MOST_RIBBONS", "WIDTH", "Move", "Node", "Picture", "Ribbon", "picture"]

WIDTH: Final = 440
MOST_RIBBONS: Final = 24
"""The rest is only counted: thinner ones could not be told apart."""
_BAR: Final = 8
_LEFT: Final = 112
"""Room for the names on either side."""
_NODE_GAP: Final = 22
_TOP: Final = 24
_RIBBONS_HEIGHT: Final = 190
_LEAST: Final = 2.0
_LONGEST_NAME: Final = 18


class Move(msgspec.Struct, frozen=True):
    """So many users went from one segment to another."""

    left: str
    """Empty: they were new."""
    entered: str
    moves: int


class Node(msgspec.Struct, frozen=True):
    """A segment on one side. x, y: the upper left corner of its bar."""

    name: str
    shown: str
    moves: int
    x: float
    y: float
    height: float
    entered: bool
    """Whether it is on the right."""
    tone: int
    """Which colour; the same on both sides."""


class Ribbon(msgspec.Struct, frozen=True):
    """One move."""

    left: str
    entered: str
    moves: int
    path: str
    """As `<path d>` has it."""
    tone: int


class Picture(msgspec.Struct, frozen=True):
    """All of it. `left_out`: moves that are in no ribbon."""

    width: int
    height: float
    nodes: tuple[Node, ...]
    ribbons: tuple[Ribbon, ...]
    moves: int
    left_out: int = 0


def picture(moves: Iterable[Move], order: Sequence[str] = ()) -> Picture | None:
    """The picture; None if nobody moved. Segments stand in `order`, others behind them by name."""
    found = sorted((m for m in moves if m.moves > 0), key=lambda m: (-m.moves, m.left, m.entered))
    drawn, rest = found[:MOST_RIBBONS], found[MOST_RIBBONS:]
    if not drawn:
        return None
    rank = {name: at for at, name in enumerate(("", *order))}

    def place(name: str) -> tuple[int, str]:
        return rank.get(name, len(rank)), name

    names = sorted({m.left for m in drawn} | {m.entered for m in drawn}, key=place)
    tones = {name: at % 9 for at, name in enumerate(names)}
    total = sum(m.moves for m in drawn)
    scale = _RIBBONS_HEIGHT / total
    heights = {id(m): max(_LEAST, m.moves * scale) for m in drawn}
    left = _stacked(drawn, names, heights, tones, entered=False)
    right = _stacked(drawn, names, heights, tones, entered=True)
    bottom = max(node.y + node.height for node in (*left, *right))
    return Picture(
        WIDTH, round(bottom + 12, 1), (*left, *right),
        tuple(_ribbons(drawn, heights, tones, left, right)),
        total + sum(m.moves for m in rest), sum(m.moves for m in rest),
    )  # fmt: skip


def _stacked(
    moves: Sequence[Move],
    names: Sequence[str],
    heights: Mapping[int, float],
    tones: Mapping[str, int],
    *,
    entered: bool,
) -> list[Node]:
    """The bars of one side, from the top down."""
    found, y = [], float(_TOP)
    for name in names:
        own = [m for m in moves if (m.entered if entered else m.left) == name]
        if own:
            height = sum(heights[id(m)] for m in own)
            x = WIDTH - _LEFT - _BAR if entered else _LEFT
            shown = _short(name or "new here")
            count = sum(m.moves for m in own)
            found.append(
                Node(name, shown, count, x, round(y, 1), round(height, 1), entered, tones[name])
            )
            y += max(height, 12.0) + _NODE_GAP
    return found


def _ribbons(
    moves: Sequence[Move],
    heights: Mapping[int, float],
    tones: Mapping[str, int],
    left: Sequence[Node],
    right: Sequence[Node],
) -> Iterable[Ribbon]:
    """Ribbons leave and arrive in the order of what is on the other side."""
    next_left = {node.name: node.y for node in left}
    next_right = {node.name: node.y for node in right}
    by_left = {node.name: at for at, node in enumerate(left)}
    by_right = {node.name: at for at, node in enumerate(right)}
    starts = {}
    for m in sorted(moves, key=lambda m: (by_left[m.left], by_right[m.entered])):
        starts[id(m)] = next_left[m.left]
        next_left[m.left] += heights[id(m)]
    for m in sorted(moves, key=lambda m: (by_right[m.entered], by_left[m.left])):
        height, y0, y1 = heights[id(m)], starts[id(m)], next_right[m.entered]
        next_right[m.entered] += height
        x0, x1 = _LEFT + _BAR, WIDTH - _LEFT - _BAR
        middle = (x0 + x1) / 2
        path = (
            f"M{x0} {y0:.1f}C{middle} {y0:.1f} {middle} {y1:.1f} {x1} {y1:.1f}"
            f"V{y1 + height:.1f}C{middle} {y1 + height:.1f} {middle} {y0 + height:.1f} "
            f"{x0} {y0 + height:.1f}Z"
        )
        yield Ribbon(m.left, m.entered, m.moves, path, tones[m.left])


def _short(name: str) -> str:
    """As much of a name as there is room for.

    >>> _short("at_risk"), _short("a_name_of_forty_letters_that_is_too_long")
    ('at risk', 'a name of forty l…')
    """
    name = name.replace("_", " ")
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
