"""How a metric is declared: its kind, its name and its buckets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.telemetry.collectors import SampledGauge, TalliedHistogram

__all__ = ["LONG_SECONDS", "SECONDS", "SHORT_SECONDS", "Registry"]

# The edges of OpenTelemetry's messaging durations, so that a later export maps one to one.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# What may wait for a server that is away takes longer.
LONG_SECONDS: Final = (*SECONDS, 30.0, 60.0, 300.0, 900.0, 3600.0)
SHORT_SECONDS: Final = (
    0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1,
    0.25, 1.0,
)  # fmt: skip


class Registry:
    """A registry, and one method for each kind of metric."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(name, help_, labels, namespace="tideline", registry=self.registry)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(name, help_, labels, namespace="tideline", registry=self.registry)

    def _sampled(self, name: str, help_: str, *labels: str) -> SampledGauge:
        gauge = SampledGauge(f"tideline_{name}", help_, labels)
        self.registry.register(gauge)
        return gauge

    def _tallied(
        self, name: str, help_: str, label: str, values: Sequence[str]
    ) -> TalliedHistogram:
        histogram = TalliedHistogram(f"tideline_{name}", help_, label, values, LONG_SECONDS)
        self.registry.register(histogram)
        return histogram

    def _histogram(
        self, name: str, help_: str, *labels: str, buckets: Sequence[float] = SECONDS
    ) -> Histogram:
        return Histogram(
            name, help_, labels, namespace="tideline", registry=self.registry, buckets=buckets
        )
