"""The ledger: what became of every record of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.core.apply import Applied, Counted
from streams.core.events.events import Events, Reject
from streams.core.events.records import Records
from streams.core.plan import Plan
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows

__all__ = ["Counts", "batch_row", "counts_of"]


@dataclass(frozen=True)
class Counts:
    """The ledger of one step, in records:
    accepted = scored + duplicates + late + dead_letters + erased + canaries."""

    accepted: int
    scored: int
    """Events that entered the windows, and contacts that count."""
    duplicates: int
    late: int
    dead_letters: int
    erased: int
    """Sent by people before they were erased: read, and left out."""
    users_scored: int
    canaries: int = 0
    """Records of the lag monitor, which are no events (`streams.core.canaries`)."""


def counts_of(
    records: Sequence[Records],
    decoded: Sequence[Events],
    excluded: Sequence[NDArray[np.bool_] | None],
    rejects: Sequence[Sequence[Reject]],
    admitted: Sequence[Applied],
    counted: Sequence[Counted],
    users_scored: int,
    canaries: int,
) -> Counts:
    """Count a step's records, from one item of each for each source: the records, what was decoded,
    events of erased people (bool [n], or None), rejects that become dead letters, what `admit`
    decided, and what was counted; the last three have one more, of contacts. Canaries are in
    `records` alone."""
    erased_events = sum(int(mask.sum()) for mask in excluded if mask is not None)
    dead_letters = sum(map(len, rejects))
    return Counts(
        accepted=sum(map(len, records)),
        scored=sum(each.events for each in counted),
        duplicates=sum(a.duplicates for a in admitted) + sum(each.repeats for each in counted),
        late=sum(len(a.late) for a in admitted),
        dead_letters=dead_letters,
        erased=erased_events + sum(len(events.rejects) for events in decoded) - dead_letters,
        users_scored=users_scored,
        canaries=canaries,
    )


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
        "skipped_offsets": np.uint32(sum(plan.skipped)),
        "inputs_since": np.uint64(state.meta.inputs_since),
        "canaries": np.uint32(counts.canaries),
    }
    return {name: np.array([value]) for name, value in row.items()}
