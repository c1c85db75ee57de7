"""Drift alarms: the rows that say what the online learner has noticed."""

from __future__ import annotations

import numpy as np

from schemas.messages import LearnerSnapshot
from streams.core.texts import TableRows

__all__ = ["drift_rows"]


def drift_rows(
    shard: int, known: LearnerSnapshot | None, learner: LearnerSnapshot | None
) -> TableRows:
    """`model_drift` rows of what `learner` has noticed since the snapshot `known`. Every shard gets
    every snapshot; shard 0 alone writes."""
    before = known.version if known else -1
    drifts = [d for d in learner.drifts if d.version > before] if learner and shard == 0 else []
    return {
        "drift_id": [d.drift_id for d in drifts],
        "detected_at": np.array([d.detected_at_ms for d in drifts], np.int64),
        "since": np.array([d.since_ms for d in drifts], np.int64),
        "kind": [d.kind for d in drifts],
        "stream": [d.stream for d in drifts],
        "direction": [d.direction for d in drifts],
        "mean_before": np.array([d.mean_before for d in drifts], np.float32),
        "mean_since": np.array([d.mean_since for d in drifts], np.float32),
        "labels_since": np.array([d.labels_since for d in drifts], np.uint32),
        "reason": [d.reason for d in drifts],
        "champion_version": [d.champion_version for d in drifts],
    }
