"""The curve that heads start from: the same in numpy and in the graph, for any input and batch."""

from __future__ import annotations

from collections.abc import Callable

import lightgbm
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from models.baselines.btyd import BgNbd
from models.champion import CURVE as CHURN_CURVE
from models.champion import CURVE_FILE, INPUT
from models.curve import BASE_FEATURES, Curve, EventBase, SpendBase
from models.training import curve_fit
from models.training.curve_fit import fit_event_base, fit_lasting_base, fit_spend_base
from models.training.export import Head, export_files, export_graph
from schemas.features import FEATURE_NAMES

Floats = NDArray[np.float64]
F = len(FEATURE_NAMES)
ORDERS, AGE, SILENCE = BASE_FEATURES
VALUE = FEATURE_NAMES.index("mean_order_value")
CURVE = Curve(r=0.7, alpha=20.0, a=0.8, b=2.5)
CHURN = EventBase(CURVE, 28.0, 1.1, -0.2)
BUY = EventBase(CURVE, 7.0, -0.9, 0.3)
SPEND = SpendBase(CURVE, 28.0, weight=1.5, value=40.0, intercept=0.1)


def customers(n: int, seed: int = 0) -> NDArray[np.float32]:
    """float32 [n, F]: orders, age, silence and order value; the rest unknown."""
    rng = np.random.default_rng(seed)
    x = np.full((n, F), np.nan, np.float32)
    x[:, ORDERS] = 2 + rng.poisson(rng.gamma(0.7, 8.0, n))
    x[:, AGE] = rng.uniform(1.0, 700.0, n)
    x[:, SILENCE] = x[:, AGE] * rng.beta(0.5, 2.0, n)
    x[:, VALUE] = rng.lognormal(3.0, 1.0, n)
    return x


def few_trees(x: NDArray[np.float32]) -> lightgbm.Booster:
    """Five, of who was silent for long."""
    y = (np.nan_to_num(x[:, SILENCE]) > 60).astype(np.float32)
    return lightgbm.train(
        {"objective": "binary", "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5},
        lightgbm.Dataset(x, label=y), 5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def heads() -> dict[str, Head]:
    booster = few_trees(customers(400))
    return {
        "p_churn": Head(booster, "sigmoid", 0.4, 0.1, CHURN),
        "spend": Head(booster, "exp", 0.3, -0.2, SPEND),
        "p_buy_7d": Head(booster, "sigmoid", 0.4, 0.0, BUY),
    }


@pytest.fixture(scope="module")
def graph(heads: dict[str, Head]) -> bytes:
    return export_graph(heads, F)


def run(model: bytes, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: x}), strict=True))


def odd() -> NDArray[np.float32]:
    """What no customer looks like, but a row might."""
    x = np.full((8, F), np.nan, np.float32)
    x[1] = 0.0
    x[2], x[3], x[4] = np.inf, -np.inf, 3e38
    x[5:, ORDERS], x[5:, AGE], x[5:, VALUE] = 1e6, 5.0, 0.0
    x[5, SILENCE], x[6, SILENCE], x[7, SILENCE] = 1e5, -3.0, 4.999
    return x


def test_the_graph_computes_what_the_heads_do(graph: bytes, heads: dict[str, Head]) -> None:
    x = np.concatenate([customers(3_000, 1), odd()])
    predicted = run(graph, x)
    for name, head in heads.items():
        want = head.predict(x)
        assert np.isfinite(predicted[name]).all(), name
        assert (np.abs(predicted[name] - want) / np.maximum(1.0, np.abs(want))).max() < 1e-5, name


def test_a_row_has_the_same_bits_in_every_batch(graph: bytes) -> None:
    x = np.concatenate([customers(501, 2), odd()])
    whole = run(graph, x)
    for size in (1, 2, 3, 7, 8, 33, 200):
        for start in (0, 1, 5, 309 - 2 * size % 8):
            part = run(graph, x[start : start + size].copy())
            for name, values in part.items():
                assert values.tobytes() == whole[name][start : start + size].tobytes()


def test_the_curve_of_churn_is_a_separate_file(heads: dict[str, Head]) -> None:
    x = customers(50, 3)
    scores = {name: heads[name] for name in ("p_churn", "spend")}
    curve = run(export_files(scores, F)[CURVE_FILE], x)
    assert list(curve) == [CHURN_CURVE]
    assert -np.log(curve[CHURN_CURVE]) == pytest.approx(CHURN.log_odds(x), abs=1e-5)


def test_it_is_bg_nbds_chance_of_no_purchase() -> None:
    x = customers(500, 4)
    model = BgNbd(CURVE.r, CURVE.alpha, CURVE.a, CURVE.b)
    age, silence = x[:, AGE].astype(np.float64), x[:, SILENCE].astype(np.float64)
    repeats = x[:, ORDERS].astype(np.float64) - 1.0
    p = model.p_no_purchase(repeats, age - silence, age, 28.0)
    odds = EventBase(CURVE, 28.0, 1.0, 0.0).log_odds(x)
    assert 1.0 / (1.0 + np.exp(-odds)) == pytest.approx(p, rel=1e-6)


def test_its_parameters_are_found_again() -> None:
    """On labels drawn from a curve, the fit costs as little as the curve itself."""
    x = customers(8_000, 5)
    truth = 1.0 / (1.0 + np.exp(-CHURN.log_odds(x)))
    churned = np.random.default_rng(6).random(len(x)) < truth
    found = fit_event_base(x, churned, 28.0, order=False)
    predicted = 1.0 / (1.0 + np.exp(-found.log_odds(x)))
    assert np.abs(predicted - truth).mean() < 0.02
    buys = fit_event_base(x, ~churned, 28.0, order=True)
    assert buys.slope < 0.0
    assert 1.0 / (1.0 + np.exp(buys.log_odds(x))) == pytest.approx(predicted, abs=0.02)


def test_expected_spend_is_a_mean() -> None:
    x = customers(8_000, 7)
    rng = np.random.default_rng(8)
    spend = np.exp(SPEND.log_mean(x)) * rng.gamma(0.3, 1.0 / 0.3, len(x))
    found = fit_spend_base(x, spend, 28.0)
    predicted = np.exp(found.log_mean(x))
    assert predicted.sum() == pytest.approx(spend.sum(), rel=0.02)
    assert np.corrcoef(np.log(predicted), SPEND.log_mean(x))[0, 1] > 0.98


@pytest.mark.parametrize("which", ["churn", "order", "spend", "year"])
def test_the_slopes_that_a_fit_follows_are_those_of_its_loss(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start and around it, against differences; also where an input is at its bound."""
    losses: list[tuple[Callable[[Floats], tuple[float, Floats]], Floats]] = []

    def look(
        loss: Callable[[Floats], tuple[float, Floats]], start: Floats, _others: object
    ) -> Floats:
        losses.append((loss, start))
        return start.copy()

    monkeypatch.setattr(curve_fit, "_least", look)
    x, rng = customers(3_000, seed=4), np.random.default_rng(9)
    x[:50, SILENCE] = x[:50, AGE]  # those are the dead beyond counting
    bought = rng.random(len(x)) < 0.4
    if which == "spend":
        fit_spend_base(x, bought * rng.lognormal(3.0, 1.0, len(x)), 28.0)
    elif which == "year":
        within = rng.choice([60.0, 120.0, 240.0], len(x))
        fit_lasting_base(x, bought * rng.lognormal(3.0, 1.0, len(x)), within, 365.0)
    else:
        fit_event_base(x, bought, 28.0, order=which == "order")
    ((loss, start),) = losses
    for step in (0.0, 0.3, 0.6, 0.9):
        p = start + step * rng.normal(size=len(start))
        slopes = loss(p)[1]
        h = 1e-6
        differences = [(loss(p + e)[0] - loss(p - e)[0]) / (2 * h) for e in h * np.eye(len(p))]
        assert slopes == pytest.approx(np.array(differences), rel=1e-4, abs=1e-6)
