"""The learner's model: a filter that finds the weights, forgets, and goes on where it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.dynamic import (
    FEATURE_VARIANCE,
    FORGETTING,
    INTERCEPT_VARIANCE,
    LOGIT,
    LOGIT_VARIANCE,
    DynamicLogisticRegression,
)

NAMES = ("a", "b", "c")
Rows = list[tuple[dict[str, float], bool]]


def rows(n: int, weights: NDArray[np.float64], seed: int = 0) -> Rows:
    """Labels of a logistic law: intercept, deviation of the logit's slope, and three weights."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        numbers = rng.normal(size=4)
        z = numbers[0] + weights @ np.array([1.0, *numbers])
        x = dict(zip((LOGIT, *NAMES), numbers.tolist(), strict=True))
        made.append((x, bool(rng.random() < 1 / (1 + math.exp(-z)))))
    return made


def learned(
    made: Rows, model: DynamicLogisticRegression | None = None
) -> DynamicLogisticRegression:
    model = model or DynamicLogisticRegression(NAMES)
    for x, y in made:
        model.learn_one(x, y)
    return model


def posterior(made: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mode and curvature of the exact posterior, by Newton's method."""
    a = np.array([[1.0, *x.values()] for x, _ in made])
    y = np.array([y for _, y in made], np.float64)
    prior = np.diag(1 / np.array([INTERCEPT_VARIANCE, LOGIT_VARIANCE, *[FEATURE_VARIANCE] * 3]))
    w = np.zeros(5)
    for _ in range(50):
        p = 1 / (1 + np.exp(-(a[:, 1] + a @ w)))
        hessian = (a * (p * (1 - p))[:, None]).T @ a + prior
        w += np.linalg.solve(hessian, a.T @ (y - p) - prior @ w)
    return w, np.linalg.inv(hessian)


def test_before_the_first_label_it_says_what_it_is_given() -> None:
    for logit in (-800.0, -3.0, 0.0, 2.0, 800.0):
        x = {LOGIT: logit, "a": 5.0, "b": -5.0, "c": 1.0}
        p = DynamicLogisticRegression(NAMES).predict_proba_one(x)
        assert p[True] == pytest.approx(1 / (1 + math.exp(-min(max(logit, -700), 700))), abs=1e-15)
        assert p[False] == 1 - p[True]


def test_it_comes_near_the_exact_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for forgetting, and for that each label is approximated once."""
    monkeypatch.setattr("models.dynamic.FORGETTING", 0.0)
    made = rows(3_000, np.array([0.8, -0.4, 0.3, 0.0, -0.2]))
    model = learned(made)
    mode, covariance = posterior(made)
    deviation = np.sqrt(np.diag(covariance))
    assert (np.abs(model.mean - mode) < 0.5 * deviation).all()
    assert np.sqrt(np.diag(model.covariance)) == pytest.approx(deviation, rel=0.05)


def test_what_no_label_tells_anything_about_returns_to_the_prior() -> None:
    model = DynamicLogisticRegression(NAMES)
    model.mean[2], model.covariance[2, 2] = 0.3, FEATURE_VARIANCE / 4
    silent = {LOGIT: 0.0, "a": 0.0, "b": 0.0, "c": 0.0}
    for i in range(3_000):
        model.learn_one(silent, i % 2 == 0)
    assert model.mean[2] == pytest.approx(0.3 * (1 - FORGETTING) ** 3_000)
    missing = 0.75 * FEATURE_VARIANCE * (1 - 2 * FORGETTING) ** 3_000
    assert model.covariance[2, 2] == pytest.approx(FEATURE_VARIANCE - missing)


def test_old_habits_fade() -> None:
    weights = np.array([1.5, 0.0, 0.2, 0.0, 0.0])
    model = learned(rows(20_000, weights))
    assert model.mean[0] == pytest.approx(1.5, abs=0.3)
    learned(rows(20_000, -weights, seed=1), model)
    assert model.mean[0] < -0.3
    learned(rows(40_000, -weights, seed=2), model)
    assert model.mean[0] == pytest.approx(-1.5, abs=0.3)


def test_its_covariance_stays_symmetric_and_positive() -> None:
    """Extreme inputs, all alike: every direction but one is never seen."""
    model = DynamicLogisticRegression(NAMES)
    x = {LOGIT: 14.0, "a": 5.0, "b": -5.0, "c": 5.0}
    for i in range(20_000):
        model.learn_one(x, i % 3 == 0)
    assert model.sound
    assert (model.covariance == model.covariance.T).all()
    assert np.linalg.eigvalsh(model.covariance).min() > 0


def resumed(
    of: DynamicLogisticRegression, names: tuple[str, ...] = NAMES
) -> DynamicLogisticRegression:
    model = DynamicLogisticRegression(names)
    weights = dict(zip((LOGIT, *of.names), of.mean[1:].tolist(), strict=True))
    model.resume(of.names, weights, float(of.mean[0]), of.packed())
    return model


def test_it_goes_on_to_the_bit() -> None:
    made = rows(700, np.array([0.5, 0.1, -0.2, 0.1, 0.0]))
    straight, half = learned(made), resumed(learned(made[:300]))
    learned(made[300:], half)
    assert (half.mean == straight.mean).all()
    assert (half.covariance == straight.covariance).all()


def test_another_release_goes_on_by_name() -> None:
    before = learned(rows(300, np.array([0.5, 0.1, -0.2, 0.1, 0.0])))
    after = resumed(before, ("new", "c", "a"))
    assert after.mean.tolist() == [*before.mean[:2], 0.0, before.mean[4], before.mean[2]]
    of, mine = [0, 1, 4, 2], [0, 1, 3, 4]
    assert (after.covariance[np.ix_(mine, mine)] == before.covariance[np.ix_(of, of)]).all()
    assert after.covariance[2].tolist() == [0.0, 0.0, FEATURE_VARIANCE, 0.0, 0.0]


def test_a_covariance_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="14 numbers are no covariance of 5 weights"):
        DynamicLogisticRegression(NAMES).resume(NAMES, {}, 0.0, bytes(14 * 8))
