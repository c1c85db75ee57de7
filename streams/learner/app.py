"""`tideline learner`: the process around `LearnerService`. A Faust app with one agent.

Offsets are committed behind the snapshot that includes them. Run one process; a second one would
wait, since the examples topic has one partition.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from faust.types import TP

from models.registry import ScorerStore, Switch, artifact_place, watch
from schemas.errors import RetryableError
from schemas.messages import Drift, LearnerSnapshot
from streams.faust_app import App, Failure, app_options, execute
from streams.kafka.access import kafka_access
from streams.kafka.log import KafkaLog
from streams.kafka.reach import require_reachable
from streams.kafka.transport import BatchSchema
from streams.learner.service import LearnerService
from streams.process import Part, background_part
from streams.settings import Settings
from streams.stopping import StopRequests
from streams.telemetry.endpoint import endpoint
from streams.telemetry.health import pages
from streams.telemetry.metrics import MODELS, Metrics
from streams.watch import Standing, Watch

__all__ = ["create_app", "run", "show"]

_log = logging.getLogger(__name__)


def show(metrics: Metrics, snapshot: LearnerSnapshot, drifts: list[Drift]) -> None:
    """Set the metrics from a snapshot; log and count its new drifts. Before the first label there
    are no losses."""
    metrics.learner_version.set(snapshot.version)
    metrics.learner_blend_weight_ratio.set(snapshot.blend_weight)
    losses = (snapshot.log_loss_champion, snapshot.log_loss_learner, snapshot.log_loss_blend)
    for model, loss in zip(MODELS, losses, strict=True):
        if loss is not None:
            metrics.model_log_loss_nats.labels(model).set(loss)
    for drift in drifts:
        metrics.drifts.labels(drift.kind).inc()
        _log.warning("drift: %s", drift.reason)


def create_app(settings: Settings, failure: Failure) -> App:
    """A Faust app around a `LearnerService`. Raises ArtifactError and ModelsUnavailable."""
    names = settings.topic_names
    metrics = Metrics()
    log = KafkaLog(kafka_access(settings))
    champions = ScorerStore(artifact_place(settings.model.artifact), settings.stream.currency)
    service = LearnerService(log, names.learner, champions.current.champion.manifest)

    def switched(switch: Switch) -> None:
        if switch.refused is None:
            service.adopt(champions.current.champion.manifest)
        else:
            metrics.champions_refused.inc()

    app = App(failure, **app_options(settings, names.learner_group))
    examples = app.topic(names.examples, schema=BatchSchema(), acks=False)
    published_at = time.monotonic()

    async def publish() -> None:
        nonlocal published_at
        published_at = time.monotonic()
        await service.publish_and_commit(
            partial(show, metrics),
            lambda offset: app.consumer.commit_offsets({TP(names.examples, 0): offset}),
        )

    @app.agent(examples, name="learner")  # type: ignore[untyped-decorator]
    async def learn(batches: Any) -> None:
        async for batch in batches.noack():
            metrics.learner_updates.inc(await service.take(batch))
            if time.monotonic() - published_at >= settings.model.learner_publish_interval_seconds:
                await publish()

    @app.timer(settings.model.learner_publish_interval_seconds)  # type: ignore[untyped-decorator]
    async def publish_the_rest() -> None:
        try:
            await publish()
        except RetryableError as exc:
            _log.warning("learner snapshot not published yet: %s", exc)

    def standings() -> list[Standing]:
        at = service.next_offset
        if at is None or TP(names.examples, 0) not in app.consumer.assignment():
            return []  # there were no examples yet, or another learner has them
        return [Standing("the learner", "running", ((names.examples, 0, at),))]

    progress = Watch(log.listed_ends, standings, (names.examples, 0), settings.health.stuck_seconds)
    metrics.live.set_function(lambda: not progress.health().dead)
    metrics.ready.set_function(lambda: not progress.health().unready)

    async def publish_the_last() -> None:
        try:
            await publish()
        except RetryableError as exc:
            _log.warning("learner snapshot not published: %s", exc)

    app.consist_of(
        [
            Part("log", log.start, log.stop),
            Part("learner", service.restore),
            background_part("champions", lambda: watch(champions, switched), failure),
            background_part("progress", progress.run, failure),
            *endpoint(
                metrics,
                settings.web.metrics_host,
                settings.web.metrics_port,
                pages(progress.health),
            ),
            app.records,
            Part("last snapshot", stop=publish_the_last),  # while the consumer takes commits
        ]
    )
    return app


def run(settings: Settings, requests: StopRequests) -> int:
    """Run until a stop request; returns the exit status."""
    require_reachable(kafka_access(settings))  # Faust would hide the reason
    failure = Failure()
    return execute(create_app(settings, failure), failure, requests)
