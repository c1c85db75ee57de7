"""Reads what the shards have counted, customer by customer, from their newest checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.features import COUNT_MEASURES, FEATURE_NAMES, MONEY_MEASURES, WINDOWS
from streams.core.state import snapshot
from streams.core.state.shard_state import ShardState
from streams.core.texts import Texts
from streams.kafka.access import kafka_access
from streams.kafka.log import KafkaLog
from streams.settings import Settings
from streams.shard.checkpoints import CheckpointStore
from tests.shop.recount import Customer

__all__ = ["Counted", "customers_of", "read_state"]


@dataclass(frozen=True)
class Counted:
    """All customers of all shards."""

    customers: dict[str, Customer]
    clock_ms: dict[str, int]
    """Of the shard that each customer is in."""
    clocks_ms: list[int]
    """Of each shard."""
    twice: tuple[str, ...]
    """Customers who are in several shards."""


async def read_state(settings: Settings) -> Counted:
    """What the last workers wrote; they must have stopped. Raises LookupError for a shard without
    a checkpoint."""
    log = KafkaLog(kafka_access(settings))
    await log.start()
    customers: dict[str, Customer] = {}
    clock_ms: dict[str, int] = {}
    clocks_ms, twice = [], []
    try:
        for shard in range(settings.kafka.partitions):
            store = CheckpointStore(log, settings.topic_names.checkpoints, shard, "reader")
            stored = await store.load()
            if stored is None:
                raise LookupError(f"shard {shard} has no checkpoint")
            state = snapshot.load(stored.meta, stored.arrays, len(FEATURE_NAMES))
            clocks_ms.append(state.meta.clock_ms)
            found = customers_of(state)
            twice += [user for user in found if user in customers]
            customers |= found
            clock_ms |= dict.fromkeys(found, state.meta.clock_ms)
    finally:
        await log.stop()
    return Counted(customers, clock_ms, clocks_ms, tuple(twice))


def customers_of(state: ShardState) -> dict[str, Customer]:
    """Everybody a shard knows. Parked customers get their rows back, so the state is changed."""
    state.rows_of(Texts.of(state.parked.everyone(0)[0]))
    c = state.columns
    found = {}
    for user in state.rows_by_user:
        row = state.rows_by_user[user]
        last_order_ms = int(c.recent_orders_ms[row, 0])
        found[user] = Customer(
            orders=int(c.orders[row]),
            revenue_cents=int(c.revenue_cents[row]),
            first_seen_ms=int(c.first_seen_ms[row]),
            last_activity_ms=int(c.last_activity_ms[row]),
            first_order_ms=int(c.first_order_ms[row]),
            last_order_ms=last_order_ms,
            windows=_windows(state, row),
        )
    return found


def _windows(state: ShardState, row: int) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = {}
    for table, measures in (
        (state.counts.table, COUNT_MEASURES), (state.money.table, MONEY_MEASURES),
    ):  # fmt: skip
        for at_measure, at_window in np.argwhere(table[row]).tolist():
            name = measures[at_measure], WINDOWS[at_window].name
            sums[name] = int(table[row, at_measure, at_window])
    return sums
