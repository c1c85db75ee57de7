"""Plays the Monday: servers, live traffic, workers, history, crashes; then compares the results.

The shop is open all the time, while this happens to it:

    1. Producers have written to the topics since Friday; two workers count these events.
    2. Two people ask to be erased.
    3. `tideline backfill` reads the files, and is killed while it reads. It runs again.
    4. The workers are stopped. The backfill continues, and is killed once it has written a record.
    5. It runs a third time, to the end, and a fourth time, which must count nothing.
    6. Two workers start; one is killed under load, and another takes its place.
    7. An erased person comes back; then live traffic ends, and the workers are stopped.

With `fresh`, workers start only after the backfill, and people are erased after that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.kafka.access import kafka_access
from streams.kafka.end_offsets import EndOffsets
from streams.local.clickhouse import ChdbServer
from streams.local.kafka import ApacheKafka
from streams.local.process import wait_until
from tests.awaiting import awaited
from tests.integration.world import Worker, World
from tests.shop import files, verdict
from tests.shop.backfill import Backfill
from tests.shop.facts import Fact
from tests.shop.live import LiveTraffic
from tests.shop.recount import Customer, recount
from tests.shop.state import Counted, read_state
from tests.shop.truth import make
from tests.shop.verdict import Check

__all__ = ["Options", "Played", "play"]

MONDAY_SECONDS = 1_200
"""How many seconds of live events are made up; the play ends before they do."""
PATIENCE_SECONDS = 300.0
"""Limit for steps that take seconds on an idle machine."""
_DEFAULTS: dict[str, Any] = {
    "stream_max_batch_records": 20_000, "alerts_enter": 0.5, "alerts_leave": 0.35,
    "alerts_cooldown_days": 14, "model_shop_min_days": 28, "kafka_session_timeout_seconds": 10.0,
}  # fmt: skip
"""A shop's settings; those of `World` are for short drills."""


@dataclass(frozen=True)
class Options:
    """How large the shop is, and what happens to it."""

    customers: int = 2_000
    orders: int = 20_000
    seed: int = 1
    fresh: bool = False


@dataclass(frozen=True)
class Played:
    """The results of a play."""

    checks: list[Check]
    facts: dict[str, Any]
    """Other figures: durations and sizes."""

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)


class _Story:
    """Prints what happens, with the time of the shop's Monday: one of its minutes is a second."""

    def __init__(self, out: Callable[[str], None]) -> None:
        self._out, self.started = out, time.monotonic()

    def __call__(self, text: str) -> None:
        minutes = 9 * 60 + int(time.monotonic() - self.started)
        self._out(f"{minutes // 60 % 24:02}:{minutes % 60:02} {text}")


def play(options: Options, directory: Path, out: Callable[[str], None]) -> Played:
    """Play all steps. `directory` gets the servers' data, the files and the logs."""
    story = _Story(out)
    story("a broker and a ClickHouse start")
    # The broker is not killed here, and may wait for a processor on a busy machine.
    broker = ApacheKafka(directory / "kafka", session_seconds=30.0)
    with broker as kafka, ChdbServer(directory / "chdb") as clickhouse:
        settings = _DEFAULTS | {"stream_clock": "wall"}
        world = World(kafka.bootstrap, clickhouse, directory, **settings)
        with world:
            monday = _Monday(options, world, story)
            try:
                return monday.play()
            finally:
                monday.live.close()


class _Monday:
    def __init__(self, options: Options, world: World, story: _Story) -> None:
        self.options, self.world, self.story = options, world, story
        inputs = world.inputs
        brokers = world.settings.kafka.broker_url
        self.live = LiveTraffic(brokers, inputs.clickstream, inputs.orders)
        self.figures: dict[str, Any] = {}
        self.checks: list[Check] = []
        self.forgotten_ms = 0

    def play(self) -> Played:
        options, story = self.options, self.story
        story(f"three years of a shop with {options.customers:,} customers are made up")
        opening_ms = int(time.time() * 1000)
        self.truth = make(
            options.customers, options.orders, options.seed, opening_ms, MONDAY_SECONDS
        )
        self.paths = files.write(self.truth.files, self.world.directory / "files", options.seed)
        sizes = ", ".join(f"{p.name} {p.stat().st_size / 2**20:.1f} MiB" for p in self.paths)
        story(f"its files: {sizes}")
        self.live.say(self.truth.weekend)
        self.live.begin(self.truth.monday)
        story(f"the shop opens: {self.live.count:,} events since Friday are in the topics, "
              "and more come")  # fmt: skip
        workers = [] if options.fresh else self._workers("a", "b")
        if not options.fresh:
            self._forget()
        self._backfill(workers)
        workers = self._workers("c", "d")
        self.figures["stopped_seconds"] = round(time.monotonic() - self.stopped_at, 1)
        story(f"c and d own the shards, which stood still for {self.figures['stopped_seconds']} s")
        if options.fresh:
            self._catch_up()
            self._forget()
        workers = self._crash(*workers)
        self._come_back()
        self._close(workers)
        return Played(self.checks, self.figures)

    # -- playing

    def _workers(self, *names: str) -> list[Worker]:
        self.story(f"workers {' and '.join(names)} start")
        started = [self.world.worker(name) for name in names]
        self.world.own(*started, timeout_seconds=PATIENCE_SECONDS)
        return started

    def _catch_up(self) -> None:
        """Wait until the workers have what was sent until now."""
        sent = self.live.count
        self.world.wait("live events are counted", lambda: self.world.accepted >= sent)

    def _forget(self) -> None:
        self._catch_up()
        self.forgotten_ms = int(time.time() * 1000)
        for user in self.truth.erased:
            result = self.world.command("erase", user, "--yes", "--json")
            assert result.exit_code == 0, result.output
        self.story(f"{len(self.truth.erased)} people were erased at their request")

    def _backfill(self, workers: list[Worker]) -> None:
        """Killed twice, run to the end, and run once more."""
        story, work = self.story, self.world.directory / "work"
        run = Backfill(self.world, "backfill-1", self.paths, work)
        story("history is read: tideline backfill " + " ".join(p.name for p in self.paths))
        reading = wait_until(
            lambda: _bytes_in(work) > 0 or not run.running, PATIENCE_SECONDS, 0.002
        )
        reading = reading and run.running
        run.kill()
        story(f"SIGKILL: backfill had spooled {_bytes_in(work) / 2**10:,.0f} KiB")
        written = self._checkpoint_records()
        run = Backfill(self.world, "backfill-2", self.paths, work)
        self.world.wait(
            "all files are read", lambda: _files_done(work) == len(self.paths), PATIENCE_SECONDS
        )
        self.stopped_at = time.monotonic()
        for worker in workers:
            status, _ = worker.stop()
            self._check("exit status of a stopped worker", 0, status)
        if workers:
            story("all files are read, and workers a and b have stopped; live traffic continues")
        begun = wait_until(
            lambda: not run.running or self._checkpoint_records() > written, PATIENCE_SECONDS, 0.002
        )
        in_the_middle = begun and run.running
        run.kill()
        grown = self._checkpoint_records() - written
        story(f"SIGKILL: backfill had written {grown:,} records of checkpoints")
        self._check("backfill killed while it reads", 1, int(reading))
        self._check("backfill killed while it writes", 1, int(in_the_middle))
        report = Backfill(self.world, "backfill-3", self.paths, work).finish()
        self.figures["backfill"] = report
        story(f"backfill has ended: {_total(report, 'orders'):,} orders of "
              f"{_total(report, 'users'):,} users in {report['seconds']:.1f} s")  # fmt: skip
        dead = [f"{reason}: {n}" for shard in report["shards"]
                for reason, n in shard["dead"].items() if n]  # fmt: skip
        self.checks.append(Check("backfill: records refused", 0, len(dead), tuple(dead)))
        again = Backfill(self.world, "backfill-4", self.paths, work).finish()
        self.figures["backfill_again"] = again
        anew = [f"shard {s['shard']}" for s in again["shards"] if s["events"] and not s["already"]]
        self.checks.append(Check("shards that counted it twice", 0, len(anew), tuple(anew)))
        story("the same command again: every shard had it already")

    def _checkpoint_records(self) -> int:
        """How many records the topic of checkpoints has ever had."""
        topic = self.world.settings.topic_names.checkpoints
        every = [(topic, n) for n in range(self.world.settings.kafka.partitions)]
        with EndOffsets(kafka_access(self.world.settings), 5.0) as ends:
            return sum(ends.of(every).values())

    def _crash(self, one: Worker, other: Worker) -> list[Worker]:
        before = self.world.accepted
        self.world.wait("records under the new workers", lambda: self.world.accepted > before)
        one.kill()
        self.story("SIGKILL: worker c dies under load")
        new = self._workers_beside(other, "e")
        self.story("worker e has taken its shards")
        return [other, new]

    def _workers_beside(self, other: Worker, name: str) -> Worker:
        new = self.world.worker(name)
        self.world.own(other, new, timeout_seconds=PATIENCE_SECONDS)
        return new

    def _come_back(self) -> None:
        self.live.say(self.truth.back_again(int(time.time() * 1000)))
        self.story("an erased person is back, and orders")

    def _close(self, workers: list[Worker]) -> None:
        sent = self.live.stop()
        self.story(f"the shop closes; it has sent {len(sent):,} events in all")
        self.world.wait_accepted(len(sent))
        facts = self._counting([saying.fact for saying in sent])
        everybody = len({fact.user for fact in facts})
        wait_until(lambda: len(self._scores()) == everybody, PATIENCE_SECONDS, 0.5)
        scores = self._scores()
        self.story(f"all is counted, and {len(scores):,} customers have scores; doctor checks")
        doctor = json.loads(self.world.command("doctor", "--json").output)
        wrong = [f"{f['check']}: {f['detail']}" for f in doctor if f["state"] == "fail"]
        for worker in workers:
            status, _ = worker.stop()
            self._check("exit status of a stopped worker", 0, status)
        counted = awaited(read_state(self.world.settings))
        clock = max(counted.clocks_ms)
        expected = recount(facts, lambda user: counted.clock_ms.get(user, clock))
        self.checks += self._books(expected, counted, scores)
        self._ledger(len(sent))
        self.checks.append(Check("doctor: failures", 0, len(wrong), tuple(wrong)))
        self.story("results are compared")

    # -- comparing

    def _counting(self, said: list[Fact]) -> list[Fact]:
        """All facts in files and topics, without those of erased people before their erasure."""
        return [
            fact
            for fact in (*self.truth.files.facts(), *said)
            if fact.user not in self.truth.erased or fact.ts_ms >= self.forgotten_ms
        ]

    def _scores(self) -> dict[str, int]:
        return dict(self.world.sql("SELECT user_id, lifetime_orders FROM scores_live"))

    def _books(
        self, expected: dict[str, Customer], counted: Counted, scores: dict[str, int]
    ) -> list[Check]:
        lost, doubled = verdict.lost_and_doubled(expected, counted.customers)
        orders = {user: customer.orders for user, customer in expected.items()}
        return [
            *verdict.compare(expected, counted.customers),
            *verdict.compare_numbers("scores_live", orders, scores),
            Check("users in two shards", 0, len(counted.twice), counted.twice),
            Check("orders lost", 0, lost),
            Check("orders doubled", 0, doubled),
        ]

    def _ledger(self, sent: int) -> None:
        names = ("accepted", "late", "dead_letters")
        sums = self.world.sql(f"SELECT {', '.join(f'sum({n})' for n in names)} FROM ledger")[0]
        for name, wanted, found in zip(names, (sent, 0, 0), sums, strict=True):
            self._check(f"ledger: {name.replace('_', ' ')}", wanted, int(found))
        unbalanced = self.world.sql("SELECT shard FROM ledger WHERE NOT balanced")
        self._check("ledger: shards that don't balance", 0, len(unbalanced))

    def _check(self, what: str, expected: int, got: int) -> None:
        self.checks.append(Check(what, expected, got))


def _total(report: dict[str, Any], name: str) -> int:
    return sum(int(shard[name]) for shard in report["shards"])


def _files_done(work: Path) -> int:
    """How many files a backfill has read to their ends."""
    return len(list(work.glob("*/done.json")))


def _bytes_in(directory: Path) -> int:
    if not directory.exists():
        return 0
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
