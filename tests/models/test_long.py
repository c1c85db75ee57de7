"""The long horizon: learned from labels of less than a year too, and of a law that is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artifact import load_artifact
from models.baselines.metrics import bias, normalised_gini
from models.champion import LONG, LONG_FILE, Champion
from models.curve import until_left
from models.everyone import EveryoneScorer
from models.interval import between
from models.long import LONG_DAYS, UNSEEN, LongHorizon
from models.manifest import Eligibility
from models.registry import ExplainingScorer
from models.season import SEASON_FEATURE, Season
from models.training.dataset import Dataset
from models.training.export import export_long
from models.training.long_fit import LongFit, fit_long, is_long, long_label, seen_days
from models.training.train import Summary, train
from schemas.features import FEATURE_NAMES
from tests.models.synthetic import DAY_MS
from tests.models.test_curve import AGE, ORDERS, SILENCE, VALUE

N = 6_000
LEAVING = 0.002
HORIZON_DAYS = 28


def shop(labels: tuple[int, ...], n: int = N, seed: int = 1) -> Dataset:
    """Customers who order at a pace of their own until they leave, each at some time; what is known
    of what they spent within so many days, and within a year as `spend`."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(30.0, 600.0, n)
    pace, life = rng.gamma(1.5, 1.0 / 40.0, n), rng.exponential(1.0 / LEAVING, n)
    worth = rng.lognormal(3.5, 0.5, n)
    x = np.full((n, len(FEATURE_NAMES)), np.nan, np.float32)
    before = rng.poisson(pace * np.minimum(age, life))
    last = np.minimum(age, life) * rng.beta(np.maximum(before, 1), 1.0)  # the latest of so many
    x[:, ORDERS], x[:, AGE] = 1 + before, age
    x[:, SILENCE] = np.where(before > 0, age - last, age)
    x[:, VALUE] = worth * rng.lognormal(0.0, 0.4 / np.sqrt(1.0 + before), n)
    x[:, SEASON_FEATURE] = rng.uniform(0.0, 365.0, n)
    days = sorted({HORIZON_DAYS, LONG_DAYS, *labels})
    orders, spend, done = np.zeros(n), {}, 0.0
    for until in days:
        there = np.clip(life - age, 0.0, until) - np.clip(life - age, 0.0, done)
        orders, done = orders + rng.poisson(pace * there), until
        spend[until] = (orders * worth * rng.lognormal(0.0, 0.1, n)).astype(np.float32)
    more = {long_label(within): spend[within] for within in labels}
    bought = (rng.random(n) < 0.4).astype(np.float32)
    more |= {"p_buy_7d": bought, "p_buy_30d": bought}
    return Dataset(
        x, spend[HORIZON_DAYS] == 0, spend[LONG_DAYS],
        1_700_000_000_000 + rng.integers(0, 40, n) * 7 * DAY_MS, rng.permutation(n), more,
    )  # fmt: skip


def trained(data: Dataset, root: Path, kept: Champion | None = None) -> tuple[Summary, Champion]:
    data = replace(data, spend=np.where(data.churned, 0.0, data.spend).astype(np.float32))
    summary = train(
        data, root=root, date="2026-11-30", horizon_days=HORIZON_DAYS,
        eligibility=Eligibility(2, 90), source="a law", threads=1, keep_long=kept,
    )  # fmt: skip
    return summary, load_artifact(summary.path)


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Champion:
    return trained(shop((365, 182, 91)), tmp_path_factory.mktemp("long"))[1]


def judged(fit: LongFit, seed: int = 9) -> tuple[float, float, float]:
    """Bias, Gini and coverage over a year of customers whom the fit has not seen."""
    test = shop((), seed=seed)
    assert fit.horizon is not None
    idle, value = fit.within(test.x[:], LONG_DAYS)
    truth = test.spend.astype(np.float64)
    low, high = fit.horizon.of(idle, value, test.x[:])
    inside = float(((truth >= low) & (truth <= high)).mean())
    return bias(truth, value), normalised_gini(truth, value), inside


@pytest.mark.parametrize(
    ("labels", "off", "most"), [((365, 182, 91), 0.05, 0.82), ((160, 80, 40), 0.15, 0.90)]
)
def test_a_year_comes_out_as_expected_also_where_none_was_seen(
    labels: tuple[int, ...], off: float, most: float
) -> None:
    fit = fit_long(shop(labels), None)
    ratio, gini, inside = judged(fit)
    assert ratio == pytest.approx(1.0, abs=off)
    assert gini > 0.6
    assert 0.77 < inside < most  # wider where a year was not seen
    assert fit.horizon is not None
    assert fit.horizon.seen_days == labels[0]
    assert fit.value is not None
    assert fit.value.leaving == pytest.approx(LEAVING, rel=0.5)


def test_an_interval_widens_with_what_was_not_seen_and_narrows_with_orders() -> None:
    x = np.full((3, len(FEATURE_NAMES)), np.nan, np.float32)
    x[:, ORDERS] = [1, 9, np.nan]  # nothing known counts as one
    seen = LongHorizon(365, 0.2, 0.5, 0.1, UNSEEN, 0.8)
    p, value = np.full(3, 0.01), np.full(3, 100.0)
    low, high = seen.of(p, value, x)
    assert low[0] < low[1] < 100.0 < high[1] < high[0]
    assert (low[2], high[2]) == (low[0], high[0])
    wide = LongHorizon(180, 0.2, 0.5, 0.1, UNSEEN, 0.8)
    assert (wide.of(p, value, x)[1] > high).all()
    assert (wide.of(p, value, x, 90.0)[1] < high).all()  # less time, and all of it seen
    variance = 0.2 + 0.5 / 9 + 0.1 + UNSEEN * (1 - 180 / 365)
    known = between(p, value, np.sqrt(np.full(3, variance)), 0.8)
    assert wide.of(p, value, x)[0][1] == pytest.approx(known[0][1])


def test_the_file_computes_what_the_curves_say(champion: Champion) -> None:
    """Also in a shop with a season, and with the same bits at every position of a batch."""
    assert champion.has_long
    x = shop((), 3_000, 5).x[:]
    idle, value = champion.long(x)
    order = np.random.default_rng(0).permutation(len(x))
    for ours, moved in zip((idle, value), champion.long(x[order]), strict=True):
        assert np.array_equal(ours[order], moved)
    assert ((idle > 0) & (idle < 1) & (value > 0)).all()
    level = 1.0 + 0.5 * np.sin(np.arange(52) / 52 * 2 * np.pi)
    season = Season(tuple((level / level.mean()).tolist()))
    for clock in (None, season):
        fit = fit_long(shop((365, 182, 91)), clock)
        assert fit.idle is not None
        assert fit.value is not None
        session = Champion(champion.trained, {**champion.files, LONG_FILE: export_long(
            fit.idle, fit.value, len(FEATURE_NAMES))})  # fmt: skip
        for got, wanted in zip(session.long(x), fit.within(x, LONG_DAYS), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_everybody_with_an_order_has_a_value_and_visitors_have_none(champion: Champion) -> None:
    scorer = ExplainingScorer(champion, "USD")
    x = shop((), 400, 6).x[:]
    x[:50, ORDERS] = 1
    x[50:60, ORDERS] = 0
    found = scorer.long_value(x)
    assert scorer.long_seen_days == 365
    for values in (found.value, found.low, found.high):
        assert np.isnan(values[50:60]).all()
        assert values.dtype == np.float32
        assert np.isfinite(np.delete(values, np.arange(50, 60))).all()
    known = ~np.isnan(found.value)
    assert (found.low[known] <= found.high[known]).all()
    assert {"p_idle_365d", "value_365d"} == {*LONG}


def test_a_history_without_such_labels_has_no_value_and_says_why(tmp_path: Path) -> None:
    summary, champion = trained(shop((), 2_000), tmp_path)
    assert not champion.has_long
    assert "178 days" in summary.long
    assert champion.manifest.training["no_value_365d"] == summary.long
    assert summary.long in (tmp_path / champion.version / "MODEL_CARD.md").read_text()
    scorer = EveryoneScorer(champion)
    assert scorer.long_seen_days == 0
    assert np.isnan(scorer.long_value(shop((), 10).x[:]).value).all()


def test_a_challenger_without_such_labels_takes_over_the_champions(
    champion: Champion, tmp_path: Path
) -> None:
    """So what is trained on live examples, which know one horizon, does not lose it."""
    summary, challenger = trained(shop((), 2_000, 3), tmp_path, champion)
    assert challenger.has_long
    assert champion.version in summary.long
    x = shop((), 300, 8).x[:]
    for ours, theirs in zip(challenger.long(x), champion.long(x), strict=True):
        assert np.array_equal(ours, theirs)
    assert challenger.manifest.long_horizon == champion.manifest.long_horizon
    again = trained(shop((), 2_000, 4), tmp_path, challenger)[1]
    assert again.manifest.training["value_365d_of"] == challenger.version
    newer = trained(shop((160, 80, 40), 2_000, 4), tmp_path, challenger)[1]
    assert newer.manifest.long_horizon is not None
    assert newer.manifest.long_horizon.seen_days == 160


def test_few_customers_are_told_from_none() -> None:
    few = fit_long(shop((365, 182, 91), 60), None)
    assert "100 are needed" in few.trouble
    short = fit_long(shop((60, 30, 15)), None)
    assert "75 days" in short.trouble
    with pytest.raises(ValueError, match="75 days"):
        short.within(shop((), 5).x[:], LONG_DAYS)


def test_labels_reach_as_far_as_half_of_the_history() -> None:
    days = [seen_days(0, d * DAY_MS) for d in (177, 178, 400, 758, 3_000)]
    assert days == [(), (75, 37, 18), (186, 93, 46), (365, 182, 91), (365, 182, 91)]
    assert is_long(long_label(91))
    assert not is_long("p_buy_7d")


def test_a_law_without_leaving_is_the_short_one() -> None:
    assert until_left(365.0, 0.0) == 365.0
    assert float(until_left(365.0, 0.01)) == pytest.approx((1 - np.exp(-3.65)) / 0.01)
