"""A small shard with something of everything, in memory: what a release's recording is made of.

Forty customers over 200 days: a dozen left early and are parked, some left lately and raise alerts,
one of the parked comes back, one is erased, some records are unreadable, questions are open. The
first owner takes it to a checkpoint; the second recovers, takes some steps and dies.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from schemas.features import FEATURE_NAMES
from schemas.messages import ErasureRequest, LearnerSnapshot
from streams.core.erasure import digest, probe_of
from tests.core.driving import T0
from tests.shard.memory import MemoryLog
from tests.shard.rig import SHARD, TOPICS, Crashed, Rig

__all__ = ["ERASED", "RECORDED_TOPICS", "lived", "loaded_rig", "of_topics", "topics_of"]

DAY_MS = 86_400_000
USERS = 40
ERASED = "user-30"
SALT = b"a salt of 16 byte"
DAYS, DAYS_SINCE = 200, 3
RECORDED_TOPICS = (
    TOPICS.clickstream, TOPICS.orders, TOPICS.journal, TOPICS.checkpoints, TOPICS.erasures
)  # fmt: skip
LEARNER = LearnerSnapshot(
    7, "fake-1", list(FEATURE_NAMES), 100, 0.5, 0.005, 1.0,
    weights=[f / 1_000 for f in range(len(FEATURE_NAMES))],
    mean=[float(f) for f in range(len(FEATURE_NAMES))],
    scale=[1.0 + f for f in range(len(FEATURE_NAMES))],
)  # fmt: skip
STEPS_SINCE = 4
"""Steps in the journal after the newest checkpoint."""


def _active(user: int, day: int) -> bool:
    if user < 12:  # parked in the end, but for one
        return day < 25 or (user == 11 and day > 190)
    if f"user-{user}" == ERASED:
        return day < DAYS
    return day < 170 if user < 20 else True


def _records(first: int, stop: int) -> Iterator[tuple[str, str, bytes, int]]:
    """(topic, key, value, timestamp) of these days."""
    rng = random.Random(first)
    for day in range(first, stop):
        for user in range(USERS):
            if not _active(user, day):
                continue
            name = f"user-{user}"
            at = T0 + day * DAY_MS + 60_000 * rng.randrange(60 * 23)
            if rng.random() < 0.2:
                kind = rng.choice(["view", "view", "cart", "search", "support", "rating"])
                click = {
                    "event_id": f"c{day}-{user}", "user_id": name, "type": kind, "ts": at,
                    "item_id": f"i{rng.randrange(9)}", "category": f"k{rng.randrange(3)}",
                }  # fmt: skip
                if kind == "rating":
                    click["rating"] = 4.5
                yield TOPICS.clickstream, name, json.dumps(click).encode(), at
            if rng.random() < 0.12 or day == first:
                order = {
                    "event_id": f"o{day}-{user}", "order_id": f"{day}-{user}", "user_id": name,
                    "type": "placed", "ts": at, "amount": rng.randrange(100, 20_000) / 100,
                    "discount": rng.choice([0, 1.5]), "lines": [{"item_id": "i1", "amount": 1.0}],
                }  # fmt: skip
                yield TOPICS.orders, name, json.dumps(order).encode(), at
                if rng.random() < 0.2:
                    kind = rng.choice(["cancelled", "returned"])
                    later = {**order, "event_id": f"x{day}-{user}", "type": kind, "ts": at + 60_000}
                    yield TOPICS.orders, name, json.dumps(later).encode(), at + 60_000
        if day % 50 == 9:
            yield TOPICS.clickstream, "user-13", b'{"event_id":', T0 + day * DAY_MS


def _put(log: MemoryLog, first: int, stop: int) -> None:
    for topic, key, value, at_ms in sorted(_records(first, stop), key=lambda record: record[3]):
        log.put(topic, SHARD, key.encode(), value, at_ms)


@dataclass
class DiesAt:
    """Dies once so many steps have been journalled."""

    steps: int

    async def at(self, point: str) -> None:
        self.at_once(point)

    def at_once(self, point: str) -> None:
        self.steps -= point == f"append to {TOPICS.journal}: after"
        if self.steps < 0:
            raise Crashed(point)


async def lived() -> MemoryLog:
    """The topics that both owners leave behind. Needs `make_quick`."""
    rig = Rig()
    _put(rig.log, 0, DAYS)
    first = rig.process("first")
    first.shard._s = replace(first.shard._s, learner=lambda: LEARNER)
    await first.run()
    ends = [(0, 0)] * SHARD + [rig.ends]
    asked_ms = T0 + DAYS * DAY_MS
    request = ErasureRequest(
        "erasure-1", digest(SALT, ERASED), SALT, probe_of(SALT, ERASED), asked_ms, ends, "operator"
    )
    _put(rig.log, DAYS, DAYS + DAYS_SINCE)
    second = rig.process("second", DiesAt(1 + STEPS_SINCE))  # the first is its takeover
    await second.board.ask(request)
    second.shard._s = replace(
        second.shard._s, checkpoint_seconds=1e12, max_records=10, learner=lambda: LEARNER
    )
    try:
        await second.run()
    except Crashed:
        return rig.log
    raise AssertionError("the second owner was to die")


def topics_of(log: MemoryLog) -> dict[str, list[tuple[int, int, bytes | None, bytes | None]]]:
    """What to keep of the topics: entries (offset, timestamp, key, value)."""
    log.compact(TOPICS.checkpoints, SHARD)
    return {
        topic: list(log._partitions[topic, 0 if topic == TOPICS.erasures else SHARD].entries)
        for topic in RECORDED_TOPICS
    }


def of_topics(topics: dict[str, list[tuple[int, int, bytes | None, bytes | None]]]) -> MemoryLog:
    """A log with these entries."""
    log = MemoryLog()
    for topic, entries in topics.items():
        here = log._partitions[topic, 0 if topic == TOPICS.erasures else SHARD]
        here.entries = [(at, ms, key, value) for at, ms, key, value in entries]
        here.end = entries[-1][0] + 1 if entries else 0
    return log


def loaded_rig(log: MemoryLog) -> Rig:
    """A world with these topics, whose sink is empty."""
    return Rig(log.copy())
