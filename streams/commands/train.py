"""`tideline train`: orders in, a checked model artifact out."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.commands.days import Days
from streams.commands.history_options import (
    history_options,
    print_report,
    read_orders,
    take_history_options,
)
from streams.commands.horizon import check_horizon, horizon_anyway_option
from streams.commands.support import Invocation, json_option, pass_invocation, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.places import Place
    from models.training.promotion import Verdict
    from models.training.train import Summary
    from streams.evaluation.spooled import SpooledHistory
    from streams.evaluation.training import TrainingHistory
    from streams.history.report import Report
    from streams.replay.records import Source
    from streams.settings import Settings

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
    type=click.IntRange(1_000),
    help="Train on a sample where there are more rows, one per customer and week.",
)
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where records wait, sorted, until it is done: about 60 bytes each.  [default: the "
    "system's directory for temporary files]",
)
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same model.")
@json_option
@pass_invocation
def train(
    invocation: Invocation, /, orders: tuple[Path, ...], days: tuple[int, int] | None,
    horizon_days: int, horizon_anyway: bool, as_of: datetime | None, out: str, max_rows: int,
    work_dir: Path | None, seed: int, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Train a champion: replay orders through the feature code, fit, calibrate, check, write.

    With --as-of it is a challenger: it becomes the current model only if it does better than the
    current one on the orders after that date. Without, it becomes the current model.

    Needs `pip install 'tideline[train]'`.
    """
    from tempfile import TemporaryDirectory

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TaskID, TimeElapsedColumn

    from models.artifact import CURRENT_FILE
    from models.manifest import Eligibility
    from models.registry import artifact_place
    from models.training.train import train as fit
    from schemas.errors import SettingsError
    from streams.evaluation.spooled import SpooledHistory
    from streams.evaluation.training import TrainingHistory, longest_horizon_days
    from streams.memory import release_memory
    from streams.shard.config import core_config

    settings = invocation.start_logging()
    root = artifact_place(out)
    root.holds(CURRENT_FILE)  # a store that can't be reached fails now, not after the fit
    alerts, rules = settings.alerts, core_config(settings).decode
    active_within_days = int(alerts.active_within_days)
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

        spooled = SpooledHistory(Path(directory), rules)
        sources = _spool(
            spooled, orders, days, take_history_options(options), settings, as_json, progress
        )
        reports = [source.report for source in sources if source.report is not None]
        survey = spooled.survey(progress)
        rhythm = check_horizon(
            survey.gap_days,
            customers=survey.customers,
            horizon_days=horizon_days,
            gone_after_days=active_within_days,
            longest_days=longest_horizon_days(survey.first_ms, survey.last_ms),
            option="--horizon-days {}",
            anyway=horizon_anyway,
            quiet=as_json,
        )
        history = TrainingHistory(
            spooled,
            survey,
            horizon_days=horizon_days,
            min_orders=alerts.min_orders,
            active_within_days=active_within_days,
            rules=rules,
            progress=progress,
        )
        sample = history.rows(max_rows, until_ms=until_ms)
        if sample is None:
            raise SettingsError(
                _nobody(horizon_days, alerts.min_orders)
                if as_of is None
                else f"No label was known by {as_of:%Y-%m-%d}: use a later --as-of, at least "
                f"{horizon_days + 28} days after the first order."
            )
        baselines = history.baselines(sample)
        release_memory()  # of the replay, before the fit needs it
        summary = fit(
            sample.data,
            root=root,
            date=datetime.now(UTC).date().isoformat(),
            horizon_days=horizon_days,
            eligibility=Eligibility(alerts.min_orders, active_within_days),
            source=", ".join(source.name for source in sources),
            history="\n\n".join(report.markdown() for report in reports),
            horizon=" ".join(filter(None, (rhythm.sentence(), rhythm.gone_sentence()))),
            seed=seed,
            make_current=as_of is None,
            baselines=baselines,
            progress=progress,
        )
        rows, of_rows = len(sample.data.x), sample.of_rows
        del sample  # before another one is made
        verdict = None
        if until_ms is not None:
            verdict = _judge(root, summary.version, history, until_ms, max_rows)
    if as_json:
        print_json(
            {"version": summary.version, "path": str(summary.path), "rows": summary.rows,
             "trees": summary.trees, "metrics": summary.metrics,
             "top_features": dict(summary.top_features), "comparison": _json(summary),
             "promoted": verdict is None or verdict.promote,
             "why": "" if verdict is None else verdict.why,
             "sample": {"rows": rows, "of": of_rows}, "history": _summary(sources),
             "rhythm": rhythm.as_dict()}
        )  # fmt: skip
        return
    _report(summary, horizon_days)
    if rows < of_rows:
        click.echo(f"A sample of {rows:,} of {of_rows:,} rows, one per customer and week.")
    if verdict is not None:
        said = "Promoted" if verdict.promote else "Not promoted"
        click.echo(f"{said}: {verdict.why}, on {verdict.rows:,} later rows.")


def _summary(sources: list[_Read]) -> dict[str, Any]:
    """What was read, and how: of one source, or of each under `files`."""
    found = [source.summary for source in sources]
    return found[0] if len(found) == 1 else {"files": found}


def _judge(
    root: Place, version: str, history: TrainingHistory, until_ms: int, max_rows: int
) -> Verdict:
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
        later = history.rows(max_rows, after_ms=after)
        verdict = (
            Verdict(False, "no label became known after both were trained", 0, nothing, nothing)
            if later is None
            else judge(champion, challenger, later.data)
        )
    if verdict.promote:
        promote(root, version)
    return verdict


def _json(summary: Summary) -> dict[str, dict[str, float | None]]:
    return {
        name: {k: v if v == v else None for k, v in row.items()}  # noqa: PLR0124  (NaN)
        for name, row in summary.comparison
    }


def _nobody(horizon_days: int, min_orders: int) -> str:
    return (
        f"Nobody had {min_orders} orders by any weekly cut that is {horizon_days} days before the "
        "end, so there is nothing to learn from. Use a longer history, or a shorter "
        "--horizon-days; and if customers do come back, check which column --map names as user."
    )


@dataclass(frozen=True)
class _Read:
    """A source whose records are in the spool: its name, what it says of itself, and the report of
    a file."""

    name: str
    summary: dict[str, Any]
    report: Report | None


def _spool(
    spooled: SpooledHistory,
    orders: Sequence[Path],
    days: tuple[int, int] | None,
    how: dict[str, Any],
    settings: Settings,
    quiet: bool,
    progress: Callable[[str, float], None],
) -> list[_Read]:
    """Read every source and sort its records, one after the other: a file takes much more memory
    than its rows will."""
    from streams.evaluation.training import without_erased

    forgotten_until = _forgotten_until(settings) if orders else None
    sources = []
    paths = orders or (None,)
    for number, path in enumerate(paths):
        source, about = _read(path, days, how, quiet)
        blocks = without_erased(source, forgotten_until) if forgotten_until else source
        for written in spooled.add(blocks):
            of_this = min(written / max(source.expected_records or 0, 1), 1.0)
            progress("sort", (number + of_this) / len(paths))
        sources.append(about)
        del source, blocks
    return sources


def _read(
    path: Path | None, days: tuple[int, int] | None, options: dict[str, Any], quiet: bool
) -> tuple[Source, _Read]:
    from schemas.errors import SettingsError
    from streams.replay import completejourney

    if path is None:
        span = f" days {days[0]}-{days[1]}" if days else ""
        year = completejourney.orders(days=days)
        return year, _Read(f"Complete Journey{span}", year.summary(), None)
    found = read_orders(path, options)
    if found.report.one_order_each:
        raise SettingsError(found.report.one_order_each)
    if not quiet:
        print_report(found.report)
    return found, _Read(path.name, found.summary(), found.report)


def _forgotten_until(settings: Settings) -> Callable[[str], int] | None:
    """Your own orders may still hold people who were erased here: until when to leave out a user.
    None: that is not known."""
    from schemas.errors import BrokerUnavailable
    from streams.kafka.access import kafka_access
    from streams.kafka.reach import require_reachable
    from streams.privacy.erasure_board import read_board

    try:
        require_reachable(kafka_access(settings), 2.0)
        board = asyncio.run(read_board(settings))
    except BrokerUnavailable as error:
        click.echo(
            f"Warning: people who were erased are not left out of these orders: {error}", err=True
        )
        return None
    return board.forgotten_until


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
