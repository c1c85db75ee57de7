"""The same command on other kinds of shops: as good as BG/NBD where its assumptions hold, better
than counting recency, frequency and money; with nothing set but the horizon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluation.conftest import run
from tests.evaluation.shops import Orders, cohort, gifts, write


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("orders", "horizon"),
    [(gifts(users=700, days=500, seed=21), 28), (cohort(users=2_000, days=480, seed=22), 60)],
    ids=["gift shop", "cohort of one-time buyers"],
)
def test_it_keeps_up_with_bg_nbd(tmp_path: Path, orders: Orders, horizon: int) -> None:
    path = write(tmp_path / "orders.csv", orders)
    result = run("--orders", str(path), "--horizon", f"{horizon}d", "--json", "--threads", "1")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    churn, value = found[f"churn_{horizon}d"], found[f"value_{horizon}d"]
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
