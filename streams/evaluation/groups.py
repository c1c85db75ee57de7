"""The figures for groups of customers: by orders so far, and by value tier."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import auc, bias, expected_calibration_error, log_loss
from schemas.features import FEATURE_NAMES
from streams.evaluation.measure import Task, finite
from streams.evaluation.protocol import Protocol
from streams.evaluation.rows import CutRows

__all__ = ["by_group"]

_ORDERS: Final = FEATURE_NAMES.index("lifetime_orders")
ORDERS_FROM: Final = (1, 2, 3, 6, 21)
"""Groups of customers by orders so far begin here."""
_TIERS: Final = ("high", "medium", "low")
_ABOVE: Final = (0.10, 0.40)
"""The share of customers in the highest tier, and in the two highest, as they ship
(`schemas.definitions.STANDARD`)."""


def by_group(
    cuts: list[CutRows], protocol: Protocol, found: dict[str, Task]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Figures of the live scores by dimension (`orders`, `value_tier`) and group; groups without
    a row are left out.

    Of each group: `n` rows, `customers`, churn's `rate`, mean `predicted`, `auc`, `log_loss` and
    `ece`, and `spend` and `expected_spend`, the means, with `bias`, their ratio.
    """
    by_cut = {cut.cut_ms: cut for cut in cuts}
    orders = np.concatenate([by_cut[ms].x[:, _ORDERS] for ms in protocol.test_cuts])
    group = np.searchsorted(ORDERS_FROM, orders, side="right") - 1
    tier = _tiers(found["value"])
    return {
        "orders": {
            _range(i): _figures(found, group == i)
            for i in range(len(ORDERS_FROM))
            if (group == i).any()
        },
        "value_tier": {
            name: _figures(found, tier == i) for i, name in enumerate(_TIERS) if (tier == i).any()
        },
    }


def _range(i: int) -> str:
    if i + 1 == len(ORDERS_FROM):
        return f"{ORDERS_FROM[i]} or more"
    low, high = ORDERS_FROM[i], ORDERS_FROM[i + 1] - 1
    return f"{low}" if low == high else f"{low} to {high}"


def _tiers(value: Task) -> NDArray[np.int64]:
    """The tier of each row among those of its cut, int64 [n]: index into `_TIERS`."""
    tier = np.empty(len(value.truth), np.int64)
    for cut in np.unique(value.cut_ms):
        at = np.flatnonzero(value.cut_ms == cut)
        place = np.argsort(np.argsort(-value.scores["blend"][at], kind="stable"))
        tier[at] = np.searchsorted(_ABOVE, (place + 0.5) / len(at))
    return tier


def _figures(found: dict[str, Task], at: NDArray[np.bool_]) -> dict[str, Any]:
    churn, value = found["churn"], found["value"]
    y, p = churn.truth[at], churn.scores["blend"][at]
    spent, expected = value.truth[at], value.scores["blend"][at]
    return finite(
        {
            "n": len(y),
            "customers": len(np.unique(churn.user[at])),
            "rate": float(y.mean()),
            "predicted": float(p.mean()),
            "auc": auc(y, p),
            "log_loss": log_loss(y, p),
            "ece": expected_calibration_error(y, p),
            "spend": float(spent.mean()),
            "expected_spend": float(expected.mean()),
            "bias": bias(spent, expected),
        }
    )
