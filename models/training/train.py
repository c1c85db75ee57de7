"""Trains a champion from arrays and writes its artifact.

 1. split by time: earlier rows train; one horizon later, half the users tune and half test;
 2. rehearse: fit each head's trees and its curve (`models.curve`) on the training rows, stop where
    the tuning rows stop improving, pool the two as does best there, and measure on the test rows;
 3. fit each head again on all rows, which carry more trees: the newest habits count most;
 4. export to ONNX, describe it in the manifest, and load it back with every check.

Heads: churn (binary), spend (Tweedie: many zeros, long tail, and its mean is what we want, not its
median), and one binary head for each of the further labels in the data.
The same data, seed and thread count give the same bytes. Needs `pip install tideline[train]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artifact import model_version, write_artifact
from models.baselines.metrics import (
    TWEEDIE_POWER,
    churn_metrics,
    spend_metrics,
)
from models.champion import CURVE, INPUT, MODEL_FILES, OUTPUTS
from models.curve import CURVE_ROWS, EventBase, SpendBase, fit_event_base, fit_spend_base
from models.manifest import Eligibility, Golden, GroupGain, Manifest, ModelFile, TensorSpec
from models.places import Place
from models.season import SEASON_FEATURE, Season
from models.training.binned import Binned
from models.training.comparison import compare, markdown
from models.training.dataset import (
    DAY_MS,
    Dataset,
    Split,
    sees_clicks,
    split_by_time,
    spread,
    typical,
)
from models.training.export import OPSET, Head, export_files, require
from models.training.groups import MOST_ROWS, group_gains
from models.training.pooling import curve_weight
from models.training.season_fit import fit_season
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES, FEATURES_HASH

__all__ = ["CHURN_TREES", "OUTLOOK_TREES", "SPEND_TREES", "Progress", "Summary", "train"]

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
_HEAD_DAYS: Final = {"p_buy_7d": 7, "p_buy_30d": 30}
"""Heads that predict an order within so many days; the others predict none within the horizon."""
_AGES: Final = ("tenure_days", "days_since_first_order")
"""Hidden from the trees, as the day of the year is; only the curve reads them. Where all customers
came at about the same time, age is the calendar, and tomorrow's ages are outside the range that the
trees were fitted on."""
_HIDDEN: Final = np.array([*(FEATURE_NAMES.index(name) for name in _AGES), SEASON_FEATURE])
_GOLDEN_ROWS: Final = 22
_PART_ROWS: Final = 1 << 15

Progress = Callable[[str, float], None]
"""Called with what is being done and the part of it that is done, 0 to 1."""


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
    progress: Progress = _ignore,
) -> Summary:
    """Trains on `data` and writes `root/<date>-<hash>/`; `date` is today's, as YYYY-MM-DD.

    `horizon_days` and `eligibility` say how `data` was made; `source` names what it came from,
    and `history` and `horizon` are for the model card: how the orders were read, as a Markdown
    list, and how the horizon compares with the customers' usual gaps, as a sentence.
    `threads` are LightGBM's. They wait for each other busily, node by node: on a machine that does
    something else too, two take ten times the processor time of one.
    `baselines` are other scores of the same rows to compare with, [n] each, by `churn/<name>` or
    `value/<name>`. `about` is what else the manifest says about the training.
    Raises `ArtifactError` if a library is missing, the data can't be split, or the written
    artifact fails its own checks.
    """
    split = split_by_time(data, horizon_days)
    progress("season", 0.0)
    rehearsed = fit_season(data, horizon_days, split.train)
    season = fit_season(data, horizon_days)
    progress("season", 1.0)
    parameters = {
        **_SHAPE,
        "min_data_in_leaf": max(_LEAF_WEEKLY_ROWS * horizon_days // 7, len(data.x) // 1000, 20),
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,  # the other way binned rows are in memory twice
        "num_threads": threads,
        "verbosity": -1,
    }
    targets: dict[str, NDArray[Any]] = {OUTPUTS[0]: data.churned, OUTPUTS[1]: data.spend}
    clicks = sees_clicks(data.x)
    parts = [
        _Head(name, data, target.astype(np.float32), horizon_days, clicks, progress)
        for name, target in {**targets, **data.more}.items()
    ]
    binned = Binned(data, _HIDDEN, parameters)
    metrics: dict[str, float] = {}
    rehearsals = {part.name: part.rehearse(binned, split, rehearsed) for part in parts}
    for rehearsal in rehearsals.values():
        metrics |= rehearsal.metrics
    binned.forget()  # the rehearsal's rows, before all rows
    heads = {part.name: part.fit(binned, rehearsals[part.name], season) for part in parts}
    binned.forget()
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    rows = {name: int(getattr(split, name).sum()) for name in ("train", "tune", "test")}
    trees = {name: head.booster.current_iteration() for name, head in heads.items()}

    progress("write", 0.0)
    files = export_files(heads, len(FEATURE_NAMES))
    manifest = _describe(
        files, data, split, heads,
        date=date, horizon_days=horizon_days, eligibility=eligibility, metrics=metrics,
        feature_groups=rehearsals[OUTPUTS[0]].feature_groups,
        training={
            "source": source, "seed": seed, "threads": threads,
            "season": season.words() if season else "",
            **{f"rows_{name}": count for name, count in rows.items()},
            **{f"trees_{name}": count for name, count in trees.items()},
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
    return Summary(path, manifest.version, metrics, rows, trees, ranked[:10], comparison, groups)


@dataclass(frozen=True)
class _Rehearsal:
    """What a head's rehearsal settles: how many trees on all rows, the curve and its weight."""

    trees: int
    base: EventBase | SpendBase
    weight: float
    metrics: dict[str, float]
    """On the test rows."""
    feature_groups: list[GroupGain]
    """The same; of churn only."""


@dataclass(frozen=True)
class _Head:
    """One head on its way; label: float32 [n], NaN where it is not known."""

    name: str
    data: Dataset
    label: NDArray[np.float32]
    horizon_days: int
    clicks: bool
    """Whether the shop has any."""
    progress: Progress

    @property
    def spend(self) -> bool:
        return self.name == OUTPUTS[1]

    @property
    def shape(self) -> tuple[int, dict[str, Any]]:
        """Trees at most, and the parameters that are this head's own."""
        if self.spend:
            return SPEND_TREES, _SPEND
        if self.name in _HEAD_DAYS:
            return OUTLOOK_TREES, _OUTLOOK
        return CHURN_TREES, _WITH_CLICKS if self.clicks else _BINARY

    @property
    def known(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.label)

    def curve(self, rows: NDArray[np.bool_], season: Season | None) -> EventBase | SpendBase:
        days = _HEAD_DAYS.get(self.name, self.horizon_days)
        at = spread(rows, CURVE_ROWS)
        x, y = self.data.x[at], self.label[at]
        if self.spend:
            return fit_spend_base(x, y, days, season)
        return fit_event_base(x, y, days, order=self.name in _HEAD_DAYS, season=season)

    def report(self, start: float, trees: int) -> Callable[[Any], None]:
        return lambda env: self.progress(self.name, start + (env.iteration + 1) / trees / 2.0)

    def rehearse(self, binned: Binned, split: Split, season: Season | None) -> _Rehearsal:
        """Fitted on the training rows, stopped and pooled by the tuning rows, and measured on the
        test rows; `season`: estimated on the training rows."""
        lightgbm = require("lightgbm")
        data, label, known = self.data, self.label, self.known
        split = _split_of(self.name, data, label, known, split)
        train, tune, test = split.train, split.tune, split.test
        most, own = self.shape
        fitting = binned.of(train, label)
        stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
        rehearsed = lightgbm.train(
            binned.parameters | own, fitting, most, valid_sets=[binned.of(tune, label)],
            callbacks=[stop, self.report(0.0, most)],
        )  # fmt: skip
        best = rehearsed.best_iteration
        booster = lightgbm.Booster(model_str=rehearsed.model_to_string(num_iteration=best))
        base = self.curve(train, season)
        raw = _by_parts(partial(booster.predict, raw_score=True, num_threads=1), data.x, tune)
        of_curve = base.log_odds if isinstance(base, EventBase) else base.log_mean
        curve = _by_parts(of_curve, data.x, tune)
        weight = curve_weight(
            raw, curve, label[tune], data.user[tune], spend=self.spend, clicks=self.clicks
        )
        pooled = _pooled(booster, base, weight)
        predicted = _by_parts(pooled.predict, data.x, test)
        measured = spend_metrics(label[test], predicted) if self.spend else None
        if measured is None:
            prefix = "" if self.name == OUTPUTS[0] else f"{self.name}_"
            measured = {
                prefix + (metric if not prefix else metric.removeprefix("churn_")): value
                for metric, value in churn_metrics(label[test] > 0, predicted).items()
            }
        measured[f"{self.name}_curve_weight"] = weight
        # More rows carry more trees.
        trees = min(most, round(best * int(known.sum()) / max(int(train.sum()), 1)))
        groups: list[GroupGain] = []
        if self.name == OUTPUTS[0]:
            at, seed = spread(test, MOST_ROWS), binned.parameters["seed"]
            groups = group_gains(pooled.predict, pooled.used, data.x[at], label[at] > 0, seed)
        return _Rehearsal(trees, base, weight, measured, groups)

    def fit(self, binned: Binned, rehearsal: _Rehearsal, season: Season | None) -> Head:
        """Fitted on all rows; `season`: estimated on all rows."""
        trees, base, weight = rehearsal.trees, rehearsal.base, rehearsal.weight
        final = require("lightgbm").train(
            binned.parameters | self.shape[1], binned.of(self.known, self.label), trees,
            callbacks=[self.report(0.5, trees)],
        )  # fmt: skip
        self.progress(self.name, 1.0)
        return _pooled(final, self.curve(self.known, season) if weight else base, weight)


def _by_parts(
    of: Callable[[NDArray[np.float32]], Any], x: NDArray[np.float32], rows: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """What `of` says of the chosen rows, without a copy of all their features at once."""
    at = np.flatnonzero(rows)
    parts = [of(x[at[i : i + _PART_ROWS]]) for i in range(0, len(at), _PART_ROWS)]
    return np.concatenate(parts).astype(np.float64)


def _split_of(
    name: str, data: Dataset, label: NDArray[np.float32], known: NDArray[np.bool_], split: Split
) -> Split:
    """The split of a head whose horizon is another one: its newest rows have no label yet.

    Raises `ArtifactError` if a part has nothing to learn from, or to judge by.
    """
    if not known.all():
        if not known.any():
            raise ArtifactError(f"No label of {name} is known yet. Use a longer history.")
        split = split_by_time(data, _HEAD_DAYS.get(name, 0), among=known)
    for which in ("train", "tune", "test"):
        values = label[getattr(split, which)]
        if not len(values) or values.min() == values.max():
            raise ArtifactError(
                f"The {which} rows of {name} are all alike ({len(values)} of them). "
                "Use a longer history."
            )
    return split


def _pooled(booster: Any, base: EventBase | SpendBase, weight: float) -> Head:
    """A head of trees and curve. Log loss and Tweedie deviance are least for calibrated
    predictions, so the fit calibrates both. A calibration fitted afterwards, to a rehearsal's trees
    on one season's rows, was worse: ECE 0.0137 on Complete Journey, and spend 6 % too low."""
    part = base.times(weight) if weight else None
    if isinstance(base, SpendBase):
        return Head(booster, "exp", intercept=math.log(1.0 - weight), base=part)
    return Head(booster, "sigmoid", slope=1.0 - weight, base=part)


def _describe(
    files: Mapping[str, bytes],
    data: Dataset,
    split: Split,
    heads: dict[str, Head],
    *,
    date: str,
    horizon_days: int,
    eligibility: Eligibility,
    metrics: dict[str, float],
    feature_groups: list[GroupGain],
    training: dict[str, str | int | float],
) -> Manifest:
    gain = heads[OUTPUTS[0]].booster.feature_importance("gain").astype(np.float64)
    importances = (gain / max(float(gain.sum()), 1e-300)).tolist()
    base = heads[OUTPUTS[0]].base
    training = {
        **training,
        "lightgbm": str(require("lightgbm").__version__),
        "users": len(np.unique(data.user)),
        "first_as_of": _iso(int(data.as_of_ms.min())),
        "last_as_of": _iso(int(data.as_of_ms.max())),
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
        typical=typical(data.x),
        training=training,
        metrics=metrics,
        importances=importances,
        curve_features=base.reads() if isinstance(base, EventBase) else [],
        golden=_golden(data.x[spread(split.test, _GOLDEN_ROWS)], heads),
        feature_groups=feature_groups,
    )


def _golden(x: NDArray[np.float32], heads: dict[str, Head]) -> Golden:
    """Test rows `x`, one of which nothing is known, and one of zeros."""
    unknown = np.full((1, x.shape[1]), np.nan, dtype=np.float32)
    rows = np.concatenate([x, unknown, np.zeros_like(unknown)])
    outputs = {name: head.predict(rows) for name, head in heads.items()}
    base = heads[OUTPUTS[0]].base
    if isinstance(base, EventBase):
        outputs[CURVE] = np.exp(-base.log_odds(rows))
    return Golden(
        x=[[None if np.isnan(v) else float(v) for v in row] for row in rows],
        outputs={name: values.tolist() for name, values in outputs.items()},
    )


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
