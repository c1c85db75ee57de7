"""Whether an input topic still holds what a shard is about to read."""

from __future__ import annotations

from schemas.errors import StateError
from streams.kafka.log import Log

__all__ = ["check_input"]


async def check_input(log: Log, topic: str, shard: int, at: int) -> None:
    """Return if the shard can go on at offset `at`; raise StateError that says why it can't.

    A consumer alone would not notice. It is sent to the beginning of the topic, whose offsets then
    read like records that the shard has had, and they would be dropped as such.
    """
    first, end = await log.ends(topic, shard)
    if first <= at <= end:
        return
    was = (
        "the topic was created again, and what it holds was not read"
        if at > end
        else f"retention took {first - at} records before they were read"
    )
    raise StateError(
        f"shard {shard} goes on at offset {at} of {topic}, which has {first} to {end}: {was}. "
        "Restore the topic; or start again from what it holds, with another TIDELINE_KAFKA_APP_ID "
        "and TIDELINE_CLICKHOUSE_DATABASE."
    )
