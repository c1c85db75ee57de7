"""Commits offsets of a group that may have moved on meanwhile.

To be too late is no error: the state and the journal say where the next owner goes on, and offsets
only tell how far we are. Faust's own way takes it for one. A partition that left us between the
checkpoint and the commit leaves it nothing to commit, which aiokafka refuses, and the worker dies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

__all__ = ["commit_assigned"]


async def commit_assigned(consumer: Any, offsets: Mapping[Any, int]) -> bool:
    """Commit the next offset to read of those partitions that are still assigned to `consumer`, an
    aiokafka one; keys are (topic, partition).

    Returns whether all of them were committed; False if a rebalance came first. Raises KafkaError
    if the broker refuses for another reason, such as missing rights.
    """
    assigned = consumer.assignment()
    wanted = {TopicPartition(*place): OffsetAndMetadata(at, "") for place, at in offsets.items()}
    ours = {place: at for place, at in wanted.items() if place in assigned}
    if not ours:
        return not wanted
    try:
        await consumer.commit(ours)
    except (CommitFailedError, IllegalStateError):  # taken from us after we looked
        return False
    return len(ours) == len(wanted)
