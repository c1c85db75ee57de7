"""Metrics that the Prometheus client has no class for: many samples at once, on either side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

__all__ = ["SampledGauge", "TalliedHistogram"]

_PART: Final = 1_000
_Sample = tuple[Sequence[str], float]
"""Label values, and the value."""


class SampledGauge(Collector):
    """A gauge that keeps no samples: `samples` is called when metrics are read."""

    def __init__(self, name: str, help_: str, labels: Sequence[str]) -> None:
        self._name, self._help, self._labelnames = name, help_, tuple(labels)
        self.samples: Callable[[], Iterable[_Sample]] = tuple

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [GaugeMetricFamily(self._name, self._help, labels=self._labelnames)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The family in parts of `_PART` samples: there may be a sample per group and partition."""
        for part in _batched(self.samples()):
            (family,) = self.describe()
            for labels, value in part:
                family.add_metric(labels, value)
            yield family


def _batched(samples: Iterable[_Sample]) -> Iterator[list[_Sample]]:
    """Lists of at most `_PART` samples; one empty list if there are none."""
    left = iter(samples)
    part = list(islice(left, _PART))
    yield part
    while len(part) == _PART and (part := list(islice(left, _PART))):
        yield part


class TalliedHistogram(Collector):
    """A histogram that takes whole arrays: a batch of records is observed at once.

    It has one label, whose `values` are there from the beginning. `buckets` are upper bounds, in
    seconds, rising; the last bucket, +Inf, is added.
    """

    def __init__(
        self, name: str, help_: str, label: str, values: Sequence[str], buckets: Sequence[float]
    ) -> None:
        self._name, self._help, self._labelnames = name, help_, (label,)
        self._bounds = np.array(buckets)
        self._names = [*map(floatToGoString, buckets), "+Inf"]
        self._lock = threading.Lock()
        self._counts = {value: np.zeros(len(buckets) + 1, np.int64) for value in values}
        self._sums = dict.fromkeys(values, 0.0)

    def observe(self, value: str, seconds: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        """Count float64 [k] observations, each so many times (int64 [k]). On any thread."""
        places = np.searchsorted(self._bounds, seconds)  # a bucket has its upper bound
        added = np.bincount(places, counts, len(self._names)).astype(np.int64)
        total = float(seconds @ counts)
        with self._lock:
            self._counts[value] += added
            self._sums[value] += total

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._name, self._help, labels=self._labelnames)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        (family,) = self.describe()
        with self._lock:
            found = [(v, c.cumsum().tolist(), self._sums[v]) for v, c in self._counts.items()]
        for value, cumulated, total in found:
            family.add_metric([value], list(zip(self._names, cumulated, strict=True)), total)
        yield family
