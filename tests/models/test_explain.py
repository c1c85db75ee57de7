"""Reasons are exact Shapley values, one per concept, and point at what moved the score."""

from __future__ import annotations

import itertools
import math

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from models.agreement import agreement, exact_values, spearman
from models.blend import BlendedScorer, logit
from models.champion import SCORES_FILE, Champion
from models.concepts import CONCEPTS, SILENCE, concept_of, concepts_of_rows
from models.explain import SMALLEST_DELTA, Explainer, TreeValues
from models.onnx.trees import tree_leaves
from models.training.export import Head, export_graph
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES, FEATURES
from tests.models.synthetic import F, at, dataset, rows, snapshot


@pytest.fixture(scope="module")
def explainer(champion: Champion) -> Explainer:
    return Explainer(champion, "USD")


def raw(champion: Champion, x: NDArray[np.float32]) -> NDArray[np.float64]:
    return logit(champion.score(x)[0].astype(np.float64))


# -- trees


def test_the_leaves_read_back_add_up_to_what_lightgbm_computes() -> None:
    data = dataset(3_000, seed=8)
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1, "num_leaves": 9, "num_threads": 1},
        lightgbm.Dataset(data.x, label=data.churned.astype(float)), 12,
    )  # fmt: skip
    leaves = tree_leaves(export_graph({"p_churn": Head(booster, "sigmoid")}, F), "p_churn")
    assert (leaves.parts, len(leaves.value)) == (1, 12 * 9)
    x = np.concatenate([rows(400, seed=9), np.full((1, F), np.nan, np.float32)])
    reached = leaves.inside(x).all(axis=2)
    assert (reached.sum(axis=1) == 12).all()
    difference = leaves.sums(x)[:, 0] - booster.predict(x, raw_score=True)
    assert np.ptp(difference) < 1e-5  # but for the mean leaf, which the graph adds elsewhere


@pytest.mark.parametrize("damage", [b"", b"\x3a\xff\xff", b"nonsense"])
def test_a_graph_without_readable_trees_is_refused(damage: bytes) -> None:
    with pytest.raises(ArtifactError, match="explained"):
        tree_leaves(damage, "p_churn")


def test_an_output_that_no_tree_leads_to_is_refused(champion: Champion) -> None:
    with pytest.raises(ArtifactError, match="No decision trees"):
        tree_leaves(champion.files[SCORES_FILE], "p_other")


# -- values


def brute_force(
    champion: Champion, row: NDArray[np.float32], typical: NDArray[np.float32], players: list[int]
) -> dict[int, float]:
    """Shapley's own formula over all orders of a few features, on the champion's log-odds."""
    total = dict.fromkeys(players, 0.0)
    orders = list(itertools.permutations(players))
    for order in orders:
        x = np.tile(typical, (len(order) + 1, 1))
        for i, feature in enumerate(order):
            x[i + 1 :, feature] = row[feature]
        for feature, gain in zip(order, np.diff(raw(champion, x)), strict=True):
            total[feature] += gain / len(orders)
    return total


def test_tree_values_are_shapleys_own(champion: Champion, explainer: Explainer) -> None:
    """On rows that differ from the typical one in five features, over all 120 orders."""
    important = np.argsort(-np.asarray(champion.manifest.importances))[:12]
    rng = np.random.default_rng(3)
    for source in rows(12, seed=33):
        players = rng.choice(important, 5, replace=False).tolist()
        row = explainer.typical.copy()
        row[players] = source[players]
        (found,) = explainer.champion_values(row[None, :])
        wanted = brute_force(champion, row, explainer.typical, players)
        for feature in range(F):
            assert found[feature] == pytest.approx(wanted.get(feature, 0.0), abs=2e-5)


def test_tree_values_add_up_to_the_log_odds(champion: Champion, explainer: Explainer) -> None:
    x = rows(300, seed=34)
    gap = raw(champion, x) - raw(champion, explainer.typical[None, :])
    np.testing.assert_allclose(explainer.champion_values(x).sum(axis=1), gap, atol=5e-5)


@pytest.mark.parametrize("weight", [None, 0.0, 0.4, 0.99])
def test_values_add_up_to_the_probability_of_the_blend(
    champion: Champion, explainer: Explainer, weight: float | None
) -> None:
    learner = None if weight is None else snapshot(champion.version, blend_weight=weight)
    x = rows(300, seed=35)
    scorer = BlendedScorer(champion)
    p = scorer.score(x, learner).p_churn.astype(float)
    typical = scorer.score(explainer.typical[None, :], learner).p_churn.astype(float)
    np.testing.assert_allclose(explainer.values(x, learner).sum(axis=1), p - typical, atol=2e-4)


def test_the_learners_part_is_explained(champion: Champion, explainer: Explainer) -> None:
    """A feature that only the learner knows of is the reason, as far as the learner counts."""
    feature = at("support_24h")
    weights = np.zeros(F)
    weights[feature] = 3.0
    base = snapshot(champion.version, blend_weight=0.9)
    learner = type(base)(
        **{name: getattr(base, name) for name in base.__struct_fields__}
        | {"weights": weights.tolist(), "intercept": 0.0, "logit_weight": 1.0}
    )
    x = explainer.typical[None, :].copy()
    x[0, feature] = np.float32(40)
    [[first, *_]] = explainer.reasons(x, learner)
    assert (first.concept, FEATURE_NAMES[first.feature]) == ("support", "support_24h")
    assert first.delta > 0.1
    without = explainer.values(x, None)[0, feature]
    assert abs(without) < 0.05 * first.delta
    other = snapshot("another-champion", blend_weight=0.9)
    np.testing.assert_array_equal(explainer.values(x, other), explainer.values(x, None))


def test_reasons_do_not_depend_on_the_other_rows(champion: Champion, explainer: Explainer) -> None:
    x, learner = rows(40, seed=32), snapshot(champion.version)
    together = explainer.values(x, learner)
    for i, row in enumerate(x):
        np.testing.assert_array_equal(explainer.values(row[None, :], learner)[0], together[i])


# -- against exact values and TreeSHAP


def test_exact_values_solve_a_game_known_by_hand() -> None:
    """p = 0.1 + 0.2 a + 0.4 (b and c): the pair shares its 0.4 evenly."""

    class Game:
        def score(self, x: NDArray[np.float32], _: object) -> object:
            p = 0.1 + 0.2 * x[:, 0] + 0.4 * (x[:, 1] * x[:, 2])
            return type("Scores", (), {"p_churn": p.astype(np.float32)})

    row, typical = np.ones(3, np.float32), np.zeros(3, np.float32)
    found = exact_values(Game(), row, typical, [np.array([i]) for i in range(3)], None)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, [0.2, 0.2, 0.2], atol=1e-6)
    found = exact_values(Game(), row, typical, [np.array([0]), np.array([1, 2])], None)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, [0.2, 0.4], atol=1e-6)


@pytest.mark.parametrize("weight", [None, 0.5])
def test_reasons_rank_as_exact_shapley_values_do(champion: Champion, weight: float | None) -> None:
    learner = None if weight is None else snapshot(champion.version, blend_weight=weight)
    found = agreement(champion, rows(25, seed=36), learner)
    print(f"against exact Shapley values, learner's weight {weight}: {found}")
    assert found.rows == 25
    assert found.spearman > 0.85
    assert found.first >= 0.85
    assert found.top3 > 0.85


def test_reasons_rank_as_treeshap_does() -> None:
    """LightGBM's own TreeSHAP explains against the average customer: what it says of a customer
    less what it says of the typical one is comparable. It shares out correlated features
    differently (by the training rows of each branch), so it can't agree altogether."""
    data = dataset(5_000, seed=12)
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1, "num_leaves": 12, "max_depth": 5, "seed": 1,
         "learning_rate": 0.15, "num_threads": 1, "min_data_in_leaf": 50},
        lightgbm.Dataset(data.x, label=data.churned.astype(float)), 40,
    )  # fmt: skip
    leaves = tree_leaves(export_graph({"p_churn": Head(booster, "sigmoid")}, F), "p_churn")
    typical = np.nanmedian(data.x[:], axis=0)
    x = rows(400, seed=37)
    ours = TreeValues(leaves, leaves.value, typical)(x)
    treeshap = np.asarray(booster.predict(x, pred_contrib=True))[:, :-1]
    treeshap -= np.asarray(booster.predict(typical[None, :], pred_contrib=True))[:, :-1]
    ranks = []
    for concept, a, b in zip(concepts_of_rows(x), ours, treeshap, strict=True):
        sums = [np.bincount(concept, values, len(CONCEPTS)) for values in (a, b)]
        used = np.abs(sums[0]) + np.abs(sums[1]) > 0
        ranks.append(spearman(*(s[used].astype(np.float64) for s in sums)))
    first = np.mean(np.abs(ours).argmax(axis=1) == np.abs(treeshap).argmax(axis=1))
    print(f"against TreeSHAP: rank correlation {np.mean(ranks):.3f}, first the same {first:.0%}")
    assert np.mean(ranks) > 0.7
    assert first > 0.85


# -- concepts


def test_every_feature_belongs_to_one_concept() -> None:
    assert {concept_of(feature.name) for feature in FEATURES} == set(CONCEPTS)
    assert concept_of("lifetime_orders") == concept_of("orders_decayed_7d") == "orders"
    assert concept_of("silence_over_gap") == SILENCE
    assert concept_of("returns_7d") == concept_of("days_since_return") == "returns"


def test_empty_windows_belong_to_the_silence_that_empties_them() -> None:
    x = np.zeros((2, F), np.float32)
    x[1, at("orders_90d")] = 2
    names = [[CONCEPTS[c] for c in row] for row in concepts_of_rows(x)]
    for feature in ("orders_30d", "revenue_30d", "order_lines_1h", "discount_share_7d"):
        assert names[0][at(feature)] == names[1][at(feature)] == SILENCE
    assert (names[0][at("revenue_90d")], names[1][at("revenue_90d")]) == (SILENCE, "spend")
    assert names[0][at("orders_decayed_30d")] == "orders"
    assert names[0][at("view_30d")] == "view"


def test_one_reason_per_concept_the_strongest_first(
    champion: Champion, explainer: Explainer
) -> None:
    for row in explainer.reasons(rows(80, seed=31), snapshot(champion.version), top=4):
        assert len({reason.concept for reason in row}) == len(row) <= 4
        strengths = [abs(reason.delta) for reason in row]
        assert strengths == sorted(strengths, reverse=True)
        assert min(strengths, default=1.0) >= SMALLEST_DELTA
        for reason in row:
            assert math.isfinite(reason.delta)


def test_a_typical_customer_has_no_reasons(explainer: Explainer) -> None:
    assert explainer.reasons(explainer.typical[None, :], None) == [[]]


def test_long_silence_is_the_first_reason(explainer: Explainer) -> None:
    x = explainer.typical[None, :].copy()
    x[0, at("days_since_order")] = 200.0
    [[first, *_]] = explainer.reasons(x, None)
    assert first.concept == SILENCE
    assert first.delta > 0.1
    [[said, *_]] = explainer.in_words(x, None)
    assert said.startswith("no order for 200 days; ")
    assert said.endswith(" points)")
    assert "(+" in said
