"""The shards' states as of their newest checkpoints, read by a command beside running workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from schemas.errors import StateError
from schemas.features import FEATURE_NAMES
from schemas.topics import TopicNames
from streams.core.state import snapshot
from streams.core.state.shard_state import ShardState
from streams.kafka.log import Log
from streams.shard.checkpoints import CheckpointStore

__all__ = ["newest_states"]


async def newest_states(
    log: Log, topics: TopicNames, partitions: int, shard: int | None = None
) -> AsyncIterator[ShardState]:
    """The state of each shard that has a checkpoint, one after the other; of `shard` alone if it is
    given. Nobody's ownership changes. What workers did since the checkpoint is not in it.

    Raises BrokerUnavailable, and StateError for a checkpoint that can't be read.
    """
    for number in range(partitions) if shard is None else (shard,):
        store = CheckpointStore(log, topics.checkpoints, number, "reader")
        stored = await store.load()
        if stored is None:
            continue
        try:
            yield await asyncio.to_thread(
                snapshot.load, stored.meta, stored.arrays, len(FEATURE_NAMES)
            )
        except (ValueError, KeyError, msgspec.DecodeError) as exc:
            raise StateError(
                f"The checkpoint of shard {number} in {topics.checkpoints} can't be read: {exc}. "
                "Use the release that the workers run."
            ) from exc
