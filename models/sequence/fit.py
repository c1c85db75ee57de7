"""Fits the network to rows that have events: Adam on shuffled batches, stopped where rows of later
times and other users stop improving, then once more on all rows.

Log loss for what happens or not, Tweedie deviance for spend, each relative to the best constant, so
that one unit of each counts alike. The same rows, seed and machine give the same weights: one
thread sums in one order. Needs `pip install 'tideline[train,sequence]'`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.champion import OUTPUTS
from models.training.dataset import Dataset, split_by_time
from schemas.errors import ArtifactError

__all__ = ["Course", "Fitted", "Progress", "fit", "training"]

LEARNING_RATE: Final = 2e-3
DROPPED: Final = 0.2
"""Of the units, in training."""
_ONE_THREAD: Final = "--xla_cpu_multi_thread_eigen=false"
_PATIENCE: Final = 6
_AT_ONCE: Final = 512  # rows predicted at a time
_AMOUNTS: Final = 200_000  # events from which their scale is taken

Progress = Callable[[float], None]
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Course:
    """How long a fit goes on: rows of a batch, epochs at most, and steps at least, which few rows
    take more epochs for. It ends if for a sixth of the epochs the loss was not the least."""

    batch: int = 512
    epochs: int = 8
    steps: int = 400

    def most(self, rows: int) -> int:
        """Epochs at most, with so many rows."""
        return max(self.epochs, self.steps * self.batch // max(rows, self.batch))


@dataclass(frozen=True)
class Fitted:
    """Weights by name, the scale of inputs (`models.sequence.network.Scale`), the heads in order,
    how many epochs were best, and the loss on the rows that tuned after each epoch."""

    weights: Weights
    scale: Any
    heads: tuple[str, ...]
    epochs: int
    losses: tuple[float, ...]

    def predict(
        self, x: NDArray[np.float32], events: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """What jax computes for rows [n], float32 [n] by head: the artifact's reference."""
        raw = _raw(self.weights, self.scale, x, events)
        return {
            head: np.exp(z) if head == OUTPUTS[1] else 1.0 / (1.0 + np.exp(-z))
            for head, z in zip(self.heads, raw.T, strict=True)
        }


def training(module: str) -> Any:
    """A module of this package that needs jax. Raises `ArtifactError` that says how to get it."""
    flags = os.environ.get("XLA_FLAGS", "")  # read once, when jax first computes
    if _ONE_THREAD not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_ONE_THREAD}".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        return importlib.import_module(f"models.sequence.{module}")
    except ImportError as error:
        raise ArtifactError(
            "A sequence challenger needs jax, which is not installed. Run "
            "`pip install 'tideline[train,sequence]'`."
        ) from error


def fit(
    data: Dataset,
    horizon_days: int,
    *,
    seed: int,
    course: Course = Course(),
    progress: Progress = lambda _done: None,
) -> Fitted:
    """Fits the network to `data`, which has events. Raises `ArtifactError` if jax is missing, or if
    the rows can't be split (`split_by_time`)."""
    split = split_by_time(data, horizon_days)
    most = course.most(int(split.train.sum()))
    rehearsed = _epochs(
        data.take(split.train), seed, most, most, course.batch,
        lambda done: progress(0.6 * done), tune=data.take(split.tune),
    )  # fmt: skip
    final = _epochs(
        data, seed, rehearsed.epochs, most, course.batch, lambda done: progress(0.6 + 0.4 * done)
    )
    return replace(final, losses=rehearsed.losses)


def _epochs(
    data: Dataset,
    seed: int,
    epochs: int,
    most: int,
    batch: int,
    progress: Progress,
    tune: Dataset | None = None,
) -> Fitted:
    """So many epochs on `data`, of the `most` over which steps shrink; fewer if the loss on `tune`
    stops improving, and then it says how many were best."""
    events, labels, heads = _events_of(data), *_labels(data)
    net, steps = training("network"), training("steps")
    scale = _scale(net, data.x[:], events, labels)
    weights: Any = net.initial(data.x.shape[1], len(heads), seed)
    state = steps.begin(weights)
    rng = np.random.default_rng(seed)
    batches = max(len(data.x) // batch, 1)
    losses: list[float] = []
    for epoch in range(epochs):
        for i, rows in enumerate(_batches(len(data.x), batch, rng)):
            rate = LEARNING_RATE * (1.0 - 0.9 * (epoch + i / batches) / most)
            drop = [_kept(rng, len(rows), units) for units in (net.WIDE, net.UNITS)]
            weights, state = steps.step(
                weights, state, np.float32(rate), scale,
                data.x[rows], events[rows], labels[rows], drop,
            )  # fmt: skip
            progress((epoch + (i + 1) / batches) / epochs)
        if tune is not None:
            raw = _raw(weights, scale, tune.x[:], _events_of(tune))
            losses.append(float(steps.loss(raw, _labels(tune)[0], scale.level)))
            if epoch - int(np.argmin(losses)) >= max(most // _PATIENCE, 2):
                break
    progress(1.0)
    final = {name: np.asarray(value) for name, value in weights.items()}
    best = int(np.argmin(losses)) + 1 if losses else epochs
    return Fitted(final, scale, heads, best, tuple(losses))


def _kept(rng: np.random.Generator, rows: int, units: int) -> NDArray[np.float32]:
    """Factors that leave units out, and make up for it in the others, float32 [rows, units]."""
    return (rng.random((rows, units)) >= DROPPED).astype(np.float32) / np.float32(1.0 - DROPPED)


def _batches(rows: int, batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """All rows in another order each time, but for a rest that fills no batch; few rows repeat."""
    order = rng.permutation(rows)
    if rows < batch:
        order = np.resize(order, batch)
    for first in range(0, len(order) - batch + 1, batch):
        yield order[first : first + batch]


def _events_of(data: Dataset) -> NDArray[np.float32]:
    if data.events is None:
        raise ArtifactError(
            "These rows have no events, so no sequence can be learned from them. Evaluate orders "
            "with `tideline evaluate --challenger sequence`: it keeps each user's last events."
        )
    return data.events


def _labels(data: Dataset) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """float32 [n, heads], NaN where not known, and the heads' names."""
    labels = {OUTPUTS[0]: data.churned, OUTPUTS[1]: data.spend, **data.more}
    return np.stack([v.astype(np.float32) for v in labels.values()], axis=1), tuple(labels)


def _scale(
    net: Any, x: NDArray[np.float32], events: NDArray[np.float32], labels: NDArray[np.float32]
) -> Any:
    with np.errstate(invalid="ignore"):
        z = np.sign(x) * np.log1p(np.abs(x))
    known = ~np.isnan(z)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, z, 0.0).sum(axis=0, dtype=np.float64) / counts
    off = np.where(known, z - mean, 0.0)
    spread = np.sqrt((off**2).sum(axis=0, dtype=np.float64) / counts)
    amounts = events[..., net.AMOUNT]
    amounts = amounts[(events[..., net.KIND] > 0) & ~np.isnan(amounts)][:_AMOUNTS]
    logs = np.log1p(amounts.astype(np.float64)) if len(amounts) else np.zeros(1)
    level = []
    for head, label in enumerate(labels.T):
        there = label[~np.isnan(label)].astype(np.float64)
        usual = float(there.mean()) if len(there) else 0.5
        if head == OUTPUTS.index("spend"):
            level.append(np.log(max(usual, 1e-6)))
        else:
            usual = min(max(usual, 1e-4), 1.0 - 1e-4)
            level.append(np.log(usual / (1.0 - usual)))
    return net.Scale(
        mean.astype(np.float32),
        np.where(spread > 1e-6, spread, 1.0).astype(np.float32),
        np.array([logs.mean(), max(float(logs.std()), 1e-3)], np.float32),
        np.array(level, np.float32),
    )


def _raw(
    weights: Any, scale: Any, x: NDArray[np.float32], events: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The network's outputs for any number of rows, float32 [n, heads]."""
    predict = training("steps").predict
    parts = [np.empty((0, len(scale.level)), np.float32)]
    for first in range(0, len(x), _AT_ONCE):
        rows = np.arange(first, min(first + _AT_ONCE, len(x)))
        filled = np.resize(rows, _AT_ONCE)  # one shape: it is compiled once
        found = np.asarray(predict(weights, scale, x[filled], events[filled]))
        parts.append(found[: len(rows)])
    return np.concatenate(parts)
