"""`tideline reset`: start the state of all shards over, from what the input topics still hold."""
# ruff: noqa: PLC0415  (kafka-python and clickhouse-driver are imported when the command runs)

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from streams.ops.reset import Contents
    from streams.settings import Settings

__all__ = ["reset"]

_KEPT = ("input topics", "erasures", "learner", "examples", "dead letters", "models", "database")


@click.command()
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option(
    "--workers-stopped",
    is_flag=True,
    help="You have made sure that no worker runs. For brokers that don't list a group's members.",
)
@json_option
@pass_invocation
def reset(
    invocation: Invocation, yes: bool, dry_run: bool, workers_stopped: bool, as_json: bool
) -> None:
    """Start the state of all shards over. Stop the workers first.

    The command deletes the topics of checkpoints and journal, creates them again, and takes the
    results of the old state out of every view. The workers then begin a new life with what the
    input topics still hold; `tideline backfill` brings older orders back. Older rows stay in
    score_history and alert_history.

    It may be interrupted and run again.
    """
    from streams.ops import reset as steps

    if as_json and not (yes or dry_run):
        raise click.UsageError("--json asks nothing, so it needs --yes or --dry-run.")
    settings, started = invocation.settings, time.monotonic()
    if not dry_run:
        _require_stopped(settings, workers_stopped)
    found = steps.contents(settings)
    if not as_json:
        _show(found)
    if dry_run:
        if as_json:
            print_json(_summary(found, False, started))
        return
    if not yes:
        click.confirm("Start the state over? It can't be undone.", abort=True, err=True)
        _require_stopped(settings, workers_stopped)
    if not steps.reset(settings, lambda step: click.echo(f"{step} ...", err=True)):
        click.echo(
            "The broker still counts members in the workers' group, so the committed offsets could "
            "not be set. Consumer lag is too low until the first checkpoint.",
            err=True,
        )
    if as_json:
        print_json(_summary(found, True, started))
        return
    click.echo(
        "Done. To count orders that the input topics no longer hold, run `tideline backfill "
        "FILE...`. Then start the workers."
    )


def _require_stopped(settings: Settings, workers_stopped: bool) -> None:
    from schemas.errors import FatalError
    from streams.offline import group_members

    group, members = settings.kafka.app_id, group_members(settings)
    if members:
        raise FatalError(
            f"Workers of {group} run ({', '.join(members)}). Stop them, and run "
            "`tideline reset` again. The broker lists a killed worker for up to "
            f"{settings.kafka.session_timeout_seconds:g} s."
        )
    if members is None and not workers_stopped:
        raise FatalError(
            f"This broker doesn't say whether workers of {group} run. Make sure that none does, "
            "and run `tideline reset --workers-stopped`."
        )


def _show(found: Contents) -> None:
    print_table(
        ("what goes", "how much"),
        [
            *(
                (
                    f"topic {each.topic}",
                    f"{each.records:,} records"
                    + ("" if each.stored_bytes is None else f", {each.stored_bytes / 1e6:,.1f} MB"),
                )
                for each in found.topics
            ),
            *((f"{what} in view {view}", f"{n:,}") for what, view, n in found.shown),
        ],
    )
    click.echo(f"What stays: {', '.join(_KEPT)}.")
    if found.before_growth:
        click.echo(
            "The input topics begin where `tideline repartition` began: the new life does not have "
            f"what was read of {' and '.join(found.before_growth)} before. `tideline backfill` "
            "with the order files brings those orders back."
        )


def _summary(found: Contents, done: bool, started: float) -> dict[str, Any]:
    return {
        "done": done,
        "topics": [asdict(each) for each in found.topics],
        "shown": {view: n for _, view, n in found.shown},
        "kept": list(_KEPT),
        "before_growth": list(found.before_growth),
        "seconds": round(time.monotonic() - started, 3),
    }
