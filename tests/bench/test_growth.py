"""The growth measurements run on the core as it is: their stand-in scorer keeps up with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def measured(what: str, size: int) -> dict[str, Any]:
    """As the benchmark runs it, in a separate process."""
    argv = [sys.executable, "-m", "tests.bench.growth", json.dumps({"what": what, "size": size})]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_memory_counts_active_and_dormant_users_and_sweeps_them() -> None:
    found = measured("memory", 500)
    assert found["users"] == 500
    assert found["sweep"]["cpu_seconds"] > 0
    assert 0 < found["dormant"]["counted"] < found["active"]["counted"]


def test_an_hour_of_events_has_a_cost_and_takes_memory() -> None:
    found = measured("hour", 500)
    assert found["events"] == 10_000
    assert found["us_per_event"]
    assert min(found["us_per_event"]) > 0
    assert found["bytes_per_event"] > 0


@pytest.mark.full
def test_memory_is_flat_once_windows_are_full() -> None:
    """Until then each event adds some 90 bytes. So few users let it go up and down by a few."""
    found = measured("steady", 600)
    assert found["events"] == 80 * 300
    assert found["bytes"] > 0
    assert abs(found["bytes_per_event"]) < 12.0, found
