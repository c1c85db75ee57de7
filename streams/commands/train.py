"""`tideline train`: orders in, a checked model artifact out."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import asyncio
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
    from collections.abc import Iterable, Sequence

    from models.places import Place
    from models.training.promotion import Verdict
    from models.training.train import Summary
    from streams.evaluation.training import TrainingCuts
    from streams.history.report import Report
    from streams.replay.records import Block, Source
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
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same model.")
@json_option
@pass_invocation
def train(
    invocation: Invocation, /, orders: tuple[Path, ...], days: tuple[int, int] | None,
    horizon_days: int, horizon_anyway: bool, as_of: datetime | None, out: str, seed: int,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Train a champion: replay orders through the feature code, fit, calibrate, check, write.

    With --as-of it is a challenger: it becomes the current model only if it does better than the
    current one on the orders after that date. Without, it becomes the current model.

    Needs `pip install 'tideline[train]'`.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TaskID, TimeElapsedColumn

    from models.artifact import CURRENT_FILE
    from models.manifest import Eligibility
    from models.registry import artifact_place
    from models.training.train import train as fit
    from schemas.errors import SettingsError
    from streams.evaluation.history import read_history
    from streams.evaluation.training import longest_horizon_days, replay_cuts
    from streams.shard.config import core_config

    settings = invocation.start_logging()
    root = artifact_place(out)
    root.holds(CURRENT_FILE)  # a store that can't be reached fails now, not after the fit
    source, described, reports = _source(orders, days, take_history_options(options))
    for report in () if as_json else reports:
        print_report(report)
    blocks = list(_without_erased(source, settings) if orders else source)
    alerts, rules = settings.alerts, core_config(settings).decode
    active_within_days = int(alerts.active_within_days)
    history = read_history(blocks, rules.currency, rules.rates)
    until_ms = None if as_of is None else int(as_of.replace(tzinfo=UTC).timestamp() * 1000)
    rhythm = check_horizon(
        history,
        horizon_days=horizon_days,
        gone_after_days=active_within_days,
        longest_days=longest_horizon_days(history),
        option="--horizon-days {}",
        anyway=horizon_anyway,
        quiet=as_json,
    )
    with Progress(
        SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn(),
        console=Console(stderr=True), transient=as_json,
    ) as bars:  # fmt: skip
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=1.0)
            bars.update(tasks[what], completed=done)

        replayed = replay_cuts(
            blocks,
            history,
            horizon_days=horizon_days,
            min_orders=alerts.min_orders,
            active_within_days=active_within_days,
            rules=rules,
            progress=progress,
        )
        data = replayed.rows(until_ms=until_ms)
        if data is None:
            raise SettingsError(
                _nobody(horizon_days, alerts.min_orders)
                if as_of is None
                else f"No label was known by {as_of:%Y-%m-%d}: use a later --as-of, at least "
                f"{horizon_days + 28} days after the first order."
            )
        summary = fit(
            data,
            root=root,
            date=datetime.now(UTC).date().isoformat(),
            horizon_days=horizon_days,
            eligibility=Eligibility(alerts.min_orders, active_within_days),
            source=described,
            history="\n\n".join(report.markdown() for report in reports),
            horizon=" ".join(filter(None, (rhythm.sentence(), rhythm.gone_sentence()))),
            seed=seed,
            make_current=as_of is None,
            baselines=replayed.baselines(data),
            progress=progress,
        )
    verdict = None if until_ms is None else _judge(root, summary.version, replayed, until_ms)
    if as_json:
        print_json(
            {"version": summary.version, "path": str(summary.path), "rows": summary.rows,
             "trees": summary.trees, "metrics": summary.metrics,
             "top_features": dict(summary.top_features), "comparison": _json(summary),
             "promoted": verdict is None or verdict.promote,
             "why": "" if verdict is None else verdict.why,
             "history": source.summary(), "rhythm": rhythm.as_dict()}
        )  # fmt: skip
        return
    _report(summary, horizon_days)
    if verdict is not None:
        said = "Promoted" if verdict.promote else "Not promoted"
        click.echo(f"{said}: {verdict.why}, on {verdict.rows:,} later rows.")


def _judge(root: Place, version: str, replayed: TrainingCuts, until_ms: int) -> Verdict:
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
        later = replayed.rows(after_ms=after)
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


def _nobody(horizon_days: int, min_orders: int) -> str:
    return (
        f"Nobody had {min_orders} orders by any weekly cut that is {horizon_days} days before the "
        "end, so there is nothing to learn from. Use a longer history, or a shorter "
        "--horizon-days; and if customers do come back, check which column --map names as user."
    )


def _source(
    orders: Sequence[Path], days: tuple[int, int] | None, options: dict[str, Any]
) -> tuple[Source, str, list[Report]]:
    from schemas.errors import SettingsError
    from streams.replay import completejourney

    if orders:
        from streams.history.several import Histories

        found = Histories([read_orders(path, options) for path in orders])
        for report in found.reports:
            if report.one_order_each:
                raise SettingsError(report.one_order_each)
        return found, ", ".join(path.name for path in orders), found.reports
    span = f" days {days[0]}-{days[1]}" if days else ""
    return completejourney.orders(days=days), f"Complete Journey{span}", []


def _without_erased(source: Source, settings: Settings) -> Iterable[Block]:
    """Your own orders may still hold people who were erased here."""
    from schemas.errors import BrokerUnavailable
    from streams.evaluation.training import without_erased
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
        return source
    return without_erased(source, board.forgotten_until)


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
