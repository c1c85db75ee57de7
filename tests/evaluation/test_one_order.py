"""Customers with one order are measured apart, on rows and scores of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from schemas.features import FEATURE_NAMES
from streams.core.features import DAY_MS
from streams.evaluation.measure import (
    METHODS,
    everybody,
    few_tasks,
    figures,
    one_order_about,
    tasks,
)
from streams.evaluation.protocol import Labels, Protocol
from streams.evaluation.rows import CutRows
from tests.evaluation.conftest import run
from tests.evaluation.shops import wholesale, write

CUTS = [day * DAY_MS for day in (200, 207, 214)]
PROTOCOL = Protocol(28, 2, 84, CUTS, CUTS[0], CUTS[0] + 40 * DAY_MS)


def rows(cut_ms: int, k: int, first_user: int, *, scored: bool = True) -> CutRows:
    rng = np.random.default_rng(first_user)
    happened = rng.random((4, k)) < 0.5
    truth = Labels(happened[0], happened[1], rng.gamma(2.0, 9.0, k), happened[2], happened[3])
    made = CutRows(
        cut_ms,
        np.arange(first_user, first_user + k),
        np.zeros((k, len(FEATURE_NAMES)), np.float32),
        truth,
    )
    if scored:
        names = {
            f"{m}/{task}" for task, methods in METHODS.items() for m in methods if m != "blend"
        }
        for name in {*names, "blend/churn"}:
            made.scores[name] = rng.random(k)
    return made


def test_figures_of_all_are_those_of_both_groups_together() -> None:
    customers = [rows(cut, 30, 0) for cut in CUTS]
    few = [rows(CUTS[0], 8, 100, scored=False), rows(CUTS[1], 9, 200), rows(CUTS[2], 0, 300)]
    apart, one, both = (
        figures(found)
        for found in (
            tasks(customers, PROTOCOL),
            few_tasks(few, PROTOCOL),
            everybody(customers, few, PROTOCOL),
        )
    )
    tested = len(PROTOCOL.test_cuts)
    assert apart["churn_28d"]["blend"]["n"] == 30 * tested
    assert one["churn_28d"]["blend"]["n"] == 9
    assert both["churn_28d"]["bgnbd"]["n"] == 30 * tested + 9
    assert one.keys() == both.keys() == apart.keys() - {"partial_28d"}
    assert one_order_about(few, PROTOCOL) == {"rows": 17, "rows_unknown": 8, "why": ""}


@pytest.mark.parametrize(
    ("few", "why"),
    [([], "nobody with one order"), ([rows(CUTS[0], 5, 1, scored=False)], "too few had matured")],
)
def test_nothing_to_measure_is_said(few: list[CutRows], why: str) -> None:
    assert few_tasks(few, PROTOCOL) == {}
    assert why in one_order_about(few, PROTOCOL)["why"]


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_command_measures_customers_with_one_order(tmp_path: Path) -> None:
    orders = write(tmp_path / "orders.csv", wholesale(users=2_000, seed=77))
    page = tmp_path / "report.html"
    result = run("--orders", str(orders), "--horizon", "60d", "--json", "--report", str(page))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    one, about = found["one_order"], found["about"]["one_order"]
    assert one["churn_60d"]["blend"]["n"] == about["rows"] - about["rows_unknown"] > 500
    assert one["churn_60d"]["blend"]["log_loss"] < one["churn_60d"]["bgnbd"]["log_loss"] + 0.02
    assert one["churn_60d"]["blend"]["ece"] < 0.1
    assert "<h2>Customers with one order</h2>" in page.read_text()
