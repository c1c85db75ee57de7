"""Made-up gift wholesalers of a year: value, churn and intervals, and customers with one order.

    python -m tests.evaluation.value --seeds 1,2,3,4,5,6,7,8,9,10

Prints two tables, of customers with two orders or more and of those with one: Tideline, and after
the comma BG/NBD (for amounts with Gamma-Gamma). `--days 738` has two years, so that a season can be
learned; `--regularity 1` has gaps as BG/NBD assumes them.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import click
import numpy as np
from rich.console import Console
from rich.progress import track

from streams.evaluation.measure import Task, few_tasks, figures, tasks
from tests.evaluation import shops
from tests.evaluation.rivals import evaluated_whole

__all__ = ["main"]

COLUMNS: Final = (
    ("churn", "auc"),
    ("churn", "average_precision"),
    ("churn", "log_loss"),
    ("churn", "ece"),
    ("value", "normalized_gini"),
    ("value", "bias"),
    ("value", "decile_mape"),
)
_HEAD: Final = (
    "| draw | AUC | average precision | log loss | ECE | Gini | predicted / spent | decile MAPE "
    "| in 80 % interval |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)
RIVAL: Final = {"churn": "bgnbd", "value": "bgnbd_gg"}
Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Draw:
    """The figures of one draw, by task and method."""

    customers: Figures
    one_order: Figures


def _by_task(found: dict[str, Task]) -> Figures:
    return {key.rsplit("_", 1)[0]: of for key, of in figures(found).items()}


def measured(seed: int, *, horizon_days: int, days: int, regularity: float) -> Draw:
    """One draw of the shop."""
    orders = shops.wholesale(seed=seed, days=days, regularity=regularity)
    whole = evaluated_whole(orders, horizon_days)
    return Draw(
        _by_task(tasks(whole.replayed.cuts, whole.protocol)),
        _by_task(few_tasks(whole.replayed.few, whole.protocol)),
    )


def _cells(found: list[Figures]) -> str:
    pairs = [
        ", ".join(
            f"{np.mean([one[task][method][figure] for one in found]):.3f}"
            for method in ("blend", RIVAL[task])
        )
        for task, figure in COLUMNS
    ]
    covered = np.mean([one["value"]["blend"]["coverage_80"] for one in found])
    return " | ".join([*pairs, f"{covered:.1%}"])


def _print(title: str, seeds: list[int], found: list[Figures]) -> None:
    click.echo(f"{title}\n\n{_HEAD}")
    for seed, one in zip(seeds, found, strict=True):
        click.echo(f"| {seed} | {_cells([one])} |")
    click.echo(f"| mean | {_cells(found)} |\n")
    for task, figure in COLUMNS[:5]:
        low = figure in ("log_loss", "ece")
        pairs = [(one[task]["blend"][figure], one[task][RIVAL[task]][figure]) for one in found]
        ahead = sum(ours < theirs if low else ours > theirs for ours, theirs in pairs)
        click.echo(f"{task} {figure}: better than BG/NBD in {ahead} of {len(found)} draws")
    click.echo()


@click.command()
@click.option("--horizon", default=60, show_default=True, help="Days.")
@click.option("--days", default=373, show_default=True, help="Length of the history.")
@click.option("--regularity", default=2.0, show_default=True, help="Of the gaps; 1: none.")
@click.option("--seeds", default="1,2,3", show_default=True, help="One draw of the shop for each.")
@click.option("--at-once", default=1, show_default=True, type=click.IntRange(1, 8))
def main(horizon: int, days: int, regularity: float, seeds: str, at_once: int) -> None:
    """Measure value, churn and intervals beside BG/NBD and Gamma-Gamma."""
    drawn = [int(seed) for seed in seeds.split(",")]
    draw = partial(measured, horizon_days=horizon, days=days, regularity=regularity)
    with ProcessPoolExecutor(at_once) as pool:
        every = pool.map(draw, drawn)
        found = list(
            track(every, "draws", total=len(drawn), console=Console(stderr=True), auto_refresh=True)
        )
    _print("Two orders or more", drawn, [one.customers for one in found])
    _print("One order", drawn, [one.one_order for one in found])


if __name__ == "__main__":
    main()
