"""A shop's examples in ClickHouse, made without a stream: features decide who comes back."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.artifact import promote
from models.places import LocalPlace
from schemas.features import FEATURE_NAMES, LISTED_FEATURE_NAMES
from streams.clickhouse.client import ClickHouseTarget
from streams.clickhouse.sink import ClickHouseSink
from streams.core.features import DAY_MS
from streams.settings import Settings, override
from tests.models.s3 import shipped_version
from tests.models.synthetic import churn_logit, rows
from tests.trainer.worlds import copy

__all__ = ["HORIZON_DAYS", "T0_DAY", "begin", "examples", "fill", "settings_of"]

HORIZON_DAYS = 28
T0_DAY = 19_600  # 2023-08-31
_WAIT_SECONDS = 100.0


def examples(n: int, first_day: int, last_day: int, seed: int = 0) -> dict[str, Any]:
    """n examples whose questions were asked on those days since `T0_DAY`, at midnight."""
    rng = np.random.default_rng(seed)
    x = rows(n, seed)
    x[:, FEATURE_NAMES.index("revenue_90d")] = rng.gamma(2.0, 60.0, n)
    churned = rng.random(n) < 1.0 / (1.0 + np.exp(-churn_logit(x)))
    asked = (T0_DAY + np.sort(rng.integers(first_day, last_day + 1, n))) * DAY_MS
    first = asked + rng.integers(1, HORIZON_DAYS * DAY_MS, n)
    return {
        "user_id": [f"u{i % (n // 6)}" for i in range(n)],
        "asked_at": asked,
        "matured_at": asked + HORIZON_DAYS * DAY_MS,
        "horizon_days": np.full(n, HORIZON_DAYS, np.uint16),
        "shard": rng.integers(0, 2, n).astype(np.uint16),
        "ordinal": np.arange(1, n + 1).astype(np.uint64),
        "lifetime_orders": x[:, FEATURE_NAMES.index("lifetime_orders")].astype(np.uint32),
        "p_churn": np.full(n, 0.5, np.float32),
        "spend_predicted": np.full(n, 20.0, np.float32),
        "churned": churned.astype(np.uint8),
        "spend": np.where(churned, 0, rng.gamma(2.0, 20.0, n)).astype(np.float32),
        "first_order_at": np.where(churned, 0, first),
        "feature_names": [LISTED_FEATURE_NAMES] * n,
        "features": x,
    }


def fill(target: ClickHouseTarget, table: dict[str, Any]) -> None:
    sink = ClickHouseSink(target, linger_seconds=0.0).start()
    sink.submit({"examples": table})
    sink.close(_WAIT_SECONDS)
    assert sink.failed is None


def begin(root: LocalPlace) -> str:
    """The champion: the model that ships, as if it knew the labels up to day 122 of the shop."""
    version = copy(root, shipped_version(), labels_until_ms=(T0_DAY + 122) * DAY_MS)
    promote(root, version)
    return version


def settings_of(target: ClickHouseTarget, models: str) -> Settings:
    """Of a trainer there, whose first cut is on day 150 of the shop."""
    return override(
        Settings(),
        clickhouse_host=target.host,
        clickhouse_port=target.port,
        clickhouse_database=target.database,
        model_artifact=models,
        trainer_rows=2_000,
        trainer_min_labels=100,
        trainer_threads=1,
        trainer_poll_seconds=0.05,
    )
