"""`tideline worker`, `learner`, `trainer` and `migrate`: thin calls into the parts that work."""
# ruff: noqa: PLC0415  (heavy imports wait until the command runs)

from __future__ import annotations

import gc

import click

from streams import stopping
from streams.commands.support import Invocation, json_option, pass_invocation, print_json

__all__ = ["learner", "migrate", "trainer", "worker"]


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
@click.option("--once", is_flag=True, help="Do all that is due now, and end; for cron.")
@pass_invocation
def trainer(invocation: Invocation, once: bool) -> None:
    """Retrain the champion on what the stream saw, judge challengers, and promote the winners.

    A challenger is trained on the examples that ClickHouse keeps, after every 28 days of new labels
    (TIDELINE_TRAINER_RETRAIN_DAYS) and when the learner has noticed drift. It waits for labels that
    neither it nor the champion has learned, and replaces the champion if it does better on these.
    Whatever is under way is kept in the directory of models, so the trainer may be stopped, or
    killed, at any moment. Run one; of two, one decides.

    TIDELINE_MODEL_ARTIFACT must name a directory of models; `tideline models init` makes one.
    Needs `pip install 'tideline[train]'`, and ClickHouse, but not Kafka.
    """
    settings = invocation.start_logging()
    if once:
        stopping.release()
        from streams.trainer.app import run_once

        done = run_once(settings)
        click.echo(f"{len(done)} things were due." if done else "Nothing is due.")
        return
    requests = stopping.StopRequests.listen()
    from streams.trainer.app import run

    run(settings, requests)


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
