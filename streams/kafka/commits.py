"""Commits offsets of a group that may have moved on meanwhile.

A late commit is no error: the next owner starts from the state and the journal, and offsets only
show progress. Faust treats it as one: if a partition is revoked between the checkpoint and the
commit, aiokafka refuses the empty commit, and the worker dies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streams.kafka.committed import Committed

__all__ = ["commit_assigned"]


async def commit_assigned(consumer: Any, offsets: Mapping[Any, int | Committed]) -> bool:
    """Commit the next offset to read of those partitions that are still assigned to `consumer`, an
    aiokafka one; keys are (topic, partition).

    Returns whether all of them were committed; False if a rebalance came first. Raises KafkaError
    if the broker refuses for another reason, such as missing rights.
    """
    assigned = consumer.assignment()
    wanted = {TopicPartition(*place): _noted(at) for place, at in offsets.items()}
    ours = {place: at for place, at in wanted.items() if place in assigned}
    if not ours:
        return not wanted
    try:
        await consumer.commit(ours)
    except (CommitFailedError, IllegalStateError):  # revoked after the check above
        return False
    return len(ours) == len(wanted)


def _noted(at: int | Committed) -> OffsetAndMetadata:
    committed = at if isinstance(at, Committed) else Committed(at)
    return OffsetAndMetadata(committed.offset, committed.note)
