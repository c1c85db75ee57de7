"""A made-up shop where the order of events matters, and their number says little.

Each customer has a pace of ordering and a habit of visiting; at most one session falls on a day.
Their first order is the beginning. From then on, every day, for customers who have not left:

1. the mood may change: settled or wavering. Wavering ones leave more easily;
2. they leave with the day's hazard, `base * (wavering) * exp(irritation)`;
3. they order at their own pace; else they may visit, whatever the mood: they browse, search and
   find nothing, or write to support;
4. who browses looks at one of two categories of theirs. Settled customers look twice at one and
   then twice at the other (AABB), wavering ones take turns (ABAB), but for some noise. So both look
   at both, equally often;
5. irritation fades by half in 30 days. It rises only if a message to support is the very next
   session after a search that found nothing. Each of the two alone, or the other way round, does
   nothing.

Those who left look in from time to time, and order no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BROWSED", "GONE", "NOTHING_FOUND", "ORDERED", "SUPPORT", "Law", "Shop", "simulate"]

NO_SESSION, BROWSED, NOTHING_FOUND, SUPPORT, ORDERED = range(5)
SETTLED, WAVERING, GONE = range(3)
FIRST, SWITCHED, STAYED = range(3)
"""What the last look at a category was."""

VISITS: Final = (BROWSED, NOTHING_FOUND, SUPPORT)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Law:
    """Rates are per day; every pace and every habit is equally frequent."""

    paces: tuple[float, ...] = (0.08, 0.12, 0.18)
    habits: tuple[float, ...] = (0.4, 0.6)
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2)
    """Of `VISITS`."""
    gone: float = 0.7
    """Of the habit, of those who left."""
    let_down: float = 4.5
    """What a message to support right after a search that found nothing adds to the irritation."""
    half_life_days: float = 30.0
    base: float = 0.0002
    wavering: float = 12.0
    most: float = 0.1
    settled_days: float = 90.0
    wavering_days: float = 45.0
    noise: float = 0.1
    """How often a look is at the category that the pattern does not say."""

    @property
    def fades(self) -> float:
        return float(0.5 ** (1.0 / self.half_life_days))

    def hazard(self, irritation: Floats, wavering: NDArray[np.bool_]) -> Floats:
        """The chance of leaving today, in 0..1."""
        raised = self.base * np.where(wavering, self.wavering, 1.0) * np.exp(irritation)
        return np.minimum(raised, self.most)

    def switches(self) -> Floats:
        """The chance that a look is at the other category, [what the last look was, mood]."""
        off = self.noise
        return np.array(
            [[0.5, 0.5, 0.5], [off, 1.0 - off, 0.5], [1.0 - off, 1.0 - off, 0.5]], np.float64
        )


@dataclass(frozen=True)
class Shop:
    """What n customers did on d days: `session` int8 [n, d], `category` int8 [n, d] (0 or 1, of
    those who browsed), `look` int8 [n, d] (what the look before this day was), `before` int8 [n, d]
    (the last session before this day), `came` int64 [n]. `irritation` [n, d], at the beginning of
    each day, follows from the sessions; `left` int64 [n] (d: never) and mood are hidden."""

    came: Ints
    session: NDArray[np.int8]
    category: NDArray[np.int8]
    look: NDArray[np.int8]
    before: NDArray[np.int8]
    irritation: Floats
    left: Ints

    @property
    def days(self) -> int:
        return int(self.session.shape[1])

    @property
    def ordered(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.session == ORDERED
        return found


def simulate(law: Law, customers: int, days: int, rng: np.random.Generator) -> Shop:
    """Customers come on days that are spread evenly over the first half."""
    n = customers
    pace, habit = rng.choice(law.paces, n), rng.choice(law.habits, n)
    came = rng.integers(0, max(days // 2, 1), n)
    wavering, gone = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    left, irritation = np.full(n, days), np.zeros(n)
    at, look, last = np.zeros(n, np.int8), np.full(n, FIRST, np.int8), np.zeros(n, np.int8)
    session, category = np.zeros((n, days), np.int8), np.zeros((n, days), np.int8)
    looks, before, irritated = (np.zeros((n, days), kind) for kind in (np.int8, np.int8, float))
    switches = law.switches()
    for day in range(days):
        irritated[:, day], looks[:, day], before[:, day] = irritation, look, last
        old = came < day
        change = np.where(wavering, 1.0 / law.wavering_days, 1.0 / law.settled_days)
        wavering ^= old & (rng.random(n) < change)
        leaves = old & ~gone & (rng.random(n) < law.hazard(irritation, wavering))
        left[leaves], gone = day, gone | leaves
        orders = (old & ~gone & (rng.random(n) < pace)) | (came == day)
        visits = old & ~orders & (rng.random(n) < habit * np.where(gone, law.gone, 1.0))
        kind = rng.choice(VISITS, n, p=law.shares)
        today = np.where(orders, ORDERED, np.where(visits, kind, NO_SESSION)).astype(np.int8)
        session[:, day] = today
        mood = np.where(gone, GONE, np.where(wavering, WAVERING, SETTLED))
        browses, switch = today == BROWSED, rng.random(n) < switches[look, mood]
        at = np.where(browses & switch, 1 - at, at).astype(np.int8)
        look = np.where(browses, np.where(switch, SWITCHED, STAYED), look).astype(np.int8)
        category[:, day] = at
        let_down = (today == SUPPORT) & (last == NOTHING_FOUND)
        last = np.where(today != NO_SESSION, today, last).astype(np.int8)
        irritation = irritation * law.fades + law.let_down * let_down
    return Shop(came, session, category, looks, before, irritated, left)
