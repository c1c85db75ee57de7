"""One head on its way: rehearsed on earlier rows, measured on later ones, then fitted on all.

Trees and a curve (`models.curve`) are fitted apart and pooled as does best on rows that tune.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import TWEEDIE_POWER, churn_metrics, spend_metrics
from models.champion import OUTPUTS
from models.curve import EventBase, SpendBase
from models.manifest import GroupGain
from models.season import SEASON_FEATURE, Season
from models.training.binned import Binned
from models.training.columns import Features, parts
from models.training.curve_fit import CURVE_ROWS, fit_event_base, fit_spend_base
from models.training.dataset import Dataset, Split, split_by_time, spread
from models.training.export import Head, require
from models.training.groups import MOST_ROWS, group_gains
from models.training.pooling import WEIGHTS, curve_weight
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES

__all__ = [
    "CHURN_TREES",
    "HEAD_DAYS",
    "HIDDEN",
    "OUTLOOK_TREES",
    "SPEND_TREES",
    "HeadFit",
    "Progress",
    "Rehearsal",
    "parameters",
]

CHURN_TREES: Final = 70
OUTLOOK_TREES: Final = 30
SPEND_TREES: Final = 50
"""At most. A tree of 16 leaves costs about 0.035 µs per row in ONNX Runtime on one core (branch
mispredictions, mostly), one of 8 leaves two thirds of it, and every touched user is scored."""

_SHAPE: Final = {"max_depth": 5, "lambda_l2": 10.0, "feature_fraction": 0.3, "max_bin": 127}
"""Few features a tree and a strong penalty: most features are strongly correlated, and the
weekly rows of one customer are nearly one row (D-028)."""
_BINARY: Final = {
    "objective": "binary",
    "metric": "binary_logloss",
    "learning_rate": 0.11,
    "num_leaves": 8,
}
_WITH_CLICKS: Final = {**_BINARY, "learning_rate": 0.2}
"""Clicks tell more than 70 small steps can say (D-062)."""
_OUTLOOK: Final = {**_BINARY, "learning_rate": 0.22}
"""Fewer trees that go further: as good, and a sweep asks for the outlook of nearly everybody."""
_SPEND: Final = {
    "objective": "tweedie",
    "tweedie_variance_power": TWEEDIE_POWER,
    "metric": "tweedie",
    "learning_rate": 0.12,
    "num_leaves": 16,
}
_LEAF_WEEKLY_ROWS: Final = 25
"""Least rows of a leaf, per week of the horizon: rows a week apart share most of their label."""
_PATIENCE: Final = 10
HEAD_DAYS: Final = {"p_buy_7d": 7, "p_buy_30d": 30}
"""Heads that predict an order within so many days; the others predict none within the horizon."""
_AGES: Final = ("tenure_days", "days_since_first_order")
"""Hidden from the trees, as the day of the year is; only the curve reads them. Where all customers
came at about the same time, age is the calendar, and tomorrow's ages are outside the range that the
trees were fitted on."""
HIDDEN: Final = np.array([*(FEATURE_NAMES.index(name) for name in _AGES), SEASON_FEATURE])
_NOTHING: Final = -80.0
"""Log of an amount that float32 can hold, and that adds nothing to any other."""

Progress = Callable[[str, float], None]
"""Called with what is being done and the part of it that is done, 0 to 1."""


@dataclass(frozen=True)
class Rehearsal:
    """What a head's rehearsal settles: how many trees on all rows, the curve and its weight."""

    trees: int
    base: EventBase | SpendBase
    weight: float
    metrics: dict[str, float]
    """On the test rows."""
    feature_groups: list[GroupGain]
    """The same; of customers' churn only."""
    held_back: NDArray[np.bool_]
    """The rows that neither trees nor curve were fitted to, bool [n]: of other times."""
    predicted: NDArray[np.float64]
    """For these, [their number]."""


def parameters(rows: int, horizon_days: int, seed: int, threads: int) -> dict[str, Any]:
    """LightGBM's, for so many rows; what a head adds is its own."""
    return {
        **_SHAPE,
        "min_data_in_leaf": max(_LEAF_WEEKLY_ROWS * horizon_days // 7, rows // 1000, 20),
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,  # the other way binned rows are in memory twice
        "num_threads": threads,
        "verbosity": -1,
    }


@dataclass(frozen=True)
class HeadFit:
    """One head on its way; label: float32 [n], NaN where it is not known."""

    name: str
    data: Dataset
    label: NDArray[np.float32]
    horizon_days: int
    clicks: bool
    """Whether the shop has any."""
    progress: Progress
    own: NDArray[np.bool_]
    """bool [n]: rows of the users that the head is for."""
    near: NDArray[np.bool_] | None = None
    """bool [n]: rows of others, from which the trees learn too."""
    most_trees: int = CHURN_TREES
    curve_weights: Sequence[float] = WEIGHTS

    @property
    def spend(self) -> bool:
        return self.name == OUTPUTS[1]

    @property
    def shape(self) -> tuple[int, dict[str, Any]]:
        """Trees at most, and the parameters that are this head's own."""
        if self.spend:
            most, own = SPEND_TREES, _SPEND
        elif self.name in HEAD_DAYS:
            most, own = OUTLOOK_TREES, _OUTLOOK
        else:
            most, own = CHURN_TREES, _WITH_CLICKS if self.clicks else _BINARY
        return min(most, self.most_trees), own

    @property
    def known(self) -> NDArray[np.bool_]:
        """Its own rows that have a label, bool [n]."""
        known: NDArray[np.bool_] = self.own & ~np.isnan(self.label)
        return known

    def _with_near(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """`rows`, and those that are near and not later."""
        if self.near is None:
            return rows
        last_ms = self.data.as_of_ms[rows].max()
        near = self.near & ~np.isnan(self.label) & (self.data.as_of_ms <= last_ms)
        both: NDArray[np.bool_] = rows | near
        return both

    def _curve(self, rows: NDArray[np.bool_], season: Season | None) -> EventBase | SpendBase:
        days = HEAD_DAYS.get(self.name, self.horizon_days)
        at = spread(rows, CURVE_ROWS)
        x, y = self.data.x[at], self.label[at]
        if self.spend:
            return fit_spend_base(x, y, days, season)
        return fit_event_base(x, y, days, order=self.name in HEAD_DAYS, season=season)

    def _report(self, start: float, trees: int) -> Callable[[Any], None]:
        return lambda env: self.progress(self.name, start + (env.iteration + 1) / trees / 2.0)

    def rehearse(self, binned: Binned, split: Split, season: Season | None) -> Rehearsal:
        """Fitted on the training rows, stopped and pooled by the tuning rows, and measured on the
        test rows; `season`: estimated on the training rows. Raises `ArtifactError`."""
        lightgbm = require("lightgbm")
        data, label = self.data, self.label
        split = self._split(split)
        train, tune, test = self._with_near(split.train), split.tune, split.test
        most, own = self.shape
        stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
        rehearsed = lightgbm.train(
            binned.parameters | own, binned.of(train, label), most,
            valid_sets=[binned.of(tune, label)], callbacks=[stop, self._report(0.0, most)],
        )  # fmt: skip
        best = rehearsed.best_iteration
        booster = lightgbm.Booster(model_str=rehearsed.model_to_string(num_iteration=best))
        base = self._curve(split.train, season)
        raw = _by_parts(partial(booster.predict, raw_score=True, num_threads=1), data.x, tune)
        of_curve = base.log_odds if isinstance(base, EventBase) else base.log_mean
        curve = _by_parts(of_curve, data.x, tune)
        weight = curve_weight(
            raw, curve, label[tune], data.user[tune], spend=self.spend, clicks=self.clicks,
            weights=self.curve_weights,
        )  # fmt: skip
        pooled, held_back = _pooled(booster, base, weight), tune | test
        predicted = _by_parts(pooled.predict, data.x, held_back)
        measured = self._measured(label[test], predicted[test[held_back]])
        measured[f"{self.name}_curve_weight"] = weight
        # More rows carry more trees.
        rows = int(self._with_near(self.known).sum())
        trees = max(1, min(most, round(best * rows / max(int(train.sum()), 1))))
        groups: list[GroupGain] = []
        if self.name == OUTPUTS[0] and self.near is None:
            at, seed = spread(test, MOST_ROWS), binned.parameters["seed"]
            groups = group_gains(pooled.predict, pooled.used, data.x[at], label[at] > 0, seed)
        return Rehearsal(trees, base, weight, measured, groups, held_back, predicted)

    def _measured(
        self, label: NDArray[np.float32], predicted: NDArray[np.float64]
    ) -> dict[str, float]:
        if self.spend:
            return spend_metrics(label, predicted)
        prefix = "" if self.name == OUTPUTS[0] else f"{self.name}_"
        return {
            prefix + (metric if not prefix else metric.removeprefix("churn_")): value
            for metric, value in churn_metrics(label > 0, predicted).items()
        }

    def fit(self, binned: Binned, rehearsal: Rehearsal, season: Season | None) -> Head:
        """Fitted on all rows; `season`: estimated on all rows."""
        trees, base, weight = rehearsal.trees, rehearsal.base, rehearsal.weight
        rows = self._with_near(self.known)
        final = require("lightgbm").train(
            binned.parameters | self.shape[1], binned.of(rows, self.label), trees,
            callbacks=[self._report(0.5, trees)],
        )  # fmt: skip
        self.progress(self.name, 1.0)
        return _pooled(final, self._curve(self.known, season) if weight else base, weight)

    def _split(self, split: Split) -> Split:
        """The split of a head whose horizon is another one: its newest rows have no label yet.

        Raises `ArtifactError` if a part has nothing to learn from, or to judge by.
        """
        label, known = self.label, self.known
        if not known[self.own].all():
            if not known.any():
                raise ArtifactError(f"No label of {self.name} is known yet. Use a longer history.")
            split = split_by_time(self.data, HEAD_DAYS.get(self.name, 0), among=known)
        for which in ("train", "tune", "test"):
            values = label[getattr(split, which)]
            if not len(values) or values.min() == values.max():
                raise ArtifactError(
                    f"The {which} rows of {self.name} are all alike ({len(values)} of them). "
                    "Use a longer history."
                )
        return split


def _by_parts(
    of: Callable[[NDArray[np.float32]], Any], x: Features, rows: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """What `of` says of the chosen rows, without a copy of all their features at once."""
    found = [of(part) for part in parts(x, np.flatnonzero(rows))]
    return np.concatenate(found).astype(np.float64)


def _pooled(booster: Any, base: EventBase | SpendBase, weight: float) -> Head:
    """A head of trees and curve. Log loss and Tweedie deviance are least for calibrated
    predictions, so the fit calibrates both. A calibration fitted afterwards, to a rehearsal's trees
    on one season's rows, was worse: ECE 0.0137 on Complete Journey, and spend 6 % too low."""
    part = base.times(weight) if weight else None
    if isinstance(base, SpendBase):
        if weight == 1.0:
            return Head(booster, "exp", slope=0.0, intercept=_NOTHING, base=part)
        return Head(booster, "exp", intercept=math.log(1.0 - weight), base=part)
    return Head(booster, "sigmoid", slope=1.0 - weight, base=part)
