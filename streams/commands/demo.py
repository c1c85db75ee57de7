"""`tideline demo`: see it all run on this machine."""
# ruff: noqa: PLC0415  (servers, drivers and the live view are imported when the command runs)

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.commands.days import Days
from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)
from streams.demo.interrupts import Interrupted, Interrupts
from streams.demo.options import (
    CHECKED_DAYS,
    CHECKED_DEADLINE_SECONDS,
    YEAR_DAYS,
    Broker,
    Options,
)

if TYPE_CHECKING:
    from streams.demo.summary import Summary

__all__ = ["demo"]


@click.command()
@click.option(
    "--broker",
    type=click.Choice(["tansu", "kafka"]),
    default="tansu",
    show_default=True,
    help="tansu: in memory, starts at once. kafka: Apache Kafka, needs Java and Maven.",
)
@click.option(
    "--days", type=Days(), help="Days of the year to replay.  [default: all; --until-done: 0-161]"
)
@click.option("--until-done", is_flag=True, help="Stop when all is processed, with a summary.")
@json_option
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".tideline/demo"),
    show_default=True,
    help="Where data and logs are while it runs; cleared at the start and at the end.",
)
@click.option("--keep", is_flag=True, help="Leave the directory as it is at the end.")
@click.option("--speed", type=click.FloatRange(0), default=0.0, metavar="X",
              help="Seconds of event time per second (86400: a day); 0: flat out.")  # fmt: skip
@click.option(
    "--deadline",
    "deadline_seconds",
    type=click.FloatRange(0),
    help="Give up after this many seconds of replay; 0: never.  [default: 0; --until-done: 600]",
)
@pass_invocation
@click.pass_context
def demo(
    ctx: click.Context,
    invocation: Invocation,
    broker: Broker,
    days: tuple[int, int] | None,
    until_done: bool,
    as_json: bool,
    directory: Path,
    keep: bool,
    speed: float,
    deadline_seconds: float | None,
) -> None:
    """See it all run: Kafka, ClickHouse, all four processes, and a year of orders.

    Replays the Complete Journey orders with simulated browsing around them, shows what happens,
    and stays up to look around until Ctrl-C. With --until-done it stops by itself, and its exit
    status says whether every record is accounted for.
    """
    if deadline_seconds is None:
        deadline_seconds = CHECKED_DEADLINE_SECONDS if until_done else 0.0
    options = Options(
        broker=broker,
        days=days or (0, CHECKED_DAYS if until_done else YEAR_DAYS),
        until_done=until_done,
        as_json=as_json,
        directory=directory,
        keep=keep,
        speed=speed,
        deadline_seconds=deadline_seconds,
    )
    status = 0
    with Interrupts() as interrupts:
        try:
            status = _run(invocation, options, interrupts)
        except Interrupted as interrupted:
            click.echo("Stopped.", err=True)
            status = interrupted.exit_status
    ctx.exit(status)


def _run(invocation: Invocation, options: Options, interrupts: Interrupts) -> int:
    if options.broker == "kafka":
        from streams.local.kafka import available

        if reason := available():
            raise click.ClickException(
                f"Apache Kafka can't run here: {reason}. Or use the local broker: --broker tansu"
            )
    from streams.demo.run import run

    return run(options, invocation.settings, interrupts, lambda summary: _report(summary, options))


def _report(summary: Summary, options: Options) -> None:
    if options.as_json:
        print_json(summary.as_dict())
    elif options.until_done:
        rows = [
            (name.replace("_", " "), _plain(value))
            for name, value in summary.as_dict().items()
            if name not in {"segments", "promotions"}
        ]
        for dimension, sizes in summary.segments.items():
            counts = ", ".join(f"{segment} {users:,}" for segment, users in sizes.items())
            rows.append((dimension.replace("_", " "), counts))
        rows += [
            ("promoted", f"{p['version']} over {p['champion_version']}: {p['why']}")
            for p in summary.promotions
        ]
        print_table(("RESULT", ""), rows)
    if summary.problem:
        click.echo(f"Error: {summary.problem}", err=True)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
