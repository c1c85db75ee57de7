"""`tideline lag`: how far behind consumers are, where that is going, and whether they are well."""
# ruff: noqa: PLC0415  (kafka-python is imported when the command runs)

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from streams import stopping
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.lag.report import LagReport
    from streams.settings import Settings

__all__ = ["lag"]

EXIT_STATUS: Final[Mapping[str, int]] = {
    "ok": 0, "uncommitted": 0, "pending": 0, "warn": 3, "error": 4, "unknown": 5,
}  # fmt: skip
"""Of `tideline lag status`, by the worst group's status. 1 and 2 are every command's."""

_interval_option = click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    help="Seconds between polls.",
)
_monitor_option = click.option(
    "--monitor",
    metavar="URL",
    default="",
    help="A lag monitor to ask, such as http://127.0.0.1:9466. Default: the one of the settings "
    "if it answers, else Kafka itself.",
)


@click.group(invoke_without_command=True)
@json_option
@click.option("--watch", is_flag=True, help="Print again every --interval, until Ctrl-C.")
@click.option(
    "--serve", is_flag=True, help="Run as monitor: ClickHouse, Prometheus, JSON, webhook."
)
@_interval_option
@click.pass_context
def lag(context: click.Context, as_json: bool, watch: bool, serve: bool, interval: float) -> None:
    """How far behind the consumers are, by group and partition, of any group in the cluster.

    Status by Burrow's rules: ok, warn (reads, but gets no nearer), stall (does not move), stop
    (does not move, and nobody has the partition), rewind (went back). And: uncommitted (no offset,
    so no number), pending (behind, and not watched for long enough) and unknown (no answer).

    With --serve it writes table consumer_lag every --interval, and serves /metrics, /healthz,
    /readyz, /v1/groups and /v1/groups/GROUP if TIDELINE_WEB_METRICS_PORT is set. ClickHouse being
    away does not stop it.
    """
    invocation = context.ensure_object(Invocation)
    if context.invoked_subcommand is not None:
        if as_json or watch or serve:
            raise click.UsageError("give options behind the subcommand")
        stopping.release()
        return
    if serve and (watch or as_json):
        raise click.UsageError("--serve goes without --watch and --json")
    if serve:
        settings = invocation.start_logging()
        requests = stopping.StopRequests.listen()
        logging.getLogger(__name__).info("lag monitor started")
        from streams.lag.service import run

        run(settings, interval, requests)
        return
    stopping.release()
    from streams.lag import monitor

    if not watch:
        _show(monitor.poll_once(invocation.settings), as_json)
        return
    with contextlib.suppress(KeyboardInterrupt):
        for report in monitor.reports(invocation.settings, interval):
            _show(report, as_json)


@lag.command()
@json_option
@_monitor_option
@click.option(
    "--looks",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Looks at Kafka, one per second, if no monitor is asked.",
)
@click.argument("groups", nargs=-1)
@pass_invocation
def status(
    invocation: Invocation, as_json: bool, monitor: str, looks: int, groups: tuple[str, ...]
) -> None:
    """One line per consumer group, or of GROUPS; the worst one gives the exit status.

    Exit status: 0 ok (also uncommitted and pending), 3 warn, 4 error (stop, stall or rewind in some
    partition), 5 unknown: the monitor or Kafka does not answer.
    """
    from streams.lag.show import group_rows, worst_of

    found = _document(invocation.settings, monitor, looks)
    chosen = [g for g in found["groups"] if not groups or g["consumer_group"] in groups]
    missing = sorted(set(groups) - {group["consumer_group"] for group in chosen})
    worst = "unknown" if found.get("blind") or missing else worst_of(chosen)
    if as_json:
        print_json({**found, "groups": chosen, "status": worst, "missing": missing})
    else:
        print_table(
            ("GROUP", "STATUS", "MEMBERS", "LAG", "SECONDS", "RECORDS/S", "PARTITIONS"),
            group_rows(chosen),
        )
        _say_problems(found)
        for name in missing:
            click.echo(f"no such group: {name}", err=True)
    sys.exit(EXIT_STATUS[worst])


@lag.command()
@_interval_option
@click.option("--looks", type=click.IntRange(1), default=None, help="Stop after so many looks.")
@click.argument("groups", nargs=-1)
@pass_invocation
def watch(
    invocation: Invocation, interval: float, looks: int | None, groups: tuple[str, ...]
) -> None:
    """All groups, or GROUPS, live in the terminal, with the course of their lag. Ctrl-C ends it."""
    from rich.live import Live

    from streams.lag import monitor
    from streams.lag.show import watch_table

    with contextlib.suppress(KeyboardInterrupt), Live(auto_refresh=False) as live:
        for number, report in enumerate(monitor.reports(invocation.settings, interval), 1):
            live.update(watch_table(report, groups), refresh=True)
            if number == looks:
                return


@lag.command()
@json_option
@_monitor_option
@click.option(
    "--looks", type=click.IntRange(1, 1000), default=3, show_default=True,
    help="Looks at Kafka, one per second, if no monitor is asked.",
)  # fmt: skip
@click.argument("group")
@pass_invocation
def explain(invocation: Invocation, as_json: bool, monitor: str, looks: int, group: str) -> None:
    """What is wrong with a GROUP: which partitions, whose, since when, and what to do."""
    from streams.lag.show import explained

    found = _document(invocation.settings, monitor, looks, group)
    chosen = next((g for g in found["groups"] if g["consumer_group"] == group), None)
    if chosen is None:
        raise click.ClickException(
            f"There is no consumer group {group}, or it is not watched. `tideline lag status` "
            "lists the groups; [lag] groups says which ones are watched."
        )
    if as_json:
        print_json(chosen)
        return
    for line in explained(chosen, time.time_ns() // 1_000_000):
        click.echo(line)
    _say_problems(found)


def _document(settings: Settings, monitor: str, looks: int, group: str = "") -> dict[str, Any]:
    """What a monitor says; or, if none was named and that of the settings does not answer, what a
    few looks at Kafka show. With `group`, of that group all partitions."""
    from streams.lag import remote
    from streams.lag.monitor import reports
    from streams.lag.report import document

    url = monitor or remote.url_of(settings)
    if url:
        try:
            return remote.ask(url, group)
        except OSError as error:
            if monitor:
                raise click.ClickException(
                    f"The lag monitor at {url} does not answer: {error}"
                ) from error
    report = None
    for number, report in enumerate(reports(settings, 1.0), 1):
        if number >= looks or not report.answered:
            break
    assert report is not None  # noqa: S101  (there is always a first one)
    found = document(report, partitions=bool(group), only=[group] if group else [])
    return {"blind": "" if report.answered else "; ".join(report.problems), **found}


def _say_problems(found: Mapping[str, Any]) -> None:
    if found.get("blind"):
        click.echo(f"blind: {found['blind']}", err=True)
    for problem in found.get("problems", ()):
        click.echo(f"could not tell: {problem}", err=True)


def _show(report: LagReport, as_json: bool) -> None:
    from streams.lag.report import document
    from streams.lag.show import partition_rows

    if as_json:
        print_json(document(report))
        return
    print_table(
        ("GROUP", "TOPIC", "PARTITION", "COMMITTED", "LOG END", "LAG", "SECONDS", "STATUS"),
        partition_rows(report),
    )
    for group in report.groups:
        total = group.total_records
        behind = "" if total is None else f", {total:,} records behind in all"
        click.echo(f"{group.consumer_group}: {group.status}{behind}")
    for problem in report.problems:
        click.echo(f"could not tell: {problem}", err=True)
