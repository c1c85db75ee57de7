"""A ClickHouse that the made-up shop has filled: every table that the console's pages read.

`fill` writes what the shards put out, as the sink does. What other processes write is made by their
own code: the lag monitor's rows and pages from looks at a made-up Kafka, the trainer's rows from a
training's outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from schemas.tables import TABLES, Table
from streams.clickhouse.blocks import Block
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.insert import insert_block
from streams.clickhouse.migrations import migrate
from streams.lag.report import LagReport, table_columns
from streams.trainer.plan import Challenger, Decision
from streams.trainer.rows import Row, columns, decided, trained
from tests.console.shop import DAY_MS, HOSTILE, Shop

__all__ = ["crowd", "fill"]

_OUTPUTS: Final = frozenset({"p_churn", "spend"})


def fill(target: ClickHouseTarget, shop: Shop, reports: Sequence[LagReport]) -> None:
    """Make the tables, and write all rows. `reports` are the lag monitor's looks."""
    migrate(target)
    others = {
        "trainer_log": [columns(_trainings(shop.end_ms), TABLES["trainer_log"].columns)],
        "consumer_lag": [table_columns(report) for report in reports],
    }
    with connect(target) as client:
        for name, parts in shop.tables.items():
            # The shop has been open for months: rows did not all arrive just now.
            table = Table(name, {**TABLES[name].columns, "inserted_at": "DateTime64(3, 'UTC')"})
            insert_block(client, Block(table, parts))
        for name, made in others.items():
            insert_block(client, Block(TABLES[name], made))


def crowd(target: ClickHouseTarget, alerts: int, end_ms: int) -> None:
    """Another database with nothing but so many open alerts, of as many users."""
    migrate(target)
    rng = np.random.default_rng(3)
    p_churn = rng.uniform(0.5, 1.0, alerts).astype(np.float32)
    spend = rng.gamma(2.0, 40.0, alerts).astype(np.float32)
    users = [f"u-{number:06d}" for number in range(alerts)]
    users[: len(HOSTILE)] = HOSTILE
    nothing: dict[str, Any] = {
        name: [""] * alerts if "String" in kind else np.zeros(alerts, np.int64)
        for name, kind in TABLES["alerts"].columns.items()
    }
    rows = nothing | {
        "alert_id": [f"{number:032x}" for number in range(alerts)],
        "user_id": users,
        "rule": ["churn"] * alerts,
        "episode": np.ones(alerts, np.int64),
        "state": ["open"] * alerts,
        "version": np.ones(alerts, np.int64),
        "raised_at": end_ms - rng.integers(0, 14 * DAY_MS, alerts),
        "p_churn": p_churn,
        "p_champion": p_churn,
        "p_learner": p_churn,
        "expected_spend": spend,
        "priority": p_churn * spend,
        "horizon_days": np.full(alerts, 28),
        "reasons": [[f"{HOSTILE[1]} has ordered nothing for {n % 40} days"] for n in range(alerts)],
        "action": ["call" if value > 60 else "message" for value in spend],
        "arm": ["holdout" if number % 10 == 0 else "treat" for number in range(alerts)],
        "value_tier": ["high" if value > 120 else "low" for value in spend],
        "lifecycle": ["at_risk"] * alerts,
    }
    with connect(target) as client:
        insert_block(client, Block(TABLES["alerts"], [rows]))


def _trainings(end_ms: int) -> list[Row]:
    """One challenger that lost, one that was promoted, and one that waits."""
    first = "2026-11-27-fb0ac4e5"

    def made(version: str, days_ago: int, rows: int, why: Any = "schedule") -> Challenger:
        cut_ms = end_ms - days_ago * DAY_MS
        return Challenger(version, 28, cut_ms, _OUTPUTS, why, cut_ms + DAY_MS // 2, rows)

    lost, won, waits = (
        made("made-up-1a2b3c4d", 60, 2_210), made("made-up-5e6f7a8b", 31, 3_954, "drift"),
        made("made-up-9c0d1e2f", 3, 4_870),
    )  # fmt: skip

    def verdict(number: int, of: Challenger, promote: bool, why: str, losses: Any) -> Decision:
        until_ms = of.cut_ms + 14 * DAY_MS
        return Decision(
            number=number, version=of.version, champion=first, promote=promote, why=why,
            cut_ms=of.cut_ms, decided_at_ms=until_ms, rows=1_204, after_ms=of.cut_ms,
            until_ms=until_ms, log_loss=losses, deviance=(18.75, 17.2),
        )  # fmt: skip

    return [
        trained(lost, first), trained(won, first), trained(waits, won.version),
        decided(verdict(1, lost, False, "log loss 0.4121 -> 0.4187", (0.4121, 0.4187))),
        decided(verdict(2, won, True, "log loss 0.4083 -> 0.3712", (0.4083, 0.3712))),
    ]  # fmt: skip
