"""Users with few orders, and visitors, have models of their own, beside the customers' one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact import load_artifact
from models.bands import CUSTOMERS, FEW_ORDERS, VISITORS, band_of
from models.baselines.metrics import auc
from models.blend import BlendedScorer
from models.champion import Champion
from models.everyone import EveryoneScorer
from models.manifest import Eligibility
from models.registry import ExplainingScorer
from models.training.dataset import Dataset
from models.training.train import Summary, train
from schemas.messages import LearnerSnapshot
from tests.models import synthetic

N = 4_000
ORDERS, SILENCE, VIEWS = (
    synthetic.at(name) for name in ("lifetime_orders", "days_since_order", "view_30d")
)


def others(orders: int, seed: int) -> Dataset:
    """Rows of users with so many orders: silence, or few views, keep them away."""
    data = synthetic.dataset(N, seed)
    x = data.x[:].copy()
    x[:, ORDERS] = orders
    for name in ("days_since_order", "days_since_first_order", "mean_order_value"):
        x[:, synthetic.at(name)] = np.nan
    rng = np.random.default_rng(seed)
    silence, views = rng.exponential(40.0, N), rng.poisson(4.0, N)
    x[:, VIEWS] = views
    if orders:
        x[:, SILENCE] = x[:, synthetic.at("days_since_first_order")] = silence
        x[:, synthetic.at("mean_order_value")] = 20.0
    log_odds = 0.03 * silence - 0.5 if orders else 2.5 - 0.5 * views
    churned = rng.random(N) < 1.0 / (1.0 + np.exp(-log_odds))
    spend = np.where(churned, 0.0, rng.gamma(4.0, 5.0, N)).astype(np.float32)
    more = {"p_buy_7d": (~churned & (rng.random(N) < 0.4)), "p_buy_30d": ~churned}
    labels = {name: label.astype(np.float32) for name, label in more.items()}
    return Dataset(x, churned, spend, data.as_of_ms, data.user + 10**6 * (1 + orders), labels)


def with_outlook(data: Dataset) -> Dataset:
    known = {name: (~data.churned).astype(np.float32) for name in ("p_buy_7d", "p_buy_30d")}
    known["p_buy_7d"] *= np.random.default_rng(1).random(len(data.x)) < 0.5
    return Dataset(data.x, data.churned, data.spend, data.as_of_ms, data.user, known)


def fitted(data: Dataset, root: Path) -> Summary:
    return train(
        data, root=root, date="2026-11-30", horizon_days=28, eligibility=Eligibility(2, 90),
        source="made up",
    )  # fmt: skip


@pytest.fixture(scope="module")
def customers() -> Dataset:
    return with_outlook(synthetic.dataset(N, 1))


@pytest.fixture(scope="module")
def everybody(customers: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    data = customers.joined(others(1, 2)).joined(others(0, 3))
    return load_artifact(fitted(data, tmp_path_factory.mktemp("everybody")).path)


@pytest.fixture(scope="module")
def alone(customers: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    return load_artifact(fitted(customers, tmp_path_factory.mktemp("alone")).path)


def test_customers_have_the_same_model_whoever_else_there_is(
    everybody: Champion, alone: Champion
) -> None:
    assert alone.bands == {CUSTOMERS}
    assert everybody.bands == {CUSTOMERS, FEW_ORDERS, VISITORS}
    for file, content in alone.files.items():
        assert everybody.files[file] == content, file
    assert everybody.manifest.typical == alone.manifest.typical
    assert "200 are needed" in str(alone.manifest.training["no_visitors"])


@pytest.mark.parametrize(("orders", "most"), [(1, 0.69), (0, 0.66)])
def test_each_band_gets_numbers_that_rank_and_mean_what_they_say(
    everybody: Champion, orders: int, most: float
) -> None:
    new = others(orders, 10 + orders)
    scores = EveryoneScorer(everybody).score(new.x[:], None)
    assert auc(new.churned, scores.p_churn.astype(np.float64)) > most
    assert abs(scores.p_churn.mean() - new.churned.mean()) < 0.03
    assert abs(scores.spend.mean() / new.spend.mean() - 1.0) < 0.1
    forecast = EveryoneScorer(everybody).forecast(new.x[:])
    assert abs(forecast.p_buy_30d.mean() - new.more["p_buy_30d"].mean()) < 0.03
    assert (forecast.p_buy_7d <= forecast.p_buy_30d).all()


def mixed() -> NDArray[np.float32]:
    rows = [synthetic.rows(40, 5), others(1, 6).x[:40], others(0, 7).x[:40]]
    return np.concatenate(rows)[np.random.default_rng(0).permutation(120)]


def test_a_row_has_the_same_bits_whoever_is_scored_with_it(everybody: Champion) -> None:
    x, scorer = mixed(), EveryoneScorer(everybody)
    together, forecast = scorer.score(x, None), scorer.forecast(x)
    for i in range(0, 120, 7):
        one, then = scorer.score(x[i : i + 1], None), scorer.forecast(x[i : i + 1])
        for whole, single in (
            (together.p_churn, one.p_churn), (together.spend, one.spend),
            (forecast.p_buy_30d, then.p_buy_30d), (forecast.next_order_days, then.next_order_days),
        ):  # fmt: skip
            assert whole[i : i + 1].tobytes() == single.tobytes()


def test_the_learner_speaks_of_customers_only(everybody: Champion) -> None:
    x = mixed()
    width = x.shape[1]
    plain: dict[str, Any] = {"weights": [0.0] * width, "mean": [0.0] * width}
    learner = LearnerSnapshot(
        version=1, champion_version=everybody.version, features=everybody.manifest.features,
        labels=9, blend_weight=1.0, intercept=2.0, logit_weight=1.0, scale=[1.0] * width,
        log_loss_champion=None, log_loss_learner=None, log_loss_blend=None, drifts=[],
        positions={}, state=b"", **plain,
    )  # fmt: skip
    scores = EveryoneScorer(everybody).score(x, learner)
    customer = x[:, ORDERS] >= 2
    assert (scores.p_churn[customer] > scores.p_champion[customer]).all()
    assert (scores.p_churn[~customer] == scores.p_champion[~customer]).all()
    own = BlendedScorer(everybody).score(x[customer], learner)
    assert own.p_churn.tobytes() == scores.p_churn[customer].tobytes()


def test_a_champion_of_before_knows_customers_only(alone: Champion) -> None:
    x, scorer = mixed(), ExplainingScorer(alone, "USD")
    orders = x[:, ORDERS].astype(np.int64)
    assert (scorer.covers(orders) == (orders >= 2)).all()
    scores, forecast = scorer.score(x, None), scorer.forecast(x)
    for values in (scores.p_churn, scores.p_learner, scores.spend, forecast.p_buy_7d):
        assert (np.isnan(values) == (orders < 2)).all()


def test_intervals_are_of_customers_and_of_few_orders(everybody: Champion) -> None:
    scorer, new = EveryoneScorer(everybody), others(1, 21)
    scores = scorer.score(new.x[:], None)
    orders = new.x[:, ORDERS].astype(np.int64)
    low, high = scorer.spend_interval(orders, scores.p_churn, scores.spend)
    assert low.dtype == high.dtype == np.float32
    inside = (new.spend >= low * 0.999) & (new.spend <= high * 1.001)
    assert abs(inside.mean() - 0.8) < 0.05
    known = scorer.spend_interval(np.array([0, 2]), scores.p_churn[:2], scores.spend[:2])
    assert np.isnan(known).tolist() == [[True, False], [True, False]]


def test_bands_follow_the_orders_that_training_asked_for() -> None:
    orders = np.array([0, 1, 2, 3])
    assert band_of(orders, 3).tolist() == [0, 1, 1, 2]
    assert band_of(orders, 1).tolist() == band_of(orders, 0).tolist() == [0, 2, 2, 2]
    assert band_of(np.array([np.nan], np.float32), 2).tolist() == [0]


def test_rows_that_are_all_alike_make_no_model_and_say_so(
    customers: Dataset, tmp_path: Path
) -> None:
    few = others(1, 4)
    gone = Dataset(few.x, np.ones(N, np.bool_), few.spend * 0, few.as_of_ms, few.user, few.more)
    champion = load_artifact(fitted(customers.joined(gone), tmp_path).path)
    assert champion.bands == {CUSTOMERS}
    assert "both kinds are needed" in str(champion.manifest.training["no_few_orders"])
