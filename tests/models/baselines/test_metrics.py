"""Each metric equals its definition, computed the slow way, ties included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.baselines import metrics

cases = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40)


def arrays(case: list[tuple[bool, int]]) -> tuple[metrics.Bools, metrics.Floats]:
    return np.array([y for y, _ in case]), np.array([p / 6 for _, p in case])


@given(cases)
def test_auc_counts_pairs(case: list[tuple[bool, int]]) -> None:
    y, p = arrays(case)
    pairs = [(a > b) + (a == b) / 2 for a in p[y] for b in p[~y]]
    if pairs:
        assert metrics.auc(y, p) == pytest.approx(np.mean(pairs))
    else:
        assert math.isnan(metrics.auc(y, p))


@given(cases)
def test_average_precision_sums_over_thresholds(case: list[tuple[bool, int]]) -> None:
    y, p = arrays(case)
    if not y.any():
        assert math.isnan(metrics.average_precision(y, p))
        return
    total = recall = 0.0
    for threshold in sorted(set(p.tolist()), reverse=True):
        chosen = p >= threshold
        now = y[chosen].sum() / y.sum()
        total += (now - recall) * y[chosen].mean()
        recall = now
    assert metrics.average_precision(y, p) == pytest.approx(total)


@given(cases)
def test_spearman_is_the_correlation_of_ranks(case: list[tuple[bool, int]]) -> None:
    p = np.array([float(v) for _, v in case])
    y = np.array([float(v) + b for b, v in case])[::-1].copy()
    if len(set(p)) > 1 and len(set(y)) > 1:
        expected = np.corrcoef(metrics.ranks(p), metrics.ranks(y))[0, 1]
        assert metrics.spearman(y, p) == pytest.approx(expected)


def test_a_constant_prediction_ranks_nothing() -> None:
    y = np.array([0.0, 1.0, 5.0])
    assert math.isnan(metrics.spearman(y, np.ones(3)))
    assert metrics.normalised_gini(y, np.ones(3)) == 0.0


def test_gini_is_1_for_the_right_order_and_minus_1_for_the_opposite() -> None:
    y = np.array([0.0, 0.0, 3.0, 8.0])
    assert metrics.normalised_gini(y, y * 2) == pytest.approx(1.0)
    assert metrics.normalised_gini(y, -y) == pytest.approx(-1.0)


def test_calibration_error_sees_each_tenth() -> None:
    p = np.repeat(np.linspace(0.05, 0.95, 10), 100)
    y = np.concatenate([np.arange(100) < round(100 * v) for v in np.linspace(0.05, 0.95, 10)])
    assert metrics.expected_calibration_error(y, p) == pytest.approx(0.0, abs=1e-9)
    assert metrics.expected_calibration_error(y, p / 2) == pytest.approx(0.25)


def test_certainty_that_is_wrong_costs_a_finite_loss() -> None:
    assert metrics.log_loss(np.array([True]), np.array([0.0])) == pytest.approx(-math.log(1e-6))


def test_no_spend_at_all_has_no_bias() -> None:
    assert math.isnan(metrics.bias(np.zeros(2), np.ones(2)))
    assert math.isnan(metrics.normalised_gini(np.zeros(2), np.ones(2)))


def test_bias_is_the_ratio_of_the_sums() -> None:
    assert metrics.bias(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == pytest.approx(1.25)


@given(cases)
def test_lift_of_everybody_is_1(case: list[tuple[bool, int]]) -> None:
    y, p = arrays(case)
    if y.any():
        assert metrics.lift(y, p, 1.0) == pytest.approx(1.0)


def test_lift_shares_a_tie_at_the_border() -> None:
    y = np.array([True, True, False, False])
    assert metrics.lift(y, np.ones(4), 0.25) == pytest.approx(1.0)


def test_decile_mape_sees_every_tenth() -> None:
    predicted = np.arange(1.0, 101.0)
    assert metrics.decile_mape(predicted, predicted) == pytest.approx(0.0)
    assert metrics.decile_mape(predicted * 2, predicted) == pytest.approx(0.5)


def test_without_rows_no_metric_has_a_value() -> None:
    none, bools = np.zeros(0), np.zeros(0, np.bool_)
    for metric in (metrics.auc, metrics.average_precision, metrics.lift, metrics.log_loss,
                   metrics.brier, metrics.expected_calibration_error):  # fmt: skip
        assert math.isnan(metric(bools, none)), metric
