"""`tideline lag`: how far behind the consumers are; with --serve, a small monitor process."""
# ruff: noqa: PLC0415  (kafka-python is imported when the command runs)

from __future__ import annotations

import contextlib
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

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
    from streams.lag.monitor import LagReport

__all__ = ["lag"]


@click.command()
@json_option
@click.option("--watch", is_flag=True, help="Print again every --interval, until Ctrl-C.")
@click.option("--serve", is_flag=True, help="Run as monitor: ClickHouse and Prometheus.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    help="Seconds between polls.",
)
@pass_invocation
def lag(invocation: Invocation, as_json: bool, watch: bool, serve: bool, interval: float) -> None:
    """How far behind the consumers are, in records, by group and partition.

    Status: ok (nothing to do), lagging, uncommitted (the group has not committed there yet, so
    there is no number) or unknown (the broker did not say).

    With --serve it writes table consumer_lag every --interval, and serves Prometheus metrics if
    TIDELINE_WEB_METRICS_PORT is set. ClickHouse being away does not stop it.
    """
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
    settings = invocation.settings
    from streams.lag import monitor

    if not watch:
        _show(monitor.poll_once(settings), as_json)
        return
    with contextlib.suppress(KeyboardInterrupt):
        for report in monitor.reports(settings, interval):
            _show(report, as_json)


def _show(report: LagReport, as_json: bool) -> None:
    if as_json:
        print_json(_document(report))
        return
    print_table(
        ("GROUP", "TOPIC", "PARTITION", "COMMITTED", "LOG END", "LAG", "STATUS"),
        (
            (
                group.consumer_group,
                each.topic,
                str(each.partition),
                _number(each.committed),
                _number(each.log_end),
                _number(each.lag_records),
                each.status,
            )
            for group in report.groups
            for each in group.partitions
        ),
    )
    for group in report.groups:
        total = group.total_records
        behind = "" if total is None else f", {total:,} records behind in all"
        click.echo(f"{group.consumer_group}: {group.status}{behind}")
    for problem in report.problems:
        click.echo(f"could not tell: {problem}", err=True)


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _document(report: LagReport) -> dict[str, Any]:
    return {
        "observed_at_ms": report.observed_at_ms,
        "groups": [
            {
                "consumer_group": group.consumer_group,
                "status": group.status,
                "total_records": group.total_records,
                "max_records": group.max_records,
                "partitions": [asdict(each) for each in group.partitions],
            }
            for group in report.groups
        ],
        "problems": list(report.problems),
    }
