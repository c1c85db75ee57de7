"""What Tideline's own parts say to each other over Kafka: examples, learner snapshots, alerts,
dead letters. All are msgspec structs, written as MessagePack (internal) or JSON (for others)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import msgspec

from schemas.features import columns_by_name

__all__ = [
    "AlertMessage",
    "AudienceChange",
    "DeadLetter",
    "Drift",
    "Erasure",
    "ErasureRequest",
    "Example",
    "LearnerSnapshot",
    "ReplayedLetter",
    "Resent",
    "Undelivered",
]


class Example(msgspec.Struct, frozen=True):
    """A matured label question: what was known when it was asked, and what happened since.

    One user has at most one open question; it matures at exactly `asked_at + horizon`. `shard` and
    `ordinal` number the examples of each life of the shard without gaps (`schemas.lives`), so that
    a reader drops repeats.
    """

    shard: int
    ordinal: int
    asked_at_ms: int
    matured_at_ms: int
    horizon_days: int
    x: bytes
    """float32 [F], little-endian; unknown values are NaN."""
    p_champion: float
    p_learner: float
    p_churn: float
    spend_predicted: float
    churned: bool
    spend: float
    champion_version: str
    learner_version: int
    features: bytes
    """The names of the numbers in `x`: the writer's `schemas.features.PACKED_FEATURE_NAMES`."""


class Drift(msgspec.Struct, frozen=True):
    """A change that the learner has noticed, by the labels that matured (`models.drift`)."""

    drift_id: str
    version: int
    """Of the learner when it noticed; it counts examples."""
    detected_at_ms: int
    since_ms: int
    """When the change began, as far as labels tell. Both are times at which labels were known."""
    kind: str
    """`loss`, `rate` or `feature`."""
    stream: str
    """What changed: the champion's log loss, churn less predicted churn, or a feature's name."""
    direction: str
    """`up` or `down`."""
    mean_before: float
    mean_since: float
    labels_since: int
    reason: str
    champion_version: str


class LearnerSnapshot(msgspec.Struct, frozen=True):
    """The online learner as plain numbers, so that shards score with it vectorised.

    p_learner = sigmoid(intercept + logit_weight * logit(p_champion)
                        + sum_f weights[f] * standardised(x[f]))
    with standardised(x) = clip((x - mean) / scale, -5, 5), and 0 where x is NaN.
    p_churn = (1 - blend_weight) * p_champion + blend_weight * p_learner.
    """

    version: int
    champion_version: str
    features: list[str]
    """The feature of each number in `weights`, `mean` and `scale`."""
    labels: int
    """Matured labels learned so far."""
    blend_weight: float
    intercept: float
    logit_weight: float
    weights: list[float]
    mean: list[float]
    scale: list[float]
    log_loss_champion: float | None = None
    log_loss_learner: float | None = None
    log_loss_blend: float | None = None
    drifts: list[Drift] = []
    """The newest changes noticed, the newest last."""
    positions: dict[str, int] = {}
    """Shard -> ordinal of the last example learned: what makes a restart exact."""
    state: bytes = b""
    """What only the learner needs to go on exactly (optimiser and scaler numbers, MessagePack)."""

    def by_name(self, features: Sequence[str]) -> Self:
        """This snapshot with its numbers in the order of `features`; itself if that is its order. A
        feature that it does not have gets weight 0."""
        if self.features == list(features):
            return self
        at = columns_by_name(self.features, features)

        def picked(numbers: list[float], unknown: float) -> list[float]:
            return [numbers[place] if place >= 0 else unknown for place in at]

        return msgspec.structs.replace(
            self,
            features=list(features),
            weights=picked(self.weights, 0.0),
            mean=picked(self.mean, 0.0),
            scale=picked(self.scale, 1.0),
        )


class JournalledSnapshot(LearnerSnapshot, frozen=True):
    """A snapshot inside journals and checkpoints, without `state`: shards score with it and never
    learn, and the state would be most of the record. Every other field is written as in a
    `LearnerSnapshot`."""

    state: str = ""  # type: ignore[assignment]
    """Empty. Journals of 0.1.0 have the state as text (base64) here; bytes are another type in
    MessagePack, and those journals could not be read."""

    @staticmethod
    def of(snapshot: LearnerSnapshot) -> JournalledSnapshot:
        without = msgspec.structs.replace(snapshot, state=b"")
        return msgspec.convert(msgspec.to_builtins(without), JournalledSnapshot)


class AlertMessage(msgspec.Struct, frozen=True):
    """One churn alert as other systems read it (JSON, keyed by user)."""

    alert_id: str
    user_id: str
    state: str
    """`open` when raised, `closed` when it ends; the same `alert_id` in both."""
    raised_at: str
    p_churn: float
    expected_spend: float
    priority: float
    horizon_days: int
    reasons: list[str]
    action: str
    arm: str
    """`treat`, or `holdout`: contact nobody in the holdout, so that uplift can be measured."""


class AudienceChange(msgspec.Struct, frozen=True):
    """A person entered or left an audience (JSON, keyed by user). Nobody who is held out is in one.

    Delivered at least once; of one person and audience in order of `number`."""

    change_id: str
    """The same whenever it is delivered again: an idempotency key."""
    audience: str
    segment: str
    user_id: str
    change: str
    """`entered` or `left`."""
    number: int
    """Counts this person's changes of this audience, from 1."""
    at: str
    definitions: str
    """Version of the definitions in force."""
    p_churn: float | None = None
    expected_spend: float | None = None
    value_tier: str = ""
    lifecycle: str = ""


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that could not be used, and where it came from (JSON)."""

    topic: str
    partition: int
    offset: int
    reason: str
    """A short code such as `invalid_json`; see `streams/core/events/decode.py` for all of them."""
    detail: str
    recorded_at_ms: int
    key: bytes | None
    payload: bytes | None
    """The first bytes of the value (base64 in JSON)."""
    payload_bytes: int
    """The value's full length."""


class ReplayedLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A note among the dead letters: this one has been sent back (JSON)."""

    replayed: str
    """Where the record came from: topic/partition/offset."""
    replayed_at_ms: int


class Undelivered(msgspec.Struct, frozen=True):
    """A change of an audience that a destination refused, or that could not be read (JSON)."""

    destination: str
    reason: str
    """A short code such as `http_400`; see `streams/deliver/changes.py` and docs/audiences.md."""
    detail: str
    """What the destination said, cut off."""
    topic: str
    partition: int
    offset: int
    recorded_at_ms: int
    """When it was refused."""
    key: bytes | None
    payload: bytes | None
    """The record's value, as it was (base64 in JSON)."""


class Resent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A note among the undelivered changes: this one has been sent again (JSON)."""

    resent: str
    """Which: destination/topic/partition/offset."""
    resent_at_ms: int


class ErasureRequest(msgspec.Struct, frozen=True, tag="request"):
    """Somebody asked for a person to be erased. The person is not named: `digest` is a salted hash
    of the user id, the same one for every record of this person that uses the same salt."""

    erasure_id: str
    digest: str
    """The first 32 hex digits of SHA-256 over salt and user id."""
    salt: bytes
    probe: int
    """Another salted hash, by which a shard finds candidates among its users at once."""
    requested_at_ms: int
    ends: list[tuple[int, int]]
    """By shard: where clickstream and orders ended. What lies before was sent before the request,
    whatever its times say."""
    operator: str


class Erasure(msgspec.Struct, frozen=True, tag="done"):
    """What one shard made of a request. Its state keeps this, so that the person's earlier events
    stay out when they are read again; later ones count from zero.

    An event is shut out if its time is before `cutoff_ms`, or if its record lies before `stop` and
    was written before `recorded_before_ms` (offsets mean nothing in a topic that was created
    again).
    """

    erasure_id: str
    digest: str
    salt: bytes
    probe: int
    shard: int
    cutoff_ms: int
    stop: tuple[int, int]
    recorded_before_ms: int
    found: bool = False
    """Whether the shard's state knew the person."""
    seq: int = 0
    """The step that forgot them."""
