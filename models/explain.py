"""Why a score is what it is: what each concept moved, against a typical customer.

Exact Shapley values, not estimates. The game: the features a coalition holds are the customer's,
the others those of a typical customer (Shapley values with a single baseline, "Baseline Shapley" of
Sundararajan & Najmi 2020, "The many Shapley values for model explanation", section 3).

- Of the trees. A leaf is a box (`models.onnx.trees`). Let `a` of its features be inside for the
  customer only, and `b` for the typical one only; it is reached iff all of the `a` and none of the
  `b` are the customer's. The Shapley value of that unanimity-like game is `(a-1)! b! / (a+b)!` for
  each of the `a` and `-a! (b-1)! / (a+b)!` for each of the `b`, times the leaf's value. Sums over
  leaves are exact because Shapley values are additive (Lundberg et al. 2020, "From local
  explanations to global understanding", interventional TreeSHAP, is the same sum).
- Of the curve that the trees' log-odds are added to, if there is one (`models.curve`): a function
  of three or four features, so every coalition is computed, by an ONNX file of the curve alone.
- Of the learner: linear in its inputs, so each input's own term; its input "logit of the champion"
  is passed on to the champion's features.
- Of the blend: each part's values are scaled so that they add up to that part's change of
  probability (the rescale rule of DeepLIFT, Shrikumar et al. 2017), and weighted as blended.

So a reason's size is in points of `p_churn`, and all concepts add up to the difference to the
typical customer's `p_churn`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.blend import CLIP, BlendedScorer, logit, usable
from models.champion import OUTPUTS, SCORES_FILE, Champion
from models.concepts import CONCEPTS, concepts_of_rows
from models.onnx.trees import Leaves, tree_leaves
from models.words import words
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES, columns_by_name
from schemas.messages import LearnerSnapshot

__all__ = ["SMALLEST_DELTA", "Explainer", "Reason", "TreeValues"]

SMALLEST_DELTA: Final = 0.005
"""A concept that moves the probability by less than half a point is not a reason."""

_CHUNK_ROWS: Final = 32  # rows x leaves x conditions stay within a core's cache
_FIT: Final = 0.05  # log-odds
_SURE: Final = 1e-4  # log-odds of float32 probabilities nearer to 0 or 1 are too coarse to fit


class Reason(NamedTuple):
    """One concept's part in one score, and the feature that moved it most."""

    concept: str
    feature: int
    """Index into `schemas.features.FEATURES`."""
    delta: float
    """What it adds to `p_churn`; positive raises churn."""


class TreeValues:
    """Shapley values of a sum of trees against one typical row, by feature.

    `values` float64 [L]: the leaves' values in the unit that is explained; `typical` float32 [F].
    """

    def __init__(
        self, leaves: Leaves, values: NDArray[np.float64], typical: NDArray[np.float32]
    ) -> None:
        self._leaves, self._values = leaves, values
        self._typical_inside = leaves.inside(typical[None, :])[0]
        self._mine, self._theirs = _unanimity_weights(leaves.feature.shape[1])

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """x float32 [k, F] -> float64 [k, F]; a row adds up to its sum less the typical one's."""
        k, features = x.shape
        phi = np.zeros((k, features))
        leaves, theirs = self._leaves, self._typical_inside
        for start in range(0, k, _CHUNK_ROWS):
            inside = leaves.inside(x[start : start + _CHUNK_ROWS])
            mine_only, theirs_only = inside & ~theirs, theirs & ~inside
            a, b = mine_only.sum(axis=2), theirs_only.sum(axis=2)
            reachable = (inside | theirs).all(axis=2) * self._values
            terms = mine_only * (self._mine[a, b] * reachable)[:, :, None]
            terms -= theirs_only * (self._theirs[a, b] * reachable)[:, :, None]
            rows, leaf, j = np.nonzero(mine_only | theirs_only)
            at = rows * features + leaves.feature[leaf, j]
            summed = np.bincount(at, terms[rows, leaf, j], len(inside) * features)
            phi[start : start + len(inside)] = summed.reshape(-1, features)
        return phi


class _BaseValues:
    """The curve's part of the champion's log-odds, by feature, as `TreeValues` gives the trees'."""

    def __init__(self, champion: Champion, typical: NDArray[np.float32]) -> None:
        self._champion, self._typical = champion, typical
        self._features = [FEATURE_NAMES.index(f) for f in champion.manifest.curve_features]
        m = len(self._features)
        self._members = (np.arange(1 << m)[:, None] >> np.arange(m)) & 1 == 1
        sizes = self._members.sum(axis=1)
        self._weight = np.array([1.0 / (m * math.comb(m - 1, s)) for s in range(m)] + [0.0])[sizes]

    def log_odds(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """x float32 [k, F] -> float64 [k]; 0 without a curve."""
        if not self._champion.has_curve:
            return np.zeros(len(x))
        odds: NDArray[np.float64] = -np.log(self._champion.curve(x).astype(np.float64))
        return odds

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """x float32 [k, F] -> float64 [k, F]."""
        phi = np.zeros(x.shape)
        if not self._features:
            return phi
        k, many = len(x), len(self._members)
        mixed = np.tile(self._typical, (k * many, 1)).reshape(k, many, -1)
        for j, feature in enumerate(self._features):
            mixed[:, self._members[:, j], feature] = x[:, None, feature]
        odds = self.log_odds(mixed.reshape(k * many, -1)).reshape(k, many)
        for j, feature in enumerate(self._features):
            without = np.flatnonzero(~self._members[:, j])
            gain = odds[:, without | (1 << j)] - odds[:, without]
            phi[:, feature] = (gain * self._weight[without]).sum(axis=1)
        return phi


class Explainer:
    """Explains one champion's scores, alone or blended with a learner's snapshot.

    Raises `ArtifactError` if the model's trees can't be read, or don't add up to its scores.
    """

    def __init__(self, champion: Champion, currency: str) -> None:
        self._scorer = BlendedScorer(champion)
        self._currency = currency
        self.typical: Final = champion.manifest.typical.median_array()
        columns = columns_by_name(champion.manifest.features, champion.trained.features)
        leaves = tree_leaves(champion.files[SCORES_FILE], OUTPUTS[0]).of_columns(columns)
        self._base_values = _BaseValues(champion, self.typical)
        self._tree_values = TreeValues(
            leaves,
            _leaf_log_odds(champion, leaves, self.typical, self._base_values),
            self.typical,
        )

    def champion_values(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """The champion's log-odds by feature: x float32 [k, F] -> float64 [k, F]."""
        return self._tree_values(x) + self._base_values(x)

    def values(
        self, x: NDArray[np.float32], learner: LearnerSnapshot | None
    ) -> NDArray[np.float64]:
        """`p_churn` by feature: x float32 [k, F] -> float64 [k, F], in points of probability.

        A row's values add up to its `p_churn` less the typical customer's.
        """
        if learner is not None and not usable(learner, self._scorer.champion_version):
            learner = None
        scores = self._scorer.score(np.concatenate([x, self.typical[None, :]]), learner)
        champion = self.champion_values(x)
        p = scores.p_champion.astype(np.float64)
        moved = _scaled(champion, p)
        if learner is None:
            return moved
        z = logit(p)
        inputs = learner.logit_weight * _scaled(champion, z, slope=1.0)
        inputs += np.array(learner.weights) * (
            _standardised(x, learner) - _standardised(self.typical[None, :], learner)
        )
        learned = _scaled(inputs, scores.p_learner.astype(np.float64))
        weight = learner.blend_weight
        return (1.0 - weight) * moved + weight * learned

    def reasons(
        self, x: NDArray[np.float32], learner: LearnerSnapshot | None, top: int = 3
    ) -> list[list[Reason]]:
        """Up to `top` reasons for each row of `x` float32 [k, F], the strongest first.

        Reasons that raise churn have a positive `delta`, reasons that lower it a negative one. A
        row's reasons don't depend on the other rows, bit for bit.
        """
        phi, concepts = self.values(x, learner), concepts_of_rows(x)
        return [_strongest(*row, top) for row in zip(phi, concepts, strict=True)]

    def in_words(
        self, x: NDArray[np.float32], learner: LearnerSnapshot | None, top: int = 3
    ) -> list[list[str]]:
        """`reasons` as texts: `no order for 41 days; usually every 12 (+21 points)`."""
        return [
            [
                f"{words(r.feature, row, self.typical, self._currency)} ({_points(r.delta)})"
                for r in found
            ]
            for row, found in zip(x, self.reasons(x, learner, top), strict=True)
        ]


def _leaf_log_odds(
    champion: Champion, leaves: Leaves, typical: NDArray[np.float32], base: _BaseValues
) -> NDArray[np.float64]:
    """Each leaf's value in log-odds of p_churn, float64 [L].

    The slope that the graph applies to the trees' sum is fitted to the scores of the golden
    vectors. Raises `ArtifactError` if no slope fits.
    """
    x = np.concatenate([champion.manifest.golden.x_array(), typical[None, :]])
    p = champion.score(x)[0].astype(np.float64)
    sure = (p > _SURE) & (p < 1 - _SURE)
    inputs = np.c_[leaves.sums(x), np.ones(len(x))][sure]
    of_trees = logit(p[sure]) - base.log_odds(x[sure])
    slopes, *_ = np.linalg.lstsq(inputs, of_trees, rcond=None)
    off = np.abs(inputs @ slopes - of_trees).max(initial=0.0)
    if not sure.any() or off > _FIT:
        raise ArtifactError(
            f"Artifact {champion.version}: the trees behind p_churn don't add up to its log-odds "
            f"(off by {off:.2g}), so reasons would be wrong. Export it with `tideline train`."
        )
    values: NDArray[np.float64] = leaves.value * slopes[:-1][leaves.part]
    return values


def _unanimity_weights(depth: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By (a, b): the Shapley value of each of the `a`, and of each of the `b` without its sign."""
    f = [float(math.factorial(n)) for n in range(2 * depth + 1)]
    mine, theirs = np.zeros((2, depth + 1, depth + 1))
    for a in range(depth + 1):
        for b in range(depth + 1 - a):
            if a:
                mine[a, b] = f[a - 1] * f[b] / f[a + b]
            if b:
                theirs[a, b] = f[a] * f[b - 1] / f[a + b]
    return mine, theirs


def _scaled(
    phi: NDArray[np.float64], outcome: NDArray[np.float64], slope: float | None = None
) -> NDArray[np.float64]:
    """`phi` [k, F] scaled so that each row adds up to `outcome` [k + 1] less its last item.

    Where a row's values cancel out, the secant has no slope; then it's that of the curve: of the
    logistic one at `outcome`, or `slope`.
    """
    total, change = phi.sum(axis=1), outcome[:-1] - outcome[-1]
    tangent = outcome[:-1] * (1.0 - outcome[:-1]) if slope is None else np.full(len(phi), slope)
    flat = np.abs(total) < 1e-4
    rate = np.where(flat, tangent, change / np.where(flat, 1.0, total))
    return phi * rate[:, None]


def _standardised(x: NDArray[np.float32], learner: LearnerSnapshot) -> NDArray[np.float64]:
    """As the learner sees features (`schemas.messages.LearnerSnapshot`)."""
    z = (x.astype(np.float64) - np.array(learner.mean)) / np.array(learner.scale)
    standardised: NDArray[np.float64] = np.nan_to_num(np.clip(z, -CLIP, CLIP))
    return standardised


def _strongest(phi: NDArray[np.float64], concepts: NDArray[np.intp], top: int) -> list[Reason]:
    delta = np.bincount(concepts, phi, len(CONCEPTS))
    # Stable, so that equal reasons keep the concepts' order and replay gives the same alert.
    found = []
    for concept in np.argsort(-np.abs(delta), kind="stable")[:top]:
        if abs(delta[concept]) >= SMALLEST_DELTA:
            towards = np.where(concepts == concept, phi * np.sign(delta[concept]), -np.inf)
            feature = int(np.argmax(towards))
            found.append(Reason(CONCEPTS[concept], feature, float(delta[concept])))
    return found


def _points(delta: float) -> str:
    """
    >>> _points(0.214), _points(-0.04), _points(0.006)
    ('+21 points', '−4 points', '+1 point')
    """
    number = max(1, round(abs(delta) * 100))
    return f"{'+' if delta > 0 else '−'}{number} {'point' if number == 1 else 'points'}"
