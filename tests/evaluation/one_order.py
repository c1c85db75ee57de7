"""Customers with one order on made-up shops: Tideline beside BG/NBD and RFM, over several draws.

    python -m tests.evaluation.one_order --seeds 1,2,3

Prints a table: churn's AUC, log loss and calibration error, and the value's Gini and bias.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import click
import numpy as np
from rich.console import Console
from rich.progress import track

from streams.evaluation.measure import few_tasks, figures
from tests.evaluation import shops
from tests.evaluation.rivals import evaluated_whole

__all__ = ["main"]

METHODS: Final = {"churn": ("blend", "bgnbd", "rfm"), "value": ("blend", "bgnbd_gg", "rfm")}
FIGURES: Final = {
    "churn": ("auc", "average_precision", "log_loss", "ece"),
    "value": ("normalized_gini", "bias", "decile_mape"),
}
SHOPS: Final = {"wholesale": shops.wholesale, "gifts": shops.gifts}


def measured(shop: str, seed: int, horizon_days: int) -> dict[str, Any]:
    """The figures of one draw, by task."""
    whole = evaluated_whole(partial(SHOPS[shop], seed=seed)(), horizon_days)
    found = few_tasks(whole.replayed.few, whole.protocol)
    return {key.split("_")[0]: of for key, of in figures(found).items()}


def _line(found: list[dict[str, Any]], task: str, figure: str) -> str:
    cells = []
    for method in METHODS[task]:
        values = [one[task][method][figure] for one in found]
        known = [value for value in values if value is not None]
        cells.append(f"{np.mean(known):.4f}" if known else "")
    return f"| {task}: {figure} | {' | '.join(cells)} |"


@click.command()
@click.option("--shop", default="wholesale", show_default=True, type=click.Choice([*SHOPS]))
@click.option("--horizon", default=60, show_default=True, help="Days.")
@click.option("--seeds", default="1,2,3", show_default=True, help="One draw of the shop for each.")
def main(shop: str, horizon: int, seeds: str) -> None:
    """Measure customers with one order."""
    drawn = [int(seed) for seed in seeds.split(",")]
    found = [
        measured(shop, seed, horizon)
        for seed in track(drawn, description=shop, console=Console(stderr=True))
    ]
    rows = sum(one["churn"]["blend"]["n"] for one in found)
    click.echo(f"{shop}, {horizon} days, {len(found)} draws, {rows:,} rows\n")
    click.echo("| one order | Tideline | BG/NBD | RFM |\n| --- | --- | --- | --- |")
    for task, names in FIGURES.items():
        for figure in names:
            click.echo(_line(found, task, figure))
    ahead = sum(
        one["churn"]["blend"]["log_loss"] < one["churn"]["bgnbd"]["log_loss"] for one in found
    )
    click.echo(f"\nlog loss below BG/NBD's in {ahead} of {len(found)} draws")


if __name__ == "__main__":
    main()
