"""A real `tideline worker` in a separate process, and its metrics."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from pathlib import Path

import click
from prometheus_client.parser import text_string_to_metric_families

from streams.local.process import ChildProcess, free_port, tail
from streams.settings import Settings, as_environ
from tests.bench.machine import resident_bytes

__all__ = ["DEADLINE_SECONDS", "Samples", "Worker", "percentiles", "total"]

DEADLINE_SECONDS = 300.0
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Worker:
    """Started at once. The caller ends `process`."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.port = free_port()
        environ = {
            **os.environ,
            **as_environ(settings),
            "TIDELINE_WEB_METRICS_PORT": str(self.port),
        }
        self._log = log
        argv = [sys.executable, "-m", "streams", "worker"]
        self.process = ChildProcess("worker", argv, log, env=environ)
        self.started = time.monotonic()
        self.process.start()

    def check(self) -> None:
        """Raises ClickException, with the end of its log, if the worker has ended."""
        if not self.process.running:
            raise click.ClickException(f"the worker ended:\n{tail(self._log)}")

    def samples(self) -> Samples:
        """All metrics now; empty if the worker does not answer yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as got:
                text = got.read().decode()
        except OSError:
            return {}
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def accepted(self) -> float:
        """Records taken so far."""
        return total(self.samples(), "tideline_records_accepted_total")

    def seconds_until_all_flow(self, shards: int) -> float:
        """Since its start, until every shard has finished a step with new events."""
        end, before = self.started + DEADLINE_SECONDS, dict[int, float]()
        while time.monotonic() < end:
            self.check()
            now = self.samples()
            for shard in range(shards):
                label = ("shard", str(shard))
                running = now.get(("tideline_shard_state", (label, ("state", "running"))), 0.0)
                accepted = now.get(("tideline_records_accepted_total", (label,)), 0.0)
                if running:  # whatever it counted before was replayed
                    before.setdefault(shard, accepted)
                    if accepted > before[shard]:
                        before[shard] = -1.0
            if len(before) == shards and all(count < 0 for count in before.values()):
                return time.monotonic() - self.started
            time.sleep(0.1)
        raise click.ClickException(f"no events flowed in {DEADLINE_SECONDS:.0f} s")

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.process.pid)


def total(samples: Samples, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(value for (sample, _), value in samples.items() if sample == name)


def percentiles(samples: Samples, name: str, **labels: str) -> dict[str, float]:
    """Of a histogram, in milliseconds: the upper edge of the bucket that holds each."""
    wanted = set(labels.items())
    buckets = sorted(
        (float(dict(key)["le"]), value)
        for (sample, key), value in samples.items()
        if sample == f"{name}_bucket" and wanted <= set(key)
    )
    count = buckets[-1][1] if buckets else 0.0
    found = {"count": count}
    for label, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)):
        edge = next((le for le, below in buckets if count and below >= share * count), 0.0)
        found[f"{label}_ms_at_most"] = round(edge * 1000, 3)
    return found
