"""Metrics as Prometheus's text format, piece by piece.

`prometheus_client` makes the whole answer in memory, several times over. A lag monitor of 25,000
partitions has 16 MB to say, so here the answer is written family by family.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qs

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.exposition import gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["answer", "pieces"]

_GZIP: Final = 16 + zlib.MAX_WBITS


class _One(Collector):
    """A registry of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def pieces(registry: Collector) -> Iterator[bytes]:
    """The text in pieces. A collector may give a family in several parts, one behind the other: its
    HELP and TYPE are said once."""
    name = ""
    for family in registry.collect():
        text = generate_latest(_One(family))
        if family.name == name:
            text = text.split(b"\n", 2)[2]
        name = family.name
        yield text


def answer(registry: CollectorRegistry, environ: dict[str, Any], start_response: Any) -> Any:
    """Answer a WSGI request with the metrics; `?name[]=…` chooses some, as in `prometheus_client`.

    OpenMetrics is not offered: Prometheus reads the text format too, and there are no exemplars.
    """
    if environ["REQUEST_METHOD"] != "GET":
        start_response("405 Method Not Allowed", [("Allow", "GET")])
        return [b"Use GET.\n"]
    names = parse_qs(environ.get("QUERY_STRING", "")).get("name[]")
    chosen = registry.restricted_registry(names) if names else registry
    headers = [("Content-Type", CONTENT_TYPE_LATEST)]
    text = pieces(chosen)
    if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
        headers.append(("Content-Encoding", "gzip"))
        text = _compressed(text)
    start_response("200 OK", headers)
    return text


def _compressed(text: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(level=1, wbits=_GZIP)
    for piece in text:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
