"""What clicks are worth on a made-up shop whose law is known, and how near to the law that comes.

    python -m tests.evaluation.clicks --seeds 1,2,3,4

Each draw takes two minutes: the shop's events go through the code of a worker.
"""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np
from msgspec.structs import asdict
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TimeElapsedColumn

from streams.commands.support import print_table
from tests.evaluation.clicks.law import Law
from tests.evaluation.clicks.measure import SCORES, Measured, measured

METRICS = ("auc", "log_loss")


@click.command()
@click.option("--customers", default=10_000, show_default=True, type=click.IntRange(100))
@click.option("--days", default=420, show_default=True, type=click.IntRange(200))
@click.option(
    "--seeds", default="1,2,3,4", show_default=True, help="One draw of the shop for each."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def main(customers: int, days: int, seeds: str, as_json: bool) -> None:
    """Compare a champion of orders only, one with clicks, and the law's own ceiling."""
    found: dict[int, Measured] = {}
    columns = SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=as_json) as bars:
        for seed in map(int, seeds.split(",")):
            bar_of: dict[str, TaskID] = {}

            def progress(
                what: str, done: float, seed: int = seed, bar_of: dict[str, TaskID] = bar_of
            ) -> None:
                if what not in bar_of:
                    bar_of[what] = bars.add_task(f"seed {seed}: {what}", total=1.0)
                bars.update(bar_of[what], completed=done)

            found[seed] = measured(Law(), customers, days, seed, progress)
            for bar in bar_of.values():
                bars.remove_task(bar)
    if as_json:
        click.echo(json.dumps({seed: _json(one) for seed, one in found.items()}, indent=2))
    else:
        _print(found)


def _json(one: Measured) -> dict[str, Any]:
    return {
        "taught": one.taught, "judged": one.judged, "churn_rate": one.churn_rate,
        **{metric: getattr(one, metric) for metric in METRICS},
        "closed": {metric: one.closed(metric) for metric in METRICS},
        "groups": [asdict(group) for group in one.groups],
    }  # fmt: skip


def _print(found: dict[int, Measured]) -> None:
    for metric in METRICS:
        rows = [
            (
                str(seed), f"{one.taught:,}", f"{one.judged:,}", f"{one.churn_rate:.1%}",
                *(f"{getattr(one, metric)[name]:.4f}" for name in SCORES),
                f"{one.closed(metric):.1%}",
            )
            for seed, one in found.items()
        ]  # fmt: skip
        means = [np.mean([getattr(one, metric)[name] for one in found.values()]) for name in SCORES]
        closed = np.mean([one.closed(metric) for one in found.values()])
        rows.append(("mean", "", "", "", *(f"{mean:.4f}" for mean in means), f"{closed:.1%}"))
        print_table(("seed", "taught", "judged", "left", *SCORES, "closed"), rows, title=metric)
    names = list(dict.fromkeys(g.group for one in found.values() for g in one.groups))
    gains = {
        name: [g.log_loss for one in found.values() for g in one.groups if g.group == name]
        for name in names
    }
    print_table(
        ("without what this group says", "log loss", "least", "most", "draws"),
        [
            (
                name,
                f"{np.mean(each):+.4f}",
                f"{min(each):+.4f}",
                f"{max(each):+.4f}",
                str(len(each)),
            )
            for name, each in sorted(gains.items(), key=lambda item: -float(np.mean(item[1])))
        ],
        title="Champion with clicks, on rows held back from training",
    )


if __name__ == "__main__":
    main()
