"""Trains a champion from arrays and writes its artifact.

 1. split by time: earlier rows train; one horizon later, half the users tune and half test;
 2. fit the churn head (binary) and the spend head (Tweedie: many zeros, long tail, and its mean is
    what we want, not its median), each stopping where the tuning rows stop improving;
 3. calibrate both on the tuning rows;
 4. measure on the test rows;
 5. export to ONNX, describe it in the manifest, and load it back with every check.

The same data, seed and thread count give the same bytes. Needs `pip install tideline[train]`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artifact import model_version, write_artifact
from models.calibration import platt, total_factor
from models.champion import INPUT, OUTPUTS
from models.dataset import Dataset, Split, split_by_time, typical
from models.export import OPSET, Head, export_onnx, require
from models.manifest import Eligibility, Golden, Manifest, TensorSpec
from models.metrics import churn_metrics, spend_metrics
from schemas.features import FEATURE_NAMES, FEATURES_HASH

__all__ = ["CHURN_TREES", "SPEND_TREES", "Progress", "Summary", "train"]

CHURN_TREES: Final = 60
SPEND_TREES: Final = 35
"""At most. A tree of 16 leaves costs about 0.045 µs per row in ONNX Runtime on one core (branch
mispredictions, mostly), and every touched user is scored, so 80 trees keep it below 4 µs."""

_SHAPE: Final = {"num_leaves": 16, "max_depth": 5, "lambda_l2": 1.0, "feature_fraction": 0.8}
_CHURN: Final = {"objective": "binary", "metric": "binary_logloss", "learning_rate": 0.12}
_SPEND: Final = {
    "objective": "tweedie",
    "tweedie_variance_power": 1.3,
    "metric": "tweedie",
    "learning_rate": 0.2,
}
_PATIENCE: Final = 10
_GOLDEN_ROWS: Final = 22

Progress = Callable[[str, float], None]
"""Called with what is being done and the part of it that is done, 0 to 1."""


@dataclass(frozen=True)
class Summary:
    """What was trained, for the command that reports it."""

    path: Path
    version: str
    metrics: dict[str, float]
    rows: dict[str, int]
    """Rows used to `train`, `tune` and `test`."""
    trees: dict[str, int]
    """Trees kept per head: `churn`, `spend`."""
    top_features: list[tuple[str, float]]
    """The ten most important features with their share of the total gain."""


def _ignore(what: str, done: float) -> None:
    """The default progress callback."""


def train(
    data: Dataset,
    *,
    root: Path,
    date: str,
    horizon_days: int,
    eligibility: Eligibility,
    source: str,
    seed: int = 7,
    threads: int = 2,
    make_current: bool = True,
    progress: Progress = _ignore,
) -> Summary:
    """Trains on `data` and writes `root/<date>-<hash>/`; `date` is today's, as YYYY-MM-DD.

    `horizon_days` and `eligibility` say how `data` was made; `source` names what it came from.
    Raises `ArtifactError` if a library is missing, the data can't be split, or the written
    artifact fails its own checks.
    """
    split = split_by_time(data, horizon_days)
    common = {
        **_SHAPE,
        "min_data_in_leaf": max(20, int(split.train.sum()) // 1000),
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
    churn_booster = _fit(
        {**common, **_CHURN}, data, data.churned, split, CHURN_TREES, "churn", progress
    )
    spend_booster = _fit(
        {**common, **_SPEND}, data, data.spend, split, SPEND_TREES, "spend", progress
    )
    churn, spend = _calibrated(churn_booster, spend_booster, data.take(split.tune))

    progress("measure", 0.0)
    test = data.take(split.test)
    metrics = {
        **churn_metrics(test.churned, churn.predict(test.x)),
        **spend_metrics(test.spend, spend.predict(test.x)),
    }
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    rows = {name: int(getattr(split, name).sum()) for name in ("train", "tune", "test")}
    trees = {"churn": churn_booster.current_iteration(), "spend": spend_booster.current_iteration()}
    progress("measure", 1.0)

    progress("write", 0.0)
    onnx = export_onnx(churn, spend, len(FEATURE_NAMES))
    manifest = _describe(
        onnx, data, split, churn, spend,
        date=date, horizon_days=horizon_days, eligibility=eligibility, metrics=metrics,
        training={
            "source": source, "seed": seed, "threads": threads,
            **{f"rows_{name}": count for name, count in rows.items()},
            **{f"trees_{name}": count for name, count in trees.items()},
        },
    )  # fmt: skip
    path = write_artifact(root, manifest, onnx, make_current=make_current)
    progress("write", 1.0)
    ranked = sorted(zip(FEATURE_NAMES, manifest.importances, strict=True), key=lambda f: -f[1])
    return Summary(path, manifest.version, metrics, rows, trees, ranked[:10])


def _fit(
    parameters: dict[str, Any],
    data: Dataset,
    target: NDArray[Any],
    split: Split,
    trees: int,
    name: str,
    progress: Progress,
) -> Any:
    """One booster, cut back to its best iteration."""
    lightgbm = require("lightgbm")
    labels = target.astype(np.float32)
    fitting = lightgbm.Dataset(data.x[split.train], label=labels[split.train])
    tuning = lightgbm.Dataset(data.x[split.tune], label=labels[split.tune], reference=fitting)

    def report(env: Any) -> None:
        progress(name, (env.iteration + 1) / trees)

    booster = lightgbm.train(
        parameters,
        fitting,
        trees,
        valid_sets=[tuning],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False), report],
    )
    best = booster.model_to_string(num_iteration=booster.best_iteration)
    progress(name, 1.0)
    return lightgbm.Booster(model_str=best)


def _calibrated(churn_booster: Any, spend_booster: Any, tune: Dataset) -> tuple[Head, Head]:
    raw = np.asarray(churn_booster.predict(tune.x, raw_score=True), dtype=np.float64)
    slope, intercept = platt(raw, tune.churned)
    spend = Head(spend_booster, "exp")
    factor = total_factor(spend.predict(tune.x), tune.spend)
    return (
        Head(churn_booster, "sigmoid", slope, intercept),
        Head(spend_booster, "exp", 1.0, math.log(factor)),
    )


def _describe(
    onnx: bytes,
    data: Dataset,
    split: Split,
    churn: Head,
    spend: Head,
    *,
    date: str,
    horizon_days: int,
    eligibility: Eligibility,
    metrics: dict[str, float],
    training: dict[str, str | int | float],
) -> Manifest:
    gain = churn.booster.feature_importance("gain").astype(np.float64)
    importances = (gain / max(float(gain.sum()), 1e-300)).tolist()
    training = {
        **training,
        "lightgbm": str(require("lightgbm").__version__),
        "users": len(np.unique(data.user)),
        "first_as_of": _iso(int(data.as_of_ms.min())),
        "last_as_of": _iso(int(data.as_of_ms.max())),
        "churn_slope": churn.slope,
        "churn_intercept": churn.intercept,
        "spend_factor": math.exp(spend.intercept),
    }
    return Manifest(
        version=model_version(date, onnx),
        created_at=date,
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        onnx_bytes=len(onnx),
        inputs=[TensorSpec(INPUT, "float32", ["N", len(FEATURE_NAMES)])],
        outputs=[TensorSpec(name, "float32", ["N"]) for name in OUTPUTS],
        opset=dict(OPSET),
        features=list(FEATURE_NAMES),
        features_hash=FEATURES_HASH,
        horizon_days=horizon_days,
        eligibility=eligibility,
        typical=typical(data.x[split.train]),
        training=training,
        metrics=metrics,
        importances=importances,
        golden=_golden(data.x[split.test], churn, spend),
    )


def _golden(x: NDArray[np.float32], churn: Head, spend: Head) -> Golden:
    """Rows spread over the test users, one of which nothing is known, and one of zeros."""
    spread = np.linspace(0, len(x) - 1, min(_GOLDEN_ROWS, len(x))).astype(np.int64)
    unknown = np.full((1, x.shape[1]), np.nan, dtype=np.float32)
    rows = np.concatenate([x[spread], unknown, np.zeros_like(unknown)])
    return Golden(
        x=[[None if np.isnan(v) else float(v) for v in row] for row in rows],
        p_churn=churn.predict(rows).tolist(),
        spend=spend.predict(rows).tolist(),
    )


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
