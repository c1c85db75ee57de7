"""Matured examples as training data: the labels of the further heads.

An example knows only the orders within its horizon. The labels of the further heads follow:

- an order within 7 or 30 days: from the first order within the horizon, if the horizon is as long.
  If it is shorter, the user's next example, asked at about the end of the horizon, knows the rest.
  A user who was not asked then had been silent for too long, and counts as one without an order.
  So these labels are known a horizon later;
- partial defection compares with the mean of three horizons: with the features of 90 days, if that
  is about as long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.champion import OUTLOOK, PARTIAL
from models.training.columns import Features
from models.training.dataset import Dataset
from schemas.features import FEATURE_NAMES
from streams.core.features import DAY_MS
from streams.evaluation.protocol import OWN_MEAN_HORIZONS, PARTIAL_SHARE, VISIT_DAYS

__all__ = [
    "LONGEST_HEAD_DAYS",
    "Asked",
    "further_labels",
    "learnable",
    "ordered_within",
    "partial",
]

_HEADS: Final = dict(zip(OUTLOOK, (VISIT_DAYS, 30), strict=True))
LONGEST_HEAD_DAYS: Final = max(_HEADS.values())
"""A shorter horizon needs other examples for a label."""
_OWN_DAYS: Final = 90
_OWN_DAYS_APART: Final = 7
_UNKNOWN: Final = np.float32(np.nan)
Labels = NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """k examples in any order, by column [k]: user uint64, asked_ms int64, churned bool,
    first_order_ms int64 (0: none within the horizon, or not known), last_order_ms int64 (the newest
    before it was asked; 0: none)."""

    user: NDArray[np.uint64]
    asked_ms: NDArray[np.int64]
    churned: NDArray[np.bool_]
    first_order_ms: NDArray[np.int64]
    last_order_ms: NDArray[np.int64]

    def next_of(self, user: NDArray[np.uint64], asked_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """The position of each user's first example after a time; -1 if there is none."""
        if not len(self.user) or not len(user):
            return np.full(len(user), -1, np.int64)
        # One sortable number of each pair: users are numbered, and times counted from the first.
        number = np.unique(np.concatenate([self.user, user]), return_inverse=True)[1]
        times = np.concatenate([self.asked_ms, asked_ms])
        pair = number * (int(np.ptp(times)) + 1) + times - times.min()
        mine, wanted = pair[: len(self.user)], pair[len(self.user) :]
        order = np.argsort(mine)
        at = np.searchsorted(mine[order], wanted, side="right")
        found = order[np.minimum(at, len(order) - 1)]
        return np.where((at < len(order)) & (self.user[found] == user), found, -1)


def ordered_within(
    days: int,
    horizon_days: int,
    user: NDArray[np.uint64],
    asked_ms: NDArray[np.int64],
    churned: NDArray[np.bool_],
    first_order_ms: NDArray[np.int64],
    others: Asked,
    newest_ms: int,
) -> Labels:
    """Whether each of k users ordered within so many days after the question: 1, 0, or NaN where
    that is not known. `others`: at least every later example of these users; `newest_ms`: up to
    when examples matured."""
    ends = asked_ms + days * DAY_MS
    if days <= horizon_days:
        known = churned | (first_order_ms > 0)
        early = (first_order_ms > 0) & (first_order_ms < ends)
        return np.where(known, early, _UNKNOWN).astype(np.float32)
    if days > 2 * horizon_days:
        return np.full(len(user), _UNKNOWN)
    due = asked_ms + horizon_days * DAY_MS
    position = others.next_of(user, asked_ms)
    asked_again, at = position >= 0, np.maximum(position, 0)
    if len(others.user):
        again, last, first, none = (
            column[at]
            for column in (
                others.asked_ms, others.last_order_ms, others.first_order_ms, others.churned
            )
        )  # fmt: skip
    else:
        again = last = first = np.zeros(len(user), np.int64)
        none = np.zeros(len(user), np.bool_)
    in_turn = asked_again & (again < due + horizon_days * DAY_MS)
    between = in_turn & (last >= due) & (last < ends)
    after_next = in_turn & (again < ends) & (first > 0) & (first < ends)
    yes = ~churned | between | after_next
    # Nothing came from the horizon's end to the next question, nor after it.
    quiet = in_turn & (last < due)
    no = churned & ((quiet & ((again >= ends) | none | (first >= ends))) | ~in_turn)
    # Orders are known at once, silence only by the next answer. Until then neither is used: labels
    # of orders alone would teach that everybody orders.
    settled = due + (horizon_days + 2) * DAY_MS <= newest_ms
    return np.where(settled & yes, 1.0, np.where(settled & no, 0.0, _UNKNOWN)).astype(np.float32)


def partial(x: Features, spend: NDArray[np.float32], horizon_days: int) -> Labels:
    """Whether each of k users spent less than half of what they used to: 1, 0 or NaN."""
    if abs(OWN_MEAN_HORIZONS * horizon_days - _OWN_DAYS) > _OWN_DAYS_APART:
        return np.full(len(x), _UNKNOWN)
    revenue, refunds = (x[:, FEATURE_NAMES.index(name)] for name in ("revenue_90d", "refunds_90d"))
    own = np.maximum(revenue - np.nan_to_num(refunds), 0.0) * (horizon_days / _OWN_DAYS)
    return np.where(np.isnan(own), _UNKNOWN, spend < PARTIAL_SHARE * own).astype(np.float32)


def further_labels(
    horizon_days: int,
    user: NDArray[np.uint64],
    asked_ms: NDArray[np.int64],
    churned: NDArray[np.bool_],
    spend: NDArray[np.float32],
    first_order_ms: NDArray[np.int64],
    x: Features,
    others: Asked,
    newest_ms: int,
) -> dict[str, Labels]:
    """Labels of the further heads of k examples with features x float32 [k, F], by output name; the
    other arguments are those of `ordered_within`."""
    more = {
        head: ordered_within(
            days, horizon_days, user, asked_ms, churned, first_order_ms, others, newest_ms
        )
        for head, days in _HEADS.items()
    }
    return more | {PARTIAL: partial(x, spend, horizon_days)}


def learnable(data: Dataset) -> tuple[Dataset, list[str]]:
    """The data without the heads that it has no label of, and which those are. The two of the
    outlook are one model: neither comes without the other."""
    empty = {name for name, label in data.more.items() if np.isnan(label).all()}
    if empty & {*OUTLOOK}:
        empty |= {*OUTLOOK}
    more = {name: label for name, label in data.more.items() if name not in empty}
    return replace(data, more=more), sorted(empty)
