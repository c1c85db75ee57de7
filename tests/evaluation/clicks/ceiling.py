"""The most that can be known of the shop's customers, by the law that made them up.

The oracle knows every number of the law, and has seen every event of the stream. It does not know a
customer's pace, habit and mood, nor whether they have left: Bayes' rule gives the probability of
each combination, exactly, since there are finitely many. Then the law is drawn forward from there:
irritation and mood by chance, orders by formula. No method that sees the same events can do better,
but for luck. Too few draws make the ceiling lower than it is: four times as many as
`DRAWS` took .0003 off its log loss.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.evaluation.clicks.law import GONE, MOODS, Law, Shop

__all__ = ["DRAWS", "no_order"]

DRAWS: Final = 200
"""Futures of each customer; left and ordered are computed in each, not drawn."""
_AT_ONCE: Final = 1_000  # customers: 200,000 futures, some 20 MB

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def no_order(
    law: Law,
    shop: Shop,
    user: Ints,
    day: Ints,
    horizon_days: int,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Floats:
    """P(no order in the `horizon_days` days from `day` on), float64 [k], for questions at midnight:
    `user` int64 [k] and `day` int64 [k], which is the first of the future."""
    believed = _beliefs(law, shop, user, day)
    p = np.empty(len(user))
    for first in range(0, len(user), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        irritation = shop.irritation[user[part], day[part]]
        p[part] = _forward(law, believed[part], irritation, horizon_days, rng, draws)
    return p


def _beliefs(law: Law, shop: Shop, user: Ints, day: Ints) -> Floats:
    """The probability of each pace, habit and mood in the night before `day`, [k, P, H, 3]."""
    n, shape = len(shop.came), (len(law.paces), len(law.habits), len(MOODS))
    believed = np.zeros((n, *shape))
    found = np.empty((len(user), *shape))
    visits = shop.sessions.sum(axis=2, dtype=np.int64)
    # of so many visits, by habit and mood: the factorial is the same for all
    rates = np.outer(law.habits, law.visits)
    seen = np.exp(-rates) * rates ** np.arange(visits.max(initial=0) + 1)[:, None, None]
    none = np.exp(-np.array(law.paces))
    keen_cool, cool_keen = 1.0 / law.keen_days, 1.0 / law.cool_days
    for today in range(shop.days):
        asked = day == today
        found[asked] = believed[user[asked]]
        old, new = np.flatnonzero(shop.came < today), np.flatnonzero(shop.came == today)
        b = believed[old]
        keen, cool, gone = b[..., 0], b[..., 1], b[..., GONE]
        keen, cool = (
            keen * (1.0 - keen_cool) + cool * cool_keen,
            cool * (1.0 - cool_keen) + keen * keen_cool,
        )
        irritation = shop.irritation[old, today][:, None, None]
        leave = [law.hazard(irritation, np.array(is_cool)) for is_cool in (False, True)]
        gone = gone + keen * leave[0] + cool * leave[1]
        keen, cool = keen * (1.0 - leave[0]), cool * (1.0 - leave[1])
        bought = shop.ordered[old, today][:, None, None]
        order = np.where(bought, 1.0 - none[:, None], none[:, None])
        b = np.stack([keen * order, cool * order, np.where(bought, 0.0, gone)], axis=-1)
        b *= seen[visits[old, today]][:, None]
        believed[old] = b / b.sum(axis=(1, 2, 3), keepdims=True)
        first = np.zeros((len(new), *shape))
        first[..., 0] = seen[visits[new, today]][:, None, :, 0]
        believed[new] = first / first.sum(axis=(1, 2, 3), keepdims=True)
    return found


def _forward(
    law: Law,
    believed: Floats,
    irritation: Floats,
    horizon_days: int,
    rng: np.random.Generator,
    draws: int,
) -> Floats:
    """P(no order within the horizon), [k]: believed [k, P, H, 3], irritation [k]."""
    k = len(believed)
    # One draw in each of so many equal parts: less noise than free draws.
    levels = (np.arange(draws) + rng.random((k, draws))) / draws
    cumulative = np.cumsum(believed.reshape(k, -1), axis=1)
    cumulative[:, -1] = 1.0
    drawn = np.stack([np.searchsorted(c, u) for c, u in zip(cumulative, levels, strict=True)])
    pace, habit, mood = np.unravel_index(drawn.ravel(), believed.shape[1:])
    none = np.exp(-np.array(law.paces))[pace]
    rate = np.array(law.habits)[habit]
    cool, irritated = mood == 1, np.repeat(irritation, draws)
    bad = np.flatnonzero(law.weights)
    shares, weights = np.array(law.shares)[bad], np.array(law.weights)[bad]
    alive = np.where(mood == GONE, 0.0, 1.0)  # here still, and no order so far
    gone = 1.0 - alive
    for _ in range(horizon_days):
        cool ^= rng.random(len(cool)) < np.where(cool, 1.0 / law.cool_days, 1.0 / law.keen_days)
        hazard = law.hazard(irritated, cool)
        gone += alive * hazard
        alive *= (1.0 - hazard) * none
        visits = rate * np.where(cool, law.visits[1], law.visits[0])
        irritated = irritated * law.fades + rng.poisson(visits[:, None] * shares) @ weights
    result: Floats = (gone + alive).reshape(k, draws).mean(axis=1)
    return result
