"""How many events a second one worker process takes from Kafka to ClickHouse.

A topic is filled first; then one worker is started on the backlog and timed from its first batch to
its last, by ClickHouse's own clock: each step's `batches` row is inserted after all of its effects.

    python -m tests.bench.worker_throughput --events 1000000 --users 200000 --skew 1.1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from streams import migrate, topics_admin
from streams.clickhouse import connect
from streams.local.process import ChildProcess, wait_until
from streams.local.stack import LocalStack
from streams.replay.producer import produce
from streams.replay.synthetic import Synthetic
from streams.replay.target import InputTopics
from streams.settings import as_environ, load
from streams.targets import clickhouse_target

__all__ = ["main", "measure"]


def measure(
    *, events: int, users: int, skew: float, order_share: float, broker: Any, directory: Path,
    deadline: float = 300.0, profile: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Fill the topics, run one worker over them, and return the figures."""
    with LocalStack(broker, directory) as stack:
        settings = load(
            {
                "TIDELINE_BROKER_URL": stack.bootstrap,
                "TIDELINE_CLICKHOUSE_HOST": stack.clickhouse_host,
                "TIDELINE_CLICKHOUSE_PORT": str(stack.clickhouse_port),
                "TIDELINE_CLOCK": "event",
                "TIDELINE_SESSION_TIMEOUT_SECONDS": "6",
                "TIDELINE_CHECKPOINT_INTERVAL_SECONDS": "30",
            },
            None,
        )
        topics_admin.create_missing(settings)
        target = clickhouse_target(settings)
        migrate.migrate(target)
        source = Synthetic(
            users=users, events=events, skew=skew, order_share=order_share, seed=1, span_days=1.0
        )
        names = InputTopics(settings.kafka.clickstream_topic, settings.kafka.orders_topic)
        sent = asyncio.run(produce(source, stack.bootstrap, names))
        argv = [sys.executable, "-m", "streams.cli", "worker"]
        worker = ChildProcess(
            "worker", argv, directory / "worker.log", env={**os.environ, **as_environ(settings)}
        )
        client = connect(target)
        started = time.monotonic()
        worker.start()
        _pin(worker.pid, {0})
        for server in (stack.broker.process, stack.clickhouse.process):
            _pin(server.pid, {(os.cpu_count() or 1) - 1})
        if profile:
            time.sleep(6)  # past the start-up and the join
            subprocess.Popen(
                ["py-spy", "record", "-p", str(worker.pid), "-d", "8", "-r", "200", "-f", "raw",
                 "-t", "-g", "-o", profile]
            )  # fmt: skip

        def finished() -> bool:
            if not worker.running:
                raise RuntimeError((directory / "worker.log").read_text()[-2000:])
            time.sleep(1)  # each look costs ClickHouse time that the inserts need
            ((done,),) = client.execute("SELECT sum(accepted) FROM batches")
            return bool(done >= sent.records)

        if not wait_until(finished, deadline):
            stuck = client.execute("SELECT shard, count(), sum(accepted) FROM batches GROUP BY 1")
            log = (directory / "worker.log").read_text()[-3000:]
            raise RuntimeError(f"the worker did not finish in 300 s: {stuck}\n{log}")
        total = time.monotonic() - started
        ((first, last, batches, rows),) = client.execute(
            "SELECT min(inserted_at), max(inserted_at), count(), max(users_scored) FROM batches"
        )
        ((head,),) = client.execute(
            "SELECT sum(accepted) FROM batches WHERE inserted_at = "
            "(SELECT min(inserted_at) FROM batches)"
        )
        ((scores,),) = client.execute("SELECT count() FROM score_history")
        cpu = _cpu_seconds(worker.pid)
        worker.stop(20)
    seconds = (last - first).total_seconds()
    return {
        "events": sent.records,
        "users": users,
        "skew": skew,
        "seconds": round(seconds, 3),
        "events_per_second": round((sent.records - head) / seconds),
        "worker_cpu_us_per_event": round(cpu / sent.records * 1e6, 2),
        "seconds_with_start": round(total, 2),
        "batches": batches,
        "most_users_in_a_batch": rows,
        "score_rows": scores,
        "broker": broker,
    }


def _pin(pid: int, cores: set[int]) -> None:
    """Keep a process to some cores: the worker is one core's work, and moving costs it time."""
    if hasattr(os, "sched_setaffinity"):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, start-up included: less noisy than wall time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--skew", type=float, default=1.1, help="Zipf exponent; 0: uniform")
    parser.add_argument("--order-share", type=float, default=0.05)
    parser.add_argument("--broker", choices=("tansu", "kafka"), default="tansu")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--profile", help="write a py-spy profile of the worker here")
    options = parser.parse_args()
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as directory:
            figures = measure(
                events=options.events,
                users=options.users,
                skew=options.skew,
                order_share=options.order_share,
                broker=options.broker,
                directory=Path(directory),
                profile=options.profile,
            )
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
