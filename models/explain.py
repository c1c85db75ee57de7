"""Why the champion's score is what it is: what would change if the customer were typical.

Occlusion (Zeiler & Fergus 2014, section 4.2, on tables): replace a feature by its typical value
and see how far `p_churn` moves. Features of one concept, such as orders in each window, are
replaced together; alone each would look unimportant, because the others still tell.
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.champion import Champion
from models.words import words
from schemas.features import FEATURES

__all__ = ["Reason", "concepts", "reason_words", "reasons", "words"]

SMALLEST_DELTA: Final = 0.005
"""A concept that moves the probability by less than half a point is not a reason."""

_WINDOW: Final = re.compile(r"_(\d+[hd]|decayed_\d+d)$")
_SAME_CONCEPT: Final = {
    "silence_over_gap": "days_since_order",
    "lifetime_orders": "orders",
    "lifetime_revenue": "revenue",
    "order_lines": "orders",
    "activity": "sessions",
    "gap_lifetime_mean_days": "gap",
    "gap_mean_days": "gap",
    "gap_std_days": "gap",
    "gap_last_days": "gap",
}


class Reason(NamedTuple):
    """One concept's part in one score, told by the feature of it that stands out most."""

    feature: int
    """Index into `schemas.features.FEATURES`."""
    delta: float
    """How much of `p_churn` would go if this concept were typical; positive raises churn."""
    value: float
    typical: float
    """NaN where most customers have no value."""


def concepts() -> dict[str, list[int]]:
    """Feature indices by concept.

    >>> [FEATURES[f].name for f in concepts()["days_since_order"]]
    ['days_since_order', 'silence_over_gap']
    """
    groups: dict[str, list[int]] = {}
    for index, feature in enumerate(FEATURES):
        base = _WINDOW.sub("", feature.name)
        groups.setdefault(_SAME_CONCEPT.get(base, base), []).append(index)
    return groups


def reasons(champion: Champion, x: NDArray[np.float32], top: int = 3) -> list[list[Reason]]:
    """Up to `top` reasons for each row of `x` float32 [k, F], the strongest first.

    Reasons that raise churn and reasons that lower it are both given; the sign tells. Costs about
    one row of scoring per concept that the champion uses, so it's meant for alerts.
    """
    typical = champion.manifest.typical.median_array()
    importance = np.asarray(champion.manifest.importances)
    used = [np.array(group) for group in concepts().values() if importance[group].sum() > 0]
    prominence = importance / np.asarray(champion.manifest.typical.scale)
    return [_row_reasons(champion, row, typical, used, prominence, top) for row in x]


def _row_reasons(
    champion: Champion,
    row: NDArray[np.float32],
    typical: NDArray[np.float32],
    groups: list[NDArray[np.intp]],
    prominence: NDArray[np.float64],
    top: int,
) -> list[Reason]:
    same = (row == typical) | (np.isnan(row) & np.isnan(typical))
    groups = [group for group in groups if not same[group].all()]
    variants = np.tile(row, (len(groups) + 1, 1))
    for variant, group in zip(variants[1:], groups, strict=True):
        variant[group] = typical[group]
    p, _ = champion.score(variants)
    delta = float(p[0]) - p[1:].astype(np.float64)
    # Stable, so that equal reasons keep the features' order and replay gives the same alert.
    order = np.argsort(-np.abs(delta), kind="stable")[:top]
    distance = np.abs(np.nan_to_num(row) - np.nan_to_num(typical)).astype(np.float64)
    distance[same] = -1.0
    found = []
    for at in order:
        if abs(delta[at]) >= SMALLEST_DELTA:
            group = groups[at]
            feature = int(group[np.argmax(distance[group] * prominence[group])])
            found.append(
                Reason(feature, float(delta[at]), float(row[feature]), float(typical[feature]))
            )
    return found


def reason_words(reason: Reason) -> str:
    """A reason in plain words, e.g. `no order for 41 days (typically 9)`."""
    if math.isnan(reason.value) and math.isnan(reason.typical):
        return FEATURES[reason.feature].words
    return words(reason.feature, reason.value, reason.typical)
