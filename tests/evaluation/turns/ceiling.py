"""The most that can be known of the shop's customers, as in `tests.evaluation.clicks.ceiling`.

The oracle knows the law's numbers and every event, not a customer's pace, habit and mood, nor
whether they have left: of these it has exact probabilities, by Bayes' rule. Then the law is drawn
forward from there.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from tests.evaluation.turns.law import (
    BROWSED,
    GONE,
    NO_SESSION,
    NOTHING_FOUND,
    ORDERED,
    SUPPORT,
    SWITCHED,
    VISITS,
    WAVERING,
    Floats,
    Ints,
    Law,
    Shop,
)

__all__ = ["DRAWS", "no_order"]

DRAWS: Final = 100
"""Futures of each customer; left and ordered are computed in each, not drawn."""
_AT_ONCE: Final = 1_000  # customers


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
        at = user[part], day[part]
        p[part] = _forward(
            law,
            believed[part],
            shop.irritation[at],
            shop.before[at].astype(np.int64),
            horizon_days,
            rng,
            draws,
        )
    return p


def _beliefs(law: Law, shop: Shop, user: Ints, day: Ints) -> Floats:
    """The probability of each pace, habit and mood in the night before `day`, [k, P, H, 3]."""
    n, shape = len(shop.came), (len(law.paces), len(law.habits), 3)
    pace = np.array(law.paces)[:, None, None]
    visit = np.array(law.habits)[:, None] * np.array([1.0, 1.0, law.gone])
    orders = np.broadcast_to(pace * np.array([1.0, 1.0, 0.0]), shape)
    chances = np.stack([(1 - orders) * (1 - visit), (1 - orders) * visit, orders])
    what = np.array([0, 1, 1, 1, 2])  # of a session: none, a visit, an order
    switches = law.switches()
    to_wavering, to_settled = 1.0 / law.settled_days, 1.0 / law.wavering_days
    believed, found = np.zeros((n, *shape)), np.empty((len(user), *shape))
    for today in range(shop.days):
        asked = day == today
        found[asked] = believed[user[asked]]
        old, new = np.flatnonzero(shop.came < today), np.flatnonzero(shop.came == today)
        b = believed[old]
        settled, wavering, gone = b[..., 0], b[..., 1], b[..., GONE]
        settled, wavering = (
            settled * (1.0 - to_wavering) + wavering * to_settled,
            wavering * (1.0 - to_settled) + settled * to_wavering,
        )
        irritation = shop.irritation[old, today][:, None, None]
        leave = [law.hazard(irritation, np.array(w)) for w in (False, True)]
        gone = gone + settled * leave[0] + wavering * leave[1]
        b = np.stack([settled * (1.0 - leave[0]), wavering * (1.0 - leave[1]), gone], axis=-1)
        session = shop.session[old, today]
        b = b * chances[what[session]]
        looked = session == BROWSED
        if looked.any() and today:
            who = old[looked]
            switch = shop.category[who, today] != shop.category[who, today - 1]
            of_look = switches[shop.look[who, today]]
            b[looked] *= np.where(switch[:, None], of_look, 1.0 - of_look)[:, None, None]
        believed[old] = b / b.sum(axis=(1, 2, 3), keepdims=True)
        believed[new] = np.array([1.0, 0.0, 0.0]) / (shape[0] * shape[1])
    return found


def _forward(
    law: Law,
    believed: Floats,
    irritation: Floats,
    before: Ints,
    horizon_days: int,
    rng: np.random.Generator,
    draws: int,
) -> Floats:
    """P(no order within the horizon), [k]: believed [k, P, H, 3]; irritation, last session [k]."""
    k = len(believed)
    levels = (np.arange(draws) + rng.random((k, draws))) / draws
    cumulative = np.cumsum(believed.reshape(k, -1), axis=1)
    cumulative[:, -1] = 1.0
    drawn = np.stack([np.searchsorted(c, u) for c, u in zip(cumulative, levels, strict=True)])
    pace, habit, mood = np.unravel_index(drawn.ravel(), believed.shape[1:])
    none, visit = 1.0 - np.array(law.paces)[pace], np.array(law.habits)[habit]
    wavering, irritated = mood == WAVERING, np.repeat(irritation, draws)
    last = np.repeat(before, draws)
    alive = np.where(mood == GONE, 0.0, 1.0)  # here still, and no order so far
    gone = 1.0 - alive
    for _ in range(horizon_days):
        change = np.where(wavering, 1.0 / law.wavering_days, 1.0 / law.settled_days)
        wavering ^= rng.random(len(last)) < change
        hazard = law.hazard(irritated, wavering)
        gone += alive * hazard
        alive *= (1.0 - hazard) * none
        kind = rng.choice(VISITS, len(last), p=law.shares)
        today = np.where(rng.random(len(last)) < visit, kind, NO_SESSION)
        let_down = (today == SUPPORT) & (last == NOTHING_FOUND)
        irritated = irritated * law.fades + law.let_down * let_down
        last = np.where(today != NO_SESSION, today, last)
    result: Floats = (gone + alive).reshape(k, draws).mean(axis=1)
    return result


assert (SWITCHED, ORDERED) == (1, 4)  # as `switches` and `what` number them
