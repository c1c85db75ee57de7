"""The learner publishes, and only then commits what the snapshot has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from models.artifact import default_artifact_path, load_artifact
from models.manifest import Manifest
from schemas.errors import BrokerUnavailable
from schemas.messages import Drift, LearnerSnapshot
from streams.core.events.records import RecordBatch, Records
from streams.learner.service import SLICE_EXAMPLES, LearnerService
from streams.learner.snapshots import newest_of
from tests.models.synthetic import example, rows
from tests.shard.memory import MemoryLog, NoFaults

TOPIC = "learner"
FIRST_OFFSET = 1_000


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load_artifact(default_artifact_path()).manifest


def batch(manifest: Manifest, first: int, n: int, junk: Sequence[int] = ()) -> RecordBatch:
    """Examples `first` to `first + n`; those in `junk` can't be read."""
    x = rows(1, seed=1)[0]
    values: list[bytes | None] = [
        b"\xc1junk"
        if i in junk
        else msgspec.msgpack.encode(
            example(x, i % 2 == 0, ordinal=i, champion_version=manifest.version, p_champion=0.4)
        )
        for i in range(first, first + n)
    ]
    at = np.arange(FIRST_OFFSET + first, FIRST_OFFSET + first + n, dtype=np.int64)
    return RecordBatch.of("examples", 0, Records.of(at, at, [None] * n, values))


class World(NoFaults):
    """The topic of snapshots and the group's offset; what happens to them, in order."""

    def __init__(self, manifest: Manifest) -> None:
        self.happened: list[str] = []
        self.shown: list[tuple[int, list[Drift]]] = []
        self.committed: int | None = None
        self.error: Exception | None = None
        self.meanwhile: Any = None
        self.log = MemoryLog()
        self.manifest = manifest
        self.service = LearnerService(self.log.client(self), TOPIC, manifest)

    async def at(self, point: str) -> None:
        if point == f"append to {TOPIC}: before":
            if self.meanwhile is not None:
                await self.meanwhile
                self.meanwhile = None
            if self.error is not None:
                raise self.error
        if point == f"append to {TOPIC}: after":
            self.happened.append("published")

    async def commit(self, offset: int) -> None:
        self.happened.append("committed")
        self.committed = offset

    def show(self, snapshot: LearnerSnapshot, drifts: list[Drift]) -> None:
        self.shown.append((snapshot.version, drifts))

    async def publish(self) -> None:
        await self.service.publish_and_commit(self.show, self.commit)

    @property
    def published(self) -> LearnerSnapshot:
        found = newest_of([value for _, _, value in self.log.records(TOPIC, 0)], TOPIC)
        assert found is not None
        return found


def test_offsets_are_committed_once_the_snapshot_that_has_them_is_out(manifest: Manifest) -> None:
    async def go() -> None:
        world = World(manifest)
        await world.service.restore()
        assert await world.service.take(batch(manifest, 1, 10)) == 10
        await world.publish()
        assert world.happened == ["published", "committed"]
        assert world.committed == FIRST_OFFSET + 11
        assert world.published.positions == {"0": 10}
        assert world.shown == [(world.published.version, [])]

    asyncio.run(go())


def test_a_snapshot_that_can_not_be_published_commits_nothing(manifest: Manifest) -> None:
    async def go() -> None:
        world = World(manifest)
        await world.service.restore()
        await world.service.take(batch(manifest, 1, 10))
        world.error = BrokerUnavailable("away")
        with pytest.raises(BrokerUnavailable):
            await world.publish()
        assert (world.committed, world.shown) == (None, [])
        world.error = None
        await world.publish()  # the same again, once it can be
        assert world.committed == FIRST_OFFSET + 11
        await world.publish()
        assert world.happened == ["published", "committed"]  # nothing was new

    asyncio.run(go())


def test_examples_that_come_while_it_publishes_are_not_committed(manifest: Manifest) -> None:
    async def go() -> None:
        world = World(manifest)
        await world.service.restore()
        await world.service.take(batch(manifest, 1, 10))
        world.meanwhile = world.service.take(batch(manifest, 11, 5))
        await world.publish()
        assert world.published.positions == {"0": 10}
        assert world.committed == FIRST_OFFSET + 11

    asyncio.run(go())


def test_a_snapshot_amid_the_first_batch_commits_no_offset(manifest: Manifest) -> None:
    """The group's offset may be far on: to commit the start would have all examples read again."""

    async def go() -> None:
        world = World(manifest)
        await world.service.restore()
        taking = asyncio.create_task(world.service.take(batch(manifest, 1, SLICE_EXAMPLES + 1)))
        await asyncio.sleep(0)  # the first slice is learned
        await world.publish()
        assert world.published.positions == {"0": SLICE_EXAMPLES}
        assert world.committed is None
        await taking
        await world.publish()
        assert world.committed == FIRST_OFFSET + SLICE_EXAMPLES + 2

    asyncio.run(go())


def test_an_example_that_can_not_be_read_is_skipped_and_passed(
    manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        world = World(manifest)
        await world.service.restore()
        assert await world.service.take(batch(manifest, 1, 10, junk=[3, 10])) == 8
        await world.publish()
        assert world.committed == FIRST_OFFSET + 11

    asyncio.run(go())
    assert caplog.text.count("can't be read and is skipped") == 2


def test_a_restart_goes_on_from_the_newest_snapshot(manifest: Manifest) -> None:
    """Whatever part of its examples comes again, none is learned twice."""

    async def go() -> None:
        world = World(manifest)
        await world.service.restore()
        for first in (1, 11):
            await world.service.take(batch(manifest, first, 10))
            await world.publish()
        other = LearnerService(world.log, TOPIC, manifest)
        await other.restore()
        assert await other.publish() is None
        assert await other.take(batch(manifest, 5, 26)) == 10
        found = await other.publish()
        assert found is not None
        assert found.positions == {"0": 30}

    asyncio.run(go())


def test_a_restart_reports_no_change_again(manifest: Manifest) -> None:
    async def go() -> None:
        world = World(manifest)
        await world.service.restore()
        await world.service.take(batch(manifest, 1, 10))
        await world.publish()
        known = Drift("d1", 7, 5, 3, "loss", "log loss", "up", 0.1, 0.2, 30, "why", "v")
        noticed = msgspec.structs.replace(world.published, version=11, drifts=[known])
        await world.log.append(TOPIC, 0, [(b"newest", msgspec.msgpack.encode(noticed))])
        other = LearnerService(world.log, TOPIC, manifest)
        await other.restore()
        assert other.new_drifts(noticed) == []
        another = msgspec.structs.replace(known, drift_id="d2")
        later = msgspec.structs.replace(noticed, drifts=[known, another])
        assert other.new_drifts(later) == [another]
        assert other.new_drifts(later) == []

    asyncio.run(go())


def test_a_champion_that_was_adopted_before_the_start_is_the_one_learned_on(
    manifest: Manifest,
) -> None:
    async def go() -> None:
        other = msgspec.structs.replace(manifest, version="2026-01-01-00000000")
        world = World(manifest)
        world.service.adopt(other)
        await world.service.restore()
        assert await world.service.take(batch(other, 1, 3)) == 3
        await world.publish()
        assert world.published.champion_version == other.version

    asyncio.run(go())
