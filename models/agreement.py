"""Measures how well reasons agree with exact Shapley values of the whole blend, by brute force.

`models.explain` is exact for the trees' log-odds and for the learner's, and rescales to points of
probability. Here nothing is rescaled: every coalition of concepts is scored, where the
coalition's concepts have the customer's values and the others typical ones, and each concept gets
its Shapley value of `p_churn` (Shapley 1953, "A value for n-person games"). That costs 2^m scores
for m concepts, so it is computed for a sample of rows only.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.blend import BlendedScorer
from models.champion import Champion
from models.concepts import CONCEPTS, concepts_of_rows
from models.explain import SMALLEST_DELTA, Explainer
from schemas.messages import LearnerSnapshot

__all__ = ["Agreement", "agreement", "exact_values", "spearman"]

MOST_PLAYERS: Final = 12  # 4,096 scores a row; the weakest concepts beyond play as one


class Agreement(NamedTuple):
    """Over the rows that have at least two concepts to rank."""

    rows: int
    spearman: float
    """Mean rank correlation of the concepts' values, signs included."""
    first: float
    """Share of rows whose strongest reason is the exact one's."""
    top3: float
    """Mean share of the exact three strongest (those of half a point or more) that were named."""


def agreement(
    champion: Champion, x: NDArray[np.float32], learner: LearnerSnapshot | None = None
) -> Agreement:
    """Compares reasons with exact Shapley values on the rows `x` float32 [k, F].

    Means over no row are NaN. Raises `ArtifactError` if the champion can't be explained.
    """
    explainer, scorer = Explainer(champion, "USD"), BlendedScorer(champion)
    ranks, firsts, tops = [], [], []
    values, concepts = explainer.values(x, learner), concepts_of_rows(x)
    for row, phi, concept in zip(x, values, concepts, strict=True):
        groups, ours = _players(concept, phi)
        if len(groups) < 2:
            continue
        exact = exact_values(scorer, row, explainer.typical, groups, learner)
        ranks.append(spearman(ours, exact))
        strongest = np.argsort(-np.abs(exact), kind="stable")
        strongest = strongest[np.abs(exact[strongest]) >= SMALLEST_DELTA]
        if len(strongest):
            named = np.argsort(-np.abs(ours), kind="stable")[:3]
            firsts.append(named[0] == strongest[0])
            tops.append(np.isin(strongest[:3], named).mean())
    mean = (float(np.mean(found)) if found else math.nan for found in (ranks, firsts, tops))
    return Agreement(len(ranks), *mean)


def _players(
    concept: NDArray[np.intp], phi: NDArray[np.float64]
) -> tuple[list[NDArray[np.intp]], NDArray[np.float64]]:
    """The players of the game and our value of each, float64 [m]: the `MOST_PLAYERS - 1` strongest
    concepts as one player each, and all the others together as one. A player is its features."""
    ours = np.bincount(concept, phi, len(CONCEPTS))
    order = [c for c in np.argsort(-np.abs(ours), kind="stable") if ours[c] != 0]
    alone, rest = order[: MOST_PLAYERS - 1], order[MOST_PLAYERS - 1 :]
    groups = [np.flatnonzero(concept == c) for c in alone]
    values = [ours[c] for c in alone]
    if rest:
        groups.append(np.flatnonzero(np.isin(concept, rest)))
        values.append(ours[rest].sum())
    return groups, np.array(values)


def exact_values(
    scorer: BlendedScorer,
    row: NDArray[np.float32],
    typical: NDArray[np.float32],
    groups: list[NDArray[np.intp]],
    learner: LearnerSnapshot | None,
) -> NDArray[np.float64]:
    """Each group's Shapley value of `p_churn`, float64 [m], over all 2^m coalitions of m groups.

    A group is an array of feature indices. Features in a coalition have the value in `row` float32
    [F], those outside the one in `typical` float32 [F]; features in no group stay as in `row`.
    """
    m = len(groups)
    members = (np.arange(1 << m)[:, None] >> np.arange(m)) & 1 == 1
    variants = np.tile(row, (1 << m, 1))
    for j, group in enumerate(groups):
        without = np.flatnonzero(~members[:, j])
        variants[np.ix_(without, group)] = typical[group]
    p = scorer.score(variants, learner).p_churn.astype(np.float64)
    size = members.sum(axis=1)
    weight = np.array([1.0 / (m * math.comb(m - 1, s)) for s in range(m)])
    values = np.empty(m)
    for j in range(m):
        without = np.flatnonzero(~members[:, j])
        gain = p[without | (1 << j)] - p[without]
        values[j] = float((weight[size[without]] * gain).sum())
    return values


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation of `a` and `b`, float64 [n] each.

    Equal values share their mean rank. NaN if all values of either are equal.
    """
    ranks = [_ranks(values) for values in (a, b)]
    if min(r.std() for r in ranks) == 0:
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle = last - (counts - 1) / 2.0
    ranks: NDArray[np.float64] = middle[place]
    return ranks
