"""Whether what an input topic holds is what a shard may read."""

from __future__ import annotations

from typing import Final

from schemas.errors import StateError
from schemas.topics import TopicNames
from streams.core.events.records import Records
from streams.core.hashing import key_pseudonym
from streams.core.partitioning import Partitioner, explain_misplaced
from streams.kafka.log import Log
from streams.shard.starting_over import START_OVER

__all__ = ["PartitionsDiffer", "check_input", "check_keys", "check_partitions", "partitions_added"]

_REMEDY: Final = (
    "A customer whose events lie in two partitions has two states, which overwrite each other, so "
    "nothing more is read. If one producer is wrong, set its partitioner (docs/events.md lists "
    "each client's setting; librdkafka: partitioner=murmur2_random), restart with "
    "TIDELINE_KAFKA_MISPLACED=dead_letter, and `tideline dlq replay --reason wrong_partition` "
    "sends what it wrote to the right partitions. If all producers of both topics choose "
    "partitions alike, name their partitioner in TIDELINE_KAFKA_PARTITIONER."
)


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
        "Restore the topic; or, to go on with what it holds, "
        f"{START_OVER}"
    )


def check_keys(records: Records, topic: str, shard: int, partitioner: Partitioner) -> None:
    """Check that the records' keys belong to partition `shard`; raises StateError naming the first
    one that does not, and who may have sent it."""
    misplaced = partitioner.misplaced(records, shard)
    if not len(misplaced):
        return
    strays = records[misplaced]
    belongs = partitioner.of(strays)[0]
    raise StateError(
        f"{topic}/{shard}, offset {strays.offsets[0]}: the key (of customer "
        f"{key_pseudonym(strays.keys[0])}) belongs to partition {belongs}, by {partitioner.name} "
        f"of {partitioner.partitions} partitions. {len(strays)} of the {len(records)} records "
        f"fetched are misplaced: {explain_misplaced(strays, shard, partitioner)}. "
        f"{_REMEDY}"
    )


class PartitionsDiffer(StateError):
    """A shard's state was made for another number of partitions than the settings name."""

    def __init__(self, message: str, state_has: int) -> None:
        super().__init__(message)
        self.state_has = state_has


def check_partitions(shard: int, state_has: int, partitioner: Partitioner | None) -> None:
    """Compare the number of partitions that a state was made for (0: not known) with that of the
    settings. Raises PartitionsDiffer, which says what to do."""
    if partitioner is None or state_has in (0, partitioner.partitions):
        return
    raise PartitionsDiffer(
        f"shard {shard}: its state was made for {state_has} partitions, but "
        f"TIDELINE_KAFKA_PARTITIONS is {partitioner.partitions}. If `tideline repartition` was "
        f"interrupted, run it again. If it is done, set TIDELINE_KAFKA_PARTITIONS={state_has} and "
        "the input topics that it named. To change the number of partitions, see "
        'docs/operations.md, "Grow".',
        state_has,
    )


def partitions_added(names: TopicNames, partition: int, partitioner: Partitioner) -> StateError:
    """The error for a partition that the state knows nothing of."""
    return StateError(
        f"The input topics {names.clickstream} and {names.orders} have a partition {partition}, "
        f"but the state in {names.checkpoints} was made for {partitioner.partitions} partitions "
        "(TIDELINE_KAFKA_PARTITIONS). Somebody added partitions, and producers now send most "
        "customers to other partitions. No record of the added ones was read. `tideline "
        "repartition` moves state and unread records to topics with more partitions: "
        'docs/operations.md, "Grow".'
    )
