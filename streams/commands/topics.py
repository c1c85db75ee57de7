"""`tideline topics`: check Kafka's topics, or create those that are missing."""
# ruff: noqa: PLC0415  (kafka-python is imported when the command runs)

from __future__ import annotations

import click

from streams.commands.support import (
    Invocation,
    json_option,
    pass_invocation,
    print_json,
    print_table,
)

__all__ = ["topics"]


@click.command()
@click.option("--create", is_flag=True, help="Create what is missing. Nothing is altered.")
@json_option
@pass_invocation
@click.pass_context
def topics(ctx: click.Context, invocation: Invocation, create: bool, as_json: bool) -> None:
    """Check Kafka's topics, or create them.

    Exits 1 if a topic is missing or not as Tideline needs it.
    """
    settings = invocation.settings
    from streams.kafka.topics import check, create_missing

    if create:
        created = create_missing(settings)
        if not as_json:
            click.echo(f"{len(created)} topics created.")
    reports = check(settings)
    if as_json:
        print_json(
            [
                {
                    "topic": r.topic.name,
                    "partitions": r.topic.partitions,
                    "state": r.state,
                    "problem": r.problem,
                    "fix": r.fix,
                }
                for r in reports
            ]
        )
    else:
        print_table(
            ("TOPIC", "PARTITIONS", "STATE", "FOR", "PROBLEM AND FIX"),
            (
                (
                    r.topic.name,
                    str(r.topic.partitions),
                    r.state,
                    r.topic.why,
                    " ".join(f"{text}." for text in (r.problem, r.fix) if text),
                )
                for r in reports
            ),
        )
    ctx.exit(0 if all(r.state == "ok" for r in reports) else 1)
