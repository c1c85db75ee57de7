"""The online learner: it corrects the champion as labels mature.

    p_learner = sigmoid(logit(p_champion) + d * logit(p_champion) + w . standardised(x) + b)

`d`, `w` and `b` start at 0, so with no labels the learner *is* the champion, and what it forgets
brings it back to the champion, not to 0.5 (`models.dynamic`; D-073 has what it was compared with).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.blend import CLIP
from models.drift import DriftMonitor, DriftState
from models.dynamic import LOGIT, DynamicLogisticRegression
from models.evidence import Evidence
from models.manifest import Manifest
from schemas.errors import StateError
from schemas.features import (
    FEATURE_NAMES,
    PACKED_FEATURE_NAMES,
    columns_by_name,
    unpacked_names,
)
from schemas.lives import life_of, position_of
from schemas.messages import Example, LearnerSnapshot

__all__ = ["OnlineLearner"]

ASKED_LABELS: Final = 200
"""So many predictions of a learner that differed from the champion must have met their labels
before they are asked about its weight; until then its present weights alone are (D-073)."""
Rescore = Callable[[NDArray[np.float32]], float]


class _State(msgspec.Struct):
    """What `LearnerSnapshot.state` holds beyond the snapshot's own fields (MessagePack)."""

    logit_deviation: float
    """`logit_weight - 1` without the rounding."""
    asked: Evidence
    now: Evidence
    counts: dict[str, int]
    drift: DriftState = msgspec.field(default_factory=DriftState)
    told: int = 0
    """Labels that met a prediction of the learner that was not the champion's."""
    names: list[str] = []
    """The features of `covariance`."""
    covariance: bytes = b""
    """As `DynamicLogisticRegression.packed`; empty: of a release that had none."""


class OnlineLearner:
    """Learns matured examples one by one; its whole state goes in and out as a snapshot.

    `counts` has the number of examples by outcome: `learned`, `repeated` (at or before the shard's
    position), `other_champion`, `invalid`; `gaps` counts ordinals that were
    skipped, and `reset` the times the weights stopped being finite and were set back to 0.

    The features of another release's example are found by name; a feature that the example lacks is
    unknown.

    An example of an earlier champion is learned too, if `rescore` gives this champion's score of
    its features (float32 [F] -> p_churn), and if this champion was trained before the label was
    known (`labels_until_ms` in its manifest): labels that it was trained on can't correct it.
    """

    def __init__(self, manifest: Manifest, rescore: Rescore | None = None) -> None:
        self.champion_version: Final = manifest.version
        self.counts: Counter[str] = Counter()
        self._typical = manifest.typical
        self._mean = np.array(manifest.typical.mean)
        self._scale = np.array(manifest.typical.scale)
        self._varying = np.flatnonzero(manifest.typical.varies)
        self._names = [FEATURE_NAMES[f] for f in self._varying]
        self._positions: dict[str, int] = {}
        self._rescore = rescore
        self._labels_until_ms = manifest.training.get("labels_until_ms")
        self._version = 0
        self._manifest = manifest
        self._drift = DriftMonitor(manifest)
        self._restart()

    def _restart(self) -> None:
        self._labels = 0
        self._asked = Evidence()
        self._now = Evidence()
        self._told = 0
        self._model = DynamicLogisticRegression(self._names)

    def learn(self, example: Example) -> None:
        """Takes one example, in its shard's order. Never raises for what an example contains."""
        shard = str(example.shard)
        last = self._positions.get(shard, 0)
        if example.ordinal <= last:
            self.counts["repeated"] += 1
            return
        same_life = life_of(last) == life_of(example.ordinal)
        expected = position_of(last) + 1 if same_life else 1
        self.counts["gaps"] += position_of(example.ordinal) - expected
        self._positions[shard] = example.ordinal
        self._version += 1
        example = self._as_mine(example)
        outcome = self._refusal(example) or "learned"
        self.counts[outcome] += 1
        if outcome == "learned":
            self._learn(example)

    def _as_mine(self, example: Example) -> Example:
        """An earlier champion's example with this one's score, unless this one saw its label."""
        until = self._labels_until_ms
        if (
            self._rescore is None
            or not isinstance(until, int)
            or example.champion_version == self.champion_version
            or example.matured_at_ms <= until
        ):
            return example
        x = _features(example)
        if x is None:
            return example
        p = self._rescore(x)
        return msgspec.structs.replace(
            example, champion_version=self.champion_version, p_champion=p, p_learner=p, p_churn=p
        )

    def _refusal(self, example: Example) -> str | None:
        if example.champion_version != self.champion_version:
            return "other_champion"
        predictions = (example.p_champion, example.p_learner, example.p_churn)
        valid = _features(example) is not None and all(0 <= p <= 1 for p in predictions)
        return None if valid and 0 < example.p_champion < 1 else "invalid"

    def _learn(self, example: Example) -> None:
        features = _features(example)
        assert features is not None  # noqa: S101  (else it was refused)
        drifts = self._drift.add(
            features, example.p_champion, example.churned, example.matured_at_ms, self._version
        )
        self.counts["drifts"] += len(drifts)
        x = self._inputs(features, example.p_champion)
        p_now = float(self._model.predict_proba_one(x)[True])
        for evidence, p_learner in ((self._asked, example.p_learner), (self._now, p_now)):
            evidence.add(
                churned=example.churned,
                p_champion=example.p_champion,
                p_learner=p_learner,
                p_blend=example.p_churn,
            )
        self._told += example.p_learner != example.p_champion
        self._model.learn_one(x, example.churned)
        self._labels += 1
        if not self._model.sound:
            self.counts["reset"] += 1
            self._restart()

    def _inputs(self, x: NDArray[np.float32], p_champion: float) -> dict[str, float]:
        """River's view of one row: the champion's logit and the standardised features."""
        standard = (x.astype(np.float64) - self._mean) / self._scale
        standard = np.where(np.isnan(standard), 0.0, np.clip(standard, -CLIP, CLIP))
        logit = math.log(p_champion) - math.log1p(-p_champion)
        return {
            LOGIT: logit,
            **dict(zip(self._names, standard[self._varying].tolist(), strict=True)),
        }

    def predict(self, x: NDArray[np.float32], p_champion: float) -> float:
        """The learner's own probability for one row `x` float32 [F]; scoring uses
        `models.blend`."""
        return float(self._model.predict_proba_one(self._inputs(x, p_champion))[True])

    @property
    def blend_weight(self) -> float:
        """The weight that the evidence justifies.

        `_now` judges the present weights just before each label is learned: a learner that goes
        wrong loses its weight at once. `_asked` judges the predictions as they were made, a whole
        horizon ago, and can only lower the weight. It knows nothing before the first labels of a
        learner that had learned something, two horizons after the beginning: until `ASKED_LABELS`
        of them it is not asked.
        """
        now = self._now.blend_weight
        return min(now, self._asked.blend_weight) if self._told >= ASKED_LABELS else now

    def snapshot(self) -> LearnerSnapshot:
        """The whole state, as plain numbers; taking it changes nothing.

        `version` counts the examples ever taken, so that it grows over restarts too.
        """
        intercept, deviation, *weights = self._model.mean.tolist()
        column = np.zeros(len(FEATURE_NAMES))
        column[self._varying] = weights
        state = _State(
            logit_deviation=deviation,
            asked=self._asked,
            now=self._now,
            counts=dict(self.counts),
            drift=self._drift.state(),
            told=self._told,
            names=self._names,
            covariance=self._model.packed(),
        )
        return LearnerSnapshot(
            version=self._version,
            champion_version=self.champion_version,
            features=list(FEATURE_NAMES),
            labels=self._labels,
            blend_weight=self.blend_weight,
            intercept=intercept,
            logit_weight=1.0 + deviation,
            weights=column.tolist(),
            mean=self._typical.mean,
            scale=self._typical.scale,
            log_loss_champion=self._asked.mean(self._asked.champion),
            log_loss_learner=self._asked.mean(self._asked.learner),
            log_loss_blend=self._asked.mean(self._asked.blend),
            drifts=list(self._drift.found),
            positions=dict(self._positions),
            state=msgspec.msgpack.encode(state),
        )

    @classmethod
    def restore(
        cls, snapshot: LearnerSnapshot, manifest: Manifest, rescore: Rescore | None = None
    ) -> OnlineLearner:
        """A learner that continues exactly where `snapshot` was taken.

        If the champion has changed since, learning starts again from the new one; positions and
        version continue, so that no example is learned twice. Weights are found by the names of
        their features, also in another release's snapshot. Raises `StateError` for a snapshot whose
        state can't be read.
        """
        learner = cls(manifest, rescore)
        snapshot = snapshot.by_name(FEATURE_NAMES)
        learner._positions = dict(snapshot.positions)
        learner._version = snapshot.version
        try:
            state = msgspec.msgpack.decode(snapshot.state, type=_State)
        except msgspec.DecodeError as error:
            raise _unreadable(snapshot.version, error) from error
        learner.counts.update(state.counts)
        if snapshot.champion_version == manifest.version:
            try:
                learner._resume(snapshot, state)
            except ValueError as error:
                raise _unreadable(snapshot.version, error) from error
        else:
            learner._drift.found = state.drift.found
        return learner

    def _resume(self, snapshot: LearnerSnapshot, state: _State) -> None:
        weights = {
            name: snapshot.weights[f] for name, f in zip(self._names, self._varying, strict=True)
        }
        weights[LOGIT] = state.logit_deviation
        names, covariance = state.names, state.covariance
        if not covariance:  # an earlier release's: as sure of its weights as if it had just begun
            names, covariance = self._names, self._model.packed()
        self._model.resume(names, weights, snapshot.intercept, covariance)
        self._labels, self._told = snapshot.labels, state.told
        self._asked, self._now = state.asked, state.now
        self._drift = DriftMonitor(self._manifest, state.drift)


def _unreadable(version: int, error: Exception) -> StateError:
    return StateError(
        f"Learner snapshot {version} can't be read ({error}). Delete its record "
        "from the learner topic; the learner then starts again from the champion."
    )


def _features(example: Example) -> NDArray[np.float32] | None:
    """The example's features in this build's order, float32 [F]; None if they can't be read."""
    if len(example.x) % 4:
        return None
    x = np.frombuffer(example.x, dtype="<f4")
    if example.features == PACKED_FEATURE_NAMES:
        return x if len(x) == len(FEATURE_NAMES) else None
    try:
        names = unpacked_names(example.features)
    except ValueError:
        return None
    if len(x) != len(names):
        return None
    at = columns_by_name(names, FEATURE_NAMES)
    return np.append(x, np.float32(np.nan))[at]
