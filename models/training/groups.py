"""What each group of features gives a model: how much worse its scores are without it.

The columns of a group are shuffled together among rows that the model was not fitted to: each
customer gets another one's values, so they say nothing any more (Breiman 2001, "Random Forests",
section 10; for groups Gregorutti, Michel & Saint-Pierre 2015, "Grouped variable importance with
random forests"). What two groups say alike is in neither's figure: so there are also the figures of
everything that comes from clicks and of everything that comes from orders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import auc, log_loss
from models.concepts import CLICK_CONCEPTS, CONCEPT_OF, CONCEPTS
from models.manifest import GroupGain

__all__ = ["GROUPS", "MOST_ROWS", "SHUFFLES", "group_gains"]

SHUFFLES: Final = 5
MOST_ROWS: Final = 4_000
"""Rows to shuffle are enough."""


def _groups() -> Mapping[str, NDArray[np.intp]]:
    of_clicks = np.array([concept in CLICK_CONCEPTS for concept in CONCEPT_OF])
    whole = {"all of clicks": of_clicks, "all of orders": ~of_clicks}
    each = {name: np.array([concept == name for concept in CONCEPT_OF]) for name in CONCEPTS}
    return {name: np.flatnonzero(members) for name, members in (whole | each).items()}


GROUPS: Final = _groups()
"""Columns by group: the concepts of reasons, and before them the two halves that these make up."""


def group_gains(
    predict: Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]],
    used: NDArray[np.bool_],
    x: NDArray[np.float32],
    y: NDArray[np.bool_],
    seed: int,
    *,
    shuffles: int = SHUFFLES,
) -> list[GroupGain]:
    """What each of `GROUPS` gives on rows x [n, F] with the truth y [n], the most first; groups of
    which the model uses nothing are left out.

    `predict`: rows to probabilities; `used` bool [F]: the columns that it may look at. Raises
    ValueError for fewer than two shuffles, which have no spread.
    """
    if shuffles < 2:
        raise ValueError(f"{shuffles} shuffles have no spread: use at least 2")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(x)) for _ in range(shuffles)]
    whole = predict(x)
    loss, area = log_loss(y, whole), auc(y, whole)
    found = []
    for name, members in GROUPS.items():
        columns = members[used[members]]
        if not len(columns):
            continue
        losses, areas = [], []
        for order in orders:
            other = x.copy()
            other[:, columns] = x[np.ix_(order, columns)]
            p = predict(other)
            losses.append(log_loss(y, p) - loss)
            areas.append(area - auc(y, p))
        found.append(
            GroupGain(
                group=name,
                features=len(columns),
                log_loss=float(np.mean(losses)),
                log_loss_spread=float(np.std(losses, ddof=1)),
                auc=float(np.mean(areas)),
                auc_spread=float(np.std(areas, ddof=1)),
            )
        )
    return sorted(found, key=lambda gain: -gain.log_loss)
