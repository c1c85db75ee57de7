"""One fault on one Tideline: load it, break something, and judge what is in ClickHouse at the end.

Every drill ends with `Drill.judge`, when all workers have stopped:

1. The state that the next owner would load is the journal's replay, bit for bit.
2. Each table, read as people read it, holds exactly the rows of the journalled steps.
3. The views hold one row each, and the ledger adds up: what was sent was accepted, and
   accepted = scored + duplicates + late + dead letters, as the generator counted them.
4. What may not depend on where batches were cut equals a plain run of the core over the same input.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from models.registry import ScorerStore, artifact_place
from streams.core.events.records import Records
from streams.kafka.log import KafkaLog
from streams.local.process import wait_until
from streams.replay.synthetic import Generated, Synthetic
from streams.shard.config import core_config
from tests.awaiting import awaited
from tests.faults.campaigns import check_feeds
from tests.faults.plain import differences, plain_run
from tests.integration.verdict import Verdict, compare_views
from tests.integration.world import WAIT_SECONDS, Load, Worker, World
from tests.shard.oracle import Oracle

__all__ = ["Drill", "Result", "traffic"]

DAY_MS = 86_400_000
SPAN_DAYS = 30.0


@dataclass
class Result:
    """A line of the table."""

    fault: str
    seed: int
    lost: int | None = None
    """None: it did not come to a judgement."""
    doubled: int | None = None
    recovery_seconds: float = 0.0
    refused: bool = False
    """It ends with a worker that refuses to go on, and says why."""
    failed: bool = True


def traffic(events: int, seed: int, **changes: Any) -> Synthetic:
    """A shop with a little of everything that goes wrong."""
    options: dict[str, Any] = {
        "users": 500, "order_share": 0.2, "skew": 0.8, "span_days": SPAN_DAYS, "late_share": 0.005,
        "duplicate_share": 0.02, "out_of_order_share": 0.05, "malformed_share": 0.01,
        "settle_events": min(2_000, events // 3),
    } | changes  # fmt: skip
    return Synthetic(events=events, seed=seed, **options)


@dataclass
class Drill:
    """What a test does its damage with."""

    result: Result
    make_world: Callable[..., World]
    share: float = 1.0
    """Of the events of every load, of its rate and of the days in it: so it takes as long, and a
    day has as many events."""
    sources: list[Synthetic] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    extra_sent: int = 0
    """Records that a test sent by itself, all of them dead letters."""
    extra_good: int = 0
    """And those that count."""
    _world: World | None = None

    @property
    def seed(self) -> int:
        return self.result.seed

    @property
    def world(self) -> World:
        assert self._world is not None, "call build first"
        return self._world

    def build(self, **options: Any) -> World:
        """Make the world; see `World` for the options."""
        self._world = self.make_world(**options)
        return self._world

    # -- doing

    def worker(self, name: str, **options: Any) -> Worker:
        """A worker; with options one that `tests.faults.worker` makes fragile."""
        program = ("-m", "tests.faults.worker", json.dumps(options))
        return self.world.worker(name, program) if options else self.world.worker(name)

    def load(self, events: int, rate: float, **changes: Any) -> Load:
        """Send so many records (or the drill's share) at so many a second, beside the test."""
        events, rate = round(events * self.share), rate * self.share
        changes["span_days"] = changes.get("span_days", SPAN_DAYS) * self.share
        if self.sources:  # where the last one ended, or all of it would be late
            before = self.sources[-1]
            changes |= {"start_ms": before.start_ms + int((before.span_days + 1) * DAY_MS)}
        source = traffic(events, self.seed + len(self.sources), **changes)
        self.sources.append(source)
        self.loads.append(self.world.load(source, rate))
        return self.loads[-1]

    def loaded(self, probe: Callable[[], bool]) -> Callable[[], bool]:
        """A `probe` to wait for that sends more while it doesn't hold and all loads are through: on
        a busy machine these may end before a fault that shows only when something is written."""

        def holds() -> bool:
            if probe():
                return True
            if not any(load.thread.is_alive() for load in self.loads):
                self.load(250, rate=250, span_days=1.0)  # a second
            return False

        return holds

    def under_load(self, records: int = 1_000) -> None:
        """Wait until so many records (or the drill's share) are in."""
        wanted = records * self.share
        self.world.wait("some of the load", lambda: self.world.accepted >= wanted)

    @contextmanager
    def recovery(self, before: int | None = None) -> Iterator[None]:
        """Around what ends a fault, a new worker for instance: how long until new records are in.

        The clock runs from the beginning of the block. `before`: what was accepted until then, if
        it can't be asked for any more.
        """
        started = time.monotonic()
        before = self.world.accepted if before is None else before
        yield

        def on() -> bool:
            return self.world.accepted > before

        came_last = before >= self.total  # nothing is left to recover with
        self.world.wait(
            "records after the fault", self.loaded(on) if came_last else on, WAIT_SECONDS, 0.1
        )
        seconds = time.monotonic() - started
        self.result.recovery_seconds = max(self.result.recovery_seconds, seconds)

    def refused(self, name: str, *messages: str) -> None:
        """A worker that starts now ends by itself with status 1, says why, and writes nothing."""
        with self.nothing_written():
            self.gave_up(self.worker(name), *messages)
        self.result.refused = True

    def gave_up(self, worker: Worker, *messages: str) -> None:
        """The worker ends by itself with status 1, and says why. What it took in until then counts
        as ever."""
        ended = wait_until(lambda: not worker.running, WAIT_SECONDS)
        assert ended, worker.log[-2000:]
        assert worker.stop()[0] == 1
        for text in messages:
            assert text in worker.log, worker.log[-3000:]

    @contextmanager
    def nothing_written(self) -> Iterator[None]:
        """Around what makes workers refuse: in the block no batch gets into ClickHouse."""
        rows = "SELECT count(), sum(accepted) FROM batches FINAL"
        before = self.world.sql(rows)
        yield
        assert self.world.sql(rows) == before

    # -- judging

    @property
    def sent(self) -> Generated:
        """What all loads together were."""
        total = Generated()
        for tally in (source.tally for source in self.sources):
            for name in ("good", "duplicate", "late", "clickstream", "orders"):
                setattr(total, name, getattr(total, name) + getattr(tally, name))
            for kind, count in tally.malformed.items():
                total.malformed[kind] += count
        return total

    @property
    def total(self) -> int:
        """Records sent."""
        return self.sent.total + self.extra_sent + self.extra_good

    def finish(self, *workers: Worker, timeout_seconds: float = WAIT_SECONDS) -> dict[int, Oracle]:
        """Wait until everything is in, stop these workers in order, and judge."""
        for load in self.loads:
            load.join(timeout_seconds)
        self.world.wait_accepted(self.total, timeout_seconds)
        for worker in workers:
            metrics = worker.ledger_metric()
            assert metrics["accepted"] == metrics["outcomes"], metrics
            status, _ = worker.stop()
            assert status == 0, f"{worker.name} ended with {status}"
        return self.judge()

    def judge(self) -> dict[int, Oracle]:
        """The four checks; fills the table's line and raises AssertionError if anything is off."""
        world = self.world
        oracles = awaited(world.replayed())
        verdict = world.compare(oracles)
        compare_views(world.sql, verdict, world.without_views)
        self.check_ledger(verdict)
        awaited(check_feeds(world.settings, oracles, verdict))
        if world.settings.stream.clock == "event":
            self._check_plain(verdict, oracles)
        self.result.lost, self.result.doubled = verdict.lost, verdict.doubled
        verdict.check()
        return oracles

    def check_ledger(self, verdict: Verdict, repeats: int | None = None) -> None:
        """Compare the ledger with what was sent. `repeats`: how many records were copied twice; the
        second copy is a duplicate, late or a dead letter."""
        sent = self.sent
        wanted = {
            "accepted": self.total + (repeats or 0),
            "scored": sent.good + self.extra_good,
            "duplicates": sent.duplicate, "late": sent.late,
            "dead_letters": sum(sent.malformed.values()) + self.extra_sent,
        }  # fmt: skip
        if repeats:
            wanted = {name: wanted[name] for name in ("accepted", "scored")}
        sums = ", ".join(f"sum({name})" for name in wanted)
        ((*found,),) = self.world.sql(f"SELECT {sums} FROM batches FINAL")
        for (name, count), there in zip(wanted.items(), found, strict=True):
            verdict.missing(f"ledger: {name}", max(0, count - there))
            verdict.surplus(f"ledger: {name}", max(0, there - count))
        if "ledger" not in self.world.without_views:
            unbalanced = self.world.sql("SELECT * FROM ledger WHERE NOT balanced")
            verdict.missing("shards that balance", len(unbalanced), unbalanced)

    def _check_plain(self, verdict: Verdict, oracles: dict[int, Oracle]) -> None:
        config = core_config(self.world.settings)
        settings = self.world.settings
        scorer = ScorerStore(artifact_place(settings.model.artifact), settings.stream.currency).get(
            ""
        )
        for shard, inputs in awaited(self._inputs()).items():
            plain = plain_run(shard, inputs, config, scorer.horizon_days)
            found = differences(plain, oracles[shard])
            verdict.problems += [f"shard {shard} and a plain run differ: {what}" for what in found]

    async def _inputs(self) -> dict[int, tuple[Records, Records]]:
        kafka = self.world.settings.kafka
        log = KafkaLog(kafka.brokers)
        await log.start()
        try:
            found = {}
            for shard in range(kafka.partitions):
                parts = [
                    await log.read(topic, shard, *(await log.ends(topic, shard)))
                    for topic in (kafka.clickstream_topic, kafka.orders_topic)
                ]
                found[shard] = parts[0], parts[1]
            return found
        finally:
            await log.stop()
