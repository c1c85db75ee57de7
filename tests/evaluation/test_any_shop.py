"""The same command on other kinds of shops: as good as BG/NBD where its assumptions hold, better
where they don't, and better than counting recency, frequency and money; with nothing set but the
horizon."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.baselines.metrics import auc, log_loss, normalised_gini
from tests.evaluation.ceiling import judged, no_order
from tests.evaluation.conftest import run
from tests.evaluation.rivals import evaluated
from tests.evaluation.shops import DAY_MS, START_MS, cohort, gifts, wholesale, write


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("users", "days", "seed"),
    [(1_200, 270, 1), pytest.param(2_000, 480, 22, marks=pytest.mark.full)],
)
def test_a_cohort_of_one_time_buyers(tmp_path: Path, users: int, days: int, seed: int) -> None:
    path = write(tmp_path / "orders.csv", cohort(users, days, seed))
    result = run("--orders", str(path), "--horizon", "60d", "--json", "--threads", "1")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    churn, value = found["churn_60d"], found["value_60d"]
    blend = churn["blend"]
    for method in ("blend", "champion", "bgnbd", "rfm"):
        print(method, {m: churn[method][m] for m in ("auc", "average_precision", "log_loss")})
    print({m: value[m]["normalized_gini"] for m in value}, found["about"]["champions"][-1])
    assert blend["auc_high"] > churn["bgnbd"]["auc"]
    assert blend["log_loss"] < churn["bgnbd"]["log_loss"] + 0.005
    assert blend["auc"] > churn["rfm"]["auc"]
    assert blend["auc"] > churn["recency"]["auc"]
    assert value["blend"]["normalized_gini"] > value["bgnbd_gg"]["normalized_gini"] - 0.03
    assert value["blend"]["normalized_gini"] > value["rfm"]["normalized_gini"]


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_gift_shop_is_predicted_nearly_as_well_as_by_its_true_law() -> None:
    shop = judged(users=700, days=500, seed=21)
    aucs = {m: shop.auc(m) for m in ("ceiling", "blend", "bgnbd", "rfm", "recency")}
    gini = {m: normalised_gini(shop.value.truth, p) for m, p in shop.value.scores.items()}
    loss = {m: log_loss(shop.churn.truth, shop.churn.scores[m]) for m in ("blend", "bgnbd")}
    print(aucs, gini, loss)
    assert aucs["ceiling"] - 0.02 < aucs["blend"] < aucs["ceiling"] + 0.01
    assert aucs["blend"] > aucs["bgnbd"] - 0.01
    assert aucs["blend"] > max(aucs["rfm"], aucs["recency"])
    assert loss["blend"] < loss["bgnbd"] + 0.005
    assert gini["blend"] > gini["bgnbd_gg"] - 0.01
    assert gini["blend"] > gini["rfm"]


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_gift_shop_that_has_seen_a_christmas_expects_the_next() -> None:
    _, churn, value = evaluated(gifts(users=1_200, days=700, seed=36))
    predicted = {m: churn.scores[m] for m in ("blend", "bgnbd")}
    gini = {m: normalised_gini(value.truth, p) for m, p in value.scores.items()}
    rise = churn.cut_ms >= START_MS + 655 * DAY_MS  # the peak is on day 686
    left = churn.truth[rise].mean()
    bias = {m: float(p[rise].mean() / left) for m, p in predicted.items()}
    ranked = {m: auc(churn.truth, p) for m, p in predicted.items()}
    loss = {m: log_loss(churn.truth, p) for m, p in predicted.items()}
    print(ranked, loss, bias, gini)
    assert ranked["blend"] > ranked["bgnbd"]
    assert loss["blend"] < loss["bgnbd"]
    assert gini["blend"] > gini["bgnbd_gg"]
    assert abs(bias["blend"] - 1.0) < 0.5 * abs(bias["bgnbd"] - 1.0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("users", "horizon", "regularity"),
    [
        (1_500, 28, 2.0),
        pytest.param(2_500, 28, 2.0, marks=pytest.mark.full),
        pytest.param(2_500, 60, 1.0, marks=pytest.mark.full),
    ],
)
def test_one_year_of_a_wholesaler_beats_the_formulas(
    users: int, horizon: int, regularity: float
) -> None:
    """A year has seen no autumn before; with regularity 1 the gaps are as BG/NBD has them."""
    _, churn, value = evaluated(wholesale(users=users, seed=7, regularity=regularity), horizon)
    ranked = {m: auc(churn.truth, churn.scores[m]) for m in ("blend", "bgnbd", "rfm")}
    loss = {m: log_loss(churn.truth, churn.scores[m]) for m in ("blend", "bgnbd")}
    gini = {m: normalised_gini(value.truth, p) for m, p in value.scores.items()}
    print(ranked, loss, gini)
    assert ranked["blend"] > ranked["bgnbd"] > ranked["rfm"]
    assert loss["blend"] < loss["bgnbd"]
    assert gini["blend"] > gini["bgnbd_gg"] - 0.003
    assert gini["blend"] > gini["rfm"]


def test_the_ceiling_means_what_it_says() -> None:
    """Customers of whom it says 30 % stay away for four weeks do so in 30 % of cases."""
    days, cut, horizon = 420.0, 300.0, 28.0
    user, ts_ms, _ = gifts(users=1_500, days=int(days), seed=5)
    day = (ts_ms - START_MS) / DAY_MS
    predicted, came = [], []
    for one in np.unique(user).tolist():
        mine = day[user == one]
        if (mine < cut).any():
            predicted.append(no_order(mine[mine < cut], cut, horizon, days))
            came.append(not ((mine >= cut) & (mine < cut + horizon)).any())
    order = np.argsort(predicted)
    for part in np.array_split(order, 4):
        said, was = np.array(predicted)[part].mean(), np.array(came)[part].mean()
        error = np.sqrt(max(said * (1 - said), 0.01) / len(part))
        assert abs(said - was) < 4 * error, (said, was, error)
