"""Makes the spans of a batch, from the fetch of its first record to the commit of its offsets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from streams.core.plan import Plan
from streams.process import Part, at_once, in_thread
from streams.telemetry.metrics import Metrics
from streams.telemetry.otlp import Exporter, post
from streams.telemetry.traces import CLIENT, CONSUMER, INTERNAL, Span, is_sampled, trace_id

__all__ = ["BatchTracer", "StepTrace", "batch_traces"]

_UNCOMMITTED: Final = 1_000  # traces per shard that may wait for a commit


class StepTrace:
    """The trace of one step; see `streams.shard.services.StepTrace`."""

    def __init__(self, root: Span, export: Callable[[Iterable[Span]], None]) -> None:
        self._root = root
        self._export = export
        self._spans: list[Span] = []

    @property
    def place(self) -> tuple[str, str]:
        """Trace and span id of the root."""
        return self._root.trace_id, self._root.span_id

    def stage(self, name: str, start_ns: int, end_ns: int) -> None:
        kind = CLIENT if name in ("journal", "send") else INTERNAL
        self._add(name, start_ns, end_ns, kind, failed=False)

    def stored(self, start_ns: int, end_ns: int, *, failed: bool) -> None:
        self._add("send", start_ns, end_ns, CLIENT, failed=failed)
        root = self._root
        ended = Span(
            root.trace_id, root.name, root.start_ns, end_ns, root.kind, "", failed, root.attributes
        )
        self._export([ended, *self._spans])

    def _add(self, name: str, start_ns: int, end_ns: int, kind: int, *, failed: bool) -> None:
        trace, parent = self.place
        self._spans.append(Span(trace, name, start_ns, end_ns, kind, parent, failed))


class BatchTracer:
    """`streams.shard.services.Tracer`. All but `StepTrace.stored` is called on the event loop.

    Args:
        app_id: whose batches they are.
        share: of all batches; which ones is the same in every run.
        export: takes finished spans; on any thread.
    """

    def __init__(self, app_id: str, share: float, export: Callable[[Iterable[Span]], None]) -> None:
        self._app_id, self._share, self._export = app_id, share, export
        self._uncommitted: dict[int, deque[tuple[tuple[int, int], StepTrace]]] = {}

    def step(
        self, shard: int, plan: Plan, fetched_ns: int, started_ns: int, *, replayed: bool
    ) -> StepTrace | None:
        trace = trace_id(self._app_id, shard, plan.seq)
        if not is_sampled(trace, self._share):
            return None
        root = Span(
            trace, "process batch", fetched_ns, fetched_ns, CONSUMER,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.consumer.group.name": self._app_id,
                "messaging.destination.partition.id": str(shard),
                "messaging.batch.message_count": sum(plan.records or (0, 0)),
                "tideline.seq": str(plan.seq),
                "tideline.clickstream_from": plan.start[0],
                "tideline.clickstream_to": plan.stop[0],
                "tideline.orders_from": plan.start[1],
                "tideline.orders_to": plan.stop[1],
                "tideline.replayed": replayed,
            },
        )  # fmt: skip
        step = StepTrace(root, self._export)
        step.stage("wait", fetched_ns, started_ns)
        waiting = self._uncommitted.setdefault(shard, deque(maxlen=_UNCOMMITTED))
        waiting.append((plan.stop, step))
        return step

    def committed(self, shard: int, offsets: tuple[int, int], start_ns: int, end_ns: int) -> None:
        waiting = self._uncommitted.get(shard, deque())
        settled: list[Span] = []
        while waiting and all(s <= o for s, o in zip(waiting[0][0], offsets, strict=True)):
            _, step = waiting.popleft()
            trace, parent = step.place
            settled.append(
                Span(
                    trace, "settle batch", start_ns, end_ns, CLIENT, parent,
                    attributes={
                        "messaging.system": "kafka",
                        "messaging.operation.name": "commit",
                        "messaging.operation.type": "settle",
                    },
                )
            )  # fmt: skip
        if settled:
            self._export(settled)


def batch_traces(
    endpoint: str, app_id: str, share: float, metrics: Metrics
) -> tuple[BatchTracer | None, tuple[Part, ...]]:
    """A tracer that sends to this collector, and the part of the process that sends: it must stop
    after the sink, whose last rows end traces. Neither if `endpoint` is ''."""
    if not endpoint:
        return None, ()
    exporter = Exporter(
        post(endpoint),
        {"service.name": "tideline-worker", "service.namespace": app_id},
        lambda result, spans: metrics.trace_spans.labels(result).inc(spans),
    )
    part = Part("traces", at_once(exporter.start), in_thread(exporter.close))
    return BatchTracer(app_id, share, exporter.add), (part,)
