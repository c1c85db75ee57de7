"""The sequence challenger of an evaluation: how it is pooled, judged and told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from models.baselines.metrics import log_loss
from models.sequence.model import SequenceModel
from models.training.dataset import Dataset
from models.training.promotion import judge_scores
from schemas.features import FEATURE_NAMES
from streams.evaluation import report
from streams.evaluation.measure import CHALLENGERS, METHODS, Task, figures
from streams.evaluation.sequence import pool, settled
from tests.evaluation.conftest import run
from tests.evaluation.shops import weekly, write

Scored = tuple[np.ndarray, np.ndarray]


def rows(n: int, seed: int) -> tuple[Dataset, Scored, Scored]:
    """Rows, and two scores of them, of which each knows half of the truth."""
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, n))
    p = 1.0 / (1.0 + np.exp(-(one + other)))
    churned = rng.random(n) < p
    spend = np.where(churned, 0.0, rng.gamma(2.0, 10.0, n)).astype(np.float32)
    data = Dataset(
        np.zeros((n, len(FEATURE_NAMES)), np.float32), churned, spend, np.zeros(n, np.int64),
        np.arange(n),
    )  # fmt: skip

    def scored(z: np.ndarray) -> Scored:
        q = 1.0 / (1.0 + np.exp(-z))
        return q.astype(np.float32), (20.0 * (1.0 - q)).astype(np.float32)

    return data, scored(one), scored(other)


def test_a_pool_is_between_both_and_at_its_ends_one_of_them() -> None:
    _, one, other = rows(200, 1)
    for weights, same in (((0.0, 0.0), one), ((1.0, 1.0), other)):
        for got, want in zip(pool(one, other, weights), same, strict=True):
            assert np.allclose(got, want, atol=1e-6)
    p, spend = pool(one, other, (0.3, 0.6))
    assert (p >= np.minimum(one[0], other[0]) - 1e-6).all()
    assert (p <= np.maximum(one[0], other[0]) + 1e-6).all()
    assert np.allclose(spend, 0.4 * one[1] + 0.6 * other[1], rtol=1e-5)


def test_weights_are_settled_by_what_costs_least() -> None:
    data, one, other = rows(4_000, 2)
    weights = settled(data, one, other)
    assert 0.3 <= weights[0] <= 0.7
    pooled = pool(one, other, weights)
    assert log_loss(data.churned, pooled[0]) < log_loss(data.churned, one[0]) - 0.01
    truth = np.where(data.churned, 0.99, 0.01).astype(np.float32), data.spend
    assert settled(data, one, truth) == (1.0, 1.0)
    assert settled(data, truth, one) == (0.0, 0.0)
    nobody = data.take(np.zeros(len(data.x), np.bool_))
    assert settled(nobody, (one[0][:0], one[1][:0]), (other[0][:0], other[1][:0])) == (0.5, 0.5)


def test_scores_of_any_model_are_judged_by_the_same_rule() -> None:
    data, one, other = rows(2_000, 3)
    better = pool(one, other, (0.5, 0.5))
    assert judge_scores(data, one, better).promote
    assert not judge_scores(data, better, one).promote
    few = data.take(np.arange(150))
    found = judge_scores(few, (one[0][:150], one[1][:150]), (better[0][:150], better[1][:150]))
    assert not found.promote
    assert "150 later rows decide nothing" in found.why


def test_the_report_names_challengers_and_calls_them_no_baseline() -> None:
    for methods in METHODS.values():
        assert {*methods, *CHALLENGERS} <= report._NAMES.keys()
    data, one, other = rows(400, 4)
    scores = {"blend": one, "bgnbd": other, "pooled": pool(one, other, (0.5, 0.5))}
    task = Task(
        "churn", "churn_28d", data.churned, data.user, data.as_of_ms,
        {name: scored[0].astype(np.float64) for name, scored in scores.items()},
    )  # fmt: skip
    measured = figures({"churn": task})
    assert "champion and sequence, pooled" in report._table(measured["churn_28d"])
    assert "(BG/NBD)" in report._tiles({"churn": task}, measured)


def test_where_to_write_it_needs_one(tmp_path: Path) -> None:
    orders = write(tmp_path / "orders.csv", weekly(20, 60))
    result = run("--orders", str(orders), "--challenger-out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "--challenger-out is for --challenger sequence" in result.output


def test_without_jax_it_says_what_to_install_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "models.sequence.network", raising=False)
    monkeypatch.setitem(sys.modules, "jax", None)
    orders = write(tmp_path / "orders.csv", weekly(20, 60))
    result = run("--orders", str(orders), "--challenger", "sequence")
    assert result.exit_code == 1
    assert "pip install 'tideline[train,sequence]'" in " ".join(result.output.split())


@pytest.mark.full
@pytest.mark.timeout(900)
def test_its_figures_stand_beside_the_champions(tmp_path: Path) -> None:
    orders, out = write(tmp_path / "orders.csv", weekly()), tmp_path / "challenger"
    page = tmp_path / "report.html"
    result = run(
        "--orders", str(orders), "--challenger", "sequence", "--challenger-out", str(out),
        "--json", "--report", str(page),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    for task in ("churn_28d", "value_28d"):
        assert {"sequence", "pooled", "champion"} <= found[task].keys()
        assert len({of["n"] for of in found[task].values()}) == 1
    assert "sequence" not in found["next_visit_7d"]
    trainings = found["about"]["challenger"]["trainings"]
    assert len(trainings) >= 1
    for each in trainings:
        assert each["rows"] > 500
        assert {"would_promote", "why", "rows"} == each["sequence"].keys() == each["pooled"].keys()
        assert each["pooled"]["rows"] < max(each["sequence"]["rows"], 1)  # half settles weights
    assert SequenceModel.load(out).description.horizon_days == 28
    assert "sequence" in page.read_text()
