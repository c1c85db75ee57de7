"""`make soak MINUTES=30`: hours of load, if you like, with random faults; then the books.

Two workers share the shards. One, the anchor, is never killed: its memory is the one that is
measured. The other, the broker and ClickHouse die, freeze, stop and come back, in an order that the
seed decides. Afterwards the drill's checks run: every record accounted for, every row of the
journalled steps there once, the state equal to the journal's replay.

Event time runs much faster than the wall: the longest window, 90 days, has gone by when the warm-up
ends, so that what a shard holds no longer grows by itself, and growth would be a leak.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from schemas.errors import BrokerUnavailable
from streams.local.clickhouse import ChdbServer
from streams.local.kafka import ApacheKafka
from streams.replay.synthetic import Synthetic
from tests.faults.drill import Drill, Result, traffic
from tests.integration.world import Worker, World

SLOPE_LIMIT_MIB_PER_HOUR = 100.0
WARM_UP_EVENT_DAYS = 100.0
SAMPLE_SECONDS = 2.0
WARM_UP_SHARE = 0.4
"""Of the time: until then users and ids still come, and memory may grow for it."""


class Feeder(threading.Thread):
    """Sends load, second by second, so that each piece is all there or is sent again."""

    def __init__(self, world: World, seed: int, rate: int, minutes: float) -> None:
        super().__init__(daemon=True)
        self._world, self._seed, self._rate = world, seed, rate
        self._days_per_minute = WARM_UP_EVENT_DAYS / (WARM_UP_SHARE * minutes)
        self.stopping = threading.Event()
        self.sources: list[Synthetic] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self._piece(len(self.sources))
        except BaseException as error:
            self.error = error

    def _piece(self, n: int) -> None:
        # Each piece follows on the one before. The producer is idempotent and waits for a broker
        # that is away for seconds; one that gives up leaves the count unknown, and ends the soak.
        piece_seconds = 10.0
        days = self._days_per_minute * piece_seconds / 60
        start = Synthetic().start_ms + int(n * days * 86_400_000)
        events = int(self._rate * piece_seconds)
        source = traffic(
            events, self._seed * 100_000 + n, start_ms=start, span_days=days, users=2_000,
            settle_events=events if n == 0 else 0,
        )  # fmt: skip
        self._world.produce(source, rate=self._rate)
        self.sources.append(source)


class Memory(threading.Thread):
    """Samples a worker's resident memory, and how much of it its shards' states say is theirs."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(daemon=True)
        self._worker = worker
        self.stopping = threading.Event()
        self.samples: list[tuple[float, float, float]] = []
        """Seconds since the start, MiB, MiB of states."""

    def run(self) -> None:
        started = time.monotonic()
        while not self.stopping.wait(SAMPLE_SECONDS):
            try:
                pages = int(Path(f"/proc/{self._worker.pid}/statm").read_text().split()[1])
            except OSError:
                return
            states = sum(value for _, value in self._worker.metrics("tideline_state_bytes"))
            seconds = time.monotonic() - started
            self.samples.append((seconds, pages * 4096 / 2**20, states / 2**20))

    def slopes_mib_per_hour(self) -> tuple[float, float]:
        """Of lines through the samples after the warm-up: of all memory, and of what no state
        explains. The shards that this worker has come and go, and their states with them."""
        settled = np.array(self.samples[int(len(self.samples) * WARM_UP_SHARE) :])
        if len(settled) < 10:
            return 0.0, 0.0
        seconds, resident, states = settled.T
        of_all, of_rest = (np.polyfit(seconds, y, 1)[0] for y in (resident, resident - states))
        return float(of_all * 3600), float(of_rest * 3600)


class Trouble:
    """The faults, and what each needs to be over."""

    def __init__(
        self, drill: Drill, kafka: ApacheKafka, clickhouse: ChdbServer, rng: random.Random
    ) -> None:
        self._drill, self._kafka, self._clickhouse, self._rng = drill, kafka, clickhouse, rng
        self._n = 0
        self.second = self._new_worker()
        self.happened: Counter[str] = Counter()
        self.faults: dict[str, tuple[int, Callable[[], None]]] = {
            "second worker killed": (4, self._kill),
            "second worker stopped": (3, self._stop),
            "second worker frozen past its session": (2, self._freeze),
            "ClickHouse killed": (3, self._clickhouse_away),
            "broker killed": (1, self._broker_away),
        }

    def one(self) -> str:
        """Let a fault happen, once the one before is over; returns its name."""
        second = self.second

        def has_shards() -> bool:
            assert second.running, f"{second.name} ended by itself:\n{second.log[-8000:]}"
            return bool(second.shards)

        # One that is just starting ends when the broker is away, or at SIGTERM.
        self._drill.world.wait("the second worker has shards", has_shards)
        names = list(self.faults)
        weights = [weight for weight, _ in self.faults.values()]
        (name,) = self._rng.choices(names, weights)
        self.faults[name][1]()
        self.happened[name] += 1
        return name

    def _new_worker(self) -> Worker:
        self._n += 1
        return self._drill.worker(f"second-{self._n}")

    def _kill(self) -> None:
        self.second.kill()
        self.second = self._new_worker()

    def _stop(self) -> None:
        status, _ = self.second.stop(20)
        assert status == 0, f"{self.second.name} ended with {status}"
        self.second = self._new_worker()

    def _freeze(self) -> None:
        self.second.send(signal.SIGSTOP)
        time.sleep(self._rng.uniform(4, 8))  # longer than the session
        self.second.send(signal.SIGCONT)

    def _clickhouse_away(self) -> None:
        self._clickhouse.kill()
        time.sleep(self._rng.uniform(0, 8))
        self._clickhouse.start()

    def _broker_away(self) -> None:
        self._kafka.kill()
        time.sleep(self._rng.uniform(0, 4))
        self._kafka.start()


def soak(minutes: float, seed: int, rate: int, directory: Path) -> dict[str, Any]:
    """Run it; returns what the table and the JSON show."""
    rng = random.Random(seed)
    with ApacheKafka(directory / "kafka") as kafka, ChdbServer(directory / "chdb") as clickhouse:
        result = Result("soak", seed)
        with World(kafka.bootstrap, clickhouse, directory, stream_max_batch_records=5_000) as world:
            drill = Drill(result, lambda **_: world)
            drill.build()
            anchor = drill.worker("anchor")
            trouble = Trouble(drill, kafka, clickhouse, rng)
            world.own(anchor, trouble.second, timeout_seconds=180)
            feeder, memory = Feeder(world, seed, rate, minutes), Memory(anchor)
            feeder.start()
            memory.start()
            recoveries = _trouble_for(minutes * 60, drill, feeder, anchor, trouble, rng)
            feeder.stopping.set()
            feeder.join(120)
            if feeder.error is not None:
                raise feeder.error
            memory.stopping.set()
            Console(stderr=True).print("checking the books: all steps are replayed, every row read")
            drill.sources = feeder.sources
            problem = ""
            try:
                drill.finish(anchor, trouble.second, timeout_seconds=180)
            except AssertionError as error:
                problem = str(error)
            sent = drill.sent
            of_all, of_rest = memory.slopes_mib_per_hour()
            return {
                "seed": seed, "minutes": minutes, "rate": rate, "sent": sent.total,
                "scored": sent.good, "duplicates": sent.duplicate, "late": sent.late,
                "dead_letters": sum(sent.malformed.values()),
                "lost": result.lost, "doubled": result.doubled, "problem": problem,
                "faults": dict(trouble.happened),
                "recovery_seconds_median": round(float(np.median(recoveries or [0.0])), 1),
                "recovery_seconds_max": round(max(recoveries, default=0.0), 1),
                "memory_mib_first": round(memory.samples[0][1]),
                "memory_mib_last": round(memory.samples[-1][1]),
                "memory_mib_max": round(max(m for _, m, _ in memory.samples)),
                "states_mib_max": round(max(s for *_, s in memory.samples)),
                "memory_slope_mib_per_hour": round(of_all, 1),
                "stateless_slope_mib_per_hour": round(of_rest, 1),
                "memory_mib": [[*map(round, sample)] for sample in memory.samples[::5]],
            }  # fmt: skip


def _accepted_more(world: World, than: int) -> bool:
    return world.accepted > than


def _trouble_for(
    seconds: float,
    drill: Drill,
    feeder: Feeder,
    anchor: Worker,
    trouble: Trouble,
    rng: random.Random,
) -> list[float]:
    """A fault every ten seconds or so; returns how long each took to be over."""
    world, recoveries = drill.world, []
    started = time.monotonic()
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        task = progress.add_task("soaking", total=seconds)
        while (now := time.monotonic() - started) < seconds:
            progress.update(task, completed=now)
            if feeder.error is not None:
                raise feeder.error
            assert anchor.running, f"the anchor ended:\n{anchor.log[-3000:]}"
            before = world.accepted
            name = trouble.one()
            over = time.monotonic()
            world.wait("records after it", partial(_accepted_more, world, before), 90, 0.2)
            recoveries.append(time.monotonic() - over)
            progress.console.print(
                f"{now:5.0f} s  {name}: on after {recoveries[-1]:.1f} s", highlight=False
            )
            time.sleep(rng.uniform(2, 12))  # quiet between faults
    return recoveries


def main() -> None:
    """Print a table, or with --json the figures; exit 1 if anything was lost, doubled or leaks."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30)")
    parser.add_argument("--seed", type=int, default=1, help="of the load and the faults (1)")
    parser.add_argument("--rate", type=int, default=500, help="records per second (500)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tideline-soak-") as directory:
        try:
            found = soak(options.minutes, options.seed, options.rate, Path(directory))
        except BrokerUnavailable as error:
            sys.exit(f"The load itself could not be sent, so nothing can be said: {error}")
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2))
    if options.json:
        print(json.dumps(found))
    else:
        _print(found)
    leaks = found["stateless_slope_mib_per_hour"] > SLOPE_LIMIT_MIB_PER_HOUR
    sys.exit(bool(found["problem"] or found["lost"] or found["doubled"] or leaks))


def _print(found: dict[str, Any]) -> None:
    table = Table(title=f"Soak, {found['minutes']:g} min, seed {found['seed']}", show_header=False)
    for name, value in found.items():
        if name == "faults":
            for fault, count in value.items():
                table.add_row(fault, f"{count}")
        elif name not in ("memory_mib", "minutes", "seed"):
            table.add_row(name.replace("_", " "), f"{value:,}" if value != "" else "none")
    Console().print(table)


if __name__ == "__main__":
    main()
