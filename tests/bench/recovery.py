"""How long a worker with many users takes to come back, and what its checkpoints cost it.

1. The state of so many users is built by the core, from synthetic events, and written to the
   broker by the code that a worker uses: a checkpoint and a takeover for each shard.
2. A worker is started under a steady load. Measured: seconds until every shard has taken a batch
   of new events. Its first checkpoint, which writes everything, runs beside the load.
3. The worker is killed (SIGKILL) and started again; measured as before, replay included.

    python -m tests.bench recovery --users 1000000 --json
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from models.registry import ScorerStore, artifact_directory
from schemas.features import FEATURE_NAMES
from streams.clickhouse import migrations
from streams.clickhouse.client import clickhouse_target
from streams.commands.support import json_option, print_json, print_table
from streams.core.plan import Plan
from streams.core.state import snapshot
from streams.core.state.shard_state import ShardState
from streams.core.step import step
from streams.kafka.log import KafkaLog
from streams.kafka.topics import create_missing
from streams.local.process import ChildProcess
from streams.local.stack import LocalStack
from streams.replay.partitioner import KeyAssigner
from streams.replay.synthetic import Synthetic
from streams.settings import Settings, as_environ, load
from streams.shard.checkpoints import CheckpointStore
from streams.shard.config import core_config
from streams.shard.journal import Journal
from tests.bench.load import columns
from tests.bench.worker import DEADLINE_SECONDS, Worker, percentiles, total

__all__ = ["measure", "recovery"]

BLOCK = 80_000  # events per turn of the builder: about 20,000 per shard


def build(settings: Settings, source: Synthetic, progress: Progress) -> list[ShardState]:
    """The shards' states after all events of `source`, by the core alone; offsets are left at 0."""
    partitions, config = settings.kafka.partitions, core_config(settings)
    scorer = ScorerStore(artifact_directory(settings.model.artifact), settings.stream.currency).get(
        ""
    )
    partitioner = KeyAssigner(partitions)
    states = [ShardState(shard, len(FEATURE_NAMES)) for shard in range(partitions)]
    task = progress.add_task("build the state", total=source.events)
    for block in source:
        owners = partitioner.assign([record.key for record in block])
        for shard, state in enumerate(states):
            mine = [r for r, owner in zip(block, owners, strict=True) if owner == shard]
            records = columns(mine, state.meta.offsets)
            start = state.meta.offsets[0], state.meta.offsets[1]
            stop = start[0] + len(records[0]), start[1] + len(records[1])
            step(state, Plan(state.meta.seq + 1, start, stop, 0, 0), records, config, scorer)
        progress.advance(task, len(block))
    for state in states:
        state.meta.offsets = [0, 0]
    return states


async def store(settings: Settings, states: list[ShardState], progress: Progress) -> int:
    """Write a takeover and a checkpoint of every shard; returns the bytes of all pages."""
    log, total = KafkaLog(settings.kafka.brokers), 0
    await log.start()
    task = progress.add_task("write the checkpoints", total=len(states))
    for state in states:
        shard, names = state.meta.shard, settings.topic_names
        journal = Journal(log, names.journal, shard, "bench")
        takeover = await journal.take_over()
        kept = CheckpointStore(log, names.checkpoints, shard, "bench", takeover)
        begun = kept.begin(
            state.meta.seq, journal.next_offset, *snapshot.freeze(state, everything=True)
        )
        while begun.writing.left:
            total += await kept.write(begun.writing.take(4 * 1024 * 1024))
        total += await kept.complete(begun)
        snapshot.thaw(state)
        progress.advance(task)
    await log.stop()
    return total


def start_load(settings: Settings, log: Path, users: int, rate: float, now_ms: int) -> ChildProcess:
    """Send events from now on, a day in ten million of them, until stopped."""
    start = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat()
    argv = [
        sys.executable, "-m", "streams", "replay", "--synthetic", "--users", str(users),
        "--rate", str(rate), "--seconds", str(4 * DEADLINE_SECONDS), "--start", start,
        "--span-days", "1", "--seed", "2",
    ]  # fmt: skip
    load = ChildProcess("load", argv, log, env={**os.environ, **as_environ(settings)})
    load.start()
    return load


def measure(
    *, users: int, events_per_user: float, rate: float, seconds: float, broker: Any,
    directory: Path, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Build, restart, kill, restart; returns the figures."""
    events = int(users * events_per_user)
    with LocalStack(broker, directory) as stack:
        settings = load(
            {
                "TIDELINE_KAFKA_BROKER_URL": stack.bootstrap,
                "TIDELINE_CLICKHOUSE_HOST": stack.clickhouse_host,
                "TIDELINE_CLICKHOUSE_PORT": str(stack.clickhouse_port),
                "TIDELINE_STREAM_CLOCK": "event",
                "TIDELINE_KAFKA_SESSION_TIMEOUT_SECONDS": "6",
                "TIDELINE_STREAM_CHECKPOINT_INTERVAL_SECONDS": "10",
            },
            None,
        )
        create_missing(settings)
        migrations.migrate(clickhouse_target(settings))
        built = Synthetic(
            users=users, events=events, order_share=0.15, seed=1, span_days=30.0,
            block_events=BLOCK,
        )  # fmt: skip
        states = build(settings, built, progress)
        known = sum(state.known for state in states)
        counted = sum(state.nbytes for state in states)
        stored = asyncio.run(store(settings, states, progress))
        now_ms = max(state.meta.clock_ms for state in states)
        del states

        task = progress.add_task("restart under load", total=3)
        sent = start_load(settings, directory / "load.log", users, rate, now_ms)
        try:
            worker = Worker(settings, directory / "worker-1.log")
            try:
                first = worker.seconds_until_all_flow(settings.kafka.partitions)
                progress.advance(task)
                time.sleep(seconds)
                stalls = percentiles(worker.samples(), "tideline_checkpoint_seconds")
                steps = percentiles(worker.samples(), "tideline_step_seconds")
                resident = worker.resident_bytes
                checkpointed = total(worker.samples(), "tideline_checkpoint_bytes_total")
            finally:
                worker.process.kill()
            progress.advance(task)
            worker = Worker(settings, directory / "worker-2.log")
            try:
                second = worker.seconds_until_all_flow(settings.kafka.partitions)
            finally:
                worker.process.stop(20)
            progress.advance(task)
        finally:
            sent.kill()
    return {
        "broker": broker,
        "users": known,
        "events_per_user": events_per_user,
        "load_events_per_second": rate,
        "restart_seconds": round(first, 2),
        "restart_after_kill_seconds": round(second, 2),
        "checkpoint_bytes": stored,
        "checkpoint_bytes_per_user": round(stored / known),
        "restart_mb_per_second": round(stored / first / 1e6, 1),
        "state_bytes_per_user": round(counted / known),
        "resident_bytes_per_user": round(resident / known),
        "checkpoint_bytes_written_under_load": int(checkpointed),
        "checkpoint_stall": stalls,
        "step": steps,
    }


@click.command()
@click.option("--users", type=click.IntRange(1_000), default=1_000_000, show_default=True)
@click.option("--events-per-user", type=click.FloatRange(0.5), default=4.0, show_default=True,
              help="Events behind the state, on average, over 30 days.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(1), default=5_000.0, show_default=True,
              help="Events per second of the load.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1), default=40.0, show_default=True,
              help="How long the first worker runs under load.")  # fmt: skip
@click.option("--broker", type=click.Choice(["tansu", "kafka"]), default="tansu", show_default=True,
              help="Tansu, or Apache Kafka.")  # fmt: skip
@json_option
def recovery(
    users: int, events_per_user: float, rate: float, seconds: float, broker: str, as_json: bool
) -> None:
    """Restart a worker that holds many users' state, under load, and once more after SIGKILL.

    Prints seconds until events flow again, how long checkpoints hold a batch up (bucket edges of
    the worker's own histogram), and memory. A million users take a few minutes and 6 GB of memory.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        tempfile.TemporaryDirectory() as directory,
    ):
        figures = measure(
            users=users, events_per_user=events_per_user, rate=rate, seconds=seconds,
            broker=broker, directory=Path(directory), progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(figures)
    else:
        print_table(("figure", "value"), [(name, str(value)) for name, value in figures.items()])
