"""Medians, spreads and ratios of repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Figure", "percentile", "ratio"]


@dataclass(frozen=True)
class Figure:
    """One quantity, measured once per round.

    >>> Figure((90.0, 100.0, 120.0)).median, Figure((90.0, 100.0, 120.0)).spread
    (100.0, 0.3)
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a figure needs at least one measurement")

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def spread(self) -> float:
        """Highest less lowest, as a share of the median; 0 for a single measurement."""
        return (self.high - self.low) / self.median if self.median else 0.0


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Figure:
    """Round by round, so that what slows one round down slows both of its sides down.

    >>> ratio((10.0, 12.0), (5.0, 4.0)).values
    (2.0, 3.0)

    Raises ValueError if the rounds differ in number.
    """
    return Figure(tuple(a / b for a, b in zip(numerator, denominator, strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank).

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5), percentile([4.0, 1.0, 3.0, 2.0], 0.99)
    (2.0, 4.0)
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]
