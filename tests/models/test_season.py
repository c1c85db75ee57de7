"""A shop's season: found where there is one, not where there is none, the same in the graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact import golden_error, load_artifact
from models.card import model_card
from models.champion import Champion
from models.curve import BASE_FEATURES, EventBase, SpendBase
from models.explain import Explainer
from models.manifest import Eligibility
from models.season import SEASON_FEATURE, Season, estimate_levels
from models.training.dataset import Dataset
from models.training.export import Head, export_graph
from models.training.season_fit import fit_season
from models.training.train import train
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES, YEAR_DAYS
from tests.models.synthetic import DAY_MS
from tests.models.test_curve import CURVE, VALUE, customers, few_trees, odd, run
from tests.models.test_explain import brute_force

F = len(FEATURE_NAMES)
ORDERS, AGE, SILENCE = BASE_FEATURES
MIDDLES = (np.arange(52) + 0.5) / 52 * YEAR_DAYS


def rising(peak_week: float = 46.0, height: float = 1.5) -> Season:
    """A bell of about six weeks, the year closed to a ring."""
    away = (np.arange(52) - peak_week + 26) % 52 - 26
    levels = 1.0 + height * np.exp(-0.5 * (away / 2.5) ** 2)
    return Season(tuple((levels / levels.mean()).tolist()))


def dated(n: int, seed: int) -> NDArray[np.float32]:
    x = customers(n, seed)
    x[:, SEASON_FEATURE] = np.random.default_rng(seed).uniform(0.0, YEAR_DAYS, n)
    return x


def shop(
    seasons: list[Season], *, days: int, users: int = 700, seed: int = 0, all_at_once: bool = False
) -> Dataset:
    """Weekly rows of customers who order at a personal rate times the season's level; each year has
    the next of `seasons`, the last one for good."""
    rng = np.random.default_rng(seed)
    start = 50.0 * YEAR_DAYS  # on a first day of the year
    came = rng.uniform(0.0, 30.0 if all_at_once else 0.8 * days, users)
    rate = rng.gamma(2.0, 1.0 / 60.0, users)
    day = np.arange(days, dtype=np.float64)
    year = np.minimum((day // YEAR_DAYS).astype(int), len(seasons) - 1)
    level = np.array([seasons[y].level(day[i : i + 1])[0] for i, y in enumerate(year)])
    ordered = rng.random((users, days)) < -np.expm1(-rate[:, None] * level)
    ordered &= day >= came[:, None]
    ordered[np.arange(users), came.astype(int)] = True
    found: dict[str, list[NDArray[np.float64]]] = {}
    for cut in range(28, days - 7, 7):
        past = ordered[:, :cut]
        count = past.sum(axis=1)
        silence = np.argmax(past[:, ::-1], axis=1)
        age = cut - np.argmax(past, axis=1)
        who = (count >= 2) & (silence < 84)
        ahead = ordered[who, cut : cut + 28]
        for name, column in (
            ("orders", count[who]), ("age", age[who]), ("silence", silence[who]),
            ("cut", np.full(who.sum(), cut)), ("user", np.flatnonzero(who)),
            ("week", ahead[:, :7].any(axis=1)), ("month", ahead.any(axis=1)),
        ):  # fmt: skip
            found.setdefault(name, []).append(column.astype(np.float64))
    rows = {name: np.concatenate(columns) for name, columns in found.items()}
    n = len(rows["cut"])
    x = np.full((n, F), np.nan, np.float32)
    x[:, ORDERS], x[:, AGE], x[:, SILENCE] = rows["orders"], rows["age"], rows["silence"]
    x[:, VALUE] = rng.lognormal(3.0, 0.5, n)
    as_of = ((start + rows["cut"]) * DAY_MS).astype(np.int64)
    x[:, SEASON_FEATURE] = as_of / DAY_MS % YEAR_DAYS
    bought = (rows["month"] > 0).astype(np.float32)
    spend = np.where(bought > 0, x[:, VALUE] * rng.gamma(2.0, 0.5, n), 0.0)
    return Dataset(
        x=x, churned=bought == 0, spend=spend.astype(np.float32), as_of_ms=as_of,
        user=rows["user"].astype(np.int64),
        more={"p_buy_7d": rows["week"].astype(np.float32), "p_buy_30d": bought,
              "p_partial": 1.0 - bought},
    )  # fmt: skip


def test_the_clock_runs_by_the_levels() -> None:
    season = rising()
    day = np.linspace(-900.0, 900.0, 5_001)
    results = season.clock(day)
    assert np.allclose(season.clock(day + YEAR_DAYS), results + YEAR_DAYS)
    rates = np.diff(results) / np.diff(day)
    assert rates.min() == pytest.approx(min(season.levels), rel=1e-6)
    assert rates.max() == pytest.approx(max(season.levels), rel=1e-6)
    assert Season((1.0,) * 52).clock(day) == pytest.approx(day)


def test_levels_are_found_again() -> None:
    rng, season = np.random.default_rng(1), rising()
    day = rng.uniform(0.0, YEAR_DAYS, 60_000)
    hazard = rng.gamma(1.0, 0.15, len(day))
    ordered = rng.random(len(day)) < -np.expm1(-hazard * season.level(day))
    found = estimate_levels(hazard, ordered, day)
    assert found.level(MIDDLES) == pytest.approx(season.level(MIDDLES), rel=0.2)
    assert np.argmax(found.levels) in (45, 46, 47)


def test_where_weeks_differ_by_chance_they_come_out_alike() -> None:
    furthest = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        day = rng.uniform(0.0, YEAR_DAYS, 8_000)
        hazard = rng.gamma(1.0, 0.15, len(day))
        found = estimate_levels(hazard, rng.random(len(day)) < -np.expm1(-hazard), day)
        furthest.append(max(abs(level - 1.0) for level in found.levels))
    assert np.median(furthest) < 0.05, furthest


def test_a_season_takes_a_year_and_a_horizon() -> None:
    season = rising(20.0)
    assert fit_season(shop([season], days=385), 28) is None
    found = fit_season(shop([season], days=620), 28)
    assert found is not None
    assert found.level(MIDDLES) == pytest.approx(season.level(MIDDLES), abs=0.4)
    assert np.argmax(found.levels) in range(18, 23)


def test_a_year_unlike_the_one_before_teaches_no_season() -> None:
    assert fit_season(shop([rising(20.0), rising(3.0)], days=620), 28) is None


def test_a_shop_without_a_season_gets_none_that_matters() -> None:
    """Also where all customers came at once, and new ones are odd at the time they came."""
    even = Season((1.0,) * 52)
    for all_at_once in (False, True):
        for seed in range(3):
            found = fit_season(shop([even], days=620, seed=seed, all_at_once=all_at_once), 28)
            if found is not None:
                assert max(abs(level - 1.0) for level in found.levels) < 0.15, found


def test_labels_without_a_week_ahead_teach_none() -> None:
    data = shop([rising()], days=620)
    assert fit_season(replace(data, more={}), 28) is None
    unknown = dict.fromkeys(data.more, np.full(len(data.x), np.nan, np.float32))
    assert fit_season(replace(data, more=unknown), 28) is None


@pytest.fixture(scope="module")
def heads() -> dict[str, Head]:
    booster, season = few_trees(dated(400, 0)), rising()
    return {
        "p_churn": Head(booster, "sigmoid", 0.4, 0.1, EventBase(CURVE, 28.0, 1.1, -0.2, season)),
        "spend": Head(booster, "exp", 0.3, -0.2, SpendBase(CURVE, 28.0, 1.5, 40.0, 0.1, season)),
        "p_buy_7d": Head(booster, "sigmoid", 0.4, 0.0, EventBase(CURVE, 7.0, -0.9, 0.3, season)),
    }


def test_the_graph_keeps_the_same_time(heads: dict[str, Head]) -> None:
    graph = export_graph(heads, F)
    edges = dated(52, 3)
    edges[:, SEASON_FEATURE] = np.arange(52) * np.float32(YEAR_DAYS / 52)
    x = np.concatenate([dated(3_000, 1), edges, odd()])
    results = run(graph, x)
    for name, head in heads.items():
        want = head.predict(x)
        assert np.isfinite(results[name]).all(), name
        assert (np.abs(results[name] - want) / np.maximum(1.0, np.abs(want))).max() < 1e-5, name
    for size in (1, 3, 8, 33):
        for name, values in run(graph, x[5 : 5 + size].copy()).items():
            assert values.tobytes() == results[name][5 : 5 + size].tobytes()


def test_one_champion_has_one_season(heads: dict[str, Head]) -> None:
    other = Head(heads["spend"].booster, "exp", base=SpendBase(CURVE, 28.0, 1.5, 40.0, 0.1))
    with pytest.raises(ArtifactError, match="one season"):
        export_graph({"p_churn": heads["p_churn"], "spend": other}, F)


@pytest.fixture(scope="module")
def seasonal(tmp_path_factory: pytest.TempPathFactory) -> Champion:
    summary = train(
        shop([rising(20.0)], days=900), root=Path(tmp_path_factory.mktemp("season")),
        date="2026-11-27", horizon_days=28, eligibility=Eligibility(2, 84), source="a shop",
        threads=1,
    )  # fmt: skip
    return load_artifact(summary.path)


def test_training_counts_the_season_in(seasonal: Champion) -> None:
    assert "day_of_year" in seasonal.manifest.curve_features
    assert golden_error(seasonal) < 1e-5
    assert "most in week 2" in str(seasonal.manifest.training["season"])
    assert "most in week 2" in model_card(seasonal.manifest)
    x = customers(500, 4)
    mean = {}
    for week in (18, 40):  # two weeks before the rise, and long after it
        x[:, SEASON_FEATURE] = (week + 0.5) / 52 * YEAR_DAYS
        mean[week] = float(seasonal.score(x)[0].mean()), float(seasonal.score(x)[1].mean())
    assert mean[18][0] < mean[40][0] - 0.05
    assert mean[18][1] > mean[40][1] * 1.2


def test_neither_learner_nor_drift_follow_the_calendar(seasonal: Champion) -> None:
    assert not seasonal.manifest.typical.varies[SEASON_FEATURE]


def test_the_season_is_a_reason_as_shapley_has_it(seasonal: Champion) -> None:
    explainer = Explainer(seasonal, "USD")
    players = [*BASE_FEATURES, VALUE, SEASON_FEATURE]
    for source in dated(8, 33):
        row = explainer.typical.copy()
        row[players] = source[players]
        (found,) = explainer.champion_values(row[None, :])
        wanted = brute_force(seasonal, row, explainer.typical, players)
        for feature in players:
            # beside log-odds of a float32 probability that may be close to 1
            assert found[feature] == pytest.approx(wanted[feature], abs=5e-4)
    row[SEASON_FEATURE] = 19 / 52 * YEAR_DAYS
    results = " ".join(explainer.in_words(row[None, :], None, top=9)[0])
    assert "time of the year: May" in results
