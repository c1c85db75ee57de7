"""`tideline train`: orders in, a checked model artifact out."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.commands.days import Days
from streams.commands.history_options import history_options, take_history_options
from streams.commands.horizon import horizon_anyway_option
from streams.commands.support import Invocation, json_option, pass_invocation, print_json
from streams.commands.training_rows import LIVE_ROWS, LiveRows, OrderRows, TrainingRows

if TYPE_CHECKING:
    from models.places import Place
    from models.training.promotion import Verdict
    from models.training.train import Summary

__all__ = ["train"]


@click.command()
@click.option(
    "--orders",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Your orders: CSV, Excel, Parquet or JSON. Repeat it for several files. Default: the "
    "Complete Journey data.",
)
@history_options
@click.option(
    "--days",
    type=Days(),
    default=None,
    help="Complete Journey only: train on these days of its year, such as 0-245.",
)
@click.option(
    "--horizon-days",
    default=28,
    show_default=True,
    type=click.IntRange(1, 365),
    help="Churn means no order in so many days.",
)
@horizon_anyway_option
@click.option(
    "--live",
    is_flag=True,
    help="Train on the examples that ClickHouse keeps, with the features that were served; with "
    "--orders, on those orders too where live examples are few.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=None,
    help="With --live: train on at most so many rows, the same ones every time.  "
    f"[default: {LIVE_ROWS:,}]",
)
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    default=None,
    help="Train on what was known then, judge on what came after, and promote only if it won.",
)
@click.option(
    "--out",
    default="",
    metavar="DIRECTORY",
    help="Where to write the artifact, a path or a URL. Default: models/artifacts of this "
    "installation.",
)
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same model.")
@json_option
@pass_invocation
def train(
    invocation: Invocation, /, orders: tuple[Path, ...], days: tuple[int, int] | None,
    horizon_days: int, horizon_anyway: bool, live: bool, rows: int | None, as_of: datetime | None,
    out: str, seed: int, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Train a champion: replay orders through the feature code, fit, calibrate, check, write.

    With --live the rows are the matured label questions of the workers, with the features that were
    served, clicks among them (TIDELINE_MODEL_KEEP_EXAMPLES, table examples).

    With --as-of it is a challenger: it becomes the current model only if it does better than the
    current one on the orders or live examples after that date. Without, it becomes the current
    model.

    Needs `pip install 'tideline[train]'`.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TaskID, TimeElapsedColumn

    from models.artifact import CURRENT_FILE
    from models.manifest import Eligibility
    from models.registry import artifact_place
    from models.training.train import train as fit
    from schemas.errors import ArtifactError

    if rows is not None and not live:
        raise click.UsageError("--rows goes with --live; order files are trained on whole.")
    if days is not None and (live or orders):
        raise click.UsageError("--days is for Complete Journey, without --orders and --live.")
    settings = invocation.start_logging()
    root = artifact_place(out)
    root.holds(CURRENT_FILE)  # a store that can't be reached fails now, not after the fit
    source: TrainingRows | None = None
    history = None
    if orders or not live:
        source = history = OrderRows.read(
            settings, orders, days, take_history_options(options),
            horizon_days=horizon_days, anyway=horizon_anyway, quiet=as_json,
        )  # fmt: skip
    if live or source is None:
        source = LiveRows(settings, horizon_days, rows or LIVE_ROWS, history)
    alerts = settings.alerts
    until_ms = None if as_of is None else int(as_of.replace(tzinfo=UTC).timestamp() * 1000)
    with Progress(
        SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn(),
        console=Console(stderr=True), transient=as_json,
    ) as bars:  # fmt: skip
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=done)

        data = source.taught(until_ms, progress)
        try:
            summary = fit(
                data,
                root=root,
                date=datetime.now(UTC).date().isoformat(),
                horizon_days=horizon_days,
                eligibility=Eligibility(alerts.min_orders, int(alerts.active_within_days)),
                source=source.source,
                history="\n\n".join(source.notes),
                horizon=source.horizon,
                seed=seed,
                make_current=as_of is None,
                baselines=source.baselines(data),
                progress=progress,
            )
        except ArtifactError as error:
            if history is None:
                raise ArtifactError(f"{error} Or add the orders before: --orders FILE.") from error
            raise
    verdict = None if until_ms is None else _judge(root, summary.version, source, until_ms)
    if as_json:
        print_json(
            {"version": summary.version, "path": str(summary.path), "rows": summary.rows,
             "trees": summary.trees, "metrics": summary.metrics,
             "top_features": dict(summary.top_features), "comparison": _json(summary),
             "promoted": verdict is None or verdict.promote,
             "why": "" if verdict is None else verdict.why, **source.as_dict()}
        )  # fmt: skip
        return
    _report(summary, horizon_days)
    if verdict is not None:
        said = "Promoted" if verdict.promote else "Not promoted"
        click.echo(f"{said}: {verdict.why}, on {verdict.rows:,} later rows.")


def _judge(root: Place, version: str, rows: TrainingRows, until_ms: int) -> Verdict:
    """Promote the challenger if it beats the current champion on what has matured since."""
    from models.artifact import artifact_path, default_artifact_path, load_artifact, promote
    from models.training.promotion import Verdict, judge
    from schemas.errors import ArtifactError

    challenger = load_artifact(artifact_path(version, root))
    nothing = (float("nan"), float("nan"))
    try:
        champion = load_artifact(default_artifact_path(root))
    except ArtifactError as error:
        verdict = Verdict(True, f"there is no champion to beat ({error})", 0, nothing, nothing)
    else:
        seen = champion.manifest.training.get("labels_until_ms", 0)
        after = max(until_ms, seen if isinstance(seen, int) else 0)
        later = rows.later(after)
        verdict = (
            Verdict(False, "no label became known after both were trained", 0, nothing, nothing)
            if later is None
            else judge(champion, challenger, later)
        )
    if verdict.promote:
        promote(root, version)
    return verdict


def _json(summary: Summary) -> dict[str, dict[str, float | None]]:
    return {
        name: {k: v if v == v else None for k, v in row.items()}  # noqa: PLR0124  (NaN)
        for name, row in summary.comparison
    }


def _report(summary: Summary, horizon_days: int) -> None:
    from streams.commands.support import print_table

    print_table(
        ("metric", "value"),
        [(name, f"{value:.4f}") for name, value in summary.metrics.items()],
        title=f"{summary.version}: {horizon_days} days, on users and weeks held back",
    )
    print_table(
        ("on the same rows", "churn AUC", "average precision", "spend Gini"),
        [(name, *(f"{v:.4f}" if v == v else "-" for v in row.values()))  # noqa: PLR0124  (NaN)
         for name, row in summary.comparison],
    )  # fmt: skip
    print_table(
        ("feature", "share of gain"),
        [(name, f"{share:.1%}") for name, share in summary.top_features],
    )
    rows, trees = summary.rows, summary.trees
    click.echo(
        f"{rows['train']:,} rows trained, {rows['tune']:,} tuned, {rows['test']:,} tested; "
        f"{trees['p_churn']} + {trees['spend']} trees. Written to {summary.path}"
    )
