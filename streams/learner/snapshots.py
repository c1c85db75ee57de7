"""Follows the topic of learner snapshots and keeps the newest one."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from models.blend import unsound
from schemas.features import FEATURE_NAMES
from schemas.messages import LearnerSnapshot
from streams.kafka.access import KafkaAccess
from streams.kafka.follower import NEWEST, Follower
from streams.kafka.log import Log

__all__ = ["SnapshotFollower", "newest_of", "newest_snapshot"]

_log = logging.getLogger(__name__)
_decoder = msgspec.msgpack.Decoder(LearnerSnapshot)


def newest_of(values: Iterable[bytes | None], topic: str) -> LearnerSnapshot | None:
    """The last snapshot that can be read and used for scoring, converted to this build's features;
    others are skipped with a warning."""
    for value in reversed(list(values)):
        try:
            snapshot = _decoder.decode(value or b"")
            problem = unsound(snapshot)
        except msgspec.DecodeError as exc:
            problem = str(exc)
        if problem is None:
            return snapshot.by_name(FEATURE_NAMES)
        _log.warning("%s: skipping a record that is no learner snapshot: %s", topic, problem)
    return None


async def newest_snapshot(log: Log, topic: str) -> LearnerSnapshot | None:
    """The newest snapshot in the topic now that can be used, or None."""
    first, end = await log.ends(topic, 0)
    while end > first:
        start = max(first, end - NEWEST)
        found = newest_of((await log.read(topic, 0, start, end)).values, topic)
        if found is not None:
            return found
        end = start
    return None


class SnapshotFollower(Follower[LearnerSnapshot]):
    """Follows the newest good snapshot, without the state that only the learner needs."""

    def __init__(self, where: KafkaAccess | Iterable[str], topic: str) -> None:
        super().__init__(where, topic, "learner snapshots", _newest_for_scoring)


def _newest_for_scoring(values: Iterable[bytes | None], topic: str) -> LearnerSnapshot | None:
    newest = newest_of(values, topic)
    return newest and msgspec.structs.replace(newest, state=b"", positions={})
