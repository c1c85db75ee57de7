"""Trains a champion from arrays and writes its artifact.

 1. split by time: earlier rows train; one horizon later, half the users tune and half test;
 2. rehearse: fit each head's trees and its curve (`models.curve`) on the training rows, stop where
    the tuning rows stop improving, pool the two as does best there, and measure on the test rows;
 3. fit each head again on all rows, which carry more trees: the newest habits count most;
 4. do the same for users with few orders, and for visitors (`models.training.bands`);
 5. export to ONNX, describe it in the manifest, and load it back with every check.

Heads: churn (binary), spend (Tweedie: many zeros, long tail, and its mean is what we want, not its
median), and one binary head for each of the further labels in the data.
The same data, seed and thread count give the same bytes. Needs `pip install tideline[train]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artifact import model_version, write_artifact
from models.bands import BANDS, CUSTOMERS, OTHERS
from models.champion import CURVE, INPUT, LONG, LONG_FILE, MODEL_FILES, OUTPUTS, Champion
from models.curve import EventBase
from models.interval import SpendInterval
from models.long import LONG_DAYS, LongHorizon
from models.manifest import Eligibility, Golden, GroupGain, Manifest, ModelFile, TensorSpec
from models.places import Place
from models.training.bands import fit_band, interval_of
from models.training.binned import Binned
from models.training.comparison import compare, markdown
from models.training.dataset import DAY_MS, Dataset, sees_clicks, split_by_time, spread, typical
from models.training.export import OPSET, P_MIN, Head, export_files, export_long, require
from models.training.head import (
    CHURN_TREES,
    HIDDEN,
    OUTLOOK_TREES,
    SPEND_TREES,
    HeadFit,
    Progress,
    parameters,
)
from models.training.long_fit import LongFit, fit_long, is_long
from models.training.season_fit import fit_season
from schemas.features import FEATURE_NAMES, FEATURES_HASH

__all__ = ["CHURN_TREES", "OUTLOOK_TREES", "SPEND_TREES", "Progress", "Summary", "train"]

_GOLDEN_ROWS: Final = 22


@dataclass(frozen=True)
class Summary:
    """What was trained, for the command that reports it."""

    path: Place
    version: str
    metrics: dict[str, float]
    rows: dict[str, int]
    """Rows used to `train`, `tune` and `test`."""
    trees: dict[str, int]
    """Trees kept per head, by output name."""
    top_features: list[tuple[str, float]]
    """The ten most important features with their share of the total gain."""
    comparison: list[tuple[str, dict[str, float]]]
    """Champion and baselines on the same test rows: `auc`, `average_precision`, `spend_gini`."""
    feature_groups: list[GroupGain]
    """What each group of features gives the churn head, on the test rows."""
    long: str
    """Where the value within 365 days is from, or why there is none."""
    bands: dict[str, str]
    """Of users with few orders and of visitors (`models.bands`): why there is no model; '' if there
    is one."""


def _ignore(what: str, done: float) -> None:
    """The default progress callback."""


def train(
    data: Dataset,
    *,
    root: Path | Place,
    date: str,
    horizon_days: int,
    eligibility: Eligibility,
    source: str,
    history: str = "",
    horizon: str = "",
    seed: int = 7,
    threads: int = 1,
    make_current: bool = True,
    baselines: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    about: Mapping[str, str | int | float] | None = None,
    keep_long: Champion | None = None,
    progress: Progress = _ignore,
) -> Summary:
    """Trains on `data` and writes `root/<date>-<hash>/`; `date` is today's, as YYYY-MM-DD.

    Rows of users with fewer orders than `eligibility` asks for, and with none, make models of their
    own (`models.bands`), if they suffice; what is said of the champion is of the others.
    `horizon_days` and `eligibility` say how `data` was made; `source` names what it came from,
    and `history` and `horizon` are for the model card: how the orders were read, as a Markdown
    list, and how the horizon compares with the customers' usual gaps, as a sentence.
    `threads` are LightGBM's. They wait for each other busily, node by node: on a machine that does
    something else too, two take ten times the processor time of one.
    `baselines` are other scores of the same rows to compare with, [n] each, by `churn/<name>` or
    `value/<name>`. `about` is what else the manifest says about the training.
    `keep_long`: a model whose long horizon is taken over where `data` has no labels for one.
    Raises `ArtifactError` if a library is missing, the data can't be split, or the written
    artifact fails its own checks.
    """
    band = data.band(eligibility.min_orders)
    own = band == BANDS.index(CUSTOMERS)
    split = split_by_time(data, horizon_days, among=own)
    progress("season", 0.0)
    rehearsed = fit_season(data, horizon_days, split.train)
    season = fit_season(data, horizon_days, own)
    progress("season", 1.0)
    targets: dict[str, NDArray[Any]] = {OUTPUTS[0]: data.churned, OUTPUTS[1]: data.spend}
    clicks = sees_clicks(data.x, own)
    parts = [
        HeadFit(name, data, target.astype(np.float32), horizon_days, clicks, progress, own)
        for name, target in {**targets, **data.more}.items()
        if not is_long(name)
    ]
    binned = Binned(data, HIDDEN, parameters(int(own.sum()), horizon_days, seed, threads))
    rehearsals = {part.name: part.rehearse(binned, split, rehearsed) for part in parts}
    binned.forget()  # the rehearsal's rows, before all rows
    heads = {part.name: part.fit(binned, rehearsals[part.name], season) for part in parts}
    binned.forget()
    others = [
        fit_band(
            name, data, band, horizon_days, seed=seed, threads=threads, progress=progress
        )
        for name in OTHERS
    ]  # fmt: skip
    measured = [rehearsal.metrics for rehearsal in rehearsals.values()]
    measured += [other.metrics for other in others]
    metrics = {name: v for some in measured for name, v in some.items() if math.isfinite(v)}
    rows = {name: int(getattr(split, name).sum()) for name in ("train", "tune", "test")}
    trees = {name: head.booster.current_iteration() for name, head in heads.items()}
    intervals = {CUSTOMERS: interval_of(rehearsals, data.spend)}
    intervals |= {other.band: other.interval for other in others}
    for other in others:
        heads |= other.heads

    progress("long horizon", 0.0)
    long = _long(fit_long(data, season), keep_long)
    progress("long horizon", 1.0)
    metrics |= long.metrics
    progress("write", 0.0)
    files = export_files(heads, len(FEATURE_NAMES)) | long.files
    golden = [data.x[spread(split.test, _GOLDEN_ROWS)], *(other.golden for other in others)]
    manifest = _describe(
        files, data, own, np.concatenate(golden), heads, long,
        date=date, horizon_days=horizon_days, eligibility=eligibility, metrics=metrics,
        feature_groups=rehearsals[OUTPUTS[0]].feature_groups,
        intervals={band: found for band, found in intervals.items() if found},
        training={
            "source": source, "seed": seed, "threads": threads,
            "season": season.words() if season else "",
            **long.about,
            **{f"rows_{name}": count for name, count in rows.items()},
            **{f"trees_{name}": count for name, count in trees.items()},
            **{f"rows_{other.band}": other.rows for other in others},
            **{f"no_{other.band}": other.trouble for other in others if other.trouble},
            **(about or {}),
        },
    )  # fmt: skip
    groups = manifest.feature_groups
    comparison = compare(data, split, metrics, baselines or {})
    path = write_artifact(
        root,
        manifest,
        files,
        make_current=make_current,
        comparison=markdown(comparison),
        history=history,
        horizon=horizon,
    )
    progress("write", 1.0)
    ranked = sorted(zip(FEATURE_NAMES, manifest.importances, strict=True), key=lambda f: -f[1])
    return Summary(
        path,
        manifest.version,
        metrics,
        rows,
        trees,
        ranked[:10],
        comparison,
        groups,
        long.words,
        {other.band: other.trouble for other in others},
    )


@dataclass(frozen=True)
class _Long:
    """The long horizon of an artifact, or why it has none."""

    words: str
    files: dict[str, bytes]
    horizon: LongHorizon | None
    about: dict[str, str | int | float]
    metrics: dict[str, float]
    of: Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]] = lambda _x: ()
    """What the file computes, by its reference."""


def _long(found: LongFit, kept: Champion | None) -> _Long:
    """The one that was fitted; else that of another model, which reads the same features."""
    if found.idle is not None and found.value is not None and found.horizon is not None:
        idle, value = found.idle, found.value

        def of(x: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
            return np.clip(found.within(x, LONG_DAYS)[0], P_MIN, 1.0 - P_MIN), np.exp(
                value.log_mean(x)
            )

        days = found.horizon.seen_days
        return _Long(
            f"learned from labels of {days} days",
            {LONG_FILE: export_long(idle, value, len(FEATURE_NAMES))}, found.horizon,
            {"value_365d_from_days": days}, {f"value_{days}d_gini": found.gini}, of,
        )  # fmt: skip
    if kept is not None and kept.has_long and kept.trained.features == list(FEATURE_NAMES):
        words = f"taken over from {kept.version}: {found.trouble}"
        return _Long(
            words, {LONG_FILE: kept.files[LONG_FILE]}, kept.manifest.long_horizon,
            {"value_365d_of": kept.version}, {}, kept.long,
        )  # fmt: skip
    return _Long(found.trouble, {}, None, {"no_value_365d": found.trouble}, {})


def _describe(
    files: Mapping[str, bytes],
    data: Dataset,
    own: NDArray[np.bool_],
    golden: NDArray[np.float32],
    heads: dict[str, Head],
    long: _Long,
    *,
    date: str,
    horizon_days: int,
    eligibility: Eligibility,
    metrics: dict[str, float],
    feature_groups: list[GroupGain],
    intervals: dict[str, SpendInterval],
    training: dict[str, str | int | float],
) -> Manifest:
    gain = heads[OUTPUTS[0]].booster.feature_importance("gain").astype(np.float64)
    importances = (gain / max(float(gain.sum()), 1e-300)).tolist()
    base = heads[OUTPUTS[0]].base
    training = {
        **training,
        "lightgbm": str(require("lightgbm").__version__),
        "users": len(np.unique(data.user[own])),
        "first_as_of": _iso(int(data.as_of_ms[own].min())),
        "last_as_of": _iso(int(data.as_of_ms[own].max())),
        "labels_until_ms": int(data.as_of_ms.max()) + horizon_days * DAY_MS,
    }
    return Manifest(
        version=model_version(date, files),
        created_at=date,
        files={name: ModelFile.of(content, MODEL_FILES[name]) for name, content in files.items()},
        inputs=[TensorSpec(INPUT, "float32", ["N", len(FEATURE_NAMES)])],
        opset=dict(OPSET),
        features=list(FEATURE_NAMES),
        features_hash=FEATURES_HASH,
        horizon_days=horizon_days,
        eligibility=eligibility,
        typical=typical(data.x, own),
        training=training,
        metrics=metrics,
        importances=importances,
        curve_features=base.reads() if isinstance(base, EventBase) else [],
        golden=_golden(golden, heads, long),
        long_horizon=long.horizon,
        spend_intervals=intervals,
        feature_groups=feature_groups,
    )


def _golden(x: NDArray[np.float32], heads: dict[str, Head], long: _Long) -> Golden:
    """Test rows `x`, one of which nothing is known, and one of zeros."""
    unknown = np.full((1, x.shape[1]), np.nan, dtype=np.float32)
    rows = np.concatenate([x, unknown, np.zeros_like(unknown)])
    outputs = {name: head.predict(rows) for name, head in heads.items()}
    base = heads[OUTPUTS[0]].base
    if isinstance(base, EventBase):
        outputs[CURVE] = np.exp(-base.log_odds(rows))
    if long.horizon is not None:
        outputs |= dict(zip(LONG, long.of(rows), strict=True))
    return Golden(
        x=[[None if np.isnan(v) else float(v) for v in row] for row in rows],
        outputs={name: values.tolist() for name, values in outputs.items()},
    )


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
