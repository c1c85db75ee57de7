"""Checks an installation; every finding that is not ok names its fix.

1. Python and the packages that the product is made of.
2. `schemas`, `models` and `streams` come from one place, as names this common can collide.
3. The settings.
4. The model artifact.
5. Kafka answers, its topics are right, and keys are in their partitions.
6. ClickHouse answers, and its migrations are current.
7. The ledger balances; few records are late or dead letters; the clocks of producers and workers
   agree; and the ledger ends where committed offsets and topics say.

A check that fails, in any way, does not hide the next, unless that one needs what failed.
"""
# ruff: noqa: PLC0415  (each check imports what it tests, as that may be what is broken)

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from schemas.errors import SettingsError, TidelineError
from streams.settings import Settings, load

if TYPE_CHECKING:
    from streams.clickhouse.client import ClickHouseTarget
    from streams.core.health import Verdict
    from streams.kafka.topics import TopicReport
    from streams.ops.books import Books

__all__ = ["Finding", "check", "examine", "topic_finding"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fix` is empty if nothing needs to be done."""

    check: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


_TIMEOUT_SECONDS: Final = 5.0
_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "model": (),
    "kafka": (),  # and the keys, if its topics are right
    "clickhouse": (),
    "ledger": ("clickhouse", "migrations"),
    "clocks": ("clickhouse", "migrations"),
    "offsets": ("kafka", "topics", "clickhouse", "migrations"),
}
"""The checks that need settings, in their order -> the checks that must have succeeded before."""
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"](\w+)['\"]")


def examine(environ: Mapping[str, str], config: Path | None = None) -> Iterator[Finding]:
    """All findings, in the order above, as they are made."""
    yield from _guarded("python", _python)
    yield from _guarded("packages", _packages)
    yield from _guarded("places", _places)
    try:
        settings = load(environ, config)
    except SettingsError as error:
        yield Finding("settings", "fail", str(error), "Kafka and ClickHouse were not checked")
        return
    changed = sum(origin != "default" for origin in settings.origins.values())
    yield Finding("settings", "ok", f"{changed} set, the others have their defaults")
    failed: set[str] = set()
    for name, needs in _NEEDS.items():
        missing = [need for need in needs if need in failed]
        if missing:
            yield Finding(name, "warn", f"not checked, as this failed: {', '.join(missing)}")
            continue
        for finding in check(name, settings):
            if finding.state == "fail":
                failed.add(finding.check)
            yield finding


def check(name: str, settings: Settings) -> Iterator[Finding]:
    """The findings of one of the checks that need settings: `model`, `kafka` (also its topics and
    keys), `keys`, `clickhouse` (also its migrations), `ledger`, `clocks` or `offsets`."""
    yield from _guarded(name, partial(_CHECKS[name], settings))


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except TidelineError as error:
        yield Finding(name, "fail", str(error))  # our errors end with the fix
    except ImportError as error:
        yield Finding(name, "fail", str(error), "Install Tideline's dependencies again")
    except Exception as error:
        yield Finding(name, "fail", f"{type(error).__name__}: {error}", "This is a bug: report it")


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok", version)  # pip has refused anything older than 3.11


def _packages() -> Iterator[Finding]:
    """What the package itself declares; extras that are missing are only worth a warning."""
    missing: dict[str, list[str]] = {}
    found = 0
    for requirement in metadata.requires("tideline") or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        extra = _EXTRA.search(requirement)
        try:
            metadata.version(name)
            found += 1
        except metadata.PackageNotFoundError:
            missing.setdefault(extra[1] if extra else "", []).append(name)
    yield Finding("packages", "ok", f"{found} installed")
    for extra_name, names in sorted(missing.items()):
        listed = ", ".join(sorted(names))
        if not extra_name:
            yield Finding("packages", "fail", f"missing: {listed}", "Run: pip install tideline")
        elif extra_name != "test":
            yield Finding(
                "packages",
                "warn",
                f"missing, only needed for extra {extra_name!r}: {listed}",
                f"To use it, run: pip install 'tideline[{extra_name}]'",
            )


def _places() -> Iterator[Finding]:
    places = {
        name: Path(str(importlib.import_module(name).__file__)).parent.parent
        for name in ("streams", "schemas", "models")
    }
    elsewhere = {n: place for n, place in places.items() if place != places["streams"]}
    if not elsewhere:
        yield Finding("places", "ok", "streams, schemas and models come from one place")
    for name, place in elsewhere.items():
        yield Finding(
            "places",
            "fail",
            f"package {name} comes from {place}, streams from {places['streams']}",
            "Install Tideline into a separate virtual environment",
        )


def _model(settings: Settings) -> Iterator[Finding]:
    from models.artifact import load_artifact
    from models.registry import artifact_directory

    directory = artifact_directory(settings.model.artifact)
    load_artifact(directory)
    yield Finding("model", "ok", f"{directory.name} loads, and reproduces its golden vectors")


def _kafka(settings: Settings) -> Iterator[Finding]:
    from streams.kafka import topics

    reports = topics.check(settings, _TIMEOUT_SECONDS)
    yield Finding("kafka", "ok", f"{settings.kafka.broker_url} answers")
    for report in reports:
        if report.state != "ok":
            yield topic_finding(report)
    if all(report.state == "ok" for report in reports):
        spare = [f"; {r.topic.name}: {r.problem}" for r in reports if r.problem]
        yield Finding("topics", "ok", f"all {len(reports)} are as needed" + "".join(spare))
        yield from check("keys", settings)


def topic_finding(report: TopicReport) -> Finding:
    """Of a topic that is missing or wrong."""
    detail = f"topic {report.topic.name}: {report.problem}"
    return Finding("topics", "fail", detail, report.fix)


def _keys(settings: Settings) -> Iterator[Finding]:
    from streams.kafka.key_check import SAMPLE_RECORDS, misplaced_keys

    partitioner = settings.kafka.partitioner
    if partitioner == "unchecked":
        yield Finding("keys", "ok", "not checked, as TIDELINE_KAFKA_PARTITIONER says")
        return
    found = list(misplaced_keys(settings))
    for topic in dict.fromkeys(each.topic for each in found):
        of_topic = [each for each in found if each.topic == topic]
        last = of_topic[-1]
        yield Finding(
            "keys",
            "fail",
            f"{topic}: of the newest {sum(x.looked_at for x in of_topic)} records in partitions "
            f"{', '.join(str(x.partition) for x in of_topic)}, "
            f"{sum(x.misplaced for x in of_topic)} belong to another one, for example partition "
            f"{last.partition}, offset {last.offset}; {last.explanation}",
            f"Set that producer's partitioner to {partitioner}: docs/events.md#partitions lists "
            "each client's setting",
        )
    if not found:
        detail = f"in the partitions that {partitioner} gives (newest {SAMPLE_RECORDS} of each)"
        yield Finding("keys", "ok", detail)


def _target(settings: Settings) -> ClickHouseTarget:
    from dataclasses import replace

    from streams.clickhouse.client import clickhouse_target

    return replace(
        clickhouse_target(settings),
        connect_timeout_seconds=_TIMEOUT_SECONDS,
        send_receive_timeout_seconds=_TIMEOUT_SECONDS,
    )


def _rows(target: ClickHouseTarget, query: str, doing: str, **where: str) -> list[Any]:
    """What ClickHouse answers. Raises SinkUnavailable, SinkRefused."""
    from streams.clickhouse.client import connect
    from streams.clickhouse.errors import sink_error

    client = connect(target, **where)
    try:
        return list(client.execute(query))
    except Exception as error:
        raise sink_error(error, doing, target) from error
    finally:
        client.disconnect()


def _clickhouse(settings: Settings) -> Iterator[Finding]:
    from streams.clickhouse.migrations import pending

    target = _target(settings)
    doing = "asking ClickHouse for its version"
    ((version,),) = _rows(target, "SELECT version()", doing, database="")
    yield Finding("clickhouse", "ok", f"{target.host}:{target.port} answers, version {version}")
    waiting = pending(target)
    if waiting:
        names = ", ".join(map(str, waiting))
        yield Finding("migrations", "fail", f"not applied yet: {names}", "Run `tideline migrate`")
    else:
        yield Finding("migrations", "ok", f"database {target.database} is up to date")


def _read_books(settings: Settings) -> list[Books]:
    from streams.ops.books import LEDGER_QUERY, Books

    return [Books.of(row) for row in _rows(_target(settings), LEDGER_QUERY, "reading the ledger")]


def _ledger(settings: Settings) -> Iterator[Finding]:
    from streams.ops.books import balance, shares
    from streams.shard.config import health_limits

    books = _read_books(settings)
    for verdict in (*balance(books), *shares(books, health_limits(settings))):
        yield _finding(verdict)


def _clocks(settings: Settings) -> Iterator[Finding]:
    from streams.ops.clocks import FAST_QUERY, WORKERS_QUERY, Fast, Worker, producers, workers

    target, allowed = _target(settings), settings.stream.max_future_seconds
    fast = _rows(target, FAST_QUERY, "reading fast_producers")
    verdicts = [*producers((Fast(*row) for row in fast), allowed)]
    if settings.stream.clock == "wall":
        clocks = _rows(target, WORKERS_QUERY, "reading worker_clocks")
        verdicts += workers((Worker(*row) for row in clocks), allowed)
    for verdict in verdicts:
        yield _finding(verdict)


def _offsets(settings: Settings) -> Iterator[Finding]:
    """In the order that `streams.ops.books` asks for."""
    from streams.kafka.access import kafka_access
    from streams.kafka.admin import committed_offsets, connect, partition_counts
    from streams.kafka.end_offsets import EndOffsets
    from streams.ops.books import Place, against_log
    from streams.shard.starting_over import START_OVER

    names, access = settings.topic_names, kafka_access(settings)
    with connect(access, _TIMEOUT_SECONDS) as admin, EndOffsets(access, _TIMEOUT_SECONDS) as ends:
        counts = partition_counts(admin, [names.clickstream, names.orders])
        sources = [
            (source, (topic, number))
            for source, topic in enumerate((names.clickstream, names.orders))
            for number in range(counts.get(topic, 0))
        ]
        partitions = [partition for _, partition in sources]
        committed = committed_offsets(admin, settings.kafka.app_id)
        books = {each.shard: each for each in _read_books(settings)}
        first, end = ends.beginnings_of(partitions), ends.of(partitions)
    places = [
        (source, Place(*at, None if (c := committed.get(at, -1)) < 0 else c, first[at], end[at]))
        for source, at in sources
    ]
    for verdict in against_log(books, places, START_OVER):
        yield _finding(verdict)


_CHECKS: Final[dict[str, Callable[[Settings], Iterator[Finding]]]] = {
    "model": _model,
    "kafka": _kafka,
    "keys": _keys,
    "clickhouse": _clickhouse,
    "ledger": _ledger,
    "clocks": _clocks,
    "offsets": _offsets,
}


def _finding(verdict: Verdict) -> Finding:
    return Finding(verdict.check, verdict.state, verdict.detail, verdict.remedy)
