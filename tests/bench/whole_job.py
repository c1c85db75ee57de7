"""The whole job: `tideline worker` on a backlog, from Kafka to ClickHouse, and what it costs.

From when the warm-up is through the step until ClickHouse has the last row, so that rows on their
way when the clock starts count against Tideline, never for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import click

from schemas.definitions import Definitions
from streams.clickhouse.client import clickhouse_target, connect
from streams.kafka.log import KafkaLog
from streams.settings import Settings
from tests.bench.machine import FIRST_CORE, cpu_seconds, pin
from tests.bench.stage import PARTITIONS, Filled, Stage
from tests.bench.worker import DEADLINE_SECONDS, Samples, Worker, total

__all__ = ["Meters", "Outcome", "Reading", "measure", "run"]

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


@dataclass(frozen=True)
class Reading:
    """What was done and used by a moment."""

    at: float
    """Seconds since the epoch."""
    accepted: float
    """Records, by the workers' steps or by ClickHouse's ledger."""
    rows: float
    worker_cpu: float
    broker_cpu: float
    clickhouse_cpu: float


class Meters(Protocol):
    """The running job, to be looked at as often as one likes."""

    def stepped(self) -> Reading:
        """Now; `accepted` is what the workers took through a step."""
        ...

    def stored(self) -> Reading:
        """`accepted` is what ClickHouse has the rows of, and `at` when it got the last of them."""
        ...


def measure(
    meters: Meters, warm: int, total: int, look: Callable[[], None]
) -> tuple[Reading, Reading]:
    """From `warm` records through the step until ClickHouse has the rows of `total`: what the rows
    take that are on their way when the last step ends counts too.

    Args:
        look: called between two looks; waits a little, and raises when it takes too long.
    """
    while (start := meters.stepped()).accepted < warm:
        look()
    while meters.stepped().accepted < total:  # until then ClickHouse is left alone
        look()
    while (stop := meters.stored()).accepted < total:
        look()
    return start, stop


def run(
    stage: Stage,
    filled: Filled,
    cores: tuple[set[int], ...] = ({FIRST_CORE},),
    definitions: Definitions | None = None,
) -> Outcome:
    """Run one worker per entry of `cores`, pinned there, over the topics of `filled`, with
    `definitions` in force."""
    name = stage.fresh_name("whole")
    settings = stage.settings(filled.topics, name)
    stage.prepare(settings, definitions)
    workers = [Worker(settings, stage.directory / f"{name}-{i}.log") for i in range(len(cores))]
    client = connect(clickhouse_target(settings))
    try:
        for worker, mine in zip(workers, cores, strict=True):
            pin(worker.process.pid, mine)
        start, stop = measure(
            _Job(stage, workers, client),
            filled.history + filled.warm,
            filled.total,
            _looks(workers),
        )
        samples = [worker.samples() for worker in workers]
        written = sum(total(s, "tideline_checkpoint_bytes_total") for s in samples)
        row_bytes = _row_bytes(client, settings)
    finally:
        client.disconnect()
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


class _Job:
    """`Meters` of real workers."""

    def __init__(self, stage: Stage, workers: list[Worker], client: Any) -> None:
        self._stage, self._workers, self._client = stage, workers, client

    def stepped(self) -> Reading:
        samples = [worker.samples() for worker in self._workers]
        accepted = sum(total(s, "tideline_records_accepted_total") for s in samples)
        return self._reading(time.time(), accepted, samples)

    def stored(self) -> Reading:
        # A row of `batches` is inserted after all other effects of its step.
        ((accepted, last),) = self._client.execute(
            "SELECT sum(accepted), toFloat64(max(inserted_at)) FROM batches"
        )
        return self._reading(float(last), accepted, [w.samples() for w in self._workers])

    def _reading(self, at: float, accepted: float, samples: list[Samples]) -> Reading:
        return Reading(
            at, accepted, sum(total(s, "tideline_sink_rows_total") for s in samples),
            sum(cpu_seconds(w.process.pid) for w in self._workers),
            cpu_seconds(self._stage.broker_pid), cpu_seconds(self._stage.clickhouse_pid),
        )  # fmt: skip


def _looks(workers: list[Worker]) -> Callable[[], None]:
    """Waits from one look to the next. Raises when a worker has ended, or all take too long."""
    end = time.monotonic() + 2 * DEADLINE_SECONDS

    def look() -> None:
        for worker in workers:
            worker.check()
        if time.monotonic() > end:
            raise click.ClickException(
                f"ClickHouse does not have all events after {2 * DEADLINE_SECONDS:.0f} s; "
                "is something else running on this machine?"
            )
        time.sleep(_LOOK_SECONDS)

    return look


def _row_bytes(client: Any, settings: Settings) -> float:
    """Of an average row of all tables, uncompressed."""
    ((size,),) = client.execute(
        "SELECT sum(data_uncompressed_bytes) / sum(rows) FROM system.parts "
        "WHERE active AND database = %(database)s",
        {"database": settings.clickhouse.database},
    )
    return float(size)


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
