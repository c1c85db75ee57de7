"""A champion beside the baselines, on the same test rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import auc, average_precision, normalised_gini
from models.training.dataset import Dataset, Split

__all__ = ["compare", "markdown"]

_COMPARED: Final = ("auc", "average_precision", "spend_gini")


def compare(
    data: Dataset,
    split: Split,
    metrics: dict[str, float],
    baselines: Mapping[str, NDArray[np.floating[Any]]],
) -> list[tuple[str, dict[str, float]]]:
    """The champion and then each baseline, with `auc`, `average_precision` and `spend_gini`.

    `metrics` are the champion's; `baselines` are scores [n] of the rows of `data`, by
    `churn/<name>` or `value/<name>`.
    """
    nothing = float("nan")
    found = {"champion": {name: metrics.get(name, nothing) for name in _COMPARED}}
    churned, spend = data.churned[split.test], data.spend[split.test]
    for key, scores in baselines.items():
        task, _, name = key.partition("/")
        row = found.setdefault(name, dict.fromkeys(_COMPARED, nothing))
        tested = scores[split.test]
        if task == "churn":
            row["auc"] = auc(churned, tested)
            row["average_precision"] = average_precision(churned, tested)
        else:
            row["spend_gini"] = normalised_gini(spend, tested)
    return list(found.items())


def markdown(comparison: list[tuple[str, dict[str, float]]]) -> str:
    """The comparison as a table; empty if there is nothing to compare with."""
    if len(comparison) < 2:
        return ""
    lines = ["| | churn AUC | churn average precision | spend normalised Gini |",
             "| --- | --- | --- | --- |"]  # fmt: skip
    for name, row in comparison:
        cells = (f"{row[c]:.4f}" if math.isfinite(row[c]) else "" for c in _COMPARED)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
