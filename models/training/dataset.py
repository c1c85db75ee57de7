"""The training data, and its split into rows to fit, to tune and to test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bands import band_of
from models.manifest import Typical
from models.season import SEASON_FEATURE
from models.training.columns import FeatureColumns, Features
from schemas.errors import ArtifactError
from schemas.events import CLICK_TYPES
from schemas.features import FEATURE_NAMES

__all__ = [
    "DAY_MS",
    "LATER_SHARE",
    "Dataset",
    "Split",
    "sees_clicks",
    "split_by_time",
    "spread",
    "typical",
]

DAY_MS: Final = 86_400_000
LATER_SHARE: Final = 0.25
NEARLY_CONSTANT: Final = 0.995
"""A feature that is unknown or at its median this often teaches an online learner only noise."""
_CHECKED: Final = 1 << 16  # rows at a time
_ORDERS: Final = FEATURE_NAMES.index("lifetime_orders")
_CLICKED: Final = [FEATURE_NAMES.index(f"{kind}_90d") for kind in CLICK_TYPES]
_MOST: Final = 0.5


@dataclass(frozen=True)
class Dataset:
    """One row per user and as-of time.

    `x` [n, F]: features as of `as_of_ms` int64 [n] (ms since 1970); `churned` bool [n]: no
    order within the horizon after that; `spend` float32 [n]: currency spent in it; `user` int64
    [n]: any stable number per user. Raises `ArtifactError` if shapes or values can't be right.
    """

    x: Features
    churned: NDArray[np.bool_]
    spend: NDArray[np.float32]
    as_of_ms: NDArray[np.int64]
    user: NDArray[np.int64]
    more: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Labels of further heads by output name, 0 or 1, float32 [n]; NaN where not known yet. And
    spend within other times, in currency, for the long horizon (`long_fit.long_label`)."""
    events: NDArray[np.float32] | None = None
    """The users' last events as of then, float32 [n, ...] (`schemas.tails`), if somebody asked."""

    def __post_init__(self) -> None:
        n = len(self.x)
        lengths = {len(self.churned), len(self.spend), len(self.as_of_ms), len(self.user)}
        lengths |= {len(label) for label in self.more.values()}
        lengths |= set() if self.events is None else {len(self.events)}
        problem = None
        if self.x.shape != (n, len(FEATURE_NAMES)) or lengths != {n}:
            problem = f"x has shape {list(self.x.shape)}, the other columns lengths {lengths}"
        elif any(np.isinf(self.x[i : i + _CHECKED]).any() for i in range(0, n, _CHECKED)):
            problem = "x has infinite values"
        elif not (np.isfinite(self.spend).all() and (self.spend >= 0).all()):
            problem = "spend has values that are negative or not numbers"
        if problem:
            raise ArtifactError(f"This can't be trained on: {problem}. Replay the events again.")

    def joined(self, other: Dataset) -> Dataset:
        """These rows and then others, which have the same labels."""
        return Dataset(
            np.concatenate([self.x[:], other.x[:]]),
            np.concatenate([self.churned, other.churned]),
            np.concatenate([self.spend, other.spend]),
            np.concatenate([self.as_of_ms, other.as_of_ms]),
            np.concatenate([self.user, other.user]),
            {name: np.concatenate([label, other.more[name]]) for name, label in self.more.items()},
            None
            if self.events is None or other.events is None
            else np.concatenate([self.events, other.events]),
        )

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Dataset:
        """The rows where `rows` bool [n] is true, or those at `rows` int64 [k]."""
        x = self.x.take(rows) if isinstance(self.x, FeatureColumns) else self.x[rows]
        return Dataset(
            x, self.churned[rows], self.spend[rows], self.as_of_ms[rows],
            self.user[rows], {name: label[rows] for name, label in self.more.items()},
            None if self.events is None else self.events[rows],
        )  # fmt: skip

    def band(self, min_orders: int) -> NDArray[np.int8]:
        """The band of each row (`models.bands`), int8 [n]."""
        return band_of(self.x[:, _ORDERS], min_orders)


@dataclass(frozen=True)
class Split:
    """Masks bool [n]. `train` fits trees, `tune` stops and calibrates them, `test` only reports."""

    train: NDArray[np.bool_]
    tune: NDArray[np.bool_]
    test: NDArray[np.bool_]


def split_by_time(
    data: Dataset,
    horizon_days: int,
    later_share: float = LATER_SHARE,
    among: NDArray[np.bool_] | None = None,
) -> Split:
    """Trains on the past and judges on the future, as in production.

    Of the rows `among` bool [n] (None: all) the latest `later_share` are for judging. Training rows
    end one horizon earlier, when their labels were known. Of the later rows, half the users tune
    and the other half test, so that reported metrics come from users and times which no choice has
    seen. Raises `ArtifactError` if a part has no rows, or only one class of them.
    """
    if among is None:
        among = np.ones(len(data.x), np.bool_)
    if not among.any():
        raise ArtifactError("There are no rows to train on. Replay events that hold more orders.")
    start = int(np.quantile(data.as_of_ms[among], 1.0 - later_share, method="higher"))
    later = among & (data.as_of_ms >= start)
    # Fibonacci hashing: the top bit of the product is even for any numbering of users.
    hashed = data.user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    tuning_user = (hashed >> np.uint64(63)).astype(np.bool_)
    split = Split(
        train=among & (data.as_of_ms + horizon_days * DAY_MS <= start),
        tune=later & tuning_user,
        test=later & ~tuning_user,
    )
    for name in ("train", "tune", "test"):
        churned = data.churned[getattr(split, name)]
        if len(churned) == 0 or churned.all() or not churned.any():
            raise ArtifactError(
                f"The {name} rows hold {len(churned)} users, {int(churned.sum())} of them churned; "
                "both kinds are needed. Use a longer history, or a shorter horizon."
            )
    return split


def spread(rows: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """At most so many of `rows` bool [n], spread evenly over them; positions, int64 [k]."""
    at = np.flatnonzero(rows)
    found: NDArray[np.int64] = at[np.linspace(0, len(at) - 1, min(len(at), most)).astype(np.int64)]
    return found


def sees_clicks(x: Features, rows: NDArray[np.bool_] | None = None) -> bool:
    """Whether most of the `rows` bool [n] (None: all) of x [n, F] are of users who clicked in the
    last 90 days."""
    clicked = np.logical_or.reduce([x[:, i] > 0 for i in _CLICKED])  # unknown is not above 0
    return bool((clicked if rows is None else clicked[rows]).mean() > _MOST)


def typical(x: Features, rows: NDArray[np.bool_] | None = None) -> Typical:
    """Median, mean, standard deviation and liveliness of each column of the `rows` bool [n] (None:
    all) of x [n, F]."""
    median: list[float | None] = []
    mean, scale, varies = [], [], []
    for i in range(x.shape[1]):
        column = x[:, i] if rows is None else x[rows, i]
        known = column[~np.isnan(column)].astype(np.float64)
        middle = float(np.median(known)) if len(known) else 0.0
        spread = float(known.std()) if len(known) else 0.0
        still = 1.0 - np.count_nonzero(known != middle) / len(column)
        median.append(middle if 2 * len(known) >= len(column) else None)
        mean.append(float(known.mean()) if len(known) else 0.0)
        scale.append(spread if spread > 0.0 else 1.0)
        varies.append(bool(spread > 0.0 and still < NEARLY_CONSTANT))
    varies[SEASON_FEATURE] = False  # nothing that a learner or a drift test may follow
    return Typical(median=median, mean=mean, scale=scale, varies=varies)
