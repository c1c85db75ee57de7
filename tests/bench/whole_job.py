"""The whole job: `tideline worker` on a backlog, from Kafka to ClickHouse, and what it costs.

From when the warm-up is through the step until ClickHouse has the last row, so that rows on their
way when the clock starts count against Tideline, never for it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import click

from streams.clickhouse.client import clickhouse_target, connect
from streams.kafka.log import KafkaLog
from streams.settings import Settings
from tests.bench.machine import FIRST_CORE, cpu_seconds, pin
from tests.bench.stage import PARTITIONS, Filled, Stage
from tests.bench.worker import DEADLINE_SECONDS, Worker, total

__all__ = ["Outcome", "run"]

_LOOK_SECONDS = 0.25  # between two looks at the metrics; each costs the worker milliseconds


@dataclass(frozen=True)
class Outcome:
    """One run. All but `versions` is of the part that was measured."""

    events: int
    seconds: float
    cpu_seconds: float
    """Of the worker, or of all workers."""
    versions: dict[str, str] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    """What the capacity calculation goes by, per event."""


def run(stage: Stage, filled: Filled, cores: tuple[set[int], ...] = ({FIRST_CORE},)) -> Outcome:
    """Run one worker per entry of `cores`, pinned there, over the topics of `filled`."""
    name = stage.fresh_name("whole")
    settings = stage.settings(filled.topics, name)
    stage.prepare(settings)
    workers = [Worker(settings, stage.directory / f"{name}-{i}.log") for i in range(len(cores))]
    try:
        for worker, mine in zip(workers, cores, strict=True):
            pin(worker.process.pid, mine)
        start = _wait_for(workers, filled.history + filled.warm, stage)
        _wait_for(workers, filled.total, stage)
        stop = _wait_for_rows(settings, filled.total, workers, stage)
        samples = [worker.samples() for worker in workers]
        written = sum(total(s, "tideline_checkpoint_bytes_total") for s in samples)
        row_bytes = _row_bytes(settings)
    finally:
        for worker in workers:
            worker.process.stop(20)
    events = int(stop.accepted - start.accepted)
    if not events:
        raise click.ClickException(
            "all events were taken before the clock started: measure more of them (--events)"
        )
    costs = {
        "worker_cpu_us": (stop.worker_cpu - start.worker_cpu) / events * 1e6,
        "broker_cpu_us": (stop.broker_cpu - start.broker_cpu) / events * 1e6,
        "clickhouse_cpu_us": (stop.clickhouse_cpu - start.clickhouse_cpu) / events * 1e6,
        "fetch_bytes": filled.load_bytes / filled.load,
        "insert_rows": (stop.rows - start.rows) / events,
        "journal_bytes": asyncio.run(_journal_bytes(settings)) / filled.total,
        "checkpoint_bytes": written / filled.total,
        "row_bytes": row_bytes,
    }
    seconds = stop.at - start.at
    return Outcome(events, seconds, stop.worker_cpu - start.worker_cpu, costs=costs)


@dataclass(frozen=True)
class _Mark:
    at: float
    accepted: float
    worker_cpu: float
    broker_cpu: float
    clickhouse_cpu: float
    rows: float


def _mark(at: float, accepted: float, workers: list[Worker], stage: Stage, rows: float) -> _Mark:
    return _Mark(
        at, accepted, sum(cpu_seconds(w.process.pid) for w in workers),
        cpu_seconds(stage.broker_pid), cpu_seconds(stage.clickhouse_pid), rows,
    )  # fmt: skip


def _wait_for(workers: list[Worker], events: int, stage: Stage) -> _Mark:
    """Until all workers together have taken so many records through a step."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        for worker in workers:
            worker.check()
        samples = [worker.samples() for worker in workers]
        accepted = sum(total(s, "tideline_records_accepted_total") for s in samples)
        if accepted >= events:
            rows = sum(total(s, "tideline_sink_rows_total") for s in samples)
            return _mark(time.time(), accepted, workers, stage, rows)
        time.sleep(_LOOK_SECONDS)
    raise click.ClickException(
        f"the worker took {accepted:,.0f} of {events:,} events in {DEADLINE_SECONDS:.0f} s; "
        "is something else running on this machine?"
    )


def _wait_for_rows(settings: Settings, events: int, workers: list[Worker], stage: Stage) -> _Mark:
    """Until ClickHouse has every row; its own clock tells since when. A `batches` row is inserted
    after all other effects of its step."""
    client = connect(clickhouse_target(settings))
    end = time.monotonic() + DEADLINE_SECONDS
    try:
        while time.monotonic() < end:
            ((accepted, last),) = client.execute(
                "SELECT sum(accepted), toFloat64(max(inserted_at)) FROM batches"
            )
            if accepted >= events:
                rows = sum(total(w.samples(), "tideline_sink_rows_total") for w in workers)
                return _mark(float(last), accepted, workers, stage, rows)
            time.sleep(_LOOK_SECONDS)
    finally:
        client.disconnect()
    raise click.ClickException(f"ClickHouse did not get all rows in {DEADLINE_SECONDS:.0f} s")


def _row_bytes(settings: Settings) -> float:
    """Of an average row of all tables, uncompressed."""
    client = connect(clickhouse_target(settings))
    try:
        ((size,),) = client.execute(
            "SELECT sum(data_uncompressed_bytes) / sum(rows) FROM system.parts "
            "WHERE active AND database = %(database)s",
            {"database": settings.clickhouse.database},
        )
        return float(size)
    finally:
        client.disconnect()


async def _journal_bytes(settings: Settings) -> int:
    """Keys and values in the journal topic."""
    log, topic, found = KafkaLog(settings.kafka.brokers), settings.topic_names.journal, 0
    await log.start()
    try:
        for partition in range(PARTITIONS):
            first, end = await log.ends(topic, partition)
            records = await log.read(topic, partition, first, end)
            found += sum(len(value or b"") for value in records.values)
    finally:
        await log.stop()
    return found
