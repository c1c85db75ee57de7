"""`tideline backfill`: years of orders and clicks in files become state."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schemas.errors import SettingsError
from streams.commands.history_options import (
    history_options,
    print_report,
    read_orders,
    take_history_options,
)
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from streams.backfill.run import Outcome
    from streams.replay.spool import Spool
    from streams.settings import Settings

__all__ = ["backfill", "backfill_files"]


@click.command()
@click.argument("files", nargs=-1, metavar="FILE...",
                type=click.Path(exists=True, dir_okay=False, path_type=Path))  # fmt: skip
@history_options
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), metavar="SECONDS",
              help="Wait so long for workers to stop.  [default: until they have]")  # fmt: skip
@click.option("--work-dir", type=click.Path(file_okay=False, path_type=Path),
              default=Path(".tideline/backfill"), show_default=True,
              help="Where records wait, sorted: about 60 bytes each.")  # fmt: skip
@click.option(
    "--stage",
    is_flag=True,
    help="Only read the files; the next run without this counts "
    "them with its own. For files that need other options than the rest.",
)
@click.option("--dry-run", is_flag=True, help="Only say what the files hold.")
@json_option
@pass_invocation
def backfill(
    invocation: Invocation,
    /,
    files: tuple[Path, ...],
    wait_seconds: float | None,
    work_dir: Path,
    stage: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Put years of orders and clicks from FILEs into the shards' state.

    It works for a shop that begins, and for one that runs. The files are read and sorted while
    workers run; then they have to stop until the history is counted, and start from it. Nothing is
    sent to the input topics, nothing is late. An order that is both in the files and in the topics
    counts once. Give all files at once: of a time that was counted already, a later run takes only
    what can still be told apart.

    Interrupted, the same command goes on where it was. FILE is what `tideline replay` takes.
    """
    result = backfill_files(
        invocation.settings, files, options, work_dir,
        wait_seconds=wait_seconds, stage=stage, dry_run=dry_run, quiet=as_json,
    )  # fmt: skip
    if as_json:
        print_json(result)


def backfill_files(
    settings: Settings,
    files: Sequence[Path],
    options: dict[str, Any],
    work_dir: Path,
    *,
    wait_seconds: float | None = None,
    stage: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Do what the command does, with its `history_options`; returns what it prints with --json.

    Raises SettingsError, and what `streams.backfill.run.build` raises.
    """
    if settings.kafka.partitioner == "unchecked":
        raise SettingsError(
            "TIDELINE_KAFKA_PARTITIONER is unchecked, so it is not known which shard a customer "
            "belongs to. Set it to the partitioner of your producers (docs/events.md), and run the "
            "command again."
        )
    started = time.monotonic()
    with _bar(quiet) as bar:
        ids, reports, spool = _spooled(settings, files, options, work_dir, bar, quiet, dry_run)
        result: dict[str, Any] = {"files": reports}
        if stage and not dry_run:
            spool.stage(ids)
        if stage or dry_run:
            return result
        ids = list(dict.fromkeys([*spool.staged, *ids]))
        if not ids:
            raise SettingsError("Name the files of the history; none is staged.")
        outcome = asyncio.run(_build(settings, spool, ids, wait_seconds, bar))
    spool.remove()
    result |= {
        "shards": [
            {"shard": built.shard, "already": built.already, **_figures(built.history)}
            for built in outcome.shards
        ],
        "stopped_seconds": round(outcome.stopped_seconds, 2),
        "seconds": round(time.monotonic() - started, 2),
    }
    if not quiet:
        _print(outcome, result["seconds"])
    return result


def _spooled(
    settings: Settings,
    files: Sequence[Path],
    options: dict[str, Any],
    work_dir: Path,
    bar: Progress,
    quiet: bool,
    dry_run: bool,
) -> tuple[list[str], list[dict[str, Any]], Spool]:
    """Read the files that the spool does not have yet; their names there, and their reports."""
    from streams.replay.spool import Spool, file_id

    kafka = settings.kafka
    assert kafka.partitioner != "unchecked"  # noqa: S101  (the caller has looked)
    how = take_history_options(options)
    spool = Spool(work_dir, kafka.partitioner, kafka.partitions)
    ids: list[str] = []
    reports: list[dict[str, Any]] = []
    for path in files:
        task = bar.add_task(f"reading {path.name}", total=None)
        name = file_id(path, [kafka.partitioner, kafka.partitions, sorted(how.items())])
        known = spool.report_of(name)
        if known is None or dry_run:
            found = read_orders(path, how)
            if not quiet:
                print_report(found.report)
            known = found.report.as_dict()
            if not dry_run:
                bar.update(task, description=f"sorting {path.name}", total=found.expected_records)
                blocks = chain(found, found.cancellations())
                for done in spool.add(name, blocks, known, export=found.is_export):
                    bar.update(task, completed=done)
            del found
        elif not quiet:
            bar.console.print(f"{path.name} was read by an earlier run.")
        bar.remove_task(task)
        if name not in ids:
            ids.append(name)
            reports.append(known)
    return ids, reports, spool


async def _build(
    settings: Settings, spool: Spool, ids: list[str], wait_seconds: float | None, bar: Progress
) -> Outcome:
    from streams.backfill.run import build
    from streams.replay.spool import history_id

    task = bar.add_task("asking for workers", total=sum(spool.summary(ids).records))

    def on_wait(members: list[str]) -> None:
        bar.update(
            task,
            description=f"the history is ready: stop the workers ({len(members)} run). Ctrl-C is "
            "safe",
        )

    def on_shard(shard: int, what: str) -> None:
        bar.update(task, description=f"shard {shard}: {what}")

    return await build(
        settings, spool, ids, history_id(ids), wait_seconds=wait_seconds, on_wait=on_wait,
        on_shard=on_shard, on_records=lambda records: bar.advance(task, records),
    )  # fmt: skip


def _figures(history: Any) -> dict[str, Any]:
    return {
        "events": history.counted,
        "orders": history.orders,
        "returns": history.returns,
        "clicks": history.clicks,
        "users": history.users,
        "repeats": history.repeats,
        "covered": history.covered,
        "erased": history.erased,
        "dead": history.dead,
    }


def _print(outcome: Outcome, seconds: float) -> None:
    heads = ("shard", "events", "orders", "returns", "clicks", "users", "repeats", "covered",
             "erased")  # fmt: skip
    rows = [
        (str(built.shard), *(f"{_figures(built.history)[name]:,}" for name in heads[1:]))
        for built in outcome.shards
    ]
    print_table([name.upper() for name in heads], rows)
    sums = {name: sum(_figures(b.history)[name] for b in outcome.shards) for name in heads[1:]}
    if already := [str(built.shard) for built in outcome.shards if built.already]:
        click.echo(f"Shard {', '.join(already)} had this history already.")
    if sums["repeats"]:
        click.echo(f"{sums['repeats']:,} events say nothing new: the topics or files had them.")
    if sums["covered"]:
        click.echo(
            f"{sums['covered']:,} events are of a time that was counted already, too long ago to "
            "tell them apart: they are left out. To count the files from the beginning, run "
            "`tideline reset`, and then this again."
        )
    dead: dict[str, int] = {}
    for built in outcome.shards:
        for reason, n in built.history.dead.items():
            dead[reason] = dead.get(reason, 0) + n
    for reason, n in sorted(dead.items()):
        click.echo(f"{n:,} events can't be used: {reason} (docs/events.md)")
    if not outcome.group_known:
        click.echo("This broker does not say whether workers run: make sure that none did.")
    click.echo(
        f"Done in {seconds:.0f} s; the shards were at rest for {outcome.stopped_seconds:.1f} s. "
        "Start the workers: they score everybody at once, within minutes."
    )


def _bar(quiet: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
        TimeElapsedColumn(), console=Console(stderr=True), transient=True, disable=quiet,
    )  # fmt: skip
