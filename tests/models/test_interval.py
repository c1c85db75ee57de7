"""The 80 % interval of spend holds the truth as often as it says, where its law is the true one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.interval import COVERAGE, SPREAD_AT, SpendInterval
from models.training.interval_fit import coverage, fit_interval

N = 40_000
Floats = NDArray[np.float64]


def drawn(seed: int, spread: float = 0.9, highest: float = 0.7) -> tuple[Floats, Floats, Floats]:
    """p_churn, expected spend, and what was spent, by the law."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.0, highest, N)
    mean = rng.lognormal(4.0, 1.0, N)
    spent = mean * np.exp(spread * rng.standard_normal(N) - spread**2 / 2.0)
    return p, (1.0 - p) * mean, np.where(rng.random(N) < p, 0.0, spent)


@pytest.mark.parametrize("spread", [0.3, 0.9, 1.5])
def test_it_holds_the_truth_of_other_customers(spread: float) -> None:
    found = fit_interval(*drawn(1, spread))
    assert found is not None
    np.testing.assert_allclose(found.spread, spread, rtol=0.15)
    p, expected, spend = drawn(2, spread)
    assert abs(coverage(found, p, expected, spend) - COVERAGE) < 0.01
    for low, high in ((0.0, 0.1), (0.3, 0.5)):  # here also for each group
        at = (p >= low) & (p < high)
        assert abs(coverage(found, p[at], expected[at], spend[at]) - COVERAGE) < 0.04


def test_a_wrong_spread_of_the_law_is_made_up_for_by_the_level() -> None:
    """The truth has heavier tails than the law."""
    rng = np.random.default_rng(3)
    p, expected, _ = drawn(3)
    heavy = np.exp(0.5 * rng.standard_t(2.5, N))
    spend = np.where(rng.random(N) < p, 0.0, expected / (1.0 - p) * heavy / heavy.mean())
    half = N // 2
    found = fit_interval(p[:half], expected[:half], spend[:half])
    assert found is not None
    assert abs(coverage(found, p[half:], expected[half:], spend[half:]) - COVERAGE) < 0.015


LAW = SpendInterval([1.0] * len(SPREAD_AT), 0.8)


@given(
    st.floats(0.0, 1.0, width=32), st.floats(0.0, 2.0**40, width=32), st.floats(0.3, 0.9999),
    st.floats(0.0, 5.0),
)  # fmt: skip
def test_ends_are_amounts_in_order_for_any_scores(
    p: float, spend: float, level: float, spread: float
) -> None:
    low, high = SpendInterval([spread] * len(SPREAD_AT), level).of(
        np.array([p], np.float32), np.array([spend], np.float32)
    )
    assert np.isfinite([low[0], high[0]]).all()
    assert 0.0 <= low[0] <= high[0]


def test_who_surely_orders_nothing_spends_nothing_and_who_has_no_score_no_interval() -> None:
    p, spend = np.array([0.95, np.nan, 0.0]), np.array([1.0, 5.0, np.nan])
    low, high = LAW.of(p, spend)
    assert (low[0], high[0]) == (0.0, 0.0)
    assert np.isnan(low[1:]).all()
    assert np.isnan(high[1:]).all()


def test_too_few_that_spent_make_no_interval() -> None:
    p, expected, spend = drawn(4)
    spend[20:] = 0.0
    assert fit_interval(p, expected, spend) is None
