"""Fits the long horizon (`models.long`) to rows of which more than the short one is known.

Hardly any shop has many rows with labels of a year. So the longest time `L` is taken that half of
the history has labels for, 365 days at most, and the curve is fitted to what was spent within L, a
half and a quarter of it: together these tell how fast customers leave, so the curve can go on
beyond L. Its level is that of the last year. It is fitted three times: to each half of the
customers, which predicts the other half and so shows how far predictions are off (split conformal
prediction, as `models.interval`), and to all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import normalised_gini
from models.curve import EventBase, SpendBase
from models.interval import COVERAGE
from models.long import LONG_DAYS, UNSEEN, LongHorizon
from models.season import Season
from models.training.curve_fit import CURVE_ROWS, fit_event_base, fit_lasting_base
from models.training.dataset import DAY_MS, Dataset, spread
from schemas.features import FEATURE_NAMES

__all__ = ["LEAST_DAYS", "LongFit", "fit_long", "is_long", "long_label", "seen_days"]

Floats = NDArray[np.float64]
LEAST_DAYS: Final = 75
"""So far ahead labels must reach: a year from less would be a guess."""
_FIRST_DAYS: Final = 28  # of a history, without rows
_LEAST_USERS: Final = 100
_PARTS: Final = (1, 2, 4)
_MOST_ROWS: Final = 20_000
"""Of each half of the customers, to measure intervals on."""
_LATER: Final = 0.5
"""The part of the rows that the level is from, the latest: those most like the ones to come."""
_ROUNDS: Final = 5
_STEPS: Final = 30
_LEVELS: Final = (0.3, 0.9999)
_FAR: Final = 9.0  # in variances: further off counts as this far
_LEAST_VARIANCE: Final = 0.01
_LABEL: Final = re.compile(r"value_(\d+)d")
_ORDERS: Final = FEATURE_NAMES.index("lifetime_orders")


def long_label(days: int) -> str:
    """The name of a label in `Dataset.more`: currency spent within so many days."""
    return f"value_{days}d"


def is_long(label: str) -> bool:
    """Whether a label is one of these, and not of a head."""
    return _LABEL.fullmatch(label) is not None


def seen_days(first_ms: int, until_ms: int) -> tuple[int, ...]:
    """The days of the labels that a history between two times gives, the longest first; () if it is
    too short.

    >>> seen_days(0, 800 * 86_400_000), seen_days(0, 100 * 86_400_000)
    ((365, 182, 91), ())
    """
    half = ((until_ms - first_ms) // 86_400_000 - _FIRST_DAYS) // 2
    longest = min(half, LONG_DAYS)
    return () if longest < LEAST_DAYS else tuple(longest // part for part in _PARTS)


@dataclass(frozen=True)
class LongFit:
    """The curves and what goes with them; or, without them, why not."""

    trouble: str = ""
    idle: EventBase | None = None
    value: SpendBase | None = None
    horizon: LongHorizon | None = None
    gini: float = float("nan")
    """Of spend within the longest labels, of customers held back."""

    def within(self, x: NDArray[np.float32], days: float) -> tuple[Floats, Floats]:
        """Chance of no order, and expected spend, within so many days: float64 [k] of x [k, F].
        Raises ValueError without curves."""
        if self.idle is None or self.value is None:
            raise ValueError(self.trouble)
        log_odds = replace(self.idle, days=days).log_odds(x)
        return 1.0 / (1.0 + np.exp(-log_odds)), np.exp(replace(self.value, days=days).log_mean(x))


def fit_long(data: Dataset, season: Season | None) -> LongFit:
    """From the rows of users with an order, and their `long_label`s. Never raises for rows that are
    too few. Raises `ArtifactError` without scipy."""
    ordered = data.x[:, _ORDERS] >= 1
    labels = {
        int(found[1]): label
        for name, label in data.more.items()
        if (found := _LABEL.fullmatch(name)) and (ordered & ~np.isnan(label)).any()
    }
    if not labels:
        needed = _FIRST_DAYS + 2 * LEAST_DAYS
        return LongFit(f"it needs orders of {needed} days, from --orders FILE")
    longest = max(labels)
    known = ordered & ~np.isnan(labels[longest])
    spent = known & (labels[longest] > 0)
    halves = _halves(data.user)
    users = min(len(np.unique(data.user[spent & (halves == side)])) for side in (False, True))
    if 2 * users < _LEAST_USERS or longest < LEAST_DAYS:
        return LongFit(
            f"of about {2 * users} customers it is known that they ordered within {longest} days; "
            f"{_LEAST_USERS} are needed, and {LEAST_DAYS} days"
        )
    rows = _Rows(data, labels, ordered, season)
    fits = [rows.fit(halves != side) for side in (False, True)]
    horizon = _horizon([rows.off(fit, halves == side) for fit, side in zip(fits, (False, True),
                        strict=True)], longest)  # fmt: skip
    idle, value = rows.fit(ordered)
    at = [spread(known & (halves == side), _MOST_ROWS) for side in (False, True)]
    predicted = [fit[1].log_mean(data.x[some]) for fit, some in zip(fits, at, strict=True)]
    gini = normalised_gini(
        labels[longest][np.concatenate(at)].astype(np.float64), np.exp(np.concatenate(predicted))
    )
    return LongFit("", idle, value, horizon, gini)


def _halves(user: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Fibonacci hashing, as in `split_by_time`."""
    hashed = user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found: NDArray[np.bool_] = (hashed >> np.uint64(63)).astype(np.bool_)
    return found


@dataclass(frozen=True)
class _Off:
    """How rows that were held back came out, [n] each: `days` of the label, orders so far, chance
    of none and expected spend; what was spent, and when the row was made."""

    days: Floats
    x: NDArray[np.float32]
    idle: Floats
    value: Floats
    spend: Floats
    as_of_ms: NDArray[np.int64]


@dataclass(frozen=True)
class _Rows:
    data: Dataset
    labels: Mapping[int, NDArray[np.float32]]
    ordered: NDArray[np.bool_]
    season: Season | None

    def fit(self, own: NDArray[np.bool_]) -> tuple[EventBase, SpendBase]:
        """To the rows `own` bool [n]; what they say is within the longest time."""
        longest = max(self.labels)
        at, within, spend = self._some(own, CURVE_ROWS // len(self.labels))
        far = within == longest
        x = self.data.x[at]
        idle = fit_event_base(x[far], spend[far] <= 0, longest, order=False, season=self.season)
        value = fit_lasting_base(x, spend, within, longest, self.season)
        return replace(idle, days=LONG_DAYS), self._level(replace(value, days=LONG_DAYS), own)

    def _level(self, value: SpendBase, own: NDArray[np.bool_]) -> SpendBase:
        """Unbiased over the last year that is known, in the middle one of the labels: who is to be
        scored is like the customers of then, and a year has each season once."""
        days = sorted(self.labels)[len(self.labels) // 2]
        label = self.labels[days]
        rows = own & self.ordered & ~np.isnan(label)
        rows &= self.data.as_of_ms > self.data.as_of_ms[rows].max() - LONG_DAYS * DAY_MS
        at = spread(rows, _MOST_ROWS)
        predicted = np.exp(replace(value, days=days).log_mean(self.data.x[at])).mean()
        return value.times(max(float(label[at].mean()), 1e-9) / float(predicted))

    def off(self, fit: tuple[EventBase, SpendBase], own: NDArray[np.bool_]) -> _Off:
        """How the rows `own` came out, by a fit to others."""
        at, within, spend = self._some(own, _MOST_ROWS // len(self.labels))
        x, of = self.data.x[at], LongFit("", *fit)
        idle, value = np.empty(len(at)), np.empty(len(at))
        for days in self.labels:
            rows = np.flatnonzero(within == days)
            idle[rows], value[rows] = of.within(x[rows], days)
        return _Off(within, x, idle, value, spend, self.data.as_of_ms[at])

    def _some(self, own: NDArray[np.bool_], most: int) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Rows of each label, spread evenly: where, within how many days, and what was spent."""
        found = [
            spread(own & self.ordered & ~np.isnan(label), most) for label in self.labels.values()
        ]
        within = [
            np.full(len(at), float(days)) for days, at in zip(self.labels, found, strict=True)
        ]
        spend = [label[at] for label, at in zip(self.labels.values(), found, strict=True)]
        return np.concatenate(found), np.concatenate(within), np.concatenate(spend).astype(float)


def _horizon(off: list[_Off], longest: int) -> LongHorizon:
    """How widely spend scatters, from all labels, and the level of the longest."""
    both = _Off(*(np.concatenate([getattr(one, name) for one in off])
                  for name in ("days", "x", "idle", "value", "spend", "as_of_ms")))  # fmt: skip
    constant, by_orders, by_year = _scatter(both).tolist()
    far = np.flatnonzero(both.days == longest)
    far = far[both.as_of_ms[far] >= np.quantile(both.as_of_ms[far], _LATER)]
    low, high = _LEVELS  # coverage grows with the level
    for _ in range(_STEPS):
        level = (low + high) / 2.0
        found = LongHorizon(longest, constant, by_orders, by_year, UNSEEN, level)
        ends = found.of(both.idle[far], both.value[far], both.x[far], float(longest))
        inside = (both.spend[far] >= ends[0]) & (both.spend[far] <= ends[1])
        low, high = (low, level) if inside.mean() >= COVERAGE else (level, high)
    return LongHorizon(longest, constant, by_orders, by_year, UNSEEN, high)


def _scatter(off: _Off) -> Floats:
    """Constant, part over orders and part per year of the variance of the log of what was spent, if
    anything: least squares of squared deviations, none of them below 0."""
    from scipy.optimize import nnls  # noqa: PLC0415  (training only)

    spent = off.spend > 0
    orders = np.maximum(off.x[spent, _ORDERS].astype(np.float64), 1.0)
    parts = np.column_stack([np.ones(len(orders)), 1.0 / orders, off.days[spent] / LONG_DAYS])
    mean = np.log(np.maximum(off.value[spent], 1e-9) / np.maximum(1.0 - off.idle[spent], 1e-6))
    deviation = np.log(off.spend[spent]) - mean
    variance = np.full(len(deviation), float(deviation.var()))
    found: NDArray[Any] = np.zeros(3)
    for _ in range(_ROUNDS):  # a log-normal's mean is above its median by half of the variance
        squared = np.minimum((deviation + variance / 2.0) ** 2, _FAR * variance)
        weight = 1.0 / np.sqrt(variance)
        found = nnls(parts * weight[:, None], squared * weight)[0]
        variance = np.maximum(parts @ found, _LEAST_VARIANCE)
    return np.asarray(found, np.float64)
