"""`tideline local up`: a Kafka broker and a ClickHouse for a developer who wants to look around."""
# ruff: noqa: PLC0415  (servers and drivers are imported when the command runs)

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Literal

import click

from streams.commands.support import Invocation, json_option, pass_invocation, print_json

__all__ = ["local"]


@click.group()
def local() -> None:
    """Kafka and ClickHouse on this machine, without Docker. For development only."""


@local.command()
@click.option(
    "--broker",
    type=click.Choice(["tansu", "kafka"]),
    default="tansu",
    show_default=True,
    help="tansu: in memory, starts at once. kafka: Apache Kafka, needs Java and Maven.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".tideline"),
    show_default=True,
    help="Where the data and the logs are kept.",
)
@click.option("--kafka-port", default=9092, show_default=True, help="Port of the broker; 0: any.")
@click.option("--clickhouse-port", default=9000, show_default=True, help="Native port; 0: any.")
@json_option
@pass_invocation
def up(
    invocation: Invocation,
    broker: Literal["tansu", "kafka"],
    directory: Path,
    kafka_port: int,
    clickhouse_port: int,
    as_json: bool,
) -> None:
    """Start both, with topics and tables, and run until Ctrl-C.

    Prints the addresses and the settings to paste into another terminal.
    """
    settings = invocation.settings
    from streams.clickhouse import migrations
    from streams.clickhouse.client import clickhouse_target
    from streams.kafka.topics import create_missing
    from streams.local.stack import LocalStack
    from streams.settings import override

    with _until_stopped() as stopped, LocalStack(
        broker, directory, kafka_port, clickhouse_port
    ) as stack:  # fmt: skip
        here = override(
            settings,
            origin="tideline local",
            kafka_broker_url=stack.bootstrap,
            clickhouse_host=stack.clickhouse_host,
            clickhouse_port=stack.clickhouse_port,
        )
        create_missing(here)
        migrations.migrate(clickhouse_target(here))
        environment = {
            "TIDELINE_KAFKA_BROKER_URL": stack.bootstrap,
            "TIDELINE_CLICKHOUSE_HOST": stack.clickhouse_host,
            "TIDELINE_CLICKHOUSE_PORT": str(stack.clickhouse_port),
        }
        if as_json:
            print_json(environment)
        else:
            click.echo(f"Kafka ({broker})  {stack.bootstrap}")
            click.echo(f"ClickHouse     {stack.clickhouse_host}:{stack.clickhouse_port} (native)")
            click.echo("\nIn another terminal:\n")
            for name, value in environment.items():
                click.echo(f"  export {name}={value}")
            click.echo("  tideline doctor\n\nCtrl-C stops both.")
        stopped.wait()
    if not as_json:
        click.echo("Stopped.")


@contextlib.contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set: the servers are stopped in order either way."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
