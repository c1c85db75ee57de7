"""Metrics are written piece by piece, and say what `prometheus_client` says in one."""

from __future__ import annotations

import gzip
import math
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streams.telemetry import collectors
from streams.telemetry.endpoint import MetricsServer, serve
from streams.telemetry.exposition import pieces
from streams.telemetry.metrics import Metrics

LABELS = [("shop", "orders", str(number)) for number in range(7)]


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """Parts of three samples, and a gauge that has seven."""
    monkeypatch.setattr(collectors, "_PART", 3)
    made = Metrics()
    made.consumer_lag_records.samples = lambda: [(each, 5.0) for each in LABELS]
    made.alerts.labels("open").inc(2)
    return made


@pytest.fixture
def server(metrics: Metrics) -> Iterator[MetricsServer]:
    with serve(metrics, "127.0.0.1", 0) as running:
        yield running


def get(server: MetricsServer, query: str = "", **headers: str) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/metrics{query}", headers=headers
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  (loopback)
        body: bytes = answer.read()
        return gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body


def test_pieces_make_the_text_of_prometheus_client(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"".join(pieces(metrics.registry))
    assert text.count(b"# TYPE tideline_consumer_lag_records gauge") == 1
    monkeypatch.setattr(collectors, "_PART", 1_000_000)
    assert text == generate_latest(metrics.registry)


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 4, 6, 7])
def test_a_family_in_parts_has_each_sample_once(metrics: Metrics, samples: int) -> None:
    metrics.consumer_lag_records.samples = lambda: [(each, 5.0) for each in LABELS[:samples]]
    text = b"".join(pieces(metrics.registry)).decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    found = families["tideline_consumer_lag_records"].samples
    assert [each.labels["partition"] for each in found] == [str(n) for n in range(samples)]
    assert math.fsum(each.value for each in found) == 5 * samples


def test_the_endpoint_packs_the_text_for_who_accepts_it(
    server: MetricsServer, metrics: Metrics
) -> None:
    plain = get(server)
    assert get(server, **{"Accept-Encoding": "gzip"}) == plain
    assert plain == b"".join(pieces(metrics.registry))


def test_the_endpoint_gives_the_metrics_that_are_asked_for(server: MetricsServer) -> None:
    text = get(server, "?name[]=tideline_alerts_total").decode()
    assert {each.name for each in text_string_to_metric_families(text)} == {"tideline_alerts"}


def test_the_endpoint_takes_nothing(server: MetricsServer) -> None:
    address = f"http://127.0.0.1:{server.port}/metrics"
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(address, data=b"x", timeout=60)
