"""Trains a sequence model: fit, export, and load it back with every check."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.sequence.export import export
from models.sequence.fit import Fitted, Progress, fit
from models.sequence.model import Description, SequenceModel
from models.training.dataset import Dataset, spread

__all__ = ["model_of", "train_sequence"]

_GOLDEN_ROWS: Final = 14


def train_sequence(
    data: Dataset, horizon_days: int, *, seed: int, progress: Progress = lambda _done: None
) -> SequenceModel:
    """A model of `data`, which has events. Raises `ArtifactError` if a library is missing, the data
    can't be split, or the written model fails its own checks."""
    return model_of(fit(data, horizon_days, seed=seed, progress=progress), data, horizon_days)


def model_of(fitted: Fitted, data: Dataset, horizon_days: int) -> SequenceModel:
    """What `train_sequence` makes of a fit to `data`. Raises `ArtifactError` as it does."""
    onnx = export(fitted)
    x, events = _golden(data)
    return SequenceModel(
        Description(
            sha256=hashlib.sha256(onnx).hexdigest(),
            heads=list(fitted.heads),
            horizon_days=horizon_days,
            epochs=fitted.epochs,
            rows=len(data.x),
            golden_x=x.tobytes(),
            golden_events=events.tobytes(),
            golden_outputs={k: v.tolist() for k, v in fitted.predict(x, events).items()},
        ),
        onnx,
    )


def _golden(data: Dataset) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows of the data; one of which nothing is known, with events; and one that has no events."""
    assert data.events is not None  # noqa: S101  (it was fitted to)
    rows = spread(np.ones(len(data.x), np.bool_), _GOLDEN_ROWS)
    x, events = data.x[rows], data.events[rows]
    unknown, nothing = np.full_like(x[:1], np.nan), np.zeros_like(events[:1])
    return (
        np.concatenate([x, unknown, x[:1]]).astype("<f4"),
        np.concatenate([events, events[:1], nothing]).astype("<f4"),
    )
