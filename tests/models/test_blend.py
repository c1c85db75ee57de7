"""Scoring with a snapshot gives River's numbers, and the same bits in any batch."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.blend import BlendedScorer, _add_features, logit, score_snapshot, unsound
from models.champion import Champion
from models.learner import OnlineLearner
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES
from schemas.messages import LearnerSnapshot
from tests.models.synthetic import F, example, rows, snapshot


def test_without_a_snapshot_everything_is_the_champion(champion: Champion) -> None:
    scores = BlendedScorer(champion).score(rows(100), None)

    assert np.array_equal(scores.p_churn, scores.p_champion)
    assert np.array_equal(scores.p_learner, scores.p_champion)


def test_a_fresh_snapshot_is_the_champion_exactly(champion: Champion) -> None:
    x = rows(5_000)
    scores = BlendedScorer(champion).score(x, OnlineLearner(champion.manifest).snapshot())

    assert np.array_equal(scores.p_churn, champion.score(x)[0])
    assert np.array_equal(scores.p_learner, champion.score(x)[0])


def test_a_fresh_snapshot_keeps_even_extreme_probabilities(champion: Champion) -> None:
    p = np.geomspace(1e-6, 0.5, 2_000).astype(np.float32)
    p = np.concatenate([p, 1 - p])
    fresh = msgspec.structs.replace(OnlineLearner(champion.manifest).snapshot(), blend_weight=0.7)
    p_learner, p_churn = score_snapshot(rows(len(p)), p, fresh)

    assert np.array_equal(p_learner, p)
    assert np.array_equal(p_churn, p)


def test_a_snapshot_of_another_model_counts_as_none(champion: Champion) -> None:
    other = msgspec.structs.replace(snapshot(champion.version), champion_version="another")
    scores = BlendedScorer(champion).score(rows(100), other)

    assert np.array_equal(scores.p_churn, scores.p_champion)


def test_a_sound_snapshot_is_distinguished_from_others(champion: Champion) -> None:
    good = snapshot(champion.version)
    assert unsound(good) is None
    assert unsound(OnlineLearner(champion.manifest).snapshot()) is None
    assert unsound(good.by_name(["another", *FEATURE_NAMES[:9]])) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": [0.0]}, {"mean": []}, {"scale": [1.0] * (F + 1)}, {"scale": [0.0] * F},
        {"weights": [float("nan")] * F}, {"mean": [float("inf")] * F},
        {"intercept": float("nan")}, {"logit_weight": float("inf")},
        {"blend_weight": float("nan")}, {"blend_weight": -0.1}, {"blend_weight": 1.1},
    ],
    ids=str,
)  # fmt: skip
def test_what_would_spoil_scores_or_stop_them_is_unsound(
    champion: Champion, wrong: dict[str, object]
) -> None:
    assert unsound(msgspec.structs.replace(snapshot(champion.version), **wrong))


@pytest.mark.parametrize("which", ["p_churn", "spend"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_without_a_number_is_nan_and_the_others_are_as_ever(
    champion: Champion, monkeypatch: pytest.MonkeyPatch, which: str, value: float
) -> None:
    x, given = rows(50), snapshot(champion.version)
    whole = BlendedScorer(champion).score(x, given)
    answer = dict(zip(("p_churn", "spend"), champion.score(x), strict=True))
    answer[which][7] = value

    class Session:
        def run(self, *_: object) -> list[object]:
            return list(answer.values())

    monkeypatch.setattr(champion, "_scores", Session())
    scores = BlendedScorer(champion).score(x, given)
    for name in ("p_churn", "p_champion", "p_learner", "spend"):
        found = getattr(scores, name)
        assert np.isnan(found[7])
        assert np.array_equal(np.delete(found, 7), np.delete(getattr(whole, name), 7))
    with pytest.raises(ArtifactError, match="1 of 50 rows"):
        champion.score(x)


@pytest.mark.parametrize("batch", [1, 2, 7, 255, 1_000, 20_000])
def test_a_row_scores_the_same_bits_in_any_batch(champion: Champion, batch: int) -> None:
    x = rows(20_000, seed=4)
    given = snapshot(champion.version)
    scorer = BlendedScorer(champion)
    whole = scorer.score(x, given)
    n = min(len(x), 300 * batch)
    parts = [scorer.score(x[i : i + batch], given) for i in range(0, n, batch)]

    for name in ("p_churn", "p_champion", "p_learner", "spend"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert joined.dtype == np.float32
        assert np.array_equal(joined, getattr(whole, name)[:n]), name


@pytest.mark.parametrize("batch", [1, 2, 7, 255])
def test_the_bits_agree_even_before_rounding(batch: int) -> None:
    x, given = rows(2_000, seed=5), snapshot("any")
    p = np.random.default_rng(6).uniform(0.01, 0.99, len(x)).astype(np.float32)
    parts = [
        _learner_float64(x[i : i + batch], p[i : i + batch], given) for i in range(0, len(x), batch)
    ]

    assert np.array_equal(np.concatenate(parts), _learner_float64(x, p, given))


def test_scores_follow_the_published_formula() -> None:
    x, given = rows(300), snapshot("any")
    p = np.random.default_rng(1).uniform(0.01, 0.99, len(x)).astype(np.float32)
    standard = np.clip((x - np.array(given.mean)) / np.array(given.scale), -5, 5)
    standard[np.isnan(standard)] = 0
    odds = np.log(p / (1 - p.astype(np.float64)))
    z = given.intercept + given.logit_weight * odds + standard @ np.array(given.weights)
    learner = 1 / (1 + np.exp(-z))

    p_learner, p_churn = score_snapshot(x, p, given)

    np.testing.assert_allclose(p_learner, learner, rtol=1e-6)
    np.testing.assert_allclose(p_churn, 0.6 * p + 0.4 * learner, rtol=1e-6)


def test_infinite_features_are_cut_off_like_large_ones() -> None:
    p = np.full(2, 0.5, np.float32)
    given = snapshot("any")
    endless = np.full((2, F), np.inf, np.float32)
    large = np.full((2, F), 1e30, np.float32)

    assert np.array_equal(score_snapshot(endless, p, given)[0], score_snapshot(large, p, given)[0])


def test_vectorised_scores_equal_rivers(champion: Champion) -> None:
    x = rows(400, seed=8)
    p = champion.score(x)[0]
    learner = OnlineLearner(champion.manifest)
    rng = np.random.default_rng(2)
    for i in range(len(x)):
        learner.learn(
            example(
                x[i],
                bool(rng.random() < 0.3),
                ordinal=i + 1,
                champion_version=champion.version,
                p_champion=float(p[i]),
            )
        )
    river = [learner.predict(x[i], float(p[i])) for i in range(len(x))]

    assert np.abs(_learner_float64(x, p, learner.snapshot()) - river).max() < 1e-9


def _learner_float64(
    x: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    p: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    given: LearnerSnapshot,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The probability before it is rounded to float32."""
    z = given.intercept + given.logit_weight * logit(p.astype(np.float64))
    _add_features(z, x, given)
    return 1.0 / (1.0 + np.exp(-z))
