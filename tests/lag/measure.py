"""Time, CPU and memory of the lag monitor, with many groups on the local broker.

    python -m tests.lag.measure [--groups 500] [--partitions 50] [--topics 10] [--looks 40]

The monitor runs in a process by itself, as `tideline lag --serve` does: a look at Kafka, and what a
scrape of /metrics makes of it. ClickHouse's driver is loaded, and nothing is written. Half of the
groups lag in every partition. The local broker does not say who is in a group, so members are not
asked for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from kafka import TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata

from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.kafka.admin import connect
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
    from streams.lag.latest import Latest  # noqa: PLC0415
    from streams.lag.monitor import reports  # noqa: PLC0415
    from streams.memory import release_memory  # noqa: PLC0415
    from streams.settings import Settings, override  # noqa: PLC0415
    from streams.telemetry.exposition import pieces  # noqa: PLC0415
    from streams.telemetry.metrics import Metrics  # noqa: PLC0415

    print(f"resident before the first look: {resident_mb():.0f} MB", flush=True)
    metrics = Metrics()
    latest = Latest(5.0, lambda: time.time_ns() // 1_000_000)
    latest.feed(metrics)
    settings = override(Settings(), kafka_broker_url=bootstrap)
    began, cpu = time.monotonic(), time.process_time()
    for number, report in enumerate(reports(settings, 0.0), 1):
        latest.publish(report)
        looked, cpu_looked = time.monotonic() - began, time.process_time() - cpu
        size = sum(len(piece) for piece in pieces(metrics.registry))
        if number in {1, 2, 5} or number % 10 == 0:
            partitions = sum(len(group.names) for group in report.groups)
            print(
                f"look {number}: {len(report.groups)} groups, {partitions} partitions, "
                f"{looked:.2f} s, CPU {cpu_looked:.2f} s; metrics {size / 1e6:.1f} MB in "
                f"{time.monotonic() - began - looked:.2f} s; resident {resident_mb():.0f} MB",
                flush=True,
            )
        release_memory()
        if number == looks:
            return
        began, cpu = time.monotonic(), time.process_time()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=500)
    parser.add_argument("--partitions", type=int, default=50)
    parser.add_argument("--topics", type=int, default=10)
    parser.add_argument("--looks", type=int, default=40)
    parser.add_argument("--watch", metavar="BOOTSTRAP", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.watch:
        watch(given.watch, given.looks)
        return
    with TansuBroker() as broker:
        fill(broker.bootstrap, given.groups, given.partitions, given.topics)
        argv = ["--watch", broker.bootstrap, "--looks", str(given.looks)]
        subprocess.run([sys.executable, "-m", "tests.lag.measure", *argv], check=True)


if __name__ == "__main__":
    main()
