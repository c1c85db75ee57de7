"""Turns replayed rows into the figures: metrics by task and method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.bootstrap import auc_interval
from models.baselines.metrics import (
    auc,
    average_precision,
    bias,
    brier,
    decile_mape,
    expected_calibration_error,
    lift,
    log_loss,
    mean_absolute_error,
    normalised_gini,
    spearman,
)
from streams.core.features import DAY_MS
from streams.evaluation.history import History
from streams.evaluation.protocol import VISIT_ACTIVE_DAYS, VISIT_DAYS, Protocol
from streams.evaluation.rows import CutRows

__all__ = [
    "CHALLENGERS",
    "METHODS",
    "PROBABILITIES",
    "Task",
    "everybody",
    "few_tasks",
    "figures",
    "finite",
    "next_order_figures",
    "one_order_about",
    "share_inside",
    "tasks",
]

METHODS: Final = {
    "churn": ("blend", "champion", "learner", "bgnbd", "rfm", "gap", "recency"),
    "partial": ("blend", "champion", "bgnbd", "rfm", "gap", "recency"),
    "next_visit": ("blend", "champion", "bgnbd", "rfm", "gap", "recency"),
    "value": ("blend", "champion", "bgnbd_gg", "past_spend", "rfm"),
}
"""By task, best first. `blend` is what the live system says; only churn has a learner in it."""
PROBABILITIES: Final = {
    "churn": ("blend", "champion", "learner", "bgnbd", "sequence", "pooled"),
    "partial": ("blend", "champion"),
    "next_visit": ("blend", "champion", "bgnbd"),
}
"""The methods that claim to give probabilities; the others only rank."""

CHALLENGERS: Final = ("sequence", "pooled")
"""Methods that are there if a challenger of another kind was asked for (`.sequence`)."""

_FOR_FEW: Final = {name: methods for name, methods in METHODS.items() if name != "partial"}
"""Who has one order has no own mean to fall short of."""

_TRUTH: Final = {
    "churn": "churned", "partial": "partial", "next_visit": "visited", "value": "spend"
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One task's test rows, [n]: truth, who, when (ms), and each method's scores."""

    name: str
    key: str
    """The name with its horizon, as in the JSON."""
    truth: NDArray[Any]
    user: NDArray[np.int64]
    cut_ms: NDArray[np.int64]
    scores: dict[str, NDArray[np.float64]]
    interval: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """Of value: the ends of the live score's 80 % interval."""


def tasks(cuts: list[CutRows], protocol: Protocol) -> dict[str, Task]:
    """The test rows of each task, by name. Raises KeyError for a test cut without scores."""
    by_cut = {c.cut_ms: [c] for c in cuts if c.scores}
    return _tasks(by_cut, protocol, METHODS)


def few_tasks(few: list[CutRows], protocol: Protocol) -> dict[str, Task]:
    """The same of those with fewer orders than customers, of the cuts at which a champion knew
    them; empty if there is none."""
    by_cut = {c.cut_ms: [c] for c in few if c.scores and len(c.user)}
    return _tasks(by_cut, protocol, _FOR_FEW) if by_cut.keys() & {*protocol.test_cuts} else {}


def everybody(cuts: list[CutRows], few: list[CutRows], protocol: Protocol) -> dict[str, Task]:
    """The same of both together."""
    by_cut = {c.cut_ms: [c] for c in cuts if c.scores}
    for cut in few:
        if cut.scores and len(cut.user):
            by_cut[cut.cut_ms].append(cut)
    return _tasks(by_cut, protocol, _FOR_FEW)


def _tasks(
    by_cut: dict[int, list[CutRows]], protocol: Protocol, asked: Mapping[str, Sequence[str]]
) -> dict[str, Task]:
    horizon = protocol.horizon_days
    found = {}
    for name, methods in asked.items():
        visit = name == "next_visit"
        wanted = protocol.visit_cuts if visit else protocol.test_cuts
        test = [part for c in wanted for part in _parts_of(by_cut, c, asked)]
        rows = [(c, _asked(c, visit)) for c in test]
        beside = [m for m in CHALLENGERS if test and all(f"{m}/{name}" in c.scores for c in test)]
        found[name] = Task(
            name,
            f"{name}_{VISIT_DAYS if visit else horizon}d",
            np.concatenate([getattr(c.truth, _TRUTH[name])[k] for c, k in rows]),
            np.concatenate([c.user[k] for c, k in rows]),
            np.concatenate([np.full(len(k), c.cut_ms) for c, k in rows]),
            {
                method: np.concatenate([_score(c, method, name)[k] for c, k in rows])
                for method in (*methods, *beside)
            },
            _interval(rows) if name == "value" else None,
        )
    return found


def _parts_of(
    by_cut: dict[int, list[CutRows]], cut_ms: int, asked: Mapping[str, Sequence[str]]
) -> list[CutRows]:
    return by_cut[cut_ms] if asked is METHODS else by_cut.get(cut_ms, [])


def _asked(rows: CutRows, visit: bool) -> NDArray[np.int64]:
    """Positions of the users whom a task is about."""
    if not visit:
        return np.arange(len(rows.user))
    return np.flatnonzero(rows.scores["recency/churn"] <= VISIT_ACTIVE_DAYS)


def _interval(
    rows: Sequence[tuple[CutRows, NDArray[np.int64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    names = ("blend/spend_low", "blend/spend_high")
    if not all(name in c.scores for c, _ in rows for name in names):
        return None
    low, high = (np.concatenate([c.scores[name][k] for c, k in rows]) for name in names)
    return low.astype(np.float64), high.astype(np.float64)


def _score(rows: CutRows, method: str, task: str) -> NDArray[np.float64]:
    if method == "blend" and f"blend/{task}" not in rows.scores:
        method = "champion"
    return rows.scores[f"{method}/{task}"].astype(np.float64)


def figures(found: dict[str, Task], seed: int = 7) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics by task key and method; null where a method gives no such thing."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, task in found.items():
        result[task.key] = {
            method: (
                value_figures(task.truth, p, money=method != "rfm")
                | {"coverage_80": _coverage(task) if method == "blend" else None}
                if name == "value"
                else event_figures(task, p, method in PROBABILITIES[name], seed)
            )
            for method, p in task.scores.items()
        }
    return result


def _coverage(task: Task) -> float | None:
    """The share of rows whose spend lies in the live score's interval; None without one."""
    return None if task.interval is None else share_inside(task.truth, task.interval)


def share_inside(
    truth: NDArray[np.float64], ends: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> float | None:
    """The share of rows [n] that lie in their interval, ends included; None if none is known."""
    low, high = ends
    known, rounding = ~np.isnan(low), 1e-6  # scores are float32
    y, low, high = truth[known], low[known], high[known]
    inside = (y >= low * (1.0 - rounding)) & (y <= high * (1.0 + rounding))
    return float(inside.mean()) if len(y) else None


def event_figures(
    task: Task, p: NDArray[np.float64], probability: bool, seed: int
) -> dict[str, Any]:
    """Of a score for something that happens or not."""
    y = task.truth
    low, high = auc_interval(y, p, task.user, seed=seed)
    figures: dict[str, Any] = {
        "auc": auc(y, p),
        "auc_low": low,
        "auc_high": high,
        "average_precision": average_precision(y, p),
        "lift_10": lift(y, p),
        "log_loss": log_loss(y, p) if probability else None,
        "brier": brier(y, p) if probability else None,
        "ece": expected_calibration_error(y, p) if probability else None,
        "n": len(y),
        "rate": float(y.mean()) if len(y) else float("nan"),
    }
    return finite(figures)


def next_order_figures(cuts: list[CutRows], protocol: Protocol, history: History) -> dict[str, Any]:
    """Of the expected date of the next order, which should come out early as often as late.

    Over the test rows whose date lies within the history: `n`, and `ordered_by_then`, the share
    that had ordered by their date.
    """
    rows = came = 0
    for cut in cuts:
        days = cut.scores.get("champion/next_order_days")
        if days is None or cut.cut_ms not in protocol.test_cuts:
            continue
        due_ms = cut.cut_ms + days * DAY_MS
        known = due_ms <= history.last_ms  # NaN: no date within a year, so none that could be seen
        next_ms = history.next_order_ms(cut.cut_ms)[cut.user]
        rows += int(known.sum())
        came += int((known & (next_ms > 0) & (next_ms <= due_ms)).sum())
    return {"n": rows, "ordered_by_then": round(came / rows, 4) if rows else None}


def one_order_about(few: list[CutRows], protocol: Protocol) -> dict[str, Any]:
    """How many rows of customers with one order there are at the test cuts, how many of these no
    champion knew, and why there are no figures ('' if there are)."""
    test = [cut for cut in few if cut.cut_ms in protocol.test_cuts]
    rows = sum(len(cut.user) for cut in test)
    unknown = sum(len(cut.user) for cut in test if not cut.scores)
    why = ""
    if not rows:
        why = (
            f"nobody with one order had ordered within {protocol.active_within_days} days of a "
            "cut that tests."
        )
    elif unknown == rows:
        why = "too few had matured for a model of theirs, so nothing is measured."
    return {"rows": rows, "rows_unknown": unknown, "why": why}


def value_figures(
    y: NDArray[np.float64], predicted: NDArray[np.float64], *, money: bool = True
) -> dict[str, Any]:
    """Of a predicted amount; of what is not in `money`, such as RFM, only the ranking counts."""
    nothing = float("nan")
    return finite(
        {
            "normalized_gini": normalised_gini(y, predicted),
            "spearman": spearman(y, predicted),
            "mae": mean_absolute_error(y, predicted) if money else nothing,
            "bias": bias(y, predicted) if money else nothing,
            "decile_mape": decile_mape(y, predicted) if money else nothing,
            "n": len(y),
        }
    )


def finite(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures, None for a number that is none: what JSON can say."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }


def day(ms: int) -> str:
    """A date, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()
