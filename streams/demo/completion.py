"""Decides when everything that was sent has been processed, exactly.

1. Every record is accepted. A `batches` row is written after all rows of its batch, so the tables
   are complete then.
2. The worker has committed every record, so a checkpoint holds them: its lag is 0.
3. The learner has taken every matured example, and committed it.

Topics are new and start at offset 0, so committed offsets can be compared with counts; nothing
depends on how recent the lag monitor's look is.
"""

from __future__ import annotations

from schemas.topics import TopicNames
from streams.demo.figures import Figures, GroupOffsets

__all__ = ["waiting_for"]


def waiting_for(figures: Figures, sent: int, learned: int, names: TopicNames) -> str:
    """What is still to come, in words; empty when all is done.

    `sent`: records acknowledged by the broker, once the replay has ended. `learned`: the version of
    the newest learner snapshot, which counts the examples it has taken.
    """
    to_accept = sent - figures.ledger.accepted
    if to_accept > 0:
        return f"{to_accept:,} records to process"
    if (behind := _uncommitted(figures.lag.get(names.app), sent)) > 0:
        return f"{behind:,} records to checkpoint"
    if (to_learn := figures.matured - learned) > 0:
        return f"{to_learn:,} examples to learn"
    if (behind := _uncommitted(figures.lag.get(names.learner_group), figures.matured)) > 0:
        return f"{behind:,} examples to commit"
    return ""


def _uncommitted(seen: GroupOffsets | None, expected: int) -> int:
    return max(expected - seen.committed, seen.lag_records) if seen else expected
