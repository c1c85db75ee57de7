"""A champion of a shop that a curve describes best: it counts the curve in, and explains it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.agreement import agreement
from models.artifact import golden_error, load_artifact
from models.blend import logit
from models.champion import FORECAST_FILE, Champion
from models.curve import BASE_FEATURES
from models.explain import Explainer
from models.manifest import Eligibility
from models.training.dataset import Dataset
from models.training.train import OUTLOOK_TREES, train
from schemas.features import FEATURE_NAMES
from tests.models.synthetic import DAY_MS, HORIZON_DAYS
from tests.models.test_curve import CHURN, SPEND, VALUE, customers
from tests.models.test_explain import brute_force

GAP = FEATURE_NAMES.index("gap_mean_days")


@pytest.fixture(scope="module")
def curved(tmp_path_factory: pytest.TempPathFactory) -> Champion:
    """Trained on customers whose churn and spend are drawn from a curve."""
    n, rng = 3_000, np.random.default_rng(31)
    x = customers(n, 30)
    x[:, GAP] = x[:, BASE_FEATURES[1]] / x[:, BASE_FEATURES[0]] * rng.gamma(20.0, 0.05, n)
    churned = rng.random(n) < 1.0 / (1.0 + np.exp(-CHURN.log_odds(x)))
    spend = np.where(churned, 0.0, np.exp(SPEND.log_mean(x)) * rng.gamma(2.0, 0.5, n))
    bought = (rng.random(n) < 0.4).astype(np.float32)
    summary = train(
        Dataset(
            x=x, churned=churned, spend=spend.astype(np.float32),
            as_of_ms=1_700_000_000_000 + rng.integers(0, 12, n) * 7 * DAY_MS,
            user=rng.integers(0, n // 3, n),
            more={"p_buy_7d": bought, "p_buy_30d": bought, "p_partial": 1.0 - bought},
        ),
        root=Path(tmp_path_factory.mktemp("curved")), date="2026-11-25",
        horizon_days=HORIZON_DAYS, eligibility=Eligibility(2, 90), source="a curve", threads=1,
    )  # fmt: skip
    return load_artifact(summary.path)


def test_the_outlook_stays_within_its_tree_budget(curved: Champion) -> None:
    for head in ("p_buy_7d", "p_buy_30d"):
        assert 0 < int(curved.manifest.training[f"trees_{head}"]) <= OUTLOOK_TREES


def test_a_row_gets_the_same_bits_at_every_position(curved: Champion) -> None:
    """Steps put rows next to like ones (`streams/core/scoring.py`), and others stand there then."""
    x = customers(3_000, 35)
    order = np.random.default_rng(0).permutation(len(x))
    for ours, moved in zip(curved.score(x), curved.score(x[order]), strict=True):
        assert np.array_equal(ours[order], moved)
    before, after = (curved.outputs(FORECAST_FILE, rows) for rows in (x, x[order]))
    for name, ours in before.items():
        assert np.array_equal(ours[order], after[name])


def test_training_counts_the_curve_in(curved: Champion) -> None:
    assert curved.manifest.metrics["p_churn_curve_weight"] >= 0.5
    assert curved.has_curve
    assert golden_error(curved) < 1e-5
    x = customers(4_000, 32)
    truth, ours = CHURN.log_odds(x), logit(curved.score(x)[0].astype(np.float64))
    assert np.corrcoef(truth, ours)[0, 1] > 0.9


def test_its_values_are_shapleys_own_with_the_curve_in(curved: Champion) -> None:
    explainer = Explainer(curved, "USD")
    players = [*BASE_FEATURES, VALUE, GAP]
    for source in customers(8, 33):
        row = explainer.typical.copy()
        row[players] = source[players]
        row[GAP] = 20.0
        (found,) = explainer.champion_values(row[None, :])
        wanted = brute_force(curved, row, explainer.typical, players)
        for feature in players:
            assert found[feature] == pytest.approx(wanted[feature], abs=5e-5)
        assert found.sum() == pytest.approx(sum(wanted.values()), abs=5e-5)
        assert np.abs(found[list(BASE_FEATURES)]).max() > 0.01


def test_reasons_rank_as_exact_values_of_the_probability_do(curved: Champion) -> None:
    x = customers(60, 34)
    x[:, GAP] = x[:, BASE_FEATURES[1]] / x[:, BASE_FEATURES[0]]
    found = agreement(curved, x)
    print(found)
    assert found.first > 0.95
    assert found.top3 > 0.95
    assert found.spearman > 0.7  # of three or four concepts, where one swap costs 0.2 to 0.5
