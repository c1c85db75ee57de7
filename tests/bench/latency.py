"""From an event being due to its alert being visible in ClickHouse, at fractions of the full rate.

The worker runs on from rate to rate. Probes are orders that close open alerts. An alert is visible
when ClickHouse has acknowledged its insert: every query that begins later has it. The worker's log
says when that was; the time that ClickHouse gave a row says which insert it was part of.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from streams.clickhouse.client import clickhouse_target, connect
from streams.local.process import wait_until
from streams.replay.producer import produce
from streams.replay.records import ORDERS, Block, records
from streams.replay.target import InputTopics
from streams.replay.templates import Templates
from streams.settings import Settings
from tests.bench.figures import percentile
from tests.bench.load import DAY_MS, ZIPF
from tests.bench.machine import FIRST_CORE, LAST_CORE, pin
from tests.bench.sender import Sending, due_seconds, probe_key
from tests.bench.stage import PARTITIONS, Stage
from tests.bench.worker import DEADLINE_SECONDS, Worker

__all__ = ["FRACTIONS", "measure", "summary", "visible"]

FRACTIONS: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
PROBES_PER_SECOND: Final = 100.0
WARM_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.5  # whether ClickHouse has everything, while nothing is timed
_GRACE_SECONDS: Final = 20.0  # for what is still on its way when all is sent
_PROBE_ORDERS: Final = 3  # within days, the last one long ago: a customer who may be about to leave
_PROBE_GAP_DAYS: Final = 3  # all of them within the lateness that is allowed
_PROBE_SILENCE_DAYS: Final = 60
_OPEN_SHARE: Final = 0.9  # of the probes; those without an alert are not judged
_SETTINGS: Final = {
    # so that the probes' alerts open, and hardly any others
    "TIDELINE_ALERTS_ENTER": "0.3",
    "TIDELINE_ALERTS_LEAVE": "0.05",
    # so that it logs its inserts
    "TIDELINE_LOG_LEVEL": "debug",
    "TIDELINE_LOG_FORMAT": "json",
}
_TO_THE_MS: Final = 0.0015  # both ClickHouse and the log cut their times to milliseconds


@dataclass(frozen=True)
class _Probes:
    """The history of those whose alerts are to be open: a source of records."""

    count: int
    now_ms: int

    @property
    def expected_records(self) -> int:
        return self.count * _PROBE_ORDERS

    def summary(self) -> dict[str, Any]:
        return {"source": "probes", "users": self.count}

    def __iter__(self) -> Iterator[Block]:
        templates = Templates(0x9B0, np.random.default_rng(0))
        sent_ms = self.now_ms - (_PROBE_SILENCE_DAYS - 1) * DAY_MS
        keys, values = [], []
        for probe in range(self.count):
            # one after the other, so that a step takes all of one user's, and raises one alert
            for nth in range(_PROBE_ORDERS):
                n, key = _PROBE_ORDERS * probe + nth, probe_key(probe)
                days = _PROBE_SILENCE_DAYS + _PROBE_GAP_DAYS * (_PROBE_ORDERS - 1 - nth)
                keys.append(key)
                values.append(templates.order(n + n // 24 + 1, key, self.now_ms - days * DAY_MS))
        yield records([ORDERS] * len(keys), keys, values, [sent_ms] * len(keys))


def visible(log: Iterable[str], rows: Iterable[tuple[str, float]]) -> dict[str, float]:
    """User -> when their alert became visible, in Unix seconds. Rows of an insert that the log does
    not tell of yet are not acknowledged, and left out.

    Args:
        log: lines of the worker's log, some of them `inserted` with table, rows and seconds.
        rows: user, and when ClickHouse put the row in, in Unix seconds.

    Raises:
        ValueError: a row came between the inserts in the log.
    """
    inserts = []  # (began, acknowledged), one after the other
    for line in log:
        if '"inserted"' in line and '"alerts"' in line:
            fields = json.loads(line)
            acknowledged = datetime.fromisoformat(fields["time"]).timestamp()
            inserts.append((acknowledged - fields["seconds"], acknowledged))
    ends = [acknowledged for _, acknowledged in inserts]
    found = {}
    for user, put_in in rows:
        at = bisect.bisect_left(ends, put_in - _TO_THE_MS)
        if at == len(inserts):
            continue
        if put_in < inserts[at][0] - _TO_THE_MS:
            raise ValueError(f"no insert of alerts was under way at {put_in:.3f}, says the log")
        found[user] = ends[at]
    return found


def measure(
    stage: Stage,
    full_rate: float,
    seconds: float,
    fractions: Sequence[float] = FRACTIONS,
    *,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The curve: rate, p50, p99 and how many probes there were, per fraction of `full_rate`."""
    topics = InputTopics("clickstream_latency", "orders_latency")
    name = stage.fresh_name("latency")
    settings = stage.settings(topics, name, **_SETTINGS)
    stage.prepare(settings)
    per_rate = int(seconds * PROBES_PER_SECOND)
    tell("latency: sending the history")
    known = _send_history(settings.kafka.broker_url, topics, per_rate * len(fractions))
    log = stage.directory / f"{name}.log"
    worker = Worker(settings, log)
    curve = []
    try:
        pin(worker.process.pid, {FIRST_CORE})
        tell("latency: reading the history")
        open_ = _wait_for_alerts(worker, settings, known, per_rate * len(fractions))
        for i, fraction in enumerate(fractions):
            rate = full_rate * fraction
            tell(f"latency at {rate:,.0f} events/s")
            sending = Sending(
                settings.kafka.broker_url, topics.clickstream, topics.orders, PARTITIONS,
                ZIPF.name, 10 + i, rate, seconds, PROBES_PER_SECOND, i * per_rate,
            )  # fmt: skip
            curve.append({"fraction": fraction, **_at_rate(sending, open_, settings, log, worker)})
    finally:
        worker.process.stop(20)
    return curve


def _send_history(broker: str, topics: InputTopics, probes: int) -> int:
    now_ms = time.time_ns() // 1_000_000
    sent = 0
    for source in (_Probes(probes, now_ms), ZIPF.history(now_ms)):
        sent += asyncio.run(produce(source, broker, topics)).records
    return sent


def _wait_for_alerts(worker: Worker, settings: Settings, known: int, probes: int) -> set[str]:
    """Until ClickHouse has all of the history; the probes that have an open alert then."""
    client = connect(clickhouse_target(settings))

    def all_accepted() -> bool:
        worker.check()
        ((accepted,),) = client.execute("SELECT sum(accepted) FROM batches")
        return bool(accepted >= known)

    try:
        if not wait_until(all_accepted, DEADLINE_SECONDS, _LOOK_SECONDS):
            raise click.ClickException(f"no history after {DEADLINE_SECONDS:.0f} s")
        rows = client.execute(
            "SELECT user_id FROM alerts WHERE user_id LIKE 'probe-%' "
            "GROUP BY user_id HAVING count() = 1"
        )
    finally:
        client.disconnect()
    found = {user for (user,) in rows}
    if len(found) < _OPEN_SHARE * probes:
        raise click.ClickException(
            f"{len(found)} of {probes} probes have an open alert: the model that ships no longer "
            "expects them to leave. Change their history in tests/bench/latency.py."
        )
    return found


def _at_rate(
    sending: Sending, open_: set[str], settings: Settings, log: Path, worker: Worker
) -> dict[str, Any]:
    argv = [sys.executable, "-m", "tests.bench.sender", json.dumps(asdict(sending))]
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        argv, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    try:
        pin(process.pid, {LAST_CORE})  # on both it disturbs the worker: p50 0.69 s, not 0.50
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise click.ClickException("the sender ended before it was ready; see its message")
        start = time.time() + 0.5
        process.stdin.write(f"{start}\n")
        process.stdin.flush()
        fields = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
    numbers = range(sending.first_probe, sending.first_probe + sending.probes)
    users = {probe_key(n).decode(): start + due_seconds(sending, n) for n in numbers}
    users = {user: due for user, due in users.items() if user in open_}
    client = connect(clickhouse_target(settings))
    seen: dict[str, float] = {}

    def all_seen() -> bool:
        worker.check()
        closed = client.execute(
            "SELECT user_id, toFloat64(min(inserted_at)) FROM alerts "
            "WHERE version = 2 GROUP BY user_id"
        )
        lines = log.read_text().splitlines()
        seen.update(visible(lines, (row for row in closed if row[0] in users)))
        return users.keys() <= seen.keys()

    try:
        wait_until(all_seen, _GRACE_SECONDS, _LOOK_SECONDS)
    finally:
        client.disconnect()
    return summary(sending.rate, users, seen, start + WARM_SECONDS, fields)


def summary(
    rate: float,
    due: dict[str, float],
    seen: dict[str, float],
    warm_until: float,
    fields: dict[str, float],
) -> dict[str, Any]:
    """Percentiles of the probes due after the warm-up. One that was never seen counts as infinitely
    late, so that losing the slow ones can't improve a figure; JSON has null for that."""
    judged = {user: at for user, at in due.items() if at >= warm_until}
    late = [seen.get(user, float("inf")) - at for user, at in judged.items()]
    p50, p99 = (percentile(late, share) * 1000 for share in (0.5, 0.99))
    return {
        "rate": round(rate),
        "p50_ms": round(p50, 1) if p50 < float("inf") else None,
        "p99_ms": round(p99, 1) if p99 < float("inf") else None,
        "probes": len(judged),
        "unseen": sum(user not in seen for user in judged),
        "sender_latest_ms": round(fields["latest_seconds"] * 1000, 1),
    }
