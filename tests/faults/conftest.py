"""A drill for each test, and the table at the end of `make faults`.

A drill's result travels as a property of its test's report, so that several processes
(`pytest -n`) make one table.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from streams.local.kafka import ApacheKafka
from tests.databases import Databases
from tests.faults.campaigns import DEFINITIONS
from tests.faults.drill import Drill, Result
from tests.faults.old_clickhouse import NOT_THERE, OldClickHouse, missing, prepare
from tests.faults.proxy import Proxy
from tests.integration.world import World

_PROPERTY = "fault"
_QUICK_SHARE = 0.4  # of a load, in `make test`: what breaks is the same, and at the same moments
_OUTCOME = pytest.StashKey[str]()


@pytest.fixture
def old_clickhouse(tmp_path: Path) -> Iterator[OldClickHouse]:
    """A real server, Debian's, of the test's own. Skips where it is not installed."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    with OldClickHouse(tmp_path / "clickhouse-server") as server:
        yield server


@pytest.fixture
def proxy(old_clickhouse: OldClickHouse) -> Iterator[Proxy]:
    """A way to that server that can be spoiled."""
    with Proxy((old_clickhouse.host, old_clickhouse.port)) as running:
        yield running


@pytest.fixture
def fault(
    request: pytest.FixtureRequest, apache_kafka: ApacheKafka, tmp_path: Path
) -> Iterator[Drill]:
    """A drill on Apache Kafka and the local ClickHouse, unless `build` is given others.

    The name in the table is the marker's: `@pytest.mark.fault("SIGKILL before journal")`.
    """
    marker = request.node.get_closest_marker("fault")
    callspec = getattr(request.node, "callspec", None)
    values = callspec.params if callspec else {}
    name = (marker.args[0] if marker else request.node.name).format(**values)
    seed = request.config.getoption("--seed") * 1000 + zlib.crc32(request.node.name.encode()) % 1000
    result = Result(name, seed)
    print(f"fault: {name}, seed {seed}")
    with ExitStack() as stack:

        def make(broker: Any = None, server: Any = None, **options: Any) -> World:
            if server is None:
                server = request.getfixturevalue("clickhouse")
                databases: Databases = request.getfixturevalue("databases")
                options["database"] = stack.enter_context(databases.lent()).database
            if isinstance(server, Proxy):
                old = request.getfixturevalue("old_clickhouse")
                options = {
                    "prepare": prepare, "without_views": NOT_THERE, "milliseconds": False,
                    "direct_port": old.port,
                } | options  # fmt: skip
            # the recoveries that `make faults` shows have a worker's whole start in them
            options.setdefault("forked", not request.config.getoption("--faults"))
            options = {"definitions": DEFINITIONS} | options
            return stack.enter_context(
                World((broker or apache_kafka).bootstrap, server, tmp_path, **options)
            )

        yield Drill(result, make, 1.0 if request.config.getoption("--faults") else _QUICK_SHARE)
    outcome = request.node.stash.get(_OUTCOME, "")
    if outcome != "skipped":
        result.failed = outcome != "passed"
        request.node.user_properties.append((_PROPERTY, asdict(result)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.when == "call":
        item.stash[_OUTCOME] = report.outcome
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for each in terminalreporter.stats.values() for r in each
               if isinstance(r, pytest.TestReport) and r.when == "teardown"]  # fmt: skip
    results = [Result(**fields) for r in reports for name, fields in r.user_properties
               if name == _PROPERTY and isinstance(fields, dict)]  # fmt: skip
    if not results or not terminalreporter.config.getoption("--faults"):
        return
    grouped: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        grouped[result.fault].append(result)
    table = Table("fault", title="Faults", title_justify="left")
    for heading in ("runs", "failed", "lost", "doubled", "recovery s", "seeds"):
        table.add_column(heading, justify="right")
    for name, runs in sorted(grouped.items()):
        seconds = max(run.recovery_seconds for run in runs)
        table.add_row(
            name,
            str(len(runs)),
            str(sum(run.failed for run in runs)),
            _total(runs, "lost"),
            _total(runs, "doubled"),
            "refused" if runs[0].refused else f"{seconds:.1f}",
            " ".join(str(run.seed) for run in runs),
        )
    terminalreporter.ensure_newline()
    Console(width=120).print(table)


def _total(runs: list[Result], what: str) -> str:
    """The sum over the runs that came to a judgement; a refusal need not come to one."""
    judged = [getattr(run, what) for run in runs if run.lost is not None]
    return str(sum(judged)) if judged else "-" if runs[0].refused else "?"
