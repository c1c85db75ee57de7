"""The most that can be known of the made-up gift shop's customers, by the law that made them up.

    python -m tests.evaluation.ceiling [CUSTOMERS DAYS SEED ...]

`tests.evaluation.shops.gifts` draws each customer's rate, share in the Christmas rise, and end from
known distributions. Given a customer's orders up to a day, Bayes' rule on a grid says how likely
none follows within the horizon: no method that sees orders alone ranks customers better, but for
luck. So the distance from BG/NBD to it is all that there is to win on that shop.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import auc
from streams.evaluation.history import History
from streams.evaluation.measure import Task
from tests.evaluation.rivals import evaluated
from tests.evaluation.shops import (
    DAY_MS,
    GIFTS_COME_UNTIL,
    GIFTS_LIFE_DAYS,
    GIFTS_LOG_RATE,
    GIFTS_PEAK,
    GIFTS_RISE,
    GIFTS_WIDTH,
    GIFTS_YEAR_DAYS,
    START_MS,
    gifts,
)

__all__ = ["Judged", "judged", "no_order"]

Floats = NDArray[np.float64]

_ENDS_PER_DAY: Final = 1.0 / GIFTS_LIFE_DAYS
_THINNED: Final = 1.0 + GIFTS_RISE

_z = np.linspace(-3.5, 3.5, 41)
_share = (np.arange(10) + 0.5) / 10
RATE, SHARE = np.meshgrid(np.exp(GIFTS_LOG_RATE[0] + GIFTS_LOG_RATE[1] * _z), _share, indexing="ij")
_PRIOR: Final = np.log(np.outer(np.exp(-0.5 * _z**2), 1.0 - _share))  # Beta(1, 2)

_GRID: Final = np.arange(0.0, 3 * GIFTS_YEAR_DAYS, 0.25)
_BUMP: Final = np.exp(
    -((((_GRID % GIFTS_YEAR_DAYS) / GIFTS_YEAR_DAYS - GIFTS_PEAK) / GIFTS_WIDTH) ** 2)
)
_BUMPS: Final = np.r_[0.0, np.cumsum((_BUMP[1:] + _BUMP[:-1]) / 2 * 0.25)]


def _rise(day: Floats | float, share: Floats) -> Floats:
    """How much more than usual is ordered on a day."""
    return 1.0 + GIFTS_RISE * share * np.interp(day, _GRID, _BUMP)


def _risen(start: Floats | float, stop: Floats | float, share: Floats) -> Floats:
    """The same, summed over the days between."""
    bumps = np.interp(stop, _GRID, _BUMPS) - np.interp(start, _GRID, _BUMPS)
    return np.asarray(stop) - start + GIFTS_RISE * share * bumps


def no_order(days: Floats, as_of: float, horizon: float, length: float) -> float:
    """P(no order within `horizon` days of `as_of`), given the days of all orders before it, at
    least one, ascending. `length`: days of the history that the shop was made for."""
    first, last = float(days[0]), float(days[-1])
    rate, share = RATE[..., None], SHARE[..., None]
    # the first order comes with the customer, or after a time without any
    came = np.linspace(0.0, min(first, GIFTS_COME_UNTIL * length), 30)
    waited = (1.0 - _rise(came, share) / _THINNED) * rate * _rise(first, share)
    waited = waited * np.exp(-rate * _risen(came, first, share) - (first - came) * _ENDS_PER_DAY)
    at_once = _rise(first, SHARE) / _THINNED if first < GIFTS_COME_UNTIL * length else 0.0
    log = _PRIOR + np.log(np.trapezoid(waited, came, axis=-1) + at_once + 1e-300)
    for day in days[1:]:
        log = log + np.log(RATE * _rise(float(day), SHARE))
    log = log - RATE * _risen(first, last, SHARE) - _ENDS_PER_DAY * (last - first)
    left, alive = _until(last, max(as_of, last + 1e-6), RATE, SHARE)
    gone, still = _until(as_of, as_of + horizon, RATE, SHARE)
    weight = np.exp(log - log.max())
    return float((weight * (left + alive * (gone + still))).sum() / (weight * (left + alive)).sum())


def _until(start: float, stop: float, rate: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Of those alive at `start`: the chance to order no more and end before `stop`, and the chance
    to order no more and be alive then."""
    end = np.linspace(start, stop, 24)
    silent = np.exp(-rate[..., None] * _risen(start, end, share[..., None]))
    silent = silent * np.exp(-_ENDS_PER_DAY * (end - start))
    return np.asarray(np.trapezoid(_ENDS_PER_DAY * silent, end, axis=-1)), silent[..., -1]


def _ceiling(history: History, task: Task, horizon: int, length: float) -> Floats:
    """`no_order` for each row of a task."""
    day = (history.ts_ms - START_MS) / DAY_MS
    of_user = {user: day[history.user == user] for user in np.unique(task.user).tolist()}
    as_of = (task.cut_ms - START_MS) / DAY_MS
    return np.array(
        [
            no_order(of_user[user][of_user[user] < at], at, horizon, length)
            for user, at in zip(task.user.tolist(), as_of.tolist(), strict=True)
        ]
    )


@dataclass(frozen=True)
class Judged:
    """A made-up gift shop, evaluated: churn and value, and the ceiling of churn for each row."""

    churn: Task
    value: Task
    ceiling: Floats

    def auc(self, method: str) -> float:
        scores = self.ceiling if method == "ceiling" else self.churn.scores[method]
        return auc(self.churn.truth, scores)


def judged(users: int, days: int, seed: int, horizon: int = 28) -> Judged:
    """The same with the ceiling."""
    history, churn, value = evaluated(gifts(users, days, seed), horizon)
    return Judged(churn, value, _ceiling(history, churn, horizon, days))


def main() -> None:
    given = [int(word) for word in sys.argv[1:]] or [1_500, 700, 31, 32, 33]
    users, days, *seeds = given
    for seed in seeds:
        shop = judged(users, days, seed)
        found = ", ".join(
            f"{method} {shop.auc(method):.4f}" for method in ("ceiling", "blend", "bgnbd", "rfm")
        )
        print(f"{users} customers, {days} days, seed {seed}: churn AUC {found}", flush=True)


if __name__ == "__main__":
    main()
