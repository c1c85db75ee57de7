"""A made-up shop whose law is known: what its customers do, and what makes them leave.

Each customer has a pace of ordering and a habit of visiting. Their first order is the beginning.
From then on, every day, for customers who have not left:

1. the mood may change: keen or cool. Cool customers visit less and leave more easily;
2. they leave with the day's hazard, `base * (cool) * exp(irritation)`;
3. they visit, as often as habit and mood say. What a session holds does not depend on them: it may
   be a search without result, a cart that is left, a message to support, a good or a bad review;
4. they order or they don't, at their own pace, whatever the mood;
5. irritation fades by half in 30 days, and each bad session adds its weight.

Those who left look in from time to time, and order no more. So orders show only the pace; clicks
show the mood, the irritation, and that visits have ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["GONE", "MOODS", "SESSIONS", "Law", "Shop", "simulate"]

SESSIONS: Final = ("plain", "no_result", "cart_left", "support", "praise", "low_rating")
"""Kinds of sessions without an order."""
MOODS: Final = ("keen", "cool", "gone")
KEEN, COOL, GONE = range(3)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Law:
    """Rates are per day; `shares` and `weights` are those of `SESSIONS`, in that order."""

    paces: tuple[float, ...] = (0.06, 0.08, 0.1, 0.125, 0.16)
    """Orders; every pace is equally frequent."""
    habits: tuple[float, ...] = (0.5, 0.7, 0.9, 1.2, 1.6)
    """Sessions of keen customers; every habit is equally frequent, whatever the pace."""
    visits: tuple[float, float, float] = (1.0, 0.3, 0.05)
    """Of the habit, by mood."""
    shares: tuple[float, ...] = (0.935, 0.015, 0.02, 0.0075, 0.015, 0.0075)
    weights: tuple[float, ...] = (0.0, 2.2, 1.5, 2.6, 0.0, 2.6)
    """What a session adds to the irritation."""
    half_life_days: float = 30.0
    base: float = 0.0002
    """The hazard of leaving, of keen customers without irritation."""
    cool: float = 15.0
    """It is so many times higher in cool ones."""
    most: float = 0.1
    """It is never higher than this."""
    keen_days: float = 60.0
    cool_days: float = 30.0
    """How long moods last, on average."""

    @property
    def fades(self) -> float:
        """What is left of the irritation after a day."""
        return float(0.5 ** (1.0 / self.half_life_days))

    def hazard(self, irritation: Floats, cool: NDArray[np.bool_]) -> Floats:
        """The chance of leaving today, in 0..1."""
        raised = self.base * np.where(cool, self.cool, 1.0) * np.exp(irritation)
        return np.minimum(raised, self.most)


@dataclass(frozen=True)
class Shop:
    """What n customers did on d days. The last two fields are hidden from everybody but the law."""

    came: Ints
    """int64 [n]: the day of the first order."""
    sessions: NDArray[np.int16]
    """[n, d, kinds]: sessions without an order, by kind."""
    ordered: NDArray[np.bool_]
    """[n, d]: at most one order a day, in a session that is not counted in `sessions`."""
    irritation: Floats
    """[n, d]: at the beginning of each day; it follows from the sessions before."""
    left: Ints
    """int64 [n]: on which day they left; d if they did not."""
    mood: NDArray[np.int8]
    """[n, d]: at the end of each day, as a position in `MOODS`."""

    @property
    def days(self) -> int:
        return int(self.ordered.shape[1])


def simulate(law: Law, customers: int, days: int, rng: np.random.Generator) -> Shop:
    """Customers come on days that are spread evenly over the first three quarters."""
    n = customers
    pace, habit = rng.choice(law.paces, n), rng.choice(law.habits, n)
    came = rng.integers(0, max(3 * days // 4, 1), n)
    cool, irritation = np.zeros(n, np.bool_), np.zeros(n)
    left, gone = np.full(n, days), np.zeros(n, np.bool_)
    sessions = np.zeros((n, days, len(SESSIONS)), np.int16)
    ordered, irritated = np.zeros((n, days), np.bool_), np.zeros((n, days))
    mood = np.zeros((n, days), np.int8)
    for day in range(days):
        irritated[:, day] = irritation
        old = came < day
        change = np.where(cool, 1.0 / law.cool_days, 1.0 / law.keen_days)
        cool ^= old & (rng.random(n) < change)
        leaves = old & ~gone & (rng.random(n) < law.hazard(irritation, cool))
        left[leaves], gone = day, gone | leaves
        mood[:, day] = np.where(gone, GONE, cool)
        visits = rng.poisson(habit * np.take(law.visits, mood[:, day]) * (came <= day))
        sessions[:, day] = rng.multinomial(visits, law.shares)
        buys = rng.random(n) < -np.expm1(-pace)
        ordered[:, day] = (old & ~gone & buys) | (came == day)
        irritation = irritation * law.fades + sessions[:, day] @ np.array(law.weights)
    return Shop(came, sessions, ordered, irritated, left, mood)
