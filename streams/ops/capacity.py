"""How many workers, partitions, brokers and ClickHouse nodes a rate of events needs.

Arithmetic on what `make bench` measured (`streams/ops/capacity_measured.json`) and on
assumptions that are printed and can be changed. It plans for the peak, with a share of every
machine left free.

    worker cores      = events/s x worker CPU per event / busy share
    partitions        = worker cores, rounded up to a multiple, so that work spreads evenly
    worker memory     = users x (bytes per user + active days x bytes per day) + ids x bytes per id
    written to Kafka  = events/s x (event + journal) x copies + checkpoints x copies
    brokers           = the larger need of CPU and disk, and at least the number of copies
    ClickHouse nodes  = the larger need of CPU and rows
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import msgspec

__all__ = ["Assumptions", "Cost", "Measured", "Need", "measured", "needed"]

_FILE: Final = "capacity_measured.json"
_US: Final = 1e-6


class Cost(msgspec.Struct, frozen=True):
    """What one event costs, under one shape of load."""

    worker_cpu_us: float
    broker_cpu_us: float
    clickhouse_cpu_us: float
    fetch_bytes: float
    """Of the event's record, as the worker fetches it."""
    journal_bytes: float
    insert_rows: float
    """Rows in ClickHouse, of all tables."""


class Measured(msgspec.Struct, frozen=True):
    """Everything the calculation takes from `make bench`, and when and where that was."""

    date: str
    conditions: str
    loads: dict[str, Cost]
    """Shape of load -> its costs."""
    row_bytes: float
    """Uncompressed, of an average row in ClickHouse."""
    user_bytes: float
    """Memory of one user with a few events."""
    user_day_bytes: float
    """Memory that a day of a user's activity takes while a window covers it."""
    event_id_bytes: float
    """Memory of an event's id, kept until it is too old to come back as a duplicate."""
    checkpoint_user_bytes: float
    """Of one user in a checkpoint that writes everything."""
    worker_base_bytes: float
    """Memory of a worker without users."""


def assumption(value: Any, words: str) -> Any:
    """A field of `Assumptions`, with the help of its option."""
    return field(default=value, metadata={"help": words})


@dataclass(frozen=True)
class Assumptions:
    """Figures that can't be measured here, or are the operator's choice. Every field is an option
    of `tideline capacity`."""

    busy_share: float = assumption(
        0.6, "share of each core in use at the peak; the rest is for catching up after a stop"
    )
    copies: int = assumption(3, "replication factor of every topic")
    checkpoint_seconds: float = assumption(30.0, "seconds between checkpoints")
    remembered_share: float = assumption(
        0.3, "average rate over the days that ids are remembered, as a share of the peak"
    )
    active_days: float = assumption(10.0, "days of the longest window on which a user is active")
    lateness_days: float = assumption(7.0, "days that event ids are remembered")
    broker_cores: int = assumption(4, "cores of a broker")
    broker_write_mb_per_second: float = assumption(
        150.0, "MB/s that a broker's disk writes, copies included"
    )
    clickhouse_cores: int = assumption(8, "cores of a ClickHouse node")
    clickhouse_rows_per_second: float = assumption(
        500_000.0, "rows that a ClickHouse node inserts, merges included"
    )
    worker_memory_gb: float = assumption(16.0, "memory that one worker may use")


@dataclass(frozen=True)
class Need:
    """What a rate of events needs."""

    worker_cores: float
    """At `busy_share`; a worker is one process and uses one core."""
    workers: int
    partitions: int
    memory_gb: float
    """Of all workers."""
    fetch_mb_per_second: float
    kafka_write_mb_per_second: float
    """All copies."""
    brokers: int
    insert_rows_per_second: float
    insert_mb_per_second: float
    """Uncompressed."""
    clickhouse_nodes: int


def measured() -> Measured:
    """The figures of this version."""
    text = files("streams.ops").joinpath(_FILE).read_bytes()
    return msgspec.json.decode(text, type=Measured)


def needed(
    events_per_second: float, users: int, load: str, figures: Measured, assume: Assumptions
) -> Need:
    """What `events_per_second` at the peak, of `users` active users, need under a shape of load.

    Raises KeyError if `figures` has no such load, ValueError for a rate or share not above 0.
    """
    if events_per_second <= 0 or users <= 0 or not 0 < assume.busy_share <= 1:
        raise ValueError("events per second, users and the busy share must be above 0")
    cost = figures.loads[load]
    cores = events_per_second * cost.worker_cpu_us * _US / assume.busy_share
    remembered = (
        events_per_second * assume.remembered_share * assume.lateness_days * 86_400
    )  # events whose ids are kept
    user_bytes = figures.user_bytes + assume.active_days * figures.user_day_bytes
    state_bytes = users * user_bytes + remembered * figures.event_id_bytes
    room = assume.worker_memory_gb * 1e9 - figures.worker_base_bytes
    if room <= 0:
        raise ValueError("a worker without users already needs more memory than that")
    workers = max(1, math.ceil(cores), math.ceil(state_bytes / room))
    checkpoints = users * figures.checkpoint_user_bytes / assume.checkpoint_seconds
    written = assume.copies * (
        events_per_second * (cost.fetch_bytes + cost.journal_bytes) + checkpoints
    )
    broker_cpu = (
        events_per_second * cost.broker_cpu_us * _US * assume.copies / assume.busy_share
    )  # following a leader costs about what serving a consumer does
    brokers = max(
        assume.copies,
        math.ceil(broker_cpu / assume.broker_cores),
        math.ceil(written / (assume.broker_write_mb_per_second * 1e6)),
    )
    rows = events_per_second * cost.insert_rows
    clickhouse_cpu = events_per_second * cost.clickhouse_cpu_us * _US / assume.busy_share
    nodes = max(
        1,
        math.ceil(clickhouse_cpu / assume.clickhouse_cores),
        math.ceil(rows / assume.clickhouse_rows_per_second),
    )
    return Need(
        worker_cores=cores,
        workers=workers,
        partitions=_partitions(workers),
        memory_gb=(state_bytes + workers * figures.worker_base_bytes) / 1e9,
        fetch_mb_per_second=events_per_second * cost.fetch_bytes / 1e6,
        kafka_write_mb_per_second=written / 1e6,
        brokers=brokers,
        insert_rows_per_second=rows,
        insert_mb_per_second=rows * figures.row_bytes / 1e6,
        clickhouse_nodes=nodes,
    )


def _partitions(workers: int) -> int:
    """Four for each worker, and a power of two times three: it divides well when workers are added
    (1, 2, 3, 4, 6, 8, 12, ...), and partitions can't be changed later.

    >>> [_partitions(n) for n in (1, 2, 7)]
    [12, 12, 48]
    """
    partitions = 12
    while partitions < 4 * workers:
        partitions *= 2
    return partitions
