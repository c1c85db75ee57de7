"""The manifest of an artifact: the contents of `manifest.json`.

The manifest is written once, by training, and read by everything that uses a model: the loader
checks the model against it, the learner takes its standardisation from it, and reasons compare a
user with the typical one it describes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.interval import SpendInterval
from models.long import LongHorizon
from schemas.features import columns_by_name

__all__ = [
    "MANIFEST_FORMAT",
    "Eligibility",
    "Golden",
    "GroupGain",
    "Manifest",
    "ModelFile",
    "TensorSpec",
    "Typical",
]

MANIFEST_FORMAT = 2

_T = TypeVar("_T")


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output; a dimension that varies is named (`"N"`)."""

    name: str
    dtype: str
    shape: list[int | str]


class ModelFile(msgspec.Struct, frozen=True):
    """One ONNX file of the artifact: which bytes it has, and what they compute."""

    sha256: str
    size_bytes: int
    outputs: list[TensorSpec]

    @classmethod
    def of(cls, content: bytes, outputs: Collection[str]) -> ModelFile:
        """Describes a file whose outputs are float32 [N] each."""
        return cls(
            hashlib.sha256(content).hexdigest(),
            len(content),
            [TensorSpec(name, "float32", ["N"]) for name in outputs],
        )


class Eligibility(msgspec.Struct, frozen=True):
    """Which users the model was trained on, and so which users it may score."""

    min_orders: int
    active_within_days: int


class Typical(msgspec.Struct, frozen=True):
    """The typical user at training time, one number for each of `Manifest.features`."""

    median: list[float | None]
    """None where most users have no value."""
    mean: list[float]
    scale: list[float]
    """Standard deviation over known values; 1 where that is 0."""
    varies: list[bool]
    """False for (nearly) constant features, which the online learner leaves alone."""

    def median_array(self) -> NDArray[np.float32]:
        """float32 [F]; NaN where most users have no value."""
        return np.array([np.nan if m is None else m for m in self.median], dtype=np.float32)


class Golden(msgspec.Struct, frozen=True):
    """Inputs with the outputs the training library computed for them; null stands for NaN."""

    x: list[list[float | None]]
    """[k, F]."""
    outputs: dict[str, list[float]]
    """[k] for every output of every file, by name."""

    def x_array(self) -> NDArray[np.float32]:
        """float32 [k, F]."""
        rows = [[np.nan if v is None else v for v in row] for row in self.x]
        return np.array(rows, dtype=np.float32)


class GroupGain(msgspec.Struct, frozen=True):
    """What a group of features gives: the mean over some shuffles of its columns, and the standard
    deviation between these."""

    group: str
    features: int
    """Features of the group that the model uses."""
    log_loss: float
    """So much higher is the churn log loss, in nats, without what the group says."""
    log_loss_spread: float
    auc: float
    """So much lower is the churn AUC."""
    auc_spread: float


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a reader must know, or check, before it trusts the model's files."""

    format: int = MANIFEST_FORMAT
    version: str
    created_at: str
    files: dict[str, ModelFile]
    """The ONNX files, by name: some or all of `models.champion.MODEL_FILES`."""
    inputs: list[TensorSpec]
    """Every file takes these."""
    opset: dict[str, int]
    """Operator-set domain (`""` is ONNX's own) -> version."""
    features: list[str]
    features_hash: str
    horizon_days: int
    eligibility: Eligibility
    typical: Typical
    training: dict[str, str | int | float]
    """What the model was trained on and how, for people."""
    metrics: dict[str, float]
    """Measured on users and times that neither fitting nor tuning saw."""
    importances: list[float]
    """Share of the churn head's total split gain per feature; sums to 1."""
    curve_features: list[str]
    """What the curve in `p_churn` reads (`models.curve`); empty without a curve."""
    golden: Golden
    spend_intervals: dict[str, SpendInterval] = {}
    """By band (`models.bands`); without visitors', who mostly spend nothing."""
    long_horizon: LongHorizon | None = None
    """None without `long.onnx`; `training["no_value_365d"]` then says why."""
    feature_groups: list[GroupGain] = []
    """What each group of features gave on users and times that neither fitting nor tuning saw, the
    most first; groups that the model does not use are left out. Empty in models of before."""

    def by_name(self, features: Sequence[str]) -> Manifest:
        """This manifest for rows with these features; itself if it is for them already. A feature
        that the model lacks is unknown in the typical user and golden inputs, with importance 0."""
        if self.features == list(features):
            return self
        at = columns_by_name(self.features, features)

        def picked(numbers: Sequence[_T], unknown: _T) -> list[_T]:
            return [numbers[place] if place >= 0 else unknown for place in at]

        typical = Typical(
            picked(self.typical.median, None),
            picked(self.typical.mean, 0.0),
            picked(self.typical.scale, 1.0),
            picked(self.typical.varies, False),
        )
        return msgspec.structs.replace(
            self,
            features=list(features),
            typical=typical,
            importances=picked(self.importances, 0.0),
            curve_features=[name for name in self.curve_features if name in features],
            golden=Golden([picked(row, None) for row in self.golden.x], self.golden.outputs),
        )
