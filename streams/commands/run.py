"""`tideline worker`, `learner` and `migrate`: thin calls into the parts that do the work."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import gc

import click

from streams import stopping
from streams.commands.support import Invocation, json_option, pass_invocation, print_json

__all__ = ["learner", "migrate", "worker"]


@click.command()
@pass_invocation
@click.pass_context
def worker(ctx: click.Context, invocation: Invocation) -> None:
    """Score events: run one worker until it is stopped.

    Start it several times, on one machine or many, to share the partitions.
    """
    settings = invocation.start_logging()
    requests = stopping.StopRequests.listen()
    gc.disable()  # until it runs: of the time for imports and kernels, a fifth is collecting
    try:
        from streams.worker import run

        status = run(settings, requests)
    finally:
        gc.enable()
    ctx.exit(status)


@click.command()
@pass_invocation
@click.pass_context
def learner(ctx: click.Context, invocation: Invocation) -> None:
    """Learn online from matured labels, and publish what was learned to the workers."""
    settings = invocation.start_logging()
    requests = stopping.StopRequests.listen()
    from streams.learner.app import run

    ctx.exit(run(settings, requests))


@click.command()
@json_option
@pass_invocation
def migrate(invocation: Invocation, as_json: bool) -> None:
    """Create or update ClickHouse's tables and views. Safe to run again."""
    settings = invocation.settings
    from streams.clickhouse import migrations
    from streams.clickhouse.client import clickhouse_target

    target = clickhouse_target(settings)
    applied = migrations.migrate(target)
    if as_json:
        print_json({"target": str(target), "applied": [str(migration) for migration in applied]})
        return
    for migration in applied:
        click.echo(f"applied {migration}")
    click.echo(f"{target} is up to date.")
