"""A disk is full: the broker's, ClickHouse's, or the one that the worker's log goes to.

The disks are small tmpfs, so these need the right to mount; without it they are skipped.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.local import kafka
from streams.local.kafka import ApacheKafka
from streams.local.process import wait_until
from tests.faults.drill import Drill
from tests.faults.old_clickhouse import OldClickHouse, missing
from tests.faults.proxy import Proxy
from tests.integration.world import WAIT_SECONDS

pytestmark = [
    pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.full, pytest.mark.timeout(600),
]  # fmt: skip

DISK_MIB = 128
LEFT_BYTES = 128 * 1024  # of a full disk: what comes next finds no room in the middle of a write


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of the test's own."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, left_bytes: int = LEFT_BYTES) -> Path:
    """Leave hardly any room; returns the file that takes it."""
    filler = disk / "filler"
    chunk = b"x" * LEFT_BYTES
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(chunk)
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - left_bytes)
    return filler


@pytest.fixture
def small_kafka(disk: Path, apache_kafka: ApacheKafka) -> Iterator[ApacheKafka]:
    """A broker whose log is on the small disk. (`apache_kafka` skips where none can run.)"""
    assert kafka.available() is None
    with ApacheKafka(disk / "kafka") as broker:
        yield broker


@pytest.mark.fault("disk full: the broker's")
def test_a_broker_whose_disk_is_full_dies_and_comes_back_with_nothing_lost(
    fault: Drill, disk: Path, small_kafka: ApacheKafka
) -> None:
    here = fault.build(broker=small_kafka, stream_checkpoint_interval_seconds=1.0)
    worker = fault.worker("worker")
    here.own(worker)
    fault.load(8_000, rate=4_000).join()
    fault.under_load(500)
    filler = fill(disk)
    process = small_kafka.process
    assert process is not None
    assert wait_until(lambda: not process.running, WAIT_SECONDS), "it found room"
    filler.unlink()
    small_kafka.kill()  # what is left of it
    with fault.recovery():
        small_kafka.start()
        fault.load(2_000, rate=2_000).join()
    assert worker.running
    fault.finish(worker)


@pytest.fixture
def old_clickhouse(disk: Path) -> Iterator[OldClickHouse]:
    """The real server, on the small disk."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    with OldClickHouse(disk / "clickhouse-server") as server:
        yield server


@pytest.mark.fault("disk full: ClickHouse's (18.16)")
def test_rows_wait_while_clickhouse_s_disk_is_full(fault: Drill, disk: Path, proxy: Proxy) -> None:
    fault.build(server=proxy, stream_max_batch_records=500)
    worker = fault.worker("worker", old_clickhouse=True)
    load = fault.load(9_000, rate=900)
    fault.under_load(1_000)
    before = fault.world.accepted
    filler = fill(disk)
    assert wait_until(lambda: "No space left on device" in worker.log, WAIT_SECONDS), worker.log
    load.join()
    assert worker.running
    with fault.recovery(before):
        filler.unlink()
    fault.finish(worker)


@pytest.mark.fault("disk full: the one that the worker's log goes to")
def test_a_worker_that_can_t_write_its_log_goes_on(fault: Drill, disk: Path) -> None:
    """The log is all that a worker writes to a disk."""
    here = fault.build()
    fill(disk, 0)
    (here.directory / "mute.log").symlink_to(disk / "mute.log")
    worker = fault.worker("mute")
    here.own(worker)
    fault.load(4_000, rate=1_000)
    fault.under_load(1_000)
    assert worker.log == ""
    with fault.recovery():
        pass
    fault.finish(worker)
