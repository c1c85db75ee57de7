"""Put small faults into the shell's modules, one at a time, and see that tests fail.

Each fault is tried in a fork of this process, which has everything imported, with the tests that
guard its module and run in one process. What survives is listed: it is a test that is missing, or
makes no difference (the same result in another way, a wait, a text, a size). Not for `make test`.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from tests.bench.machine import cpu_seconds
from tests.mutation.mutants import Mutant, mutants, put_in

__all__ = ["GUARDS", "main", "sampled"]

ROOT = Path(__file__).parents[2]

GUARDS: dict[str, tuple[str, ...]] = {
    "streams/shard": ("tests/shard", "tests/privacy/test_erasure.py"),
    "streams/kafka": ("tests/kafka",),
    "streams/clickhouse": (
        "tests/clickhouse/test_blocks.py",
        "tests/clickhouse/test_buffer.py",
        "tests/clickhouse/test_client.py",
        "tests/clickhouse/test_errors.py",
        "tests/clickhouse/test_sink_contract.py",
        "tests/clickhouse/test_sink_alone.py",
        "tests/clickhouse/test_sink.py",
        "tests/clickhouse/test_migrations.py",
        "tests/clickhouse/test_examples.py",
    ),
    "streams/rules": ("tests/rules",),
    "streams/campaigns": ("tests/campaigns",),
    "streams/learner": ("tests/learner", "tests/models/test_registry.py"),
    "streams/background.py": ("tests/test_background.py",),
}
"""A room or a module -> the tests that see its faults within their own process."""

SLOW = "every_call or apache_kafka"
"""Tests that `--thorough` runs too: they crash a shard at each call, or need Java."""

_INVALID = 77  # exit status: the fault can't be put in
_PATIENCE = 3.0  # a run may work so many times as long as one without a fault
_PATIENCE_SECONDS = 10.0
_IDLE_SECONDS = 20.0  # a run that has worked less than this share of it waits for nothing
_IDLE_SHARE = 0.01


@dataclass
class Tally:
    """What became of the mutants of one module."""

    killed: int = 0
    timed_out: int = 0
    """Of those killed."""
    survived: int = 0


def modules(wanted: str) -> dict[Path, tuple[str, ...]]:
    """The modules to be mutated and their tests; those whose path has `wanted` in it."""
    found = {}
    for place, tests in GUARDS.items():
        path = ROOT / place
        for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if wanted in str(module.relative_to(ROOT)) and module.name != "__init__.py":
                found[module] = tests
    return found


def sampled(found: Sequence[Mutant], n: int, seed: int) -> list[Mutant]:
    """`n` of them, drawn without regard to module, in the order of modules and lines."""
    drawn = random.Random(seed).sample(list(found), min(n, len(found)))
    return sorted(drawn, key=lambda mutant: (mutant.path, mutant.line, mutant.what))


@dataclass(frozen=True)
class Outcome:
    """How a run of tests ended."""

    status: int
    """Of pytest; negative: the signal that ended it."""
    cpu_seconds: float


def outcome(
    mutant: Mutant | None, tests: Sequence[str], thorough: bool, cpu_limit_seconds: float = 3600
) -> Outcome:
    """Run tests with a mutant put in, or with none. One that hangs is ended: after so much work, or
    when it has done none for a while. (By the clock, a busy machine would look like a hang.)"""
    child = os.fork()
    if not child:
        status = _INVALID
        try:
            status = _run_tests(mutant, tests, thorough)
        finally:
            os._exit(status)
    looked, then = time.monotonic(), 0.0
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return Outcome(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)
        used = cpu_seconds(child)
        if time.monotonic() - looked > _IDLE_SECONDS:
            if used - then < _IDLE_SHARE * _IDLE_SECONDS:
                os.killpg(child, signal.SIGKILL)
            looked, then = time.monotonic(), used
        if used > cpu_limit_seconds:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)


def _run_tests(mutant: Mutant | None, tests: Sequence[str], thorough: bool) -> int:
    os.setsid()  # so that its own children end with it
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    if mutant is not None:
        try:
            if not put_in(mutant, Path(mutant.path).read_text()):
                return _INVALID
        except (SyntaxError, ValueError):  # e.g. the only use of an outer name is gone
            return _INVALID
    chosen = [] if thorough else ["-k", f"not ({SLOW})"]
    return int(pytest.main(["-x", "-n", "0", "-p", "no:cacheprovider", *chosen, *tests]))


@click.command(help=__doc__)
@click.option("--sample", default=250, show_default=True, help="how many faults to try")
@click.option("--seed", default=1, show_default=True, help="of the draw")
@click.option("--module", default="", help="only modules whose path has this in it")
@click.option("--thorough", is_flag=True, help="also with the slow tests (many times longer)")
def main(sample: int, seed: int, module: str, thorough: bool) -> None:
    os.nice(10)
    os.chdir(ROOT)
    console = Console()
    tests = {str(path): guards for path, guards in modules(module).items()}
    for path in tests:
        name = ".".join(Path(path).relative_to(ROOT).with_suffix("").parts)
        importlib.import_module(name)
    found = [m for path in tests for m in mutants(Path(path).read_text(), path)]
    chosen = sampled(found, sample, seed)
    console.print(f"{len(chosen)} of {len(found)} faults in {len(tests)} modules")
    limits = {}
    for guards in {tests[m.path] for m in chosen}:
        well = outcome(None, guards, thorough)
        if well.status:
            sys.exit(f"without any fault these tests fail: {' '.join(guards)}")
        limits[guards] = _PATIENCE * well.cpu_seconds + _PATIENCE_SECONDS
    tallies: dict[str, Tally] = {}
    survivors: list[Mutant] = []
    invalid = 0
    with Progress(
        *Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn(),
        console=console,
    ) as bar:  # fmt: skip
        task = bar.add_task("faults", total=len(chosen))
        for mutant in chosen:
            guards = tests[mutant.path]
            status = outcome(mutant, guards, thorough, limits[guards]).status
            bar.advance(task)
            if status == _INVALID:
                invalid += 1
                continue
            tally = tallies.setdefault(mutant.path, Tally())
            if status == 0:
                tally.survived += 1
                survivors.append(mutant)
                bar.console.print(_line(mutant), soft_wrap=True, markup=False, highlight=False)
            else:
                tally.killed += 1
                tally.timed_out += status < 0
    console.print(_table(tallies))
    kinds = Counter(mutant.what for mutant in survivors)
    console.print(f"survived, by kind: {dict(kinds.most_common())}; not possible: {invalid}")


def _line(mutant: Mutant) -> str:
    where = Path(mutant.path).relative_to(ROOT)
    return f"survived: {where}:{mutant.line} {mutant.function}: {mutant.what}: {mutant.text}"


def _table(tallies: dict[str, Tally]) -> Table:
    table = Table("module", "faults", "killed", "(by time-out)", "survived")
    rows = [(str(Path(p).relative_to(ROOT)), t) for p, t in sorted(tallies.items())]
    total = Tally(
        *(sum(getattr(t, name) for _, t in rows) for name in ("killed", "timed_out", "survived"))
    )
    for name, t in [*rows, ("all", total)]:
        table.add_row(name, *map(str, (t.killed + t.survived, t.killed, t.timed_out, t.survived)))
    return table


if __name__ == "__main__":
    main()
