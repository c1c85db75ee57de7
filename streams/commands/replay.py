"""`tideline replay`: sends recorded, simulated or synthetic events to the input topics."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schemas.errors import SettingsError
from streams.commands.days import Days
from streams.commands.history_options import history_options, print_report, read_orders
from streams.commands.support import Invocation, json_option, pass_invocation, print_json
from streams.commands.support import print_table as table
from streams.kafka.access import KafkaAccess, kafka_access
from streams.replay import completejourney
from streams.replay.browsing import with_browsing
from streams.replay.producer import InputTopics, ProduceSummary, produce
from streams.replay.records import Source
from streams.replay.synthetic import START_MS, Synthetic

if TYPE_CHECKING:
    from streams.history.report import Report

__all__ = ["replay"]

COMPLETEJOURNEY: Final = "completejourney"
EARLIEST_YEAR, LATEST_YEAR = 1995, 2100
_SHARE: Final = click.FloatRange(0, 1)


@click.command()
@click.argument("source", required=False, metavar="[completejourney|FILE]")
@history_options
@click.option("--days", type=Days(), help="completejourney: only these days, 0-30 is the first 30.")
@click.option("--users", type=click.IntRange(1), help="completejourney: only that many households. "
              "--synthetic: how many users.  [default: all; 10000]")  # fmt: skip
@click.option("--browse/--no-browse", default=False, show_default=True,
              help="Add SIMULATED browsing around the orders.")  # fmt: skip
@click.option("--browse-rate", type=click.FloatRange(0), default=6.0, show_default=True,
              help="--browse: simulated events per order.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(0), default=0.0, metavar="X",
              help="Seconds of event time per second; 0: flat out.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(0), default=0.0, metavar="R",
              help="Records per second, at most; 0: no limit.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after this time.")
@click.option("--synthetic", is_flag=True, help="Generate load instead of replaying anything.")
@click.option("--events", type=click.IntRange(1),
              help="--synthetic: records in all.  [default: 100000, or --seconds]")  # fmt: skip
@click.option("--order-share", type=_SHARE, default=0.05, show_default=True,
              help="--synthetic: share of orders.")  # fmt: skip
@click.option("--skew", type=click.FloatRange(0), default=0.0,
              help="--synthetic: Zipf exponent of user activity; 0: uniform.")  # fmt: skip
@click.option("--sessions", type=click.FloatRange(1), default=1.0,
              help="--synthetic: mean number of consecutive events of a user.")  # fmt: skip
@click.option("--late-share", type=_SHARE, default=0.0, help="--synthetic: too late to count.")
@click.option("--out-of-order-share", type=_SHARE, default=0.0,
              help="--synthetic: late by hours, so they still count.")  # fmt: skip
@click.option("--duplicate-share", type=_SHARE, default=0.0, help="--synthetic: sent again.")
@click.option("--malformed-share", type=_SHARE, default=0.0, help="--synthetic: can't be used.")
@click.option("--start", help="--synthetic: event time of the first record.  [default: 2024-01-01]")
@click.option("--span-days", type=click.FloatRange(0), default=30.0, show_default=True,
              help="--synthetic: event time from the first record to the last.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of everything that is made up.")
@click.option("--stamp-now", is_flag=True, help="Kafka timestamps say when a record was sent, not "
              "when it happened; for old data on brokers that delete by age.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@json_option
@pass_invocation
def replay(invocation: Invocation, /, as_json: bool, **options: Any) -> None:
    """Send recorded or made-up events to Kafka.

    completejourney is a year of a grocer's baskets (the `local` extra). FILE is your own order
    history: CSV, Excel, Parquet, JSON, or the export of a shop system. --synthetic generates load.
    Nothing is made up unless --browse or --synthetic asks for it.
    """
    kafka = invocation.settings.kafka
    known = "murmur2" if kafka.partitioner == "unchecked" else kafka.partitioner
    topics = InputTopics(kafka.clickstream_topic, kafka.orders_topic, known)
    source, report = _source(options, invocation.settings.stream.lateness_days)
    if not as_json:
        if report is not None:
            print_report(report)
        else:
            table(("REPLAY", ""), [(k, _told(value)) for k, value in source.summary().items()])
    if options["browse"] and not options["synthetic"]:
        source = with_browsing(source, options["browse_rate"], options["seed"])
        if not as_json:
            click.echo("Browsing is SIMULATED around each order; such events say so.")
    if options["dry_run"]:
        if as_json:
            print_json({"source": source.summary()})
        return
    sent = _run(source, kafka_access(invocation.settings), topics, options, quiet=as_json)
    result: dict[str, Any] = {"source": source.summary(), "sent": sent.as_dict()}
    if isinstance(source, Synthetic):
        result["generated"] = source.tally.as_dict()
    if as_json:
        print_json(result)
        return
    rows = {
        **result["sent"],
        **{f"generated {k}": v for k, v in result.get("generated", {}).items()},
    }
    table(("SENT", ""), [(name.replace("_", " "), _told(value)) for name, value in rows.items()])


def _source(options: dict[str, Any], lateness_days: float) -> tuple[Source, Report | None]:
    name = options["source"]
    if options["synthetic"] == (name is not None):
        raise click.UsageError("Give one of: completejourney, a FILE, or --synthetic.")
    if options["synthetic"]:
        events, rate = options["events"], options["rate"]
        made = Synthetic(
            # Blocks are sent whole: short ones let a slow load stop when its time is up.
            block_events=10_000 if not rate else max(1, min(10_000, int(rate / 10))),
            users=options["users"] or 10_000,
            events=events or (None if options["seconds"] else 100_000),
            order_share=options["order_share"],
            skew=options["skew"],
            session_events=options["sessions"],
            late_share=options["late_share"],
            out_of_order_share=options["out_of_order_share"],
            duplicate_share=options["duplicate_share"],
            malformed_share=options["malformed_share"],
            seed=options["seed"],
            start_ms=_start(options["start"]),
            span_days=options["span_days"],
            lateness_days=lateness_days,
        )
        return made, None
    if name == COMPLETEJOURNEY:
        return completejourney.orders(options["days"], options["users"], options["seed"]), None
    found = read_orders(Path(name), options)
    return found, found.report


def _start(text: str | None) -> int:
    """A day or a moment, ISO 8601, as ms since 1970; UTC where no zone is named."""
    if text is None:
        return START_MS
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as wrong:
        raise SettingsError(f"--start: {text!r} is no time such as 2024-03-01T12:00.") from wrong
    if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        raise SettingsError(f"--start: {text!r} is not from {EARLIEST_YEAR} to {LATEST_YEAR}.")
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def _run(
    source: Source,
    access: KafkaAccess,
    topics: InputTopics,
    options: dict[str, Any],
    *,
    quiet: bool,
) -> ProduceSummary:
    bar = Progress(
        TextColumn("{task.fields[when]}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(),
        console=Console(stderr=True), disable=quiet,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=source.expected_records, when="", rate="")

        def progress(sent: ProduceSummary) -> None:
            bar.update(task, completed=sent.records, when=_day(sent.last_ms),
                       rate=f"{sent.records_per_second:,.0f}/s")  # fmt: skip

        sent = asyncio.run(
            produce(
                source, access, topics, speed=options["speed"], rate=options["rate"],
                max_seconds=options["seconds"], stamp_now=options["stamp_now"],
                check_retention=True, progress=None if quiet else progress,
            )
        )  # fmt: skip
        bar.update(task, total=sent.records, completed=sent.records, when=_day(sent.last_ms))
    return sent


def _day(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def _told(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
