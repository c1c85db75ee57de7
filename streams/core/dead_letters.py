"""Dead letters: what becomes of a record that can't be used, or that comes too late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from schemas.messages import DeadLetter
from streams.core.apply import Applied
from streams.core.events.events import Events, Reject
from streams.core.events.records import Records
from streams.core.features import DAY_MS
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows

__all__ = ["dead_letter_rows", "dead_letters"]

PAYLOAD_KEPT_BYTES: Final = 4_096  # the rest is cut off


def dead_letters(
    state: ShardState,
    records: Records,
    events: Events,
    rejects: Sequence[Reject],
    applied: Applied,
    topic: str,
) -> list[DeadLetter]:
    """What becomes of the records of one topic that can't be used, and of late ones (reason
    `late`). Records that are not right come first, in the order of `rejects`."""
    refused = [(r.position, r.reason, r.detail) for r in rejects]
    for i in applied.late.tolist():
        behind = (state.meta.watermark_ms - int(events.ts_ms[i])) / DAY_MS
        detail = f"{behind:.1f} days older than the newest event"
        refused.append((int(events.positions[i]), "late", detail))
    letters = []
    for position, reason, detail in refused:
        value = records.values[position]
        letters.append(
            DeadLetter(
                topic=topic,
                partition=state.meta.shard,
                offset=int(records.offsets[position]),
                reason=reason,
                detail=detail,
                recorded_at_ms=int(records.timestamps_ms[position]),
                key=records.keys[position],
                payload=None if value is None else value[:PAYLOAD_KEPT_BYTES],
                payload_bytes=0 if value is None else len(value),
            )
        )
    return letters


def dead_letter_rows(letters: list[DeadLetter]) -> TableRows:
    """`dead_letters` rows."""
    return {
        "topic": [d.topic for d in letters],
        "partition": np.array([d.partition for d in letters], np.uint16),
        "offset": np.array([d.offset for d in letters], np.uint64),
        "reason": [d.reason for d in letters],
        "detail": [d.detail for d in letters],
        "recorded_at": np.array([d.recorded_at_ms for d in letters], np.int64),
        "record_key": [(d.key or b"").decode(errors="replace") for d in letters],
        "payload": [(d.payload or b"").decode(errors="replace") for d in letters],
        "payload_bytes": np.array([d.payload_bytes for d in letters], np.uint32),
    }
