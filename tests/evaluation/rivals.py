"""Tideline beside BG/NBD and RFM on a made-up shop, over several draws of it.

    python -m tests.evaluation.rivals wholesale --horizon 60 --seeds 1,2,3 --regularity 1

Prints churn AUC and log loss, and the normalised Gini of value, as `tideline evaluate` finds them.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import click
import numpy as np

from models.baselines.metrics import auc, log_loss, normalised_gini
from streams.evaluation.history import History, read_history
from streams.evaluation.measure import Task, tasks
from streams.evaluation.protocol import Protocol, plan_protocol
from streams.evaluation.rows import CutRows
from streams.evaluation.run import Replayed, replay
from streams.history.read import read
from streams.history.table import ReadOptions
from streams.replay.records import Source
from streams.settings import Settings
from streams.shard.config import core_config
from tests.evaluation import shops

__all__ = ["Whole", "evaluated", "evaluated_whole", "replayed"]

SHOPS: Final = ("wholesale", "gifts", "cohort", "weekly")


@dataclass(frozen=True)
class Whole:
    """Orders as `tideline evaluate` saw them, when it asked, and all that its replay left."""

    history: History
    protocol: Protocol
    replayed: Replayed


def evaluated_whole(orders: shops.Orders, horizon: int = 28) -> Whole:
    """What `tideline evaluate` makes of these orders."""
    with tempfile.TemporaryDirectory() as directory:
        path = shops.write(Path(directory) / "orders.csv", orders)
        source = read(path, ReadOptions(), int(time.time() * 1000))
        return _replayed(source, horizon)


def evaluated(orders: shops.Orders, horizon: int = 28) -> tuple[History, Task, Task]:
    """What `tideline evaluate` makes of these orders: they themselves, churn and value."""
    whole = evaluated_whole(orders, horizon)
    found = tasks(whole.replayed.cuts, whole.protocol)
    return whole.history, found["churn"], found["value"]


def replayed(source: Source, horizon: int) -> tuple[History, Protocol, list[CutRows]]:
    """A source's orders, when they are asked about, and the rows and scores at each cut."""
    whole = _replayed(source, horizon)
    return whole.history, whole.protocol, whole.replayed.cuts


def _replayed(source: Source, horizon: int) -> Whole:
    settings = Settings()
    config = core_config(settings)
    history = read_history(source, config.decode.currency, config.decode.rates)
    protocol = plan_protocol(history, horizon, settings.alerts.min_orders, None)
    return Whole(history, protocol, replay(history, protocol, config, threads=1))


def _figures(churn: Task, value: Task) -> dict[str, float]:
    figures = {f"AUC {m}": auc(churn.truth, churn.scores[m]) for m in ("blend", "bgnbd", "rfm")}
    figures |= {f"log loss {m}": log_loss(churn.truth, churn.scores[m]) for m in ("blend", "bgnbd")}
    for method in ("blend", "bgnbd_gg", "rfm"):
        figures[f"Gini {method}"] = normalised_gini(value.truth, value.scores[method])
    return figures


@click.command()
@click.argument("shop", type=click.Choice(SHOPS))
@click.option(
    "--users", type=click.IntRange(2), help="Customers; the shop's own number if left out."
)
@click.option("--days", type=click.IntRange(1), help="Length of the history; as above.")
@click.option("--horizon", default=28, show_default=True, help="Days.")
@click.option("--regularity", type=float, help="Of a wholesaler's gaps; 1: none.")
@click.option("--seeds", default="1,2,3", show_default=True, help="One draw of the shop for each.")
def main(
    shop: str,
    users: int | None,
    days: int | None,
    horizon: int,
    regularity: float | None,
    seeds: str,
) -> None:
    """Compare Tideline with BG/NBD and RFM on a made-up SHOP."""
    given = {"users": users, "days": days, "regularity": regularity}
    draw = partial(getattr(shops, shop), **{k: v for k, v in given.items() if v is not None})
    found = []
    for seed in map(int, seeds.split(",")):
        _, churn, value = evaluated(draw(seed=seed), horizon)
        found.append(_figures(churn, value))
        rest = ", ".join(f"{name} {figure:.4f}" for name, figure in found[-1].items())
        click.echo(f"seed {seed}, {len(churn.truth):,} rows, {churn.truth.mean():.1%} left: {rest}")
    means = {name: np.mean([one[name] for one in found]) for name in found[0]}
    click.echo("mean: " + ", ".join(f"{name} {figure:.4f}" for name, figure in means.items()))


if __name__ == "__main__":
    main()
