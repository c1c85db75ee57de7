"""Runs the parts, prints targets beside measured values, and writes JSON and charts."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streams.commands.support import print_json, print_table
from streams.local.kafka import available as kafka_is_missing
from tests.bench import growth, latency, recovery, report, whole_job
from tests.bench.campaigns import DEFINITIONS
from tests.bench.contenders import WHOLE, Contender, chosen, take_turns
from tests.bench.load import SHAPES, ZIPF
from tests.bench.machine import FIRST_CORE, LAST_CORE, describe, pin, revision
from tests.bench.stage import PARTITIONS, Filled, Stage
from tests.bench.targets import judge, rates
from tests.bench.whole_job import Outcome
from tests.bench.worker import Worker

__all__ = ["PARTS", "Options", "Part", "names", "run"]

_START_EVENTS: Final = 100_000  # more than a first batch
_HOUR_TURNS: Final = 3  # the machine itself is slower at one minute than at another
_GROWTH_TURNS: Final = 3
_LATENCY_TURNS: Final = 3


@dataclass(frozen=True)
class Options:
    """Of `make bench`; see `python -m tests.bench --help`."""

    only: frozenset[str]
    without: frozenset[str]
    quick: bool
    rounds: int
    events: int
    broker: str
    out: Path
    keep: bool
    record: bool
    as_json: bool


@dataclass
class _Run:
    """What the parts share: the options, the stage, and where progress is shown."""

    options: Options
    stage: Stage
    results: dict[str, Any]
    progress: Progress
    task: Any

    def tell(self, words: str) -> None:
        self.progress.update(self.task, description=words[:70])
        if not self.progress.console.is_terminal:  # a bar would only be drawn at the end
            said = f"{time.strftime('%H:%M:%S')} {words}"
            self.progress.console.print(said, soft_wrap=True, highlight=False)

    def advance(self, *_: Any) -> None:
        self.progress.advance(self.task)

    def filled(self, shape: str) -> Any:
        if not self.stage.has(SHAPES[shape]):
            self.tell(f"filling the topics: {SHAPES[shape].label}")
        # The whole job on uniform users is several times slower: half the events do.
        events = self.options.events if shape == ZIPF.name else self.options.events // 2
        return self.stage.fill(SHAPES[shape], events)

    @property
    def contenders(self) -> list[Contender]:
        kinds = {c for c in self.options.only if c not in PARTS}
        return chosen(kinds, self.options.without)


def _contenders(run: _Run) -> dict[str, Any]:
    """Peers, floors and Tideline layer by layer, in turn."""
    outcomes, left_out = take_turns(
        run.stage, run.filled, run.contenders, run.options.rounds, tell=run.tell,
        done=lambda contender, outcome: run.advance(),
    )  # fmt: skip
    before = (
        run.results["parts"].get("contenders", {}).get("rounds", {}) if run.options.keep else {}
    )
    rounds = dict(before)
    for name, found in outcomes.items():
        rounds[name] = [*before.get(name, []), *map(asdict, found)]
    return {"rounds": rounds, "left_out": left_out, "events": run.options.events}


def _latency(run: _Run) -> dict[str, Any]:
    """Event to alert under open-loop load, over the rate. Each turn has a new broker and
    ClickHouse: the local broker takes longer for the same rate the more batches it holds."""
    known = rates(run.results["parts"]).get(WHOLE)
    if known is None:
        run.tell("the full rate, to take fractions of")
        outcome = whole_job.run(run.stage, run.filled(ZIPF.name))
        full_rate = outcome.events / outcome.seconds
    else:
        full_rate = known.median
    fractions = (0.25, 0.5) if run.options.quick else latency.FRACTIONS
    seconds = 5.0 if run.options.quick else 6.0
    curve: list[dict[str, Any]] = []
    for _ in range(1 if run.options.quick else _LATENCY_TURNS):
        with (
            tempfile.TemporaryDirectory() as directory,
            Stage(run.options.broker, Path(directory)) as stage,
        ):
            curve += latency.measure(stage, full_rate, seconds, fractions, tell=run.tell)
    return {"full_rate": round(full_rate), "seconds": seconds, "curve": curve}


def _two_workers(run: _Run) -> dict[str, Any]:
    """Two workers on both cores, servers on whichever has time; one worker before, as ever."""
    filled = run.filled(ZIPF.name)
    run.tell("one worker")
    one = whole_job.run(run.stage, filled)
    servers = (run.stage.broker_pid, run.stage.clickhouse_pid)
    for pid in servers:
        pin(pid, {FIRST_CORE, LAST_CORE})
    run.tell("two workers")
    two = whole_job.run(run.stage, filled, ({FIRST_CORE}, {LAST_CORE}))
    for pid in servers:
        pin(pid, {LAST_CORE})

    def rate(outcome: Outcome) -> float:
        return outcome.events / outcome.seconds

    return {
        "events_per_second": rate(two),
        "one_events_per_second": rate(one),
        "speedup": rate(two) / rate(one),
        "cpu_us_per_event": two.cpu_seconds / two.events * 1e6,
        "one_cpu_us_per_event": one.cpu_seconds / one.events * 1e6,
    }


def _segments(run: _Run) -> dict[str, Any]:
    """The whole job with 20 segments and an audience in force, and without, in turn."""
    filled = run.filled(ZIPF.name)
    rounds: dict[str, list[float]] = {"with": [], "without": []}
    costs: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(run.options.rounds):
        for name, definitions in (("without", None), ("with", DEFINITIONS)):
            run.tell(f"the whole job {name} segments, turn {turn + 1}")
            outcome = whole_job.run(run.stage, filled, definitions=definitions)
            rounds[name].append(outcome.events / outcome.seconds)
            costs[name].append(outcome.cpu_seconds / outcome.events * 1e6)
    return {"events_per_second": rounds, "cpu_us_per_event": costs}


def _start(run: _Run) -> dict[str, Any]:
    """A worker's start to the first batch of every shard, with an empty state.

    On Apache Kafka as well, where it can be had: the local broker lets a group's first member wait
    for half of its session.
    """
    found: dict[str, Any] = {run.options.broker: _starts(run.stage, run.filled(ZIPF.name))}
    if run.options.broker != "kafka" and not kafka_is_missing():
        run.tell("a worker's start on Apache Kafka")
        with (
            tempfile.TemporaryDirectory() as directory,
            Stage("kafka", Path(directory)) as stage,
        ):
            found["kafka"] = _starts(stage, stage.fill(ZIPF, _START_EVENTS))
    return found


def _starts(stage: Stage, filled: Filled) -> dict[str, Any]:
    seconds = []
    for _ in range(3):
        name = stage.fresh_name("start")
        settings = stage.settings(filled.topics, name)
        stage.prepare(settings)
        worker = Worker(settings, stage.directory / f"{name}.log")
        try:
            pin(worker.process.pid, {FIRST_CORE})
            seconds.append(worker.seconds_until_all_flow(PARTITIONS))
        finally:
            worker.process.kill()
    return {"seconds": sorted(seconds)[1], "all_seconds": seconds}


def _growth(run: _Run) -> dict[str, Any]:
    """Cost of a step over partitions, users and windows; sizes in turn, as contenders are."""
    found: dict[str, Any] = {}
    for what in ("partitions", "users", "windows"):
        sizes = growth.SIZES[what]
        for size in (sizes[0], sizes[-1]) if run.options.quick else sizes * _GROWTH_TURNS:
            run.tell(f"cost of a step: {size:,} {what}")
            costs = found.setdefault(what, {}).setdefault(str(size), [])
            costs += growth.measure(what, size)["us_per_event"]
    return found


def _memory(run: _Run) -> dict[str, Any]:
    """Memory of a million users, active and dormant, and a sweep of them."""
    users = growth.SIZES["memory"][0]
    run.tell(f"memory of {users:,} users")
    return growth.measure("memory", users)


def _hour(run: _Run) -> dict[str, Any]:
    """An hour of event time: cost and memory at its start and end; and memory over many days."""
    found: dict[str, Any] = {}
    fifths = []
    for _ in range(1 if run.options.quick else _HOUR_TURNS):
        run.tell("an hour of event time")
        found = growth.measure("hour", growth.SIZES["hour"][0])
        fifths.append(found["us_per_event"])
    run.tell("260 days of event time")
    steady = growth.measure("steady", growth.SIZES["steady"][0])
    return {**found, "us_per_event": fifths, "steady": steady}


def _recovery(run: _Run) -> dict[str, Any]:
    """Restart of a worker with a million users."""
    run.tell("restart with a million users")
    with tempfile.TemporaryDirectory() as directory:
        return recovery.measure(
            users=100_000 if run.options.quick else 1_000_000, events_per_user=4.0, rate=5_000.0,
            seconds=15.0, broker=run.options.broker, directory=Path(directory),
            progress=Progress(disable=True),
        )  # fmt: skip


class Part(NamedTuple):
    """A part of a whole run, and its line in the help."""

    measure: Callable[[_Run], dict[str, Any]]
    help: str


PARTS: Final[dict[str, Part]] = {
    "contenders": Part(
        _contenders, "events per second of peers, floors and Tideline's layers, in turn"
    ),
    "latency": Part(_latency, "event to alert, over the rate"),
    "two_workers": Part(_two_workers, "two workers on two cores"),
    "segments": Part(_segments, "the whole job with 20 segments and an audience, and without"),
    "start": Part(_start, "a worker's start to its first batch"),
    "growth": Part(_growth, "cost over partitions, users and windows"),
    "memory": Part(_memory, "a million users, active and dormant, and a sweep of them"),
    "hour": Part(_hour, "cost and memory over an hour of events"),
    "recovery": Part(_recovery, "restart with a million users"),
}
"""The parts of a whole run, in their order."""
_STAGED: Final = {"contenders", "latency", "two_workers", "segments", "start"}


def _parts(only: Collection[str], quick: bool) -> list[str]:
    """Which parts are run. A contender's name or kind stands for that part, with these alone."""
    if not only:
        return [name for name in PARTS if not (quick and name in ("memory", "recovery"))]
    named = [name for name in PARTS if name in only]
    if set(only) - PARTS.keys() and "contenders" not in named:
        named.insert(0, "contenders")
    return named


def names() -> set[str]:
    """Everything that `--only` and `--without` know."""
    known = {name for c in chosen((), ()) for name in (c.name, c.kind, c.environment) if name}
    return known | PARTS.keys()


def run(options: Options) -> int:
    """Measure, tell, write; returns the exit status: 1 if a ratio is missed by every round."""
    pin(os.getpid(), {LAST_CORE})
    out = report.RESULTS if options.record else options.out / "results.json"
    kept = report.load(out) if options.keep else {"parts": {}, "when": {}}
    results: dict[str, Any] = kept
    names = _parts(options.only, options.quick)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        tempfile.TemporaryDirectory() as directory,
    ):
        asked = chosen({c for c in options.only if c not in PARTS}, options.without)
        total = len(names) + ("contenders" in names) * options.rounds * len(asked)
        task = progress.add_task("starting the local stack", total=total)
        stage = Stage(options.broker, Path(directory))
        running = _Run(options, stage, results, progress, task)
        if _STAGED.intersection(names):
            with stage:
                _measure(running, [name for name in names if name in _STAGED], out)
        pin(os.getpid(), {FIRST_CORE})  # from here on it is alone
        _measure(running, [name for name in names if name not in _STAGED], out)
    return _tell(results, options, out)


def _measure(running: _Run, names: list[str], out: Path) -> None:
    """Run the parts, and write after each: what was measured is not lost if a later one fails."""
    options, results = running.options, running.results
    for name in names:
        started = time.time()
        results["parts"][name] = PARTS[name].measure(running)
        results["when"][name] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - started),
            "broker": options.broker,
            "revision": revision(),
            "machine": describe(),
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n")
        running.advance()


def _tell(results: dict[str, Any], options: Options, out: Path) -> int:
    verdicts = judge(results["parts"])
    written = [out, *_write(results, options)]
    if options.as_json:
        print_json(report.summary(results))
    else:
        known = rates(results["parts"])
        print_table(
            ("contender", "events/s", "spread"),
            [
                (c.label, f"{known[c.name].median:,.0f}", f"{known[c.name].spread:.0%}")
                for c in chosen((), ())
                if c.name in known
            ],
        )
        steps = report.ladder(results["parts"])
        if steps:
            click.echo()
            print_table(
                ("Tideline's layers", "CPU us/event", "adds"),
                [(label, f"{cost:.2f}", f"{added:+.2f}") for label, cost, added in steps],
            )
        click.echo()
        print_table(("what", "target", "measured", ""), report.rows(verdicts))
        click.echo(f"\n{report.conditions(results)}")
    for path in written:
        click.echo(f"written: {path}", err=True)
    failed = [verdict.target.label for verdict in verdicts if verdict.fails]
    for label in failed:
        click.echo(f"missed by more than the spread: {label}", err=True)
    return 1 if failed else 0


def _write(results: dict[str, Any], options: Options) -> list[Path]:
    """The charts; with `--record` where docs/benchmark.md has them, and what follows from them."""
    written = []
    for name, svg in report.draw(results).items():
        path = report.ROOT / report.CHARTS[name] if options.record else options.out / f"{name}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(svg)
        written.append(path)
    if options.record:
        figures = report.capacity_figures(results)
        if figures is not None:
            path = report.ROOT / "streams" / "ops" / "capacity_measured.json"
            path.write_text(json.dumps(figures, indent=2) + "\n")
            written.append(path)
        from tests.docs import generated  # noqa: PLC0415  (it reads what was written just now)

        written += generated.main()
    return written
