"""How many alerts a model raises on a history, whose, and which of them were right.

    python -m tests.evaluation.alerted completejourney --overdue-ratio 1.25

A model is trained on the first two thirds of the orders, and lives through all of them as a shard
does. What it raises in the last third is judged: an alert is right if no order came within the
horizon; it is vain if the customer was back within a quarter more than their usual gap, as always.
A customer is lost if they paused for two horizons and twice their usual gap. Two minutes.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
import numpy as np

from models.artifact import load_artifact
from models.champion import Champion
from models.manifest import Eligibility
from models.training.train import train
from streams.core.config import CoreConfig
from streams.core.features import DAY_MS
from streams.evaluation.history import History, read_history
from streams.evaluation.rhythm import usual_gap_days
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

__all__ = ["Alerted", "alerted", "judge"]

MIN_ORDERS: Final = 2
ACTIVE_WITHIN_DAYS: Final = 84
BACK_AS_ALWAYS: Final = 1.25
"""Times their usual gap; three gaps or more, or it is not usual."""


@dataclass(frozen=True)
class Alerted:
    """Alerts of one history, and what became of the customers."""

    alerts: int
    customers: int
    right: int
    vain: int
    lost: int
    found: int
    """Of the lost ones: alerted during the pause."""


def alerted(history: History, champion: Champion, config: CoreConfig) -> list[tuple[int, int]]:
    """(user, raised at, in ms) of each alert that `champion` raises on a whole history."""
    shard = ReplayedShard(history.records, config, champion.manifest.horizon_days, 500)
    shard.promote(champion)
    shard.run_until(history.last_ms + 1)
    number = {user: i for i, user in enumerate(history.users)}
    return [(number[user], raised_ms) for user, raised_ms in shard.raised]


def judge(
    history: History, raised: list[tuple[int, int]], horizon_days: int, from_ms: int
) -> Alerted:
    """Judge the alerts since `from_ms` whose horizon is over, and the pauses that began then."""
    horizon_ms = horizon_days * DAY_MS
    orders = [history.ts_ms[history.user == user] for user in range(len(history.users))]

    def usual_ms(user: int, until_ms: int) -> float:
        known = orders[user][orders[user] <= until_ms]
        gap = usual_gap_days(np.zeros(len(known), np.int64), known)
        return float(gap[0]) * DAY_MS if len(gap) else 0.0

    judged = [(u, ms) for u, ms in raised if from_ms <= ms <= history.last_ms - horizon_ms]
    right = vain = lost = found = 0
    for user, ms in judged:
        at = int(np.searchsorted(orders[user], ms))
        back_ms = int(orders[user][at]) if at < len(orders[user]) else 2**62
        last_ms = int(orders[user][at - 1])
        right += back_ms >= ms + horizon_ms
        vain += back_ms - last_ms <= BACK_AS_ALWAYS * usual_ms(user, ms)
    for user, times in enumerate(orders):
        ends = [*times[1:].tolist(), history.last_ms + 1]
        for nth, (start, end) in enumerate(zip(times.tolist(), ends, strict=True), 1):
            if nth < MIN_ORDERS or start < from_ms or end - start < 2 * horizon_ms:
                continue
            if end - start >= 2 * usual_ms(user, start):
                lost += 1
                found += any(u == user and start <= ms < end for u, ms in raised)
    return Alerted(len(judged), len({u for u, _ in judged}), right, vain, lost, found)


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
    found = judge(history, alerted(history, champion, config), horizon, from_ms)
    click.echo(
        f"{found.alerts:,} alerts of {found.customers:,} customers, {found.right:,} right, "
        f"{found.vain:,} vain; {found.found:,} of {found.lost:,} lost customers alerted"
    )


if __name__ == "__main__":
    main()
