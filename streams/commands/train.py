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
from streams.commands.training_rows import LiveRows, OrderRows, TrainingRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.places import Place
    from models.training.promotion import Verdict
    from models.training.train import Summary
    from streams.settings import AlertSettings

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
@click.option(
    "--max-rows",
    default=2_000_000,
    show_default=True,
    type=click.IntRange(1),
    help="Train on a sample where there are more rows, the same ones every time.",
)
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where records of order files wait, sorted, until it is done: about 60 bytes each.  "
    "[default: the system's directory for temporary files]",
)
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same model.")
@json_option
@pass_invocation
def train(
    invocation: Invocation, /, orders: tuple[Path, ...], days: tuple[int, int] | None,
    horizon_days: int, horizon_anyway: bool, live: bool, as_of: datetime | None, out: str,
    max_rows: int, work_dir: Path | None, seed: int, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Train a champion: replay orders through the feature code, fit, calibrate, check, write.

    With --live the rows are the matured label questions of the workers, with the features that were
    served, clicks among them (TIDELINE_MODEL_KEEP_EXAMPLES, table examples).

    With --as-of it is a challenger: it becomes the current model only if it does better than the
    current one on the orders or live examples after that date. Without, it becomes the current
    model.

    Needs `pip install 'tideline[train]'`.
    """
    from tempfile import TemporaryDirectory

    from msgspec.structs import asdict
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TaskID, TimeElapsedColumn

    from models.artifact import CURRENT_FILE
    from models.registry import artifact_place
    from streams.privacy.pseudonyms import pseudonyms

    if days is not None and (live or orders):
        raise click.UsageError("--days is for Complete Journey, without --orders and --live.")
    settings = invocation.start_logging()
    root = artifact_place(out)
    root.holds(CURRENT_FILE)  # a store that can't be reached fails now, not after the fit
    until_ms = None if as_of is None else int(as_of.replace(tzinfo=UTC).timestamp() * 1000)
    with (
        TemporaryDirectory(prefix="tideline-train-", dir=work_dir) as directory,
        Progress(
            SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn(),
            console=Console(stderr=True), transient=as_json,
        ) as bars,
    ):  # fmt: skip
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=done)

        rows: TrainingRows | None = None
        history = None
        if orders or not live:
            key = pseudonyms(settings) if live else None
            rows = history = OrderRows.read(
                settings, orders, days, take_history_options(options), Path(directory), max_rows,
                progress, horizon_days=horizon_days, anyway=horizon_anyway, quiet=as_json,
                name_of=key.user if key else None,
            )  # fmt: skip
        if live or rows is None:
            rows = LiveRows(settings, horizon_days, max_rows, progress, history)
        summary = _fit(
            rows, root, until_ms, horizon_days, settings.alerts, seed, progress,
            remedy="" if history else "Or add the orders before: --orders FILE.",
            keep_long=live,
        )  # fmt: skip
        verdict = None if until_ms is None else _judge(root, summary.version, rows, until_ms)
    if as_json:
        print_json(
            {"version": summary.version, "path": str(summary.path), "rows": summary.rows,
             "trees": summary.trees, "metrics": summary.metrics,
             "top_features": dict(summary.top_features), "comparison": _json(summary),
             "feature_groups": [asdict(group) for group in summary.feature_groups],
             "bands": summary.bands, "value_365d": summary.long,
             "promoted": verdict is None or verdict.promote,
             "why": "" if verdict is None else verdict.why, **rows.as_dict()}
        )  # fmt: skip
        return
    _report(summary, horizon_days)
    if verdict is not None:
        said = "Promoted" if verdict.promote else "Not promoted"
        click.echo(f"{said}: {verdict.why}, on {verdict.rows:,} later rows.")


def _fit(
    rows: TrainingRows,
    root: Place,
    until_ms: int | None,
    horizon_days: int,
    alerts: AlertSettings,
    seed: int,
    progress: Callable[[str, float], None],
    *,
    remedy: str,
    keep_long: bool,
) -> Summary:
    """Train, on rows that are gone from memory when it is done. `remedy` is added to what is wrong
    with the rows. `keep_long`: the current model's long horizon, where the rows have no labels for
    one."""
    from models.artifact import default_artifact_path, load_artifact
    from models.manifest import Eligibility
    from models.training.train import train as fit
    from schemas.errors import ArtifactError

    taught = rows.taught(until_ms)
    try:
        kept = load_artifact(default_artifact_path(root)) if keep_long else None
    except ArtifactError:
        kept = None  # this is the first model
    try:
        return fit(
            taught.data,
            root=root,
            date=datetime.now(UTC).date().isoformat(),
            horizon_days=horizon_days,
            eligibility=Eligibility(alerts.min_orders, int(alerts.active_within_days)),
            source=rows.source,
            history="\n\n".join(rows.notes),
            horizon=rows.horizon,
            seed=seed,
            make_current=until_ms is None,
            baselines=taught.baselines,
            keep_long=kept,
            progress=progress,
        )
    except ArtifactError as error:
        raise ArtifactError(f"{error} {remedy}".rstrip()) from error


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
    from streams.commands.feature_groups import print_groups
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
    print_groups(summary.feature_groups)
    for band, trouble in summary.bands.items():
        name = band.replace("_", " ")
        click.echo(f"No model for {name}: {trouble}" if trouble else f"A model for {name}, too.")
    click.echo(f"Value within 365 days: {summary.long}.")
    rows, trees = summary.rows, summary.trees
    click.echo(
        f"{rows['train']:,} rows trained, {rows['tune']:,} tuned, {rows['test']:,} tested; "
        f"{trees['p_churn']} + {trees['spend']} trees. Written to {summary.path}"
    )
