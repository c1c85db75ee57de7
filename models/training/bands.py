"""Fits the models of users with few orders and of visitors (`models.bands`), where rows suffice.

Few orders: what can be known of them is little, and mostly how long they have been silent. Their
curve is fitted to them alone and may be nearly all of the model, as it ranks by silence without
noise; the trees learn from some rows of customers too, of whom they see more. Visitors have no
orders for a curve, so theirs are trees of what they clicked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.bands import BANDS, CUSTOMERS, FEW_ORDERS
from models.champion import OUTLOOK, OUTPUTS, band_output
from models.training.binned import Binned
from models.training.dataset import DAY_MS, Dataset, sees_clicks, split_by_time, spread
from models.training.export import Head
from models.training.head import HIDDEN, HeadFit, Progress, parameters
from models.training.pooling import WEIGHTS
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES

__all__ = ["Banded", "fit_band"]

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
    trouble: str = ""


def fit_band(
    name: str, data: Dataset, band: NDArray[np.int8], horizon_days: int, *, seed: int,
    threads: int, progress: Progress,
) -> Banded:  # fmt: skip
    """The model of the band `name`, one of `models.bands.OTHERS`, from the rows where `band` int8
    [n] says so. Never raises for rows that are too few or all alike."""
    own, trouble = band == BANDS.index(name), ""
    choices = [own]
    if name == FEW_ORDERS:
        choices.insert(0, own & _came_later(data, 2 * horizon_days))
    for rows in choices:
        if (count := int(rows.sum())) < _LEAST_ROWS:
            trouble = f"{count:,} rows, and {_LEAST_ROWS} are needed"
            continue
        try:
            return _fit(name, data, band, rows, horizon_days, seed, threads, progress)
        except ArtifactError as error:
            trouble = str(error)
    return Banded(name, int(own.sum()), {}, {}, data.x[:0], trouble)


def _came_later(data: Dataset, days: int) -> NDArray[np.bool_]:
    """Rows of users whose first order came so many days after the earliest first order, bool [n].
    When a history begins, also customers of many years have ordered once."""
    came_ms = data.as_of_ms - np.nan_to_num(data.x[:, _AGE].astype(np.float64)) * DAY_MS
    later: NDArray[np.bool_] = came_ms >= came_ms.min() + days * DAY_MS
    return later


def _fit(
    name: str, data: Dataset, band: NDArray[np.int8], own: NDArray[np.bool_], horizon_days: int,
    seed: int, threads: int, progress: Progress,
) -> Banded:  # fmt: skip
    split = split_by_time(data, horizon_days, among=own)
    near = _near(band) if name == FEW_ORDERS else np.zeros_like(own)
    both = own | near
    labels: Mapping[str, NDArray[Any]] = {OUTPUTS[0]: data.churned, OUTPUTS[1]: data.spend}
    outlook = {head: data.more[head] for head in OUTLOOK if head in data.more}
    binned = Binned(data, HIDDEN, parameters(int(both.sum()), horizon_days, seed, threads))
    heads: dict[str, Head] = {}
    metrics: dict[str, float] = {}
    for wanted in (labels, outlook):
        fits = [
            HeadFit(
                head, data, label.astype(np.float32), horizon_days, sees_clicks(data.x, own),
                lambda what, done: progress(f"{name} {what}", done), own, near, _TREES,
                _CURVES if name == FEW_ORDERS else _NO_CURVE,
            )
            for head, label in wanted.items()
        ]  # fmt: skip
        try:
            rehearsals = [fit.rehearse(binned, split, None) for fit in fits]
        except ArtifactError:
            if wanted is labels:
                raise
            break  # no outlook: its labels are known later than the others
        for fit, rehearsal in zip(fits, rehearsals, strict=True):
            metrics |= {band_output(name, key): v for key, v in rehearsal.metrics.items()}
            heads[band_output(name, fit.name)] = fit.fit(binned, rehearsal, None)
    golden = data.x[spread(split.test, _GOLDEN_ROWS)]
    return Banded(name, int(own.sum()), heads, metrics, golden)


def _near(band: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Some rows of customers, spread evenly, bool [n]."""
    near = np.zeros(len(band), np.bool_)
    near[spread(band == BANDS.index(CUSTOMERS), _NEAR_ROWS)] = True
    return near
