"""Order histories made up for these tests, seeded: each in the shape of a kind of shop.

`weekly` is a shop of regulars, small and quick; in `changed` they become flighty half way. `cohort`
is like CDNOW: everybody's first order falls into one quarter, most never come back, and months pass
between the orders of those who do (BG/NBD's own assumptions, with order values as Gamma-Gamma has
them). `gifts` is a gift shop as BG/NBD would have it, but for twice the orders before Christmas:
heavy-tailed amounts and rates, everybody new. `wholesale` is like the year of a gift wholesaler in
the UCI data set "Online Retail": it had most of its customers before the year began, many restock
at a pace of their own, a third come once, it is closed on Saturdays, and autumn is busy.
`subscribers` pay every 30 days to the minute, beside shoppers of all paces.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
START_MS = 1_577_836_800_000  # 2020-01-01

# The law of `gifts`, which `tests.evaluation.ceiling` knows too
GIFTS_LOG_RATE = (-3.9, 0.8)  # mean and deviation; orders per day
GIFTS_COME_UNTIL = 0.75  # of the history
GIFTS_LIFE_DAYS = 400.0
GIFTS_YEAR_DAYS, GIFTS_PEAK, GIFTS_WIDTH = 365.0, 0.88, 0.06  # the last two in years
GIFTS_RISE = 2.5

Orders = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""User, time in ms, amount; in time order."""


def _sorted(user: list[int], day: list[float], amount: list[float]) -> Orders:
    order = np.argsort(day, kind="stable")
    ts = START_MS + (np.array(day)[order] * DAY_MS).astype(np.int64)
    return np.array(user)[order], ts, np.round(np.array(amount)[order], 2)


def weekly(
    users: int = 120, days: int = 190, seed: int = 0, changes_at: float = math.inf
) -> Orders:
    """From a part `changes_at` of the history on most people make pauses, and longer ones."""
    rng = np.random.default_rng(seed)
    user, day, amount = [], [], []
    for u in range(users):
        gap, worth, flighty = rng.gamma(2.0, 3.0) + 1.0, rng.lognormal(3.0, 0.5), rng.beta(0.5, 3.0)
        t = rng.uniform(0.0, 20.0)
        while t < days:
            user.append(u)
            day.append(t)
            amount.append(worth * rng.lognormal(0.0, 0.4))
            late = t > changes_at * days
            t += rng.gamma(2.0, gap / 2.0) + 0.05
            if rng.random() < flighty + 0.35 * late:  # a pause; some people make many
                t += rng.uniform(15.0, 60.0)
    return _sorted(user, day, amount)


def changed(users: int = 400, days: int = 300, seed: int = 3, at: float = 0.55) -> Orders:
    """A shop whose customers change."""
    return weekly(users, days, seed, changes_at=at)


def cohort(users: int = 4_000, days: int = 540, seed: int = 1) -> Orders:
    rng = np.random.default_rng(seed)
    user, day, amount = [], [], []
    for u in range(users):
        rate, leave = rng.gamma(0.3, 1.0 / 35.0), rng.beta(0.8, 2.4)
        nu = rng.gamma(3.7, 1.0 / 15.0)
        t = rng.uniform(0.0, 84.0)
        while t < days:
            user.append(u)
            day.append(t)
            amount.append(rng.gamma(6.0, 1.0 / nu))
            if len(day) > 1 and rng.random() < leave and user[-2:].count(u) == 2:
                break
            # interest comes in spells, which no constant rate knows
            t += rng.exponential(1.0 / max(rate, 1e-9)) * (0.3 if rng.random() < 0.4 else 1.3)
    return _sorted(user, day, amount)


def gifts(users: int = 1_500, days: int = 700, seed: int = 2) -> Orders:
    rng = np.random.default_rng(seed)
    user, day, amount = [], [], []
    for u in range(users):
        rate, worth = rng.lognormal(*GIFTS_LOG_RATE), rng.lognormal(5.0, 1.1)
        start = rng.uniform(0.0, GIFTS_COME_UNTIL * days)
        end = start + rng.exponential(GIFTS_LIFE_DAYS)
        t, season = start, rng.beta(1.0, 2.0)
        while t < min(days, end):
            off = ((t % GIFTS_YEAR_DAYS) / GIFTS_YEAR_DAYS - GIFTS_PEAK) / GIFTS_WIDTH
            rise = 1.0 + GIFTS_RISE * season * np.exp(-(off**2))
            # thinning: a Poisson process with a rising rate
            if rng.random() < rise / (1.0 + GIFTS_RISE):
                user.append(u)
                day.append(t)
                amount.append(worth * rng.lognormal(0.0, 0.7))
            t += rng.exponential(1.0 / ((1.0 + GIFTS_RISE) * rate)) + 0.01
    return _sorted(user, day, amount)


def wholesale(
    users: int = 4_300, days: int = 373, seed: int = 1, regularity: float = 2.0
) -> Orders:
    """`regularity`: shape of the gamma distribution of gaps; 1: none, as BG/NBD has it."""
    rng = np.random.default_rng(seed)
    user, day, amount = [], [], []
    for u in range(users):
        gap, worth, once = rng.lognormal(4.0, 0.9), rng.lognormal(5.4, 1.0), rng.random() < 0.3
        t = rng.uniform(-200.0, 0.95 * days if rng.random() < 0.5 else 0.0)
        end, season = t + rng.exponential(350.0), rng.beta(1.0, 1.5)
        while t < min(days, end):
            if t >= 0.0 and int(t) % 7 != 3:
                user.append(u)
                day.append(t)
                amount.append(worth * rng.lognormal(0.0, 0.8))
                if once:
                    break
            busy = 1.0 + 1.5 * season * np.exp(-(((t - 300.0) / 45.0) ** 2))
            t += rng.gamma(regularity, gap / regularity) / busy + 0.02
    return _sorted(user, day, amount)


def subscribers(
    users: int = 240, shoppers: int = 160, days: int = 420, seed: int = 8, cycle_days: float = 30.0
) -> Orders:
    """Of the subscribers (the first `users`), 1.5 % leave after each payment."""
    rng = np.random.default_rng(seed)
    user, day, amount = [], [], []
    for u in range(users + shoppers):
        subscribed = u < users
        t = rng.uniform(0.0, 2 * cycle_days if subscribed else 120.0)
        pace, end = rng.gamma(3.0, 8.0) + 5.0, t + rng.exponential(250.0)
        price = rng.choice([9.99, 19.99, 29.99])
        while t < (days if subscribed else min(days, end)):
            user.append(u)
            day.append(t)
            amount.append(price if subscribed else rng.gamma(3.0, 12.0) + 5.0)
            t += cycle_days if subscribed else rng.gamma(2.0, pace / 2.0)
            if subscribed and rng.random() < 0.015:
                break
    return _sorted(user, day, amount)


def write(path: Path, orders: Orders) -> Path:
    """A CSV as shops have it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["customer_id", "timestamp", "amount"])
        for user, ts, amount in zip(*(column.tolist() for column in orders), strict=True):
            out.writerow([f"c{user}", ts, amount])
    return path
