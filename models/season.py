"""The shop's year: in which weeks its customers order more than in others.

Before Christmas a month of silence is stronger evidence of churn than in spring, and the month
ahead holds more orders. The curve (`models.curve`) therefore counts days on the shop's clock, which
runs at the usual rate of orders: two days of a week with twice the mean rate count as four.
(Operational time; in survival analysis, proportional hazards with a piecewise constant baseline:
Breslow 1974, "Covariance analysis of censored survival data".)

A year is cut into 52 weeks. The level of each is what makes the expected number of customers who
ordered within 7 days that of those who did, over whole years; weeks near each other are smoothed,
and all are shrunk to 1 as a gamma prior does, whose spread is how far weeks lie apart beyond
chance. A shop without a season comes out flat, and then nothing is computed for it.

`models.training.season_fit` decides whether a shop has a season.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.onnx.graph import Graph
from schemas.features import FEATURE_NAMES, YEAR_DAYS

__all__ = ["SEASON_FEATURE", "WEEK_DAYS", "Season", "clock_nodes", "estimate_levels"]

Floats = NDArray[np.float64]

SEASON_FEATURE: Final = FEATURE_NAMES.index("day_of_year")
"""The feature that places a row in the year; the same for all customers."""
_WEEKS: Final = 52
WEEK_DAYS: Final = YEAR_DAYS / _WEEKS
"""7.02 days."""
_NEAR: Final = np.exp(-0.5 * np.arange(-4, 5) ** 2.0)
"""Weight of the weeks around one, from four before to four after: a bell of one week."""
_ROUNDS: Final = 30
"""A week's exposure depends on its level only where customers order about weekly."""


@dataclass(frozen=True)
class Season:
    """`levels` [52]: orders of a customer in each week of the year, over those of a mean week."""

    levels: tuple[float, ...]

    def clock(self, day: Floats) -> Floats:
        """The shop's clock, in mean days, at `day` [n] of the year; any number, also negative."""
        years = np.floor(day / YEAR_DAYS)
        rest = day - years * YEAR_DAYS
        return years * YEAR_DAYS + np.interp(rest, _EDGES, np.r_[0.0, self.ends()])

    def ends(self) -> Floats:
        """The clock at the end of each week, float64 [52]; the last is a year."""
        return np.cumsum(np.array(self.levels) * WEEK_DAYS)

    def level(self, day: Floats) -> Floats:
        """The level of the week that `day` [n] falls into."""
        return np.array(self.levels)[week_of(day)]

    @property
    def is_flat(self) -> bool:
        """Whether all weeks are alike."""
        return min(self.levels) == max(self.levels)

    def words(self) -> str:
        """
        >>> Season((0.9,) * 26 + (1.1,) * 26).words()
        'most in week 27 (1.10 times the mean), least in week 1 (0.90)'
        """
        most, least = int(np.argmax(self.levels)), int(np.argmin(self.levels))
        return (
            f"most in week {most + 1} ({self.levels[most]:.2f} times the mean), "
            f"least in week {least + 1} ({self.levels[least]:.2f})"
        )


_EDGES: Final = np.arange(_WEEKS + 1) * WEEK_DAYS


def week_of(day: Floats) -> NDArray[np.int64]:
    """0 to 51, for days [n] of any year.

    >>> week_of(np.array([0.0, 7.1, -1.0, 365.2425])).tolist()
    [0, 1, 51, 0]
    """
    return np.floor(day / WEEK_DAYS).astype(np.int64) % _WEEKS


def estimate_levels(hazard: Floats, ordered: NDArray[np.bool_], day: Floats) -> Season:
    """The season of n customer weeks.

    hazard [n]: minus the log of the chance of no order in that week, were all weeks alike; ordered
    [n]: whether one came; day [n]: of the year, of the middle of that week. Whole years only, or
    what grows would pass for a season.
    """
    week = week_of(day)
    seen = np.bincount(week, ordered, _WEEKS).astype(np.float64)

    def expected(levels: Floats) -> Floats:
        return np.asarray(np.bincount(week, -np.expm1(-levels[week] * hazard), _WEEKS), np.float64)

    flat = np.maximum(expected(np.ones(_WEEKS)), 1e-9)
    # Poisson noise makes E[(seen - expected)^2 / expected] one; the variance of levels adds to it.
    excess = ((seen - flat) ** 2 / flat - 1.0).sum() / flat.sum()
    if excess <= 0.0:
        return Season((1.0,) * _WEEKS)
    prior = 1.0 / float(excess)  # orders that a gamma prior of that variance is worth
    levels = np.ones(_WEEKS)
    for _ in range(_ROUNDS):
        exposure = np.maximum(expected(levels), 1e-9) / levels  # what one unit of level brings
        levels = (_around(seen) + prior) / (_around(exposure) + prior)
    return Season(tuple((levels / levels.mean()).tolist()))


def _around(weeks: Floats) -> Floats:
    """Summed over the weeks around each, the year closed to a ring."""
    near = zip(range(-4, 5), _NEAR, strict=True)
    return np.asarray(sum(weight * np.roll(weeks, k) for k, weight in near), np.float64)


def clock_nodes(graph: Graph, season: Season, day: str) -> str:
    """`season.clock(day)` in ONNX, float64 [N]: the name of its result."""
    years = graph("Mul", graph("Floor", graph("Div", day, YEAR_DAYS)), YEAR_DAYS)
    rest = graph("Sub", day, years)
    week = graph("Floor", graph("Div", rest, WEEK_DAYS))
    week = graph("Clip", week, 0.0, float(len(season.levels) - 1))  # a day that was rounded
    at = graph.integer(week)
    starts = [0.0, *season.ends()[:-1].tolist()]
    since = graph("Sub", rest, graph("Mul", week, WEEK_DAYS))
    within = graph("Mul", graph("Gather", graph.table(season.levels), at), since)
    return graph("Add", years, graph("Add", graph("Gather", graph.table(starts), at), within))
