"""Time, CPU and memory of the lag monitor, with many groups on the local broker.

    python -m tests.lag.measure [--groups 500] [--partitions 50] [--topics 10] [--looks 40]

The monitor runs in a process by itself, as `tideline lag --serve` does: a look at Kafka, what a
scrape of /metrics makes of it, and the rows for ClickHouse, packed and not sent. Half of the groups
lag in every partition. With --process it is the command itself, with its threads and its command
line, seen from outside; nothing takes its rows then. The local broker does not say who is in a
group, so members are not asked for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from kafka import TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata

from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.kafka.admin import connect
from streams.local.process import free_port
from streams.local.tansu import TansuBroker

RECORDS = 20


def fill(bootstrap: str, groups: int, partitions: int, topics: int) -> None:
    """Topics with records in every partition, and groups with an offset in each."""
    access = KafkaAccess((bootstrap,))
    names = [f"topic-{number}" for number in range(topics)]
    with connect(access) as admin:
        admin.create_topics([NewTopic(name, partitions, 1) for name in names])
    producer = clients.producer(access, linger_ms=100)
    for name in names:
        for partition in range(partitions):
            for _ in range(RECORDS):
                producer.send(name, b"x", partition=partition)
    producer.flush()
    producer.close()
    for number in range(groups):
        topic, at = names[number % topics], RECORDS - number % 2 * 5
        consumer = clients.consumer(access, group_id=f"group-{number}")
        places = {
            TopicPartition(topic, partition): OffsetAndMetadata(at, "", -1)
            for partition in range(partitions)
        }
        consumer.assign(list(places))
        consumer.commit(places)
        consumer.close()


def watch(bootstrap: str, looks: int) -> None:
    import streams.lag.service  # noqa: F401, PLC0415  (as the process has it)
    from schemas.tables import TABLES  # noqa: PLC0415
    from streams.clickhouse.blocks import Block  # noqa: PLC0415
    from streams.lag.latest import Latest  # noqa: PLC0415
    from streams.lag.monitor import reports  # noqa: PLC0415
    from streams.lag.report import table_columns  # noqa: PLC0415
    from streams.memory import release_memory, share_one_arena  # noqa: PLC0415
    from streams.settings import Settings, override  # noqa: PLC0415
    from streams.telemetry.exposition import pieces  # noqa: PLC0415
    from streams.telemetry.metrics import Metrics  # noqa: PLC0415

    share_one_arena()
    print(f"resident before the first look: {resident_mb():.0f} MB", flush=True)
    metrics = Metrics()
    latest = Latest(5.0, lambda: time.time_ns() // 1_000_000)
    latest.feed(metrics)
    settings = override(Settings(), kafka_broker_url=bootstrap)
    began, cpu = time.monotonic(), time.process_time()
    for number, report in enumerate(reports(settings, 0.0), 1):
        latest.publish(report)
        looked, cpu_looked = time.monotonic() - began, time.process_time() - cpu
        table = TABLES["consumer_lag"]
        block = Block(table, [table_columns(report, everything=number % 12 == 1)])
        packed = sum(len(block.packed(name, kind)) for name, kind in table.columns.items())
        size = sum(len(piece) for piece in pieces(metrics.registry))
        if number in {1, 2, 5} or number % 10 == 0:
            partitions = sum(len(group.names) for group in report.groups)
            print(
                f"look {number}: {len(report.groups)} groups, {partitions} partitions, "
                f"{looked:.2f} s, CPU {cpu_looked:.2f} s; rows {packed / 1e6:.1f} MB, metrics "
                f"{size / 1e6:.1f} MB in {time.monotonic() - began - looked:.2f} s; "
                f"resident {resident_mb():.0f} MB",
                flush=True,
            )
        release_memory()
        if number == looks:
            return
        began, cpu = time.monotonic(), time.process_time()


def run_process(bootstrap: str, looks: int) -> None:
    """`tideline lag --serve`, scraped after each look; ClickHouse is away."""
    port = free_port()
    away = free_port()
    environ = {
        **os.environ,
        "TIDELINE_KAFKA_BROKER_URL": bootstrap,
        "TIDELINE_WEB_METRICS_PORT": str(port),
        "TIDELINE_CLICKHOUSE_HOST": "127.0.0.1",
        "TIDELINE_CLICKHOUSE_PORT": str(away),
    }
    argv = [sys.executable, "-m", "streams", "lag", "--serve", "--interval", "3"]
    with subprocess.Popen(argv, env=environ, stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(5)
            for number in range(1, looks + 1):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    size = len(answer.read())
                if number in {1, 2, 5} or number % 10 == 0:
                    print(
                        f"scrape {number}: {size / 1e6:.1f} MB; resident "
                        f"{resident_mb(process.pid):.0f} MB",
                        flush=True,
                    )
                time.sleep(3)
        finally:
            process.terminate()


def resident_mb(pid: int | str = "self") -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=500)
    parser.add_argument("--partitions", type=int, default=50)
    parser.add_argument("--topics", type=int, default=10)
    parser.add_argument("--looks", type=int, default=40)
    parser.add_argument("--watch", metavar="BOOTSTRAP", help=argparse.SUPPRESS)
    parser.add_argument("--process", action="store_true", help="`tideline lag --serve` itself")
    given = parser.parse_args()
    if given.watch:
        watch(given.watch, given.looks)
        return
    with TansuBroker() as broker:
        fill(broker.bootstrap, given.groups, given.partitions, given.topics)
        if given.process:
            run_process(broker.bootstrap, given.looks)
            return
        argv = ["--watch", broker.bootstrap, "--looks", str(given.looks)]
        subprocess.run([sys.executable, "-m", "tests.lag.measure", *argv], check=True)


if __name__ == "__main__":
    main()
