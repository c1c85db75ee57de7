"""The ledger: what became of every record of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from streams.core.plan import Plan
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows

__all__ = ["Counts", "batch_row"]


@dataclass(frozen=True)
class Counts:
    """The ledger of one step, in records:
    accepted = scored + duplicates + late + dead_letters + erased."""

    accepted: int
    scored: int
    duplicates: int
    late: int
    dead_letters: int
    erased: int
    """Sent by people before they were erased: read, and left out."""
    users_scored: int


def batch_row(state: ShardState, plan: Plan, counts: Counts) -> TableRows:
    """The `batches` row of a step that was applied."""
    row: dict[str, Any] = {
        "shard": np.uint16(state.meta.shard),
        "seq": np.uint64(plan.seq),
        "clock": np.int64(state.meta.clock_ms),
        "clickstream_from": np.uint64(plan.start[0]),
        "clickstream_to": np.uint64(plan.stop[0]),
        "orders_from": np.uint64(plan.start[1]),
        "orders_to": np.uint64(plan.stop[1]),
        "accepted": np.uint32(counts.accepted),
        "scored": np.uint32(counts.scored),
        "duplicates": np.uint32(counts.duplicates),
        "late": np.uint32(counts.late),
        "dead_letters": np.uint32(counts.dead_letters),
        "erased": np.uint32(counts.erased),
        "users_scored": np.uint32(counts.users_scored),
    }
    return {name: np.array([value]) for name, value in row.items()}
