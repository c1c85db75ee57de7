"""Learns from matured labels and publishes snapshots.

Restarts change nothing: a snapshot holds everything, also the last example learned of each shard.
The learner starts from the newest snapshot, reads examples from the committed offset on, and drops
those it has learned. Offsets are committed behind the snapshot that includes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from models.learner import OnlineLearner
from models.manifest import Manifest
from schemas.messages import Drift, Example, LearnerSnapshot
from streams.core.events.records import RecordBatch
from streams.kafka.log import Log
from streams.learner.snapshots import newest_snapshot

__all__ = ["LearnerService"]

_log = logging.getLogger(__name__)
_decoder = msgspec.msgpack.Decoder(Example)
SNAPSHOT_KEY = b"snapshot"
SLICE_EXAMPLES = 500  # learned between two turns of the event loop: about 50 ms


class LearnerService:
    """The learner between its two topics, without Faust."""

    def __init__(self, log: Log, topic: str, manifest: Manifest) -> None:
        self._log = log
        self._topic = topic
        self._manifest = manifest
        self._learner: OnlineLearner | None = None
        self._published_version = -1
        self._reported: set[str] = set()
        self.next_offset: int | None = None
        """One past the newest example taken in; None before the first."""

    def adopt(self, manifest: Manifest) -> None:
        """Start again from another champion. Examples continue at their offset; those that the old
        champion scored teach nothing about the new one."""
        self._manifest = manifest
        if self._learner is not None and self._learner.champion_version != manifest.version:
            self._learner = OnlineLearner.restore(self._learner.snapshot(), manifest)

    async def restore(self) -> None:
        """Continue from the newest snapshot, or start at the champion."""
        snapshot = await newest_snapshot(self._log, self._topic)
        if snapshot is None:
            self._learner = OnlineLearner(self._manifest)
        else:
            self._learner = OnlineLearner.restore(snapshot, self._manifest)
            self._published_version = snapshot.version
            self._reported = {drift.drift_id for drift in snapshot.drifts}
            _log.info("learner: snapshot %s, %s labels", snapshot.version, snapshot.labels)

    async def take(self, batch: RecordBatch) -> int:
        """Learn a batch of examples; returns how many were learned."""
        learned = 0
        for start in range(0, len(batch.records), SLICE_EXAMPLES):
            learner = self._learner  # `adopt` may have replaced it meanwhile
            assert learner is not None  # noqa: S101  (restore comes first)
            learned -= learner.counts["learned"]
            for value in batch.records.values[start : start + SLICE_EXAMPLES]:
                try:
                    learner.learn(_decoder.decode(value or b""))
                except msgspec.DecodeError as exc:
                    _log.warning("an example can't be read and is skipped: %s", exc)
            learned += learner.counts["learned"]
            await asyncio.sleep(0)
        self.next_offset = batch.stop
        return learned

    async def publish_and_commit(
        self,
        show: Callable[[LearnerSnapshot, list[Drift]], None],
        commit: Callable[[int], Awaitable[object]],
    ) -> None:
        """Publish what is new, then commit. In the other order, a lost snapshot would lose what was
        learned since the previous one. Examples that arrive meanwhile are for the next snapshot.

        Args:
            show: gets the snapshot, and the drifts that no earlier one had.
            commit: gets the offset of the first example that the snapshot does not include.
        """
        taken = self.next_offset
        snapshot = await self.publish()
        if snapshot is not None:
            show(snapshot, self.new_drifts(snapshot))
            if taken is not None:
                await commit(taken)

    async def publish(self) -> LearnerSnapshot | None:
        """Write a snapshot, unless nothing is new; returns it."""
        if self._learner is None:
            return None
        snapshot = self._learner.snapshot()
        if snapshot.version == self._published_version:
            return None
        await self._log.append(self._topic, 0, [(SNAPSHOT_KEY, msgspec.msgpack.encode(snapshot))])
        self._published_version = snapshot.version
        return snapshot

    def new_drifts(self, snapshot: LearnerSnapshot) -> list[Drift]:
        """The drifts of a published snapshot that no earlier one had."""
        fresh = [drift for drift in snapshot.drifts if drift.drift_id not in self._reported]
        self._reported = {drift.drift_id for drift in snapshot.drifts}
        return fresh
