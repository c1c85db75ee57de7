"""Training judges on later times and unseen users, and writes the same bytes every time."""

from __future__ import annotations

import importlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import load_artifact, model_version
from models.champion import SCORES_FILE, Champion
from models.manifest import Eligibility
from models.training.dataset import Dataset, sees_clicks, split_by_time, typical
from models.training.train import CHURN_TREES, SPEND_TREES, Summary, train
from schemas.errors import ArtifactError
from schemas.events import CLICK_TYPES
from schemas.features import FEATURE_NAMES, FEATURES_HASH, WINDOWS
from tests.models.synthetic import DAY_MS, HORIZON_DAYS, at, churn_logit, dataset, rows


def test_what_is_written_loads_and_describes_itself(trained: Summary) -> None:
    champion = load_artifact(trained.path)
    manifest = champion.manifest

    assert trained.version == model_version("2026-11-22", champion.files)
    assert manifest.features_hash == FEATURES_HASH
    assert manifest.eligibility == Eligibility(min_orders=2, active_within_days=90)
    assert manifest.metrics == trained.metrics
    assert manifest.training["source"] == "made-up users"
    assert sum(manifest.importances) == pytest.approx(1.0)
    assert trained.top_features[0][0] == "days_since_order"


def test_it_stays_within_its_tree_budget(trained: Summary) -> None:
    assert 0 < trained.trees["p_churn"] <= CHURN_TREES
    assert 0 < trained.trees["spend"] <= SPEND_TREES


def test_the_model_is_worth_having(trained: Summary) -> None:
    metrics = trained.metrics

    assert metrics["auc"] > 0.78
    assert metrics["log_loss"] < metrics["base_rate_log_loss"] - 0.1
    assert metrics["ece"] < 0.06
    assert metrics["spend_gini"] > 0.6
    assert abs(metrics["spend_bias"] - 1.0) < 0.15


def test_scores_are_calibrated_on_new_users(champion: Champion) -> None:
    x = rows(20_000, seed=77)
    truth = 1 / (1 + np.exp(-churn_logit(x)))
    p = champion.score(x)[0].astype(np.float64)

    assert abs(p.mean() - truth.mean()) < 0.02
    confident = p > 0.8
    assert abs(p[confident].mean() - truth[confident].mean()) < 0.06


def test_the_same_data_and_seed_give_the_same_bytes(trained: Summary, tmp_path: Path) -> None:
    heard: list[tuple[str, float]] = []
    again = train(
        dataset(),
        root=tmp_path,
        date="2026-11-22",
        horizon_days=HORIZON_DAYS,
        eligibility=Eligibility(min_orders=2, active_within_days=90),
        source="made-up users",
        threads=1,
        progress=lambda what, done: heard.append((what, done)),
    )

    for name in (SCORES_FILE, "manifest.json"):
        assert again.path.read(name) == trained.path.read(name)
    assert list(dict.fromkeys(what for what, _ in heard)) == [
        "season", "p_churn", "spend", "long horizon", "write"
    ]  # fmt: skip
    assert all(0.0 <= done <= 1.0 for _, done in heard)


def test_a_shop_has_clicks_if_most_of_its_rows_have() -> None:
    x = np.full((4, len(FEATURE_NAMES)), np.nan, np.float32)
    assert not sees_clicks(x)  # order files
    x[:, at("sessions_90d")] = 3.0  # orders alone make sessions
    x[:2, at("view_90d")] = 2.0
    x[2:, at("view_90d")] = 0.0
    assert not sees_clicks(x)
    x[2, at("search_90d")] = 1.0
    assert sees_clicks(x)


def test_without_clicks_the_model_is_that_of_order_files(tmp_path: Path) -> None:
    """Clicks that nobody made teach as little as clicks that nobody sent."""
    clicks = [at(f"{kind}_{w.name}") for kind in CLICK_TYPES for w in WINDOWS]
    data = dataset(3_000)

    def trained_on(value: float) -> Summary:
        data.x[:][:, clicks] = value
        return train(
            data,
            root=tmp_path,
            date="2026-11-22",
            horizon_days=HORIZON_DAYS,
            eligibility=Eligibility(2, 90),
            source="made-up users",
            threads=1,
        )

    assert trained_on(0.0).version == trained_on(np.nan).version


class TestSplit:
    def test_training_labels_were_known_before_judging_began(self) -> None:
        data = dataset()
        split = split_by_time(data, HORIZON_DAYS)
        known = data.as_of_ms[split.train].max() + HORIZON_DAYS * DAY_MS

        assert known <= data.as_of_ms[split.tune | split.test].min()

    def test_no_user_is_used_both_to_tune_and_to_test(self) -> None:
        data = dataset()
        split = split_by_time(data, HORIZON_DAYS)

        assert not set(data.user[split.tune]) & set(data.user[split.test])
        assert 0.4 < split.tune.sum() / (split.tune | split.test).sum() < 0.6

    def test_too_short_a_history_says_so(self) -> None:
        with pytest.raises(ArtifactError, match="longer history"):
            split_by_time(dataset(), horizon_days=365)

    def test_no_rows_say_so(self) -> None:
        none = dataset().take(np.zeros(6_000, dtype=np.bool_))
        with pytest.raises(ArtifactError, match="no rows"):
            split_by_time(none, HORIZON_DAYS)


@pytest.mark.parametrize("broken", ["inf", "negative spend", "short"])
def test_data_that_cannot_be_right_is_refused(broken: str) -> None:
    good = dataset(100)
    x, spend, user = good.x[:].copy(), good.spend.copy(), good.user
    if broken == "inf":
        x[0, 0] = np.inf
    elif broken == "negative spend":
        spend[0] = -1
    else:
        user = user[1:]
    with pytest.raises(ArtifactError, match="can't be trained on"):
        Dataset(x, good.churned, spend, good.as_of_ms, user)


def test_typical_values_ignore_the_unknown() -> None:
    x = rows(2_000)
    found = typical(x)
    order, returned, never = at("days_since_order"), at("days_since_return"), at("support_1h")

    assert found.median[order] == pytest.approx(float(np.nanmedian(x[:, order])))
    assert found.scale[order] == pytest.approx(float(np.nanstd(x[:, order])), rel=1e-4)
    assert found.median[returned] is None
    assert (found.scale[never], found.varies[never]) == (1.0, False)
    assert found.varies[order]


def test_a_feature_nobody_has_is_typical_as_unknown() -> None:
    x = rows(10)
    x[:, 5] = np.nan
    found = typical(x)

    assert (found.median[5], found.mean[5], found.scale[5], found.varies[5]) == (
        None,
        0.0,
        1.0,
        False,
    )


def test_training_without_its_libraries_says_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ArtifactError, match=r"pip install tideline\[train\]"):
        train(
            dataset(2_000),
            root=tmp_path,
            date="2026-11-22",
            horizon_days=HORIZON_DAYS,
            eligibility=Eligibility(2, 90),
            source="made-up users",
        )


def test_the_manifest_holds_no_numbers_json_cannot(trained: Summary) -> None:
    manifest = load_artifact(trained.path).manifest
    assert b"NaN" not in msgspec.json.encode(manifest)
