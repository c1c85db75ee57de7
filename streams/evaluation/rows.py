"""The rows of an evaluation: one per eligible user and weekly cut, as they were known then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.champion import OUTLOOK, PARTIAL
from models.concepts import CLICK_CONCEPTS, CONCEPT_OF
from models.training.dataset import Dataset
from models.training.long_fit import long_label, seen_days
from models.training.sample import WEEK_MS, sampled
from schemas.features import FEATURE_NAMES
from streams.core.features import DAY_MS
from streams.core.hashing import mix
from streams.evaluation.history import History
from streams.evaluation.protocol import VISIT_DAYS, Labels, labels

__all__ = [
    "CLICK_ONLY",
    "CutRows",
    "cut_rows",
    "later_labels",
    "long_labels",
    "matured",
    "training_rows",
]

CLICK_ONLY: Final = np.array(
    [
        concept in CLICK_CONCEPTS or name == "tenure_days"  # since the first event, maybe a click
        for name, concept in zip(FEATURE_NAMES, CONCEPT_OF, strict=True)
    ]
)
"""bool [F]: features that clicks fill, alone or with orders."""


@dataclass(frozen=True)
class CutRows:
    """One cut's eligible users, [k]: who (index into the history), features, and every score.

    `scores` holds float arrays by method and output, such as `champion/p_churn`; it is empty
    before there is a champion. `truth` may be looked at only once its horizon has passed.
    """

    cut_ms: int
    user: NDArray[np.int64]
    x: NDArray[np.float32]
    truth: Labels
    scores: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    champion_version: str = ""
    events: NDArray[np.float32] | None = None
    """The users' last events, float32 [k, ...] (`schemas.tails`), if a challenger needs them."""


def cut_rows(
    history: History,
    cut_ms: int,
    user: NDArray[np.int64],
    x: NDArray[np.float32],
    horizon_days: int,
    events: NDArray[np.float32] | None = None,
) -> CutRows:
    """The rows of a cut, still without scores."""
    truth = labels(history, cut_ms, user, horizon_days)
    return CutRows(cut_ms, user, x, truth, events=events)


def matured(
    cuts: list[CutRows], *, after_ms: int = 0, until_ms: int, horizon_days: int
) -> list[CutRows]:
    """The cuts whose churn and spend labels became known in (after, until]."""
    horizon = horizon_days * DAY_MS
    return [c for c in cuts if after_ms < c.cut_ms + horizon <= until_ms and len(c.user)]


def training_rows(
    cuts: list[CutRows],
    *,
    after_ms: int = 0,
    until_ms: int,
    horizon_days: int,
    most: int | None = None,
    history: History | None = None,
) -> Dataset | None:
    """The rows whose churn and spend labels became known in (after, until]; None if none did. With
    a `history`, theirs, they have the labels of the long horizon too.

    Labels of the other heads are NaN where they were not known yet. Features that only clicks fill
    are unknown, as the history has orders only: that nobody clicked is something else. Of more
    than `most` rows they are a sample (`models.training.sample`).
    """
    chosen = matured(cuts, after_ms=after_ms, until_ms=until_ms, horizon_days=horizon_days)
    if not chosen:
        return None
    if most is not None and sum(len(c.user) for c in chosen) > most:
        chosen = _sampled(chosen, most)
    x = np.concatenate([c.x for c in chosen])
    x[:, CLICK_ONLY] = np.nan
    as_of = np.concatenate([np.full(len(c.user), c.cut_ms, np.int64) for c in chosen])
    later = [
        later_labels(c.truth, c.cut_ms, until_ms, horizon_days)
        | (
            {}
            if history is None
            else long_labels(history, history.first_ms, c.cut_ms, c.user, until_ms)
        )
        for c in chosen
    ]
    return Dataset(
        x=x,
        churned=np.concatenate([c.truth.churned for c in chosen]),
        spend=np.concatenate([c.truth.spend for c in chosen]).astype(np.float32),
        as_of_ms=as_of,
        user=np.concatenate([c.user for c in chosen]),
        more={name: np.concatenate([some[name] for some in later]) for name in later[0]},
        events=_joined_events(chosen),
    )


def _joined_events(cuts: list[CutRows]) -> NDArray[np.float32] | None:
    found = [cut.events for cut in cuts if cut.events is not None]
    return np.concatenate(found) if len(found) == len(cuts) else None


def _sampled(cuts: list[CutRows], most: int) -> list[CutRows]:
    """At most `most` rows of the cuts."""
    sizes = [len(cut.user) for cut in cuts]
    cut_ms = np.repeat([cut.cut_ms for cut in cuts], sizes)
    drawn = mix(np.concatenate([cut.user for cut in cuts]).view(np.uint64), cut_ms.view(np.uint64))
    label = np.concatenate([cut.truth.churned for cut in cuts]).astype(np.int64)
    found = sampled(drawn, cut_ms // WEEK_MS, label, most)
    kept = []
    for cut, chosen in zip(cuts, np.split(found, np.cumsum(sizes)[:-1]), strict=True):
        at = np.flatnonzero(chosen)
        events = None if cut.events is None else cut.events[at]
        kept.append(CutRows(cut.cut_ms, cut.user[at], cut.x[at], cut.truth.at(at), events=events))
    return kept


def later_labels(
    truth: Labels, cut_ms: int, until_ms: int, horizon_days: int
) -> dict[str, NDArray[np.float32]]:
    """The labels of the further heads, float32 [k] each by output name, for one cut's rows; NaN
    where they were not known by `until_ms`."""
    days = (VISIT_DAYS, 30, horizon_days)
    labels = (truth.visited, truth.bought_30d, truth.partial)
    return {
        name: (
            label.astype(np.float32)
            if cut_ms + ahead * DAY_MS <= until_ms
            else np.full(len(label), np.nan, np.float32)
        )
        for name, ahead, label in zip((*OUTLOOK, PARTIAL), days, labels, strict=True)
    }


def long_labels(
    history: History, first_ms: int, cut_ms: int, user: NDArray[np.int64], until_ms: int
) -> dict[str, NDArray[np.float32]]:
    """The labels of the long horizon, float32 [k] each by name, of users [k] at a
    cut; NaN where they were not known by `until_ms`. `first_ms`: of the whole history, of which
    `history` may be a part."""
    return {
        long_label(days): (
            history.spend(cut_ms, cut_ms + days * DAY_MS)[user].astype(np.float32)
            if cut_ms + days * DAY_MS <= until_ms
            else np.full(len(user), np.nan, np.float32)
        )
        for days in seen_days(first_ms, until_ms)
    }
