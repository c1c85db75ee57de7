"""How many alerts a model raises on a history, whose, and which of them were right.

    python -m tests.evaluation.alerted completejourney --overdue-ratio 1.25

A model is trained on the first two thirds of the orders, and lives through all of them as a shard
does. What it raises in the last third is judged: an alert is right if no order came within the
horizon; it is vain if the customer was back within a quarter more than their usual gap, as always.
A customer is lost if they paused for two horizons and twice their usual gap. Two minutes.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
import numpy as np
from numpy.typing import NDArray

from models.artifact import load_artifact
from models.champion import Champion
from models.manifest import Eligibility
from models.training.train import train
from streams.core.config import CoreConfig
from streams.evaluation.alerted import judge_alerts
from streams.evaluation.history import History, read_history
from streams.evaluation.shard import ReplayedShard
from streams.evaluation.spooled import SpooledHistory
from streams.evaluation.training import TrainingHistory
from streams.history.read import read
from streams.history.table import ReadOptions
from streams.replay import completejourney
from streams.replay.records import Block
from streams.settings import Settings
from streams.shard.config import core_config
from tests.evaluation import shops

__all__ = ["alerted"]

MIN_ORDERS: Final = 2
ACTIVE_WITHIN_DAYS: Final = 84


def alerted(
    history: History, champion: Champion, config: CoreConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """User and time (ms) of each alert that `champion` raises on a whole history, int64 [m]."""
    shard = ReplayedShard(history.records, config, champion.manifest.horizon_days, 500)
    shard.promote(champion)
    shard.run_until(history.last_ms + 1)
    number = {user: i for i, user in enumerate(history.users)}
    return (
        np.array([number[user] for user, _ in shard.raised], np.int64),
        np.array([raised_ms for _, raised_ms in shard.raised], np.int64),
    )


def _trained(blocks: list[Block], horizon: int, until_ms: int) -> Champion:
    rules = core_config(Settings()).decode
    with tempfile.TemporaryDirectory() as directory:
        spooled = SpooledHistory(Path(directory), rules)
        for _ in spooled.add(blocks):
            pass
        survey = spooled.survey(lambda _what, _done: None)
        known = TrainingHistory(
            spooled, survey, horizon_days=horizon, min_orders=MIN_ORDERS,
            active_within_days=ACTIVE_WITHIN_DAYS, rules=rules,
        )  # fmt: skip
        sample = known.rows(2_000_000, until_ms=until_ms)
    assert sample is not None
    with tempfile.TemporaryDirectory() as root:
        summary = train(
            sample.data, root=Path(root), date="2026-11-29", horizon_days=horizon, source="alerted",
            eligibility=Eligibility(MIN_ORDERS, ACTIVE_WITHIN_DAYS),
        )  # fmt: skip
        return load_artifact(summary.path)


@click.command()
@click.argument("shop", type=click.Choice(["completejourney", "subscribers"]))
@click.option("--horizon", default=28, show_default=True, help="Days.")
@click.option("--overdue-ratio", default=1.25, show_default=True, help="As in [alerts].")
def main(shop: str, horizon: int, overdue_ratio: float) -> None:
    """Count the alerts of a SHOP."""
    if shop == "completejourney":
        blocks = list(completejourney.orders())
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = shops.write(Path(folder) / "orders.csv", shops.subscribers())
            blocks = list(read(path, ReadOptions(), 2**41))
    history = read_history(blocks, "USD", {"USD": 1.0})
    from_ms = history.first_ms + (history.last_ms - history.first_ms) * 2 // 3
    champion = _trained(blocks, horizon, from_ms)
    config = replace(core_config(Settings()), alert_overdue_ratio=overdue_ratio)
    user, at_ms = alerted(history, champion, config)
    found = judge_alerts(
        history, user, at_ms, horizon_days=horizon, from_ms=from_ms, min_orders=MIN_ORDERS
    )
    click.echo(
        f"{len(found.at_ms):,} alerts of {found.customers:,} customers, {found.right.sum():,} "
        f"right, {found.vain:,} vain; {len(found.lead_days):,} of {found.left:,} who left were "
        "alerted"
    )


if __name__ == "__main__":
    main()
