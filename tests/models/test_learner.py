"""The learner starts as the champion, survives restarts exactly, and only speaks when better."""

from __future__ import annotations

import math
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.blend import BlendedScorer
from models.champion import Champion
from models.evidence import Evidence
from models.learner import ASKED_LABELS, OnlineLearner
from models.manifest import Manifest
from schemas.errors import StateError
from schemas.features import FEATURE_NAMES
from schemas.lives import first_of
from schemas.messages import Example, LearnerSnapshot
from tests.models.synthetic import F, churn_logit, example, rows

Examples = list[Example]


@pytest.fixture(scope="module")
def drifted(champion: Champion) -> Examples:
    """1,000 labels from a world in which everybody leaves more often than the champion thinks."""
    x = rows(1_000, seed=21)
    odds = churn_logit(x) + 1.5
    churned = np.random.default_rng(3).random(len(x)) < 1 / (1 + np.exp(-odds))
    p = champion.score(x)[0]
    return [
        example(
            x[i],
            bool(churned[i]),
            shard=i % 3,
            ordinal=i // 3 + 1,
            champion_version=champion.version,
            p_champion=float(p[i]),
        )
        for i in range(len(x))
    ]


def over_the_wire(snapshot: LearnerSnapshot) -> LearnerSnapshot:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=LearnerSnapshot)


def learn(learner: OnlineLearner, examples: Examples) -> LearnerSnapshot:
    for one in examples:
        learner.learn(one)
    return learner.snapshot()


def test_with_no_labels_it_is_the_champion(champion: Champion) -> None:
    fresh = OnlineLearner(champion.manifest).snapshot()

    assert (fresh.version, fresh.labels, fresh.blend_weight) == (0, 0, 0.0)
    assert (fresh.intercept, fresh.logit_weight, set(fresh.weights)) == (0.0, 1.0, {0.0})
    assert fresh.log_loss_champion is fresh.log_loss_learner is fresh.log_loss_blend is None


def test_its_probability_starts_as_the_champions(champion: Champion) -> None:
    x = rows(50)
    p = champion.score(x)[0]
    learner = OnlineLearner(champion.manifest)

    for row, expected in zip(x, p, strict=True):
        assert learner.predict(row, float(expected)) == pytest.approx(float(expected), abs=1e-12)


@settings(max_examples=5, deadline=None)
@given(cut=st.integers(0, 1_000))
def test_a_restart_changes_nothing(champion: Champion, drifted: Examples, cut: int) -> None:
    straight = learn(OnlineLearner(champion.manifest), drifted)
    half = over_the_wire(learn(OnlineLearner(champion.manifest), drifted[:cut]))
    resumed = OnlineLearner.restore(half, champion.manifest)

    assert resumed.snapshot() == half
    assert learn(resumed, drifted[cut:]) == straight


def test_taking_a_snapshot_changes_nothing(champion: Champion, drifted: Examples) -> None:
    quiet, watched = OnlineLearner(champion.manifest), OnlineLearner(champion.manifest)
    for one in drifted[:100]:
        quiet.learn(one)
        watched.learn(one)
        watched.snapshot()

    assert quiet.snapshot() == watched.snapshot()


def test_an_example_read_twice_is_learned_once(champion: Champion, drifted: Examples) -> None:
    once = learn(OnlineLearner(champion.manifest), drifted[:90])
    learner = OnlineLearner(champion.manifest)
    learn(learner, drifted[:60])
    twice = learn(learner, drifted[:90])

    assert msgspec.structs.replace(twice, state=b"") == msgspec.structs.replace(once, state=b"")
    assert twice.positions == {"0": 30, "1": 30, "2": 30}
    assert learner.counts["repeated"] == 60


def test_repeats_are_dropped_after_a_restart_too(champion: Champion, drifted: Examples) -> None:
    before = learn(OnlineLearner(champion.manifest), drifted[:90])
    after = OnlineLearner.restore(over_the_wire(before), champion.manifest)
    learn(after, drifted[:90])

    assert after.snapshot().labels == 90
    assert after.counts["repeated"] == 90


def test_jumped_ordinals_are_counted(champion: Champion, drifted: Examples) -> None:
    learner = OnlineLearner(champion.manifest)
    learn(learner, [drifted[0], drifted[9]])  # ordinals 1 and 4 of shard 0

    assert learner.counts["gaps"] == 2
    assert learner.snapshot().labels == 2


def test_a_new_life_of_a_shard_is_neither_repeated_nor_jumped(
    champion: Champion, drifted: Examples
) -> None:
    """Its ordinals begin at 1 again, within the life; what an earlier life sends late is old."""
    new = [msgspec.structs.replace(e, ordinal=first_of(1_790_000_000) + i, shard=0)
           for i, e in enumerate(drifted[:3])]  # fmt: skip
    learner = OnlineLearner(champion.manifest)
    learn(learner, [e for e in drifted[:90] if e.shard == 0])
    learn(learner, [*new, drifted[0]])

    assert learner.counts["gaps"] == 0
    assert learner.counts["repeated"] == 1
    assert learner.snapshot().labels == 33
    jumped = msgspec.structs.replace(new[0], ordinal=first_of(1_790_600_000) + 2)
    learn(learner, [jumped])  # the first two of another life are missing
    assert learner.counts["gaps"] == 2


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({"features": b"0"}, "invalid"),
        ({"features": zlib.compress(b"one\ntwo")}, "invalid"),
        ({"champion_version": "old"}, "other_champion"),
        ({"x": b"short"}, "invalid"),
        ({"p_champion": float("nan")}, "invalid"),
        ({"p_champion": 1.0}, "invalid"),
        ({"p_learner": -0.1}, "invalid"),
    ],
)
def test_an_example_it_cannot_use_is_counted_and_passed_over(
    champion: Champion, drifted: Examples, change: dict[str, object], counted: str
) -> None:
    learner = OnlineLearner(champion.manifest)
    learner.learn(msgspec.structs.replace(drifted[0], **change))
    after = learner.snapshot()

    assert learner.counts[counted] == 1
    assert (after.version, after.labels, after.positions) == (1, 0, {"0": 1})
    assert after.intercept == 0.0


def test_hostile_features_do_not_break_it(champion: Champion, drifted: Examples) -> None:
    learner = OnlineLearner(champion.manifest)
    values = [np.nan, np.inf, -np.inf, 3e38]
    for i in range(400):
        x = np.full(F, values[i % 4], np.float32).astype("<f4").tobytes()
        learner.learn(
            msgspec.structs.replace(
                drifted[0], x=x, ordinal=i + 1, churned=i % 2 == 0, p_champion=1e-6
            )
        )
    after = learner.snapshot()

    assert np.isfinite([after.intercept, after.logit_weight, *after.weights]).all()
    assert learner.counts["reset"] == 0
    assert after.labels == 400


def test_it_learns_a_drift_and_earns_its_weight(champion: Champion, drifted: Examples) -> None:
    learner = OnlineLearner(champion.manifest)
    for one in drifted:
        x = np.frombuffer(one.x, "<f4")
        p_learner = learner.predict(x, one.p_champion)
        learner.learn(msgspec.structs.replace(one, p_learner=p_learner, p_churn=p_learner))
    after = learner.snapshot()

    assert after.log_loss_learner is not None
    assert after.log_loss_champion is not None
    assert after.log_loss_blend == after.log_loss_learner
    assert after.log_loss_learner < after.log_loss_champion - 0.02
    assert after.blend_weight > 0.9
    x = rows(2_000, seed=22)
    truth = 1 / (1 + np.exp(-(churn_logit(x) + 1.5)))
    scores = BlendedScorer(champion).score(x, after)
    assert abs(scores.p_churn.mean() - truth.mean()) < 0.07
    assert abs(scores.p_champion.mean() - truth.mean()) > 0.15


def test_what_it_knows_counts_before_its_first_predictions_have_met_their_labels(
    champion: Champion, drifted: Examples
) -> None:
    """The examples carry p_learner = p_champion: it had not learned when they were asked."""
    after = learn(OnlineLearner(champion.manifest), drifted)

    assert after.labels == 1_000
    assert after.blend_weight > 0.9
    assert after.log_loss_learner == after.log_loss_champion


def test_predictions_that_were_wrong_when_made_silence_it_once_they_are_enough(
    champion: Champion, drifted: Examples
) -> None:
    learner = OnlineLearner(champion.manifest)
    learn(learner, drifted[: 500 - ASKED_LABELS])
    for one in drifted[500 - ASKED_LABELS : 499]:
        learner.learn(msgspec.structs.replace(one, p_learner=0.4 if one.churned else 0.6))
    assert learner.blend_weight > 0.9
    one = drifted[499]
    learner.learn(msgspec.structs.replace(one, p_learner=0.4 if one.churned else 0.6))
    assert learner.blend_weight == 0.0
    assert OnlineLearner.restore(learner.snapshot(), champion.manifest).blend_weight == 0.0


def test_a_learner_that_is_worse_now_loses_its_weight_at_once(
    champion: Champion, drifted: Examples
) -> None:
    """It was right when the questions were asked, but its present weights never are."""
    learner = OnlineLearner(champion.manifest)
    for one in drifted[:20]:
        leans_to_churn = (
            learner.predict(np.frombuffer(one.x, "<f4"), one.p_champion) > one.p_champion
        )
        wrong = msgspec.structs.replace(one, churned=not leans_to_churn)
        learner.learn(msgspec.structs.replace(wrong, p_learner=0.99 if wrong.churned else 0.01))
    state = learner.snapshot()

    assert state.log_loss_learner is not None
    assert state.log_loss_champion is not None
    assert state.log_loss_learner < state.log_loss_champion
    assert state.blend_weight == 0.0


def test_constant_features_never_get_a_weight(champion: Champion, drifted: Examples) -> None:
    after = learn(OnlineLearner(champion.manifest), drifted)
    varies = champion.manifest.typical.varies

    assert not all(varies)
    assert all(w == 0.0 for w, v in zip(after.weights, varies, strict=True) if not v)
    assert any(w != 0.0 for w in after.weights)


def test_a_new_champion_restarts_the_learning(champion: Champion, drifted: Examples) -> None:
    before = learn(OnlineLearner(champion.manifest), drifted[:300])
    promoted: Manifest = msgspec.structs.replace(champion.manifest, version="next")
    learner = OnlineLearner.restore(before, promoted)
    after = learner.snapshot()

    assert (after.champion_version, after.labels, after.blend_weight) == ("next", 0, 0.0)
    assert (after.intercept, after.logit_weight, set(after.weights)) == (0.0, 1.0, {0.0})
    assert (after.version, after.positions) == (before.version, before.positions)
    learner.learn(drifted[300])
    assert learner.counts["other_champion"] == 1
    assert learner.snapshot().version == before.version + 1


def test_snapshot_of_another_release_is_read_by_feature_names(
    champion: Champion, drifted: Examples
) -> None:
    """What both know goes on; what is new here begins at nothing, what is gone is dropped."""
    before = learn(OnlineLearner(champion.manifest), drifted[:30])
    theirs = [*reversed(FEATURE_NAMES[40:]), "of_theirs"]
    other = OnlineLearner.restore(before.by_name(theirs), champion.manifest)
    weights = dict(zip(other.snapshot().features, other.snapshot().weights, strict=True))
    mine = dict(zip(before.features, before.weights, strict=True))

    assert any(mine[name] for name in FEATURE_NAMES[40:])
    assert weights == {name: mine[name] if name in theirs else 0.0 for name in FEATURE_NAMES}
    assert other.snapshot().labels == before.labels
    learn(other, drifted[30:60])
    assert other.snapshot().labels == 60


def test_example_of_another_release_is_learned_by_feature_names(
    champion: Champion, drifted: Examples
) -> None:
    names = [*reversed(FEATURE_NAMES), "of_theirs"]
    packed = zlib.compress("\n".join(names).encode())

    def as_theirs(example: Example) -> Example:
        x = np.append(np.frombuffer(example.x, "<f4")[::-1], np.float32(7.0))
        return msgspec.structs.replace(example, x=x.astype("<f4").tobytes(), features=packed)

    mine, theirs = (OnlineLearner(champion.manifest) for _ in range(2))
    learn(mine, drifted[:40])
    learn(theirs, [as_theirs(example) for example in drifted[:40]])

    assert theirs.snapshot() == mine.snapshot()


def test_a_state_that_cannot_be_read_says_what_to_do(champion: Champion) -> None:
    damaged = msgspec.structs.replace(OnlineLearner(champion.manifest).snapshot(), state=b"\xc1")
    with pytest.raises(StateError, match="Delete its record"):
        OnlineLearner.restore(damaged, champion.manifest)


class TestEvidence:
    def test_a_worse_learner_has_no_say(self) -> None:
        evidence = Evidence()
        for _ in range(100):
            evidence.add(churned=True, p_champion=0.6, p_learner=0.5, p_blend=0.6)
        assert evidence.blend_weight == 0.0

    def test_the_weight_grows_smoothly_with_the_evidence(self) -> None:
        evidence, weights = Evidence(), []
        for _ in range(200):
            evidence.add(churned=True, p_champion=0.5, p_learner=0.55, p_blend=0.5)
            weights.append(evidence.blend_weight)
        assert weights == sorted(weights)
        assert max(np.diff([0.0, *weights])) < 0.06
        assert 0.99 < weights[-1] <= 1.0

    def test_old_losses_fade(self) -> None:
        evidence = Evidence()
        for _ in range(20_000):
            evidence.add(churned=True, p_champion=0.5, p_learner=0.1, p_blend=0.5)
        for _ in range(20_000):
            evidence.add(churned=True, p_champion=0.5, p_learner=0.6, p_blend=0.5)
        assert evidence.mean(evidence.learner) == pytest.approx(-np.log(0.6), abs=0.001)
        assert evidence.labels == pytest.approx(2_000, rel=0.001)
        assert evidence.blend_weight > 0.99


class TestAfterAPromotion:
    """Questions that an earlier champion was asked teach its successor, where that is fair."""

    def example(self, matured_at_ms: int) -> Example:
        asked = example(
            rows(1)[0], True, ordinal=1, champion_version="an earlier one", p_champion=0.1
        )
        return msgspec.structs.replace(asked, matured_at_ms=matured_at_ms)

    def learner(self, champion: Champion) -> OnlineLearner:
        return OnlineLearner(
            champion.manifest, rescore=lambda x: float(champion.score(x[None])[0][0])
        )

    def test_an_answer_that_it_has_not_seen_is_learned_with_its_own_score(
        self, champion: Champion
    ) -> None:
        learner = self.learner(champion)
        until = int(champion.manifest.training["labels_until_ms"])
        learner.learn(self.example(until + 1))

        assert learner.counts["learned"] == 1
        p = float(champion.score(rows(1))[0][0])
        loss = learner.snapshot().log_loss_champion
        assert loss == pytest.approx(-math.log(p), rel=1e-5)

    def test_an_answer_that_it_was_trained_on_corrects_nothing(self, champion: Champion) -> None:
        learner = self.learner(champion)
        learner.learn(self.example(int(champion.manifest.training["labels_until_ms"])))

        assert learner.counts["other_champion"] == 1
        assert learner.counts["learned"] == 0

    def test_without_its_score_nothing_can_be_learned(self, champion: Champion) -> None:
        learner = OnlineLearner(champion.manifest)
        learner.learn(self.example(2**60))
        assert learner.counts["other_champion"] == 1
