"""`tideline capacity`: what a rate of events needs, from measured costs."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import click

from streams.commands.support import json_option, print_json, print_table
from streams.ops.capacity import Assumptions, measured, needed

__all__ = ["capacity"]

_ROWS = (
    ("workers (one core each)", "workers", "{:,}"),
    ("worker cores, at the busy share", "worker_cores", "{:,.2f}"),
    ("partitions of both input topics", "partitions", "{:,}"),
    ("memory of all workers", "memory_gb", "{:,.1f} GB"),
    ("fetched from Kafka", "fetch_mb_per_second", "{:,.1f} MB/s"),
    ("written to Kafka, all copies", "kafka_write_mb_per_second", "{:,.1f} MB/s"),
    ("brokers", "brokers", "{:,}"),
    ("rows into ClickHouse", "insert_rows_per_second", "{:,.0f} rows/s"),
    ("uncompressed", "insert_mb_per_second", "{:,.1f} MB/s"),
    ("ClickHouse nodes", "clickhouse_nodes", "{:,}"),
)


def _assumption_options(command: Any) -> Any:
    """An option for every field of `Assumptions`."""
    for one in reversed(fields(Assumptions)):
        command = click.option(
            f"--{one.name.replace('_', '-')}", one.name, type=type(one.default),
            default=one.default, show_default=True, help=one.metadata["help"],
        )(command)  # fmt: skip
    return command


@click.command()
@click.option("--events-per-second", type=click.FloatRange(0, min_open=True), required=True,
              help="At the peak.")  # fmt: skip
@click.option("--users", type=click.IntRange(1), required=True, help="Active users.")
@_assumption_options
@json_option
def capacity(events_per_second: float, users: int, as_json: bool, **assumed: Any) -> None:
    """What a rate of events needs: workers, partitions, brokers, ClickHouse nodes.

    Calculated from what `make bench` measured and from the assumptions below, for a realistic
    load and for the worst case. Everything grows in proportion except what is rounded up.
    """
    figures = measured()
    try:
        assume = Assumptions(**assumed)
        needs = {
            load: needed(events_per_second, users, load, figures, assume) for load in figures.loads
        }
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        print_json(
            {
                "events_per_second": events_per_second,
                "users": users,
                "needs": {load: asdict(need) for load, need in needs.items()},
                "assumptions": asdict(assume),
                "measured": {"date": figures.date, "conditions": figures.conditions},
            }
        )
        return
    print_table(
        (f"{events_per_second:,.0f} events/s, {users:,} users", *needs),
        [
            (label, *(text.format(getattr(need, name)) for need in needs.values()))
            for label, name, text in _ROWS
        ],
    )
    click.echo("\nAssumed (each is an option):")
    for name, value in asdict(assume).items():
        click.echo(f"  {name} = {value:g}")
    click.echo(f"\nMeasured on {figures.date}: {figures.conditions}")
    for load, cost in figures.loads.items():
        click.echo(
            f"  {load}: {cost.worker_cpu_us:.2f} us of worker, {cost.broker_cpu_us:.2f} of broker, "
            f"{cost.clickhouse_cpu_us:.2f} of ClickHouse per event; {cost.fetch_bytes:.0f} bytes "
            f"fetched, {cost.insert_rows:.3f} rows"
        )
    click.echo(
        f"  {figures.user_bytes:,.0f} bytes per user, {figures.user_day_bytes:,.0f} per active day "
        f"of one, {figures.event_id_bytes:,.1f} per event id remembered"
    )
