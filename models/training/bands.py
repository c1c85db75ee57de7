"""Fits the models of users with few orders and of visitors (`models.bands`), where rows suffice.

Few orders: what can be known of them is little, and mostly how long they have been silent. Their
curve is fitted to them alone and may be nearly all of the model, as it ranks by silence without
noise; the trees learn from some rows of customers too, of whom they see more. Visitors have no
orders for a curve, so theirs are trees of what they clicked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.bands import BANDS, CUSTOMERS, FEW_ORDERS
from models.baselines.metrics import log_loss
from models.champion import OUTLOOK, OUTPUTS, band_output
from models.interval import SpendInterval
from models.training.binned import Binned
from models.training.dataset import DAY_MS, Dataset, Split, sees_clicks, split_by_time, spread
from models.training.export import Head
from models.training.head import HIDDEN, HeadFit, Progress, Rehearsal, parameters
from models.training.interval_fit import fit_interval
from models.training.pooling import WEIGHTS
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES

__all__ = ["Banded", "fit_band", "interval_of"]

_TREES: Final = 40
_NEAR_ROWS: Final = 20_000
_CURVES: Final = (*WEIGHTS, 1.0)
"""Also the curve alone. A hundredth of trees would upset its order, in which neighbours differ by
less: nobody asks for reasons, which are read from trees."""
_GOLDEN_ROWS: Final = 4
_NO_CURVE: Final = (0.0,)
_AGE: Final = FEATURE_NAMES.index("days_since_first_order")
_LEAST_ROWS: Final = 200


@dataclass(frozen=True)
class Banded:
    """The model of one band, or why there is none."""

    band: str
    rows: int
    heads: dict[str, Head]
    """By the name of their output in the artifact."""
    metrics: dict[str, float]
    golden: NDArray[np.float32]
    """Some of its rows, float32 [k, F]."""
    interval: SpendInterval | None = None
    trouble: str = ""


def fit_band(
    name: str, data: Dataset, band: NDArray[np.int8], horizon_days: int, *, seed: int,
    threads: int, progress: Progress,
) -> Banded:  # fmt: skip
    """The model of the band `name`, one of `models.bands.OTHERS`, from the rows where `band` int8
    [n] says so. Never raises for rows that are too few or all alike.

    When a history begins, customers of many years have ordered once, too. So for few orders there
    is a second fit, to those who came later, and what predicts these better is taken.
    """
    own, trouble = band == BANDS.index(name), ""
    choices = [own]
    if name == FEW_ORDERS:
        choices.append(own & _came_later(data, 2 * horizon_days))
    rehearsed = []
    for rows in choices:
        if (count := int(rows.sum())) < _LEAST_ROWS:
            trouble = trouble or f"{count:,} rows, and {_LEAST_ROWS} are needed"
            continue
        try:
            fits = _Fits(name, data, band, rows, horizon_days, seed, threads, progress)
            rehearsed.append((fits, fits.rehearse()))
        except ArtifactError as error:
            trouble = trouble or str(error)
    if not rehearsed:
        return Banded(name, int(own.sum()), {}, {}, data.x[:0], trouble=trouble)
    held_back = np.logical_and.reduce([r[OUTPUTS[0]].held_back for _, r in rehearsed])
    losses = [_loss(r[OUTPUTS[0]], held_back, data.churned) for _, r in rehearsed]
    fits, rehearsals = rehearsed[int(np.argmin(losses))]
    return fits.banded(rehearsals)


def _came_later(data: Dataset, days: int) -> NDArray[np.bool_]:
    """Rows of users who first ordered so many days after the earliest first order, bool [n]."""
    came_ms = data.as_of_ms - np.nan_to_num(data.x[:, _AGE].astype(np.float64)) * DAY_MS
    later: NDArray[np.bool_] = came_ms >= came_ms.min() + days * DAY_MS
    return later


def _loss(rehearsal: Rehearsal, rows: NDArray[np.bool_], churned: NDArray[np.bool_]) -> float:
    """Log loss on some of the rows that were held back."""
    return log_loss(churned[rows], rehearsal.predicted[rows[rehearsal.held_back]])


@dataclass(frozen=True)
class _Fits:
    """The fits of one band to some rows, `own` bool [n]. Raises `ArtifactError` for too few."""

    name: str
    data: Dataset
    band: NDArray[np.int8]
    own: NDArray[np.bool_]
    horizon_days: int
    seed: int
    threads: int
    progress: Progress

    @cached_property
    def split(self) -> Split:
        return split_by_time(self.data, self.horizon_days, among=self.own)

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        return _near(self.band) if self.name == FEW_ORDERS else np.zeros_like(self.own)

    @cached_property
    def binned(self) -> Binned:
        rows = int((self.own | self.near).sum())
        of = parameters(rows, self.horizon_days, self.seed, self.threads)
        return Binned(self.data, HIDDEN, of)

    def heads(self, labels: Mapping[str, NDArray[Any]]) -> list[HeadFit]:
        clicks = sees_clicks(self.data.x, self.own)
        weights = _CURVES if self.name == FEW_ORDERS else _NO_CURVE
        return [
            HeadFit(
                head, self.data, label.astype(np.float32), self.horizon_days, clicks,
                lambda what, done: self.progress(f"{self.name} {what}", done),
                self.own, self.near, _TREES, weights,
            )
            for head, label in labels.items()
        ]  # fmt: skip

    @cached_property
    def scoring(self) -> list[HeadFit]:
        return self.heads(dict(zip(OUTPUTS, (self.data.churned, self.data.spend), strict=True)))

    def rehearse(self) -> dict[str, Rehearsal]:
        """Of the heads that score."""
        return {fit.name: fit.rehearse(self.binned, self.split, None) for fit in self.scoring}

    def banded(self, rehearsals: dict[str, Rehearsal]) -> Banded:
        """Everything fitted; without an outlook if its labels, which are known later, are few."""
        interval = interval_of(rehearsals, self.data.spend) if self.name == FEW_ORDERS else None
        outlook = self.heads({h: self.data.more[h] for h in OUTLOOK if h in self.data.more})
        fits, found = list(self.scoring), dict(rehearsals)
        try:
            found |= {fit.name: fit.rehearse(self.binned, self.split, None) for fit in outlook}
            fits += outlook
        except ArtifactError:
            found = dict(rehearsals)
        metrics = {
            band_output(self.name, key): value
            for fit in fits
            for key, value in found[fit.name].metrics.items()
        }
        heads = {
            band_output(self.name, fit.name): fit.fit(self.binned, found[fit.name], None)
            for fit in fits
        }
        golden = self.data.x[spread(self.split.test, _GOLDEN_ROWS)]
        return Banded(self.name, int(self.own.sum()), heads, metrics, golden, interval)


def interval_of(
    rehearsals: Mapping[str, Rehearsal], spend: NDArray[np.float32]
) -> SpendInterval | None:
    """Of the two heads that score, from the rows held back; `spend` float32 [n]."""
    churn, amount = (rehearsals[name] for name in OUTPUTS)
    return fit_interval(churn.predicted, amount.predicted, spend[amount.held_back])


def _near(band: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Some rows of customers, spread evenly, bool [n]."""
    near = np.zeros(len(band), np.bool_)
    near[spread(band == BANDS.index(CUSTOMERS), _NEAR_ROWS)] = True
    return near
