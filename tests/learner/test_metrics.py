"""What the learner's process shows of a snapshot: losses, its say, and changes that are news."""

from __future__ import annotations

import msgspec

from models.artifact import default_artifact_path, load_artifact
from models.learner import OnlineLearner
from schemas.messages import Drift, LearnerSnapshot
from streams.learner.app import show
from streams.learner.service import LearnerService
from streams.telemetry.metrics import Metrics
from tests.shard.memory import MemoryLog


def drift(drift_id: str, kind: str) -> Drift:
    return Drift(
        drift_id=drift_id, version=1, detected_at_ms=2, since_ms=1, kind=kind, stream="s",
        direction="up", mean_before=0.0, mean_since=1.0, labels_since=40, reason="It rose.",
        champion_version="c",
    )  # fmt: skip


def snapshot(*drifts: Drift, loss: float | None = None) -> LearnerSnapshot:
    fresh = OnlineLearner(load_artifact(default_artifact_path()).manifest).snapshot()
    return msgspec.structs.replace(
        fresh, version=7, blend_weight=0.25, drifts=list(drifts), log_loss_champion=loss,
        log_loss_learner=loss, log_loss_blend=loss,
    )  # fmt: skip


def values(metrics: Metrics) -> dict[str, float]:
    return {
        sample.name + "".join(f"/{v}" for v in sample.labels.values()): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
    }


def test_losses_are_shown_once_there_are_labels() -> None:
    metrics = Metrics()
    show(metrics, snapshot(), [])
    assert not any(name.startswith("tideline_model_log_loss") for name in values(metrics))
    show(metrics, snapshot(loss=0.3), [])
    found = values(metrics)
    for model in ("champion", "learner", "blend"):
        assert found[f"tideline_model_log_loss_nats/{model}"] == 0.3
    assert found["tideline_learner_blend_weight_ratio"] == 0.25
    assert found["tideline_learner_version"] == 7


def test_each_change_counts_once() -> None:
    metrics = Metrics()
    service = LearnerService(
        MemoryLog(), "learner", load_artifact(default_artifact_path()).manifest
    )
    assert values(metrics)["tideline_drifts_total/loss"] == 0
    for reported in ([drift("a", "loss")], [drift("a", "loss"), drift("b", "feature")]):
        published = snapshot(*reported)
        show(metrics, published, service.new_drifts(published))
    show(metrics, published, service.new_drifts(published))
    found = values(metrics)
    assert found["tideline_drifts_total/loss"] == 1
    assert found["tideline_drifts_total/feature"] == 1
