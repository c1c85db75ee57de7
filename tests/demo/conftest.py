"""What the demo's tests share: figures as ClickHouse might give them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.messages import LearnerSnapshot
from streams.demo.figures import Alert, Figures, GroupOffsets, Ledger
from streams.settings import Settings

NAMES = Settings().topic_names
NOON = datetime(2017, 8, 14, 12, tzinfo=UTC)


@pytest.fixture
def figures() -> Figures:
    """A run of 1,000 records that has finished."""
    return Figures(
        ledger=Ledger(1_000, 990, 6, 3, 1, True, NOON, 4),
        alerts_opened=12,
        alerts_closed=5,
        newest_alerts=tuple(
            Alert(NOON, str(1000 + n), 0.625, 41.2, ("silent for 3.1 times the usual gap",) * 3)
            for n in range(12)
        ),
        segments={
            "lifecycle": {"visitor": 20, "new": 10, "active": 60, "at_risk": 7, "lapsed": 3},
            "value_tier": {"none": 20, "low": 48, "medium": 24, "high": 8},
        },
        segment_changes=321,
        matured=40,
        lag={NAMES.app: GroupOffsets(1_000, 0, 0), NAMES.learner_group: GroupOffsets(40, 0, 0)},
    )


@pytest.fixture
def learner() -> LearnerSnapshot:
    return LearnerSnapshot(
        version=40,
        champion_version="c1",
        features=[],
        labels=40,
        blend_weight=0.35,
        intercept=0.0,
        logit_weight=1.0,
        weights=[],
        mean=[],
        scale=[],
        log_loss_champion=0.43114,
        log_loss_learner=0.41231,
        log_loss_blend=0.42,
    )
