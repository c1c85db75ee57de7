"""Traces of batches, as OpenTelemetry has them: ids, spans, and OTLP's JSON encoding. Pure.

Names and attributes: OpenTelemetry's semantic conventions for messaging spans. Encoding: OTLP 1.x,
"JSON Protobuf Encoding" (ids in hex, 64-bit integers as text, field names in lowerCamelCase).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["CLIENT", "CONSUMER", "INTERNAL", "Span", "document", "is_sampled", "trace_id"]

INTERNAL: Final = 1
CLIENT: Final = 3
CONSUMER: Final = 5
_ERROR: Final = 2
Value = str | int | bool


@dataclass(frozen=True)
class Span:
    """One span. Times are Unix time in nanoseconds."""

    trace_id: str
    name: str
    start_ns: int
    end_ns: int
    kind: int = INTERNAL
    parent_id: str = ""
    failed: bool = False
    attributes: Mapping[str, Value] = field(default_factory=dict)

    @property
    def span_id(self) -> str:
        """16 hex digits. It follows from the trace, the name and the start: a batch that a recovery
        repeats has the same trace, and spans of its own in it."""
        return _hex(f"{self.trace_id}\0{self.name}\0{self.start_ns}", 8)


def trace_id(app_id: str, shard: int, seq: int) -> str:
    """The trace of a batch, 32 hex digits: from a row of `batches` anybody can tell it.

    >>> trace_id("tideline", 3, 7687991459840000001)
    'dae920d454fb28ccde6217edb3713d29'
    """
    return _hex(f"{app_id}\0{shard}\0{seq}", 16)


def is_sampled(trace: str, share: float) -> bool:
    """Whether a trace is among that share of all: the same ones in every run."""
    return int(trace[:13], 16) < share * 16**13


def document(spans: Iterable[Span], resource: Mapping[str, Value]) -> dict[str, Any]:
    """An ExportTraceServiceRequest."""
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": {"name": "tideline"}, "spans": [_span(s) for s in spans]}],
            }
        ]
    }


def _span(span: Span) -> dict[str, Any]:
    encoded: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(max(span.start_ns, span.end_ns)),
        "attributes": _attributes(span.attributes),
        "status": {"code": _ERROR} if span.failed else {},
    }
    if span.parent_id:
        encoded["parentSpanId"] = span.parent_id
    return encoded


def _attributes(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    def encoded(value: Value) -> dict[str, Any]:
        if isinstance(value, bool):
            return {"boolValue": value}
        return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}

    return [{"key": key, "value": encoded(value)} for key, value in values.items()]


def _hex(text: str, nbytes: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[: 2 * nbytes]
