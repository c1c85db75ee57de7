"""Splits one shard into its successors: the shards that take its place, one under its number.

    1. Shard p is recovered as a worker does it: taken over, loaded, its journal replayed.
    2. Each successor gets its checkpoint, except the one with number p.
    3. The caller notes the offsets up to which p has read its input topics.
    4. The successor with number p gets its checkpoint, which replaces that of p.

Before step 4, p is unchanged: workers may continue with it, and another split replaces what step 2
has left. From step 4 on, the successors count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from schemas.errors import StateError
from streams.core.erasure import erase
from streams.core.partitioning import Partitioner
from streams.core.state.shard_state import ShardState
from streams.core.state.split import split, strays
from streams.shard.inputs import PartitionsDiffer
from streams.shard.offline import OfflineShard
from streams.shard.services import Services

__all__ = ["split_shard"]


async def split_shard(
    number: int,
    before: Services,
    after: Services,
    read: Callable[[tuple[int, int]], Awaitable[None]],
) -> int | None:
    """Split a shard of `before` into its successors in `after`, which has the new topics and the
    new partitioner. `read` notes the next offsets of the old topics (step 3).

    Returns how many users the shard has; None if it was split already. Raises what a recovery
    raises, and Fenced if a worker takes the shard over.
    """
    old, new = _partitioner(before), _partitioner(after)
    own = OfflineShard(number, before)
    try:
        state = await own.recover()
    except PartitionsDiffer as error:
        if error.state_has != new.partitions:
            raise
        return None
    state.meta.partitions = old.partitions  # a shard that took no step does not know
    await asyncio.get_running_loop().run_in_executor(before.compute, _check_users, state, old)
    # Who is asked for now can be reported by this shard alone, not by those that follow it.
    for order in before.erasures.due(number, state.meta, before.clock, before.wall_ms()):
        erase(state, order)
    # The last successor is `number` itself.
    for q in range(number + new.partitions - old.partitions, number - 1, -old.partitions):
        topics = (after.topics.clickstream, after.topics.orders)
        starts = [(await after.log.ends(topic, q))[0] for topic in topics]
        child = await asyncio.get_running_loop().run_in_executor(
            before.compute, split, state, q, new, (starts[0], starts[1])
        )
        if q != number:
            other = OfflineShard(q, after)
            await other.take(child)
            await other.checkpoint()
    await read((state.meta.offsets[0], state.meta.offsets[1]))
    own.go_on(child, after)
    await own.checkpoint()
    return state.known


def _check_users(state: ShardState, of: Partitioner) -> None:
    found = strays(state, of)
    if found:
        raise StateError(
            f"shard {state.meta.shard}: {found:,} of its {state.known:,} customers are in another "
            f"partition by {of.name} of {of.partitions} partitions, and would be lost. It is "
            "as it was. `tideline doctor` says which partitioner fits the input topics: name it in "
            "TIDELINE_KAFKA_PARTITIONER, and run the command again. A shop whose producers choose "
            "partitions by other rules can't be split."
        )


def _partitioner(services: Services) -> Partitioner:
    found = services.config.partitioner
    assert found is not None  # noqa: S101  (the caller's: nobody else knows who is where)
    return found
