"""`tideline worker`: a Faust app whose one agent feeds the engine."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import faust
from faust.types import TP

from models.registry import ScorerStore, Switch, artifact_place, watch
from streams.agents import define_agents
from streams.campaigns.published import DefinitionsFollower
from streams.clickhouse.client import clickhouse_target
from streams.clickhouse.sink import ClickHouseSink
from streams.core.events.records import SOURCES
from streams.core.warm import compile_kernels
from streams.faust_app import App, Failure, app_options, execute
from streams.kafka.access import kafka_access
from streams.kafka.committed import Committed
from streams.kafka.growth import require_grown
from streams.kafka.log import KafkaLog
from streams.kafka.reach import require_reachable
from streams.kafka.topics import require_state
from streams.learner.snapshots import SnapshotFollower
from streams.memory import release_memory
from streams.privacy.erasure_board import ErasureBoard
from streams.privacy.pseudonyms import pseudonyms
from streams.process import Part, at_once, background_part, in_thread
from streams.settings import Settings
from streams.shard.config import core_config, health_limits
from streams.shard.engine import Engine
from streams.shard.services import Services
from streams.shard.worker_clock import WorkerClock, wall_clock_ms
from streams.stopping import StopRequests
from streams.telemetry.batch_tracer import batch_traces
from streams.telemetry.endpoint import endpoint
from streams.telemetry.faust_watchdogs import WatchdogCounter
from streams.telemetry.health import Sink, pages
from streams.telemetry.metrics import Metrics
from streams.telemetry.shard_metrics import MetricsMonitor, SinkMetrics
from streams.watch import Group, Standing, Watch

__all__ = ["create_app", "run"]

# Share of the session timeout that a rebalance may wait for checkpoints; after the whole of it the
# group would drop this worker.
SUSPEND_SHARE = 0.4
# A stop may wait so long for checkpoints: half of the 30 s after which Kubernetes kills a process.
STOP_SECONDS = 15.0

logger = logging.getLogger(__name__)


class FaustInputs:
    """`streams.shard.services.Inputs` on the app's consumer."""

    def __init__(self, app: faust.App, topics: tuple[str, str], metrics: Metrics) -> None:
        self._app = app
        self._topics = topics
        self._metrics = metrics

    def _tp(self, source: int, shard: int) -> TP:
        return TP(self._topics[source], shard)

    async def seek(self, source: int, shard: int, offset: int) -> None:
        tp = self._tp(source, shard)
        if tp in self._app.consumer.assignment():
            await self._app.consumer.seek(tp, offset)

    def pause(self, source: int, shard: int, paused: bool) -> None:
        consumer = self._app.consumer
        (consumer.pause if paused else consumer.resume)({self._tp(source, shard)})
        self._metrics.partition_paused.labels(self._topics[source], str(shard)).set(paused)

    def log_end(self, source: int, shard: int) -> int | None:
        end: int | None = self._app.consumer.log_end(self._tp(source, shard))
        return end

    async def commit(
        self, shard: int, offsets: tuple[int, int], applied_ms: tuple[int, int]
    ) -> None:
        await self._app.consumer.commit_offsets(
            {self._tp(s, shard): Committed(offsets[s], applied_ms[s]) for s in SOURCES}
        )


def create_app(settings: Settings, failure: Failure) -> App:
    """A Faust app around an engine. Reads the model; touches no other network until started.

    Raises ArtifactError if the model can't be used, ModelsUnavailable if it can't be reached.
    """
    names = settings.topic_names
    sources = (names.clickstream, names.orders)
    metrics = Metrics()
    clock = WorkerClock(tolerance_ms=int(settings.stream.max_future_seconds * 1000))

    def stamped(sent_ms: int, answered_ms: int, stamped_ms: int) -> None:
        lead_ms = clock.compare(sent_ms, answered_ms, stamped_ms)
        metrics.worker_clock_lead_seconds.set(lead_ms / 1000)

    log, page_log = KafkaLog(kafka_access(settings), stamped), KafkaLog(kafka_access(settings))
    sink = ClickHouseSink(clickhouse_target(settings), observer=SinkMetrics(metrics))
    metrics.sink_pending_rows.set_function(lambda: sink.status.pending_rows)
    metrics.sink_oldest_row_seconds.set_function(lambda: sink.status.oldest_seconds)
    scorers = ScorerStore(artifact_place(settings.model.artifact), settings.stream.currency)
    metrics.champion_info.labels(scorers.current.champion_version).set(1)
    follower = SnapshotFollower(kafka_access(settings), names.learner)
    definitions = DefinitionsFollower(
        kafka_access(settings), names.definitions, settings.stream.currency
    )
    metrics.definitions_refused.set_function(lambda: bool(definitions.refused))
    erasures = ErasureBoard(log, names.erasures)
    compute = ThreadPoolExecutor(1, thread_name_prefix="compute")

    def switched(switch: Switch) -> None:
        if switch.refused is None:
            metrics.champion_info.clear()
            metrics.champion_info.labels(switch.version).set(1)
        else:
            metrics.champions_refused.inc()

    tracer, tracing = batch_traces(
        settings.trace.endpoint, settings.kafka.app_id, settings.trace.share, metrics
    )
    app = App(failure, **app_options(settings, settings.kafka.app_id))
    monitor = MetricsMonitor(metrics, sources, health_limits(settings))

    engine = Engine(
        Services(
            log=log,
            page_log=page_log,
            sink=sink,
            topics=names,
            config=core_config(settings),
            clock=settings.stream.clock,
            scorer=scorers.get,
            compute=compute,
            wall_ms=clock.trusted_ms if settings.stream.clock == "wall" else wall_clock_ms,
            inputs=FaustInputs(app, sources, metrics),
            learner=lambda: follower.newest,
            definitions=lambda: definitions.newest,
            erasures=erasures,
            monitor=monitor,
            tracer=tracer,
            max_records=settings.stream.max_batch_records,
            checkpoint_seconds=settings.stream.checkpoint_interval_seconds,
            conceal=pseudonyms(settings),
            release_memory=release_memory,
        ),
        suspend_seconds=SUSPEND_SHARE * settings.kafka.session_timeout_seconds,
        stop_seconds=STOP_SECONDS,
        on_fatal=failure,
        instance_id=settings.kafka.instance_id,
    )
    define_agents(app, engine, sources)
    progress = _watch(engine, monitor, sink, log, sources, settings.health.stuck_seconds)
    metrics.live.set_function(lambda: not progress.health().dead)
    metrics.ready.set_function(lambda: not progress.health().unready)
    metrics.shard_stuck_seconds.samples = lambda: [
        ((name.removeprefix("shard "),), seconds) for name, seconds in progress.still_seconds()
    ]
    watchdogs = WatchdogCounter(lambda which: metrics.faust_watchdogs.labels(which).inc())
    app.consist_of(
        [
            Part("compute", stop=in_thread(compute.shutdown)),
            Part("log", log.start, log.stop),
            Part("page log", page_log.start, page_log.stop),
            *tracing,
            Part("sink", at_once(sink.start), in_thread(sink.close)),
            background_part("learner snapshots", follower.run, failure),
            background_part("definitions", definitions.run, failure),
            background_part("champions", lambda: watch(scorers, switched), failure),
            background_part("erasures", erasures.run, failure),
            background_part("progress", progress.run, failure),
            *endpoint(
                metrics,
                settings.web.metrics_host,
                settings.web.metrics_port,
                pages(progress.health),
            ),
            Part("Faust's watchdogs", at_once(watchdogs.install), at_once(watchdogs.remove)),
            app.records,
            # A checkpoint needs the consumer, the log and the sink: so shards stop first.
            Part("shards", stop=engine.stop),
        ]
    )
    return app


def _watch(
    engine: Engine,
    monitor: MetricsMonitor,
    sink: ClickHouseSink,
    log: KafkaLog,
    topics: tuple[str, str],
    stuck_seconds: float,
) -> Watch:
    """The watch over a worker's shards."""

    def standings() -> list[Standing]:
        return [
            Standing(f"shard {number}", "waiting to recover")
            if offsets is None
            else Standing(
                f"shard {number}",
                monitor.states.get(number, "starting"),
                tuple((topics[s], number, offsets[s]) for s in SOURCES),
                monitor.recoveries.get(number),
            )
            for number, offsets in engine.positions.items()
        ]

    def rows() -> Sink:
        status = sink.status
        return Sink(status.state, sink.overloaded, status.oldest_seconds)

    return Watch(
        log.listed_ends, standings, (topics[0], 0), stuck_seconds,
        group=lambda: Group(engine.unassigned_seconds, engine.was_assigned), sink=rows,
    )  # fmt: skip


def run(settings: Settings, requests: StopRequests) -> int:
    """Run until a stop request; returns the exit status. Raises the error that ended it."""
    require_reachable(kafka_access(settings))  # Faust would hide the reason
    require_state(settings)
    kafka = settings.kafka
    require_grown(kafka_access(settings), kafka.app_id, kafka.partitions, kafka.clickstream_topic)
    started = time.monotonic()
    compile_kernels()  # may take longer than a session, so before the worker joins the group
    logger.info("Kernels are ready after %.1f s", time.monotonic() - started)
    failure = Failure()
    return execute(create_app(settings, failure), failure, requests)
