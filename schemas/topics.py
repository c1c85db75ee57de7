"""The Kafka topics: names, partitions and settings, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["Topic", "TopicNames", "topics"]

_DAY_MS = 86_400_000


class _Own:
    """A topic that is Tideline's own: `<app>-<name>`, the name as `TopicNames` declares it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._suffix = name.replace("_", "-")

    def __get__(self, names: TopicNames, owner: type) -> str:
        return f"{names.app}-{self._suffix}"


@dataclass(frozen=True)
class TopicNames:
    """Every topic of one application. `app` prefixes those that are Tideline's own.

    >>> TopicNames("clicks", "orders", "shop").dead_letters
    'shop-dead-letters'
    """

    clickstream: str
    orders: str
    app: str

    journal = _Own()
    checkpoints = _Own()
    alerts = _Own()
    dead_letters = _Own()
    erasures = _Own()
    examples = _Own()
    learner = _Own()
    audiences = _Own()
    undelivered = _Own()
    definitions = _Own()

    @property
    def own(self) -> tuple[str, ...]:
        """The topics that are Tideline's own, in the order declared."""
        declared = vars(type(self)).items()
        return tuple(getattr(self, name) for name, of in declared if isinstance(of, _Own))

    @property
    def learner_group(self) -> str:
        """The learner's consumer group, named like the topic it writes; the workers' is `app`."""
        return self.learner

    def delivery_group(self, destination: str) -> str:
        """The consumer group that delivers to one destination: each has its own offsets."""
        return f"{self.app}-deliver-{destination}"


@dataclass(frozen=True)
class Topic:
    """What `tideline topics` creates."""

    name: str
    partitions: int
    config: Mapping[str, str]
    why: str
    is_state: bool = False
    """It holds the shards' state, which is deleted and made again only as a whole."""
    may_have_more: bool = False
    """More partitions do no harm: each shard writes and reads the one of its number, and the others
    stay as they are. Inputs are not so: their producers choose among all partitions."""


def topics(
    names: TopicNames, partitions: int, *, keep_inputs: bool = False, min_insync_replicas: int = 0
) -> tuple[Topic, ...]:
    """All topics for `partitions` shards. The inputs and everything per shard are co-partitioned.

    `keep_inputs` keeps input records for ever. A replay of old data needs that: brokers count
    retention from a record's own timestamp, which is event time, and would delete it on arrival.
    `min_insync_replicas`: on every topic; 0 leaves it to the broker.
    """

    def topic(name: str, count: int, why: str, *, is_state: bool = False, **config: str) -> Topic:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        if min_insync_replicas:
            settings["min.insync.replicas"] = str(min_insync_replicas)
        return Topic(name, count, MappingProxyType(settings), why, is_state, name in of_shards)

    of_shards = (
        names.journal, names.checkpoints, names.alerts, names.dead_letters, names.audiences,
    )  # fmt: skip
    week, quarter, forever = str(7 * _DAY_MS), str(90 * _DAY_MS), "-1"
    clicks_kept, orders_kept = (forever, forever) if keep_inputs else (week, quarter)
    return (
        topic(names.clickstream, partitions, "events in, keyed by user", retention_ms=clicks_kept),
        topic(names.orders, partitions, "orders in, keyed by user", retention_ms=orders_kept),
        topic(
            names.journal,
            partitions,
            "which records each batch took",
            is_state=True,
            retention_ms=week,
            # the broker's own time on each record: a worker compares its clock with that
            message_timestamp_type="LogAppendTime",
        ),
        topic(
            names.checkpoints,
            partitions,
            "shard state, by page",
            is_state=True,
            cleanup_policy="compact",
            # by then a page that an erasure replaced is gone from the broker's disk, too
            max_compaction_lag_ms=str(_DAY_MS),
            # Whoever recovers reads all there is, and the newest segment is never compacted: by
            # default it has a gigabyte of pages that were replaced long ago.
            segment_bytes=str(16 * 1024 * 1024),
            segment_ms=str(10 * 60 * 1000),
            min_cleanable_dirty_ratio="0.2",
        ),
        topic(names.alerts, partitions, "churn alerts out, keyed by user", retention_ms=week),
        topic(names.dead_letters, partitions, "records that could not be used", retention_ms=week),
        topic(names.erasures, 1, "who was erased, as salted hashes", cleanup_policy="compact"),
        topic(names.examples, 1, "matured labels for the learner", retention_ms=quarter),
        topic(
            names.learner,
            1,
            "learner snapshots",
            cleanup_policy="compact",
            # A snapshot has up to 112 KB, and one a second replaces the one before.
            segment_bytes=str(64 * 1024 * 1024),
            segment_ms=str(60 * 60 * 1000),
        ),
        topic(
            names.audiences,
            partitions,
            "who entered and left audiences, keyed by user",
            retention_ms=week,
        ),
        topic(
            names.undelivered,
            1,
            "changes that a destination refused, with the reason",
            retention_ms=week,
        ),
        topic(names.definitions, 1, "segments and audiences as applied", retention_ms=forever),
    )
