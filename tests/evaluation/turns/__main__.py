"""What a sequence model is worth where the order of events matters, and how near to the law it is.

    python -m tests.evaluation.turns --seeds 1,2,3
    python -m tests.evaluation.turns --without let_down --seeds 1,2,3

Each draw takes some minutes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TimeElapsedColumn

from streams.commands.support import print_table
from tests.evaluation.turns.law import Law
from tests.evaluation.turns.measure import SCORES, Measured, measured

_LAWS = {
    "": Law(),
    "let_down": replace(Law(), let_down=0.0, base=0.0006),
    "wavering": replace(Law(), wavering=1.0, base=0.0003),
}
"""The whole law, or one without one of its two causes, and about as much churn."""


@click.command()
@click.option("--customers", default=3_000, show_default=True, type=click.IntRange(100))
@click.option("--days", default=280, show_default=True, type=click.IntRange(200))
@click.option("--seeds", default="1,2,3", show_default=True, help="One draw of the shop for each.")
@click.option(
    "--without", default="", type=click.Choice([*_LAWS]), help="Leave out one cause of the law."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def main(customers: int, days: int, seeds: str, without: str, as_json: bool) -> None:
    """Compare trees, a sequence model, both pooled, and the law's own ceiling."""
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

            found[seed] = measured(_LAWS[without], customers, days, seed, progress)
            for bar in bar_of.values():
                bars.remove_task(bar)
    if as_json:
        click.echo(json.dumps({seed: _json(one) for seed, one in found.items()}, indent=2))
    else:
        _print(found)


def _json(one: Measured) -> dict[str, Any]:
    return {
        "taught": one.taught, "judged": one.judged, "churn_rate": one.churn_rate,
        "auc": one.auc, "log_loss": one.log_loss, "weight": one.weight,
        "closed": {name: one.closed(name) for name in ("sequence", "pooled")},
        "verdicts": {name: [v.promote, v.why] for name, v in one.verdicts.items()},
    }  # fmt: skip


def _print(found: dict[int, Measured]) -> None:
    for metric in ("auc", "log_loss"):
        rows = [
            (
                str(seed), f"{one.taught:,}", f"{one.judged:,}", f"{one.churn_rate:.1%}",
                *(f"{getattr(one, metric)[name]:.4f}" for name in SCORES),
            )
            for seed, one in found.items()
        ]  # fmt: skip
        means = [np.mean([getattr(one, metric)[name] for one in found.values()]) for name in SCORES]
        rows.append(("mean", "", "", "", *(f"{mean:.4f}" for mean in means)))
        print_table(("seed", "taught", "judged", "left", *SCORES), rows, title=metric)
    rows = [
        (str(seed), name, f"{one.closed(name):.1%}", f"{one.weight:.1f}",
         "better" if one.verdicts[name].promote else "not better", one.verdicts[name].why)
        for seed, one in found.items()
        for name in ("sequence", "pooled")
    ]  # fmt: skip
    print_table(
        ("seed", "challenger", "closed", "weight", "than the trees", "why"), rows,
        title="the way from the trees' log loss to the ceiling's, and the rule of promotion",
    )  # fmt: skip


if __name__ == "__main__":
    main()
