"""BG/NBD and Gamma-Gamma against what has been published about CDNOW, and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baselines.btyd import BgNbd, GammaGamma, Summary, fit_bg_nbd, fit_gamma_gamma

CDNOW = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426)  # Fader, Hardie & Lee 2005, table 2 (weeks)
CDNOW_VALUE = GammaGamma(p=6.25, q=3.74, v=15.44)  # Fader & Hardie 2013, section 3


def one(*values: float) -> np.ndarray:
    return np.array(values)


def test_expected_purchases_are_those_of_the_paper() -> None:
    # Fader, Hardie & Lee 2005, section 4: 1.226 for the customer with x = 2, t_x = 30.43, T = 38.86
    found = CDNOW.expected_purchases(one(2.0), one(30.43), one(38.86), 39.0)
    assert found[0] == pytest.approx(1.226, abs=2e-3)


def test_the_closed_form_gives_the_same() -> None:
    from scipy.special import hyp2f1  # noqa: PLC0415

    x, recency, age, t = one(1.0, 5.0, 12.0), one(3.0, 20.0, 38.0), one(30.0, 30.0, 39.0), 26.0
    r, alpha, a, b = CDNOW.r, CDNOW.alpha, CDNOW.a, CDNOW.b
    f = hyp2f1(r + x, b + x, a + b + x - 1.0, t / (alpha + age + t))
    grown = 1.0 - ((alpha + age) / (alpha + age + t)) ** (r + x) * f
    expected = (a + b + x - 1.0) / (a - 1.0) * grown * CDNOW.p_alive(x, recency, age)

    assert CDNOW.expected_purchases(x, recency, age, t) == pytest.approx(expected, rel=1e-6)


def test_a_one_time_buyer_is_alive_for_certain_and_still_at_risk() -> None:
    x, recency, age = one(0.0), one(0.0), one(38.86)

    assert CDNOW.p_alive(x, recency, age)[0] == 1.0
    assert CDNOW.p_no_purchase(x, recency, age, 39.0)[0] > 0.8


def test_the_conditional_mean_value_is_that_of_the_note() -> None:
    # Fader & Hardie 2013: population mean v p / (q - 1); a customer's own mean pulls from there
    mean = CDNOW_VALUE.v * CDNOW_VALUE.p / (CDNOW_VALUE.q - 1.0)

    assert mean == pytest.approx(35.2, abs=0.1)
    assert CDNOW_VALUE.mean_value(one(0.0), one(0.0))[0] == pytest.approx(mean)
    near = CDNOW_VALUE.mean_value(one(100.0), one(80.0))[0]
    assert near == pytest.approx(80.0, rel=0.01)


def simulate(model: BgNbd, n: int, until: float, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Purchase times of n customers, the first one at a random time before until / 3."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(model.r, 1.0 / model.alpha, n)
    leave = rng.beta(model.a, model.b, n)
    start = rng.uniform(0.0, until / 3.0, n)
    histories = []
    for i in range(n):
        times = [start[i]]
        while True:
            times.append(times[-1] + rng.exponential(1.0 / max(rate[i], 1e-12)))
            if times[-1] > until:
                times.pop()
                break
            if rng.random() < leave[i]:
                break
        histories.append(np.array(times))
    return histories, start


def test_fitted_to_its_own_simulation_it_predicts_the_quiet() -> None:
    truth = BgNbd(r=0.8, alpha=6.0, a=0.9, b=2.5)
    cut, horizon = 60.0, 20.0
    histories, start = simulate(truth, 6_000, cut + horizon, seed=3)
    known = [times[times <= cut] for times in histories]
    summary = Summary(
        np.array([len(t) - 1.0 for t in known]),
        np.array([t[-1] - t[0] for t in known]),
        cut - start,
        np.ones(len(known)),
    )
    quiet = np.array([not (t > cut).any() for t in histories])
    later = np.array([(t > cut).sum() for t in histories])

    fitted = fit_bg_nbd(summary)
    p = fitted.p_no_purchase(*summary[:3], horizon)
    assert fitted.r == pytest.approx(truth.r, rel=0.15)
    assert fitted.alpha == pytest.approx(truth.alpha, rel=0.2)
    assert p.mean() == pytest.approx(quiet.mean(), abs=0.02)
    sure = p > np.quantile(p, 0.8)
    assert p[sure].mean() == pytest.approx(quiet[sure].mean(), abs=0.03)
    purchases = fitted.expected_purchases(*summary[:3], horizon)
    assert purchases.sum() == pytest.approx(later.sum(), rel=0.08)


def test_the_unit_of_time_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    x = rng.poisson(2.0, 500).astype(float)
    age = rng.uniform(10.0, 60.0, 500)
    weeks = Summary(x, np.where(x > 0, age * rng.random(500), 0.0), age, x)
    days = Summary(x, weeks.recency * 7.0, weeks.age * 7.0, x)
    a, b = fit_bg_nbd(weeks), fit_bg_nbd(days)

    found = a.p_no_purchase(*weeks[:3], 4.0)
    assert found == pytest.approx(b.p_no_purchase(*days[:3], 28.0), abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.05, 5), st.floats(0.1, 500), st.floats(1e-5, 20), st.floats(0.05, 1e5),
    st.integers(0, 400), st.floats(0.0, 1.0), st.floats(0.1, 3_000), st.floats(0.1, 365),
)  # fmt: skip
def test_probabilities_stay_probabilities(
    r: float, alpha: float, a: float, b: float, x: int, part: float, age: float, horizon: float
) -> None:
    model = BgNbd(r, alpha, a, b)
    orders_of_one = one(float(x)), one(part * age if x else 0.0), one(age)
    short, long = (model.p_no_purchase(*orders_of_one, h)[0] for h in (horizon, 2 * horizon))

    assert 0.0 <= long <= short <= 1.0
    assert 0.0 <= model.expected_purchases(*orders_of_one, horizon)[0] < np.inf
    # customers who left stay quiet
    assert short >= 1.0 - model.p_alive(*orders_of_one)[0] - 1e-9


def test_quantiles_give_the_mean_where_the_polynomials_would_overflow() -> None:
    x, recency, age = one(3.0), one(20.0), one(40.0)
    below = BgNbd(2.0, 8.0, 0.9, 296.5).expected_purchases(x, recency, age, 30.0)
    above = BgNbd(2.0, 8.0, 0.9, 297.5).expected_purchases(x, recency, age, 30.0)
    assert above == pytest.approx(below, rel=2e-3)


def test_gamma_gamma_finds_its_own_parameters() -> None:
    rng = np.random.default_rng(1)
    p, q, v = 4.0, 3.5, 30.0
    x = rng.integers(1, 12, 8_000).astype(float)
    nu = rng.gamma(q, 1.0 / v, len(x))
    value = rng.gamma(p * x, 1.0 / (nu * x))
    fitted = fit_gamma_gamma(Summary(x, x, x, value))

    assert fitted is not None
    # p and v trade off against each other; q, the population mean and the likelihood don't
    assert fitted.q == pytest.approx(q, rel=0.1)
    assert fitted.v * fitted.p / (fitted.q - 1.0) == pytest.approx(v * p / (q - 1.0), rel=0.05)
    truth = GammaGamma(p, q, v).log_likelihood(x, value).sum()
    assert truth < fitted.log_likelihood(x, value).sum() < truth + 12.0


def test_without_repeat_purchases_there_is_no_value_model() -> None:
    none = np.zeros(5)
    assert fit_gamma_gamma(Summary(none, none, none, none)) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3.0, 3.0), min_size=4, max_size=4), st.integers(0, 2**32))
def test_slopes_are_those_of_the_likelihood(logs: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.poisson(1.5, 40).astype(float)
    age = rng.uniform(1.0, 60.0, 40)
    recency = np.where(x > 0, age * rng.random(40), 0.0)
    value = rng.gamma(3.0, 5.0, 40)
    for model, data, at in (
        (BgNbd, (x, recency, age), np.array(logs)),
        (GammaGamma, (x + 1.0, value), np.array(logs[:3])),
    ):
        slopes = model(*np.exp(at)).log_likelihood_slopes(*data)
        for i, slope in enumerate(slopes):
            step = 1e-5 * (np.arange(len(at)) == i)
            up, down = (model(*np.exp(at + s)).log_likelihood(*data) for s in (step, -step))
            assert slope == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-4)
