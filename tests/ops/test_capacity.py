"""`tideline capacity`: arithmetic from measured costs and assumptions that can be changed."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import msgspec
import pytest
from click.testing import CliRunner

from streams.cli import tideline
from streams.ops.capacity import Assumptions, Cost, Measured, measured, needed

FIGURES = Measured(
    date="2026-01-01",
    conditions="made up",
    loads={
        "easy": Cost(
            worker_cpu_us=6.0, broker_cpu_us=1.0, clickhouse_cpu_us=2.0, fetch_bytes=200.0,
            journal_bytes=0.0, insert_rows=0.1,
        )
    },
    row_bytes=100.0,
    user_bytes=1_000.0,
    user_day_bytes=0.0,
    event_id_bytes=10.0,
    checkpoint_user_bytes=300.0,
    worker_base_bytes=1e9,
)  # fmt: skip
PLAIN = Assumptions(busy_share=0.6, copies=1, remembered_share=0.0, checkpoint_seconds=30.0)


def test_worker_cores_leave_the_share_free_that_is_assumed() -> None:
    need = needed(100_000, 1_000, "easy", FIGURES, PLAIN)
    assert need.worker_cores == pytest.approx(100_000 * 6e-6 / 0.6)
    assert need.workers == math.ceil(need.worker_cores) == 1


def test_a_worker_more_as_soon_as_a_core_is_full() -> None:
    assert needed(100_001, 1_000, "easy", FIGURES, PLAIN).workers == 2


def test_memory_can_ask_for_more_workers_than_cpu_does() -> None:
    roomy = needed(1_000, 10_000_000, "easy", FIGURES, replace(PLAIN, worker_memory_gb=20.0))
    assert roomy.workers == 1
    assert roomy.memory_gb == pytest.approx(11.0)
    assert needed(1_000, 10_000_000, "easy", FIGURES, replace(PLAIN, worker_memory_gb=6.0)
                  ).workers == 2  # fmt: skip


def test_remembered_events_take_memory() -> None:
    assume = replace(PLAIN, remembered_share=0.5, lateness_days=2.0)
    need = needed(1_000, 1, "easy", FIGURES, assume)
    assert need.memory_gb == pytest.approx(1.0 + 500 * 2 * 86_400 * 10 / 1e9, rel=1e-5)


def test_days_of_activity_take_memory() -> None:
    figures = msgspec.structs.replace(FIGURES, user_day_bytes=50.0)
    need = needed(1, 1_000_000, "easy", figures, replace(PLAIN, active_days=20.0))
    assert need.memory_gb == pytest.approx(1.0 + 1.0 + 1.0)


def test_every_copy_and_every_checkpoint_is_written() -> None:
    need = needed(1_000_000, 1_000_000, "easy", FIGURES, replace(PLAIN, copies=3))
    assert need.kafka_write_mb_per_second == pytest.approx(3 * (200.0 + 300.0 / 30.0))
    assert need.fetch_mb_per_second == pytest.approx(200.0)


def test_there_are_as_many_brokers_as_copies_at_least() -> None:
    assert needed(1, 1, "easy", FIGURES, replace(PLAIN, copies=3)).brokers == 3
    by_disk = replace(PLAIN, broker_write_mb_per_second=10.0, broker_cores=1_000)
    assert needed(1_000_000, 1, "easy", FIGURES, by_disk).brokers == 21
    by_cpu = replace(PLAIN, broker_write_mb_per_second=1e9, broker_cores=1, busy_share=0.5)
    assert needed(1_000_000, 1, "easy", FIGURES, by_cpu).brokers == 2


def test_clickhouse_is_bound_by_cpu_or_rows() -> None:
    by_rows = replace(PLAIN, clickhouse_rows_per_second=30_000.0, clickhouse_cores=1_000)
    need = needed(1_000_000, 1, "easy", FIGURES, by_rows)
    assert need.insert_rows_per_second == pytest.approx(100_000)
    assert need.insert_mb_per_second == pytest.approx(10.0)
    assert need.clickhouse_nodes == 4
    by_cpu = replace(PLAIN, clickhouse_cores=1, clickhouse_rows_per_second=1e9, busy_share=0.5)
    assert needed(1_000_000, 1, "easy", FIGURES, by_cpu).clickhouse_nodes == 4


@pytest.mark.parametrize("workers", [1, 3, 4, 13, 100])
def test_partitions_spread_evenly_over_workers_and_over_more_of_them(workers: int) -> None:
    rate = workers * 100_000 * 0.999
    need = needed(rate, 1, "easy", FIGURES, PLAIN)
    assert need.workers == workers
    assert need.partitions >= 4 * workers


@pytest.mark.parametrize(
    "assume", [replace(PLAIN, busy_share=0.0), replace(PLAIN, worker_memory_gb=0.5)]
)
def test_senseless_assumptions_are_refused(assume: Assumptions) -> None:
    with pytest.raises(ValueError, match=r"above 0|more memory"):
        needed(1_000, 1, "easy", FIGURES, assume)


def test_the_figures_that_ship_can_be_read() -> None:
    found = measured()
    assert found.date >= "2026-11-25"
    assert all(cost.worker_cpu_us > 0 for cost in found.loads.values())


def test_the_command_prints_needs_assumptions_and_measured_costs() -> None:
    asked = ["capacity", "--events-per-second", "1e6", "--users", "5000000"]
    shown = CliRunner().invoke(tideline, asked)
    assert shown.exit_code == 0
    for words in ("workers", "partitions", "brokers", "ClickHouse nodes", "busy_share = 0.6",
                  f"Measured on {measured().date}"):  # fmt: skip
        assert words in shown.output
    answer = CliRunner().invoke(tideline, [*asked, "--copies", "2", "--json"])
    found = json.loads(answer.output)
    assert found["assumptions"]["copies"] == 2
    assert found["needs"].keys() == measured().loads.keys()
    assert all(need["workers"] >= 1 for need in found["needs"].values())


def test_a_senseless_option_is_a_usage_error() -> None:
    asked = ["capacity", "--events-per-second", "10", "--users", "5", "--busy-share", "0"]
    shown = CliRunner().invoke(tideline, asked)
    assert shown.exit_code == 2
    assert "above 0" in shown.output
