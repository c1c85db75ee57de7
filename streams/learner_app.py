"""`tideline learner`: one Faust agent that learns from matured labels and publishes snapshots.

What makes it exact over restarts: a snapshot holds everything, also the last example learned of
each shard. So it starts from the newest snapshot, reads examples from the committed offset on, and
drops those it knows. Offsets are committed behind the snapshot that includes them.

Run one. A second one would wait: the examples topic has one partition.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import faust
import msgspec
from faust.types import TP

from models.learner import OnlineLearner
from models.manifest import Manifest
from models.registry import ScorerStore, Switch, artifact_place, watch
from schemas.errors import RetryableError
from schemas.messages import Drift, Example, LearnerSnapshot
from streams.core.events.records import RecordBatch
from streams.faust_app import Failure, app_options, execute
from streams.follow import newest_snapshot
from streams.kafka.access import kafka_access, require_reachable
from streams.kafka.log import KafkaLog, Log
from streams.kafka.transport import BatchSchema
from streams.settings import Settings
from streams.telemetry import metrics as metrics_module

__all__ = ["LearnerService", "create_app", "run", "show"]

_log = logging.getLogger(__name__)
_decoder = msgspec.msgpack.Decoder(Example)
SNAPSHOT_KEY = b"snapshot"
SLICE_EXAMPLES = 500  # learned in one go, about 50 ms, before the event loop gets a turn


class LearnerService:
    """The learner between its two topics, without Faust."""

    def __init__(self, log: Log, topic: str, manifest: Manifest) -> None:
        self._log = log
        self._topic = topic
        self._manifest = manifest
        self._learner: OnlineLearner | None = None
        self._published_version = -1
        self._told: set[str] = set()
        self.next_offset = 0
        """One past the newest example taken in."""

    def adopt(self, manifest: Manifest) -> None:
        """Learn on another champion from now on, starting anew from it. Examples go on where they
        were; those that the old champion was asked about teach nothing about the new one."""
        self._manifest = manifest
        if self._learner is not None and self._learner.champion_version != manifest.version:
            self._learner = OnlineLearner.restore(self._learner.snapshot(), manifest)

    async def restore(self) -> None:
        """Go on from the newest snapshot, or start at the champion."""
        snapshot = await newest_snapshot(self._log, self._topic)
        if snapshot is None:
            self._learner = OnlineLearner(self._manifest)
        else:
            self._learner = OnlineLearner.restore(snapshot, self._manifest)
            self._published_version = snapshot.version
            self._told = {drift.drift_id for drift in snapshot.drifts}
            _log.info("learner: snapshot %s, %s labels", snapshot.version, snapshot.labels)

    async def take(self, batch: RecordBatch) -> int:
        """Learn a batch of examples; returns how many were learned."""
        learned = 0
        for start in range(0, len(batch.records), SLICE_EXAMPLES):
            learner = self._learner  # another one once a champion was adopted meanwhile
            assert learner is not None  # noqa: S101  (restore comes first)
            learned -= learner.counts["learned"]
            for value in batch.records.values[start : start + SLICE_EXAMPLES]:
                try:
                    learner.learn(_decoder.decode(value or b""))
                except msgspec.DecodeError as exc:
                    _log.warning("an example can't be read and is skipped: %s", exc)
            learned += learner.counts["learned"]
            await asyncio.sleep(0)
        if len(batch.records):
            self.next_offset = int(batch.records.offsets[-1]) + 1
        return learned

    async def publish(self) -> LearnerSnapshot | None:
        """Write a snapshot if there is anything new; returns it."""
        if self._learner is None:
            return None
        snapshot = self._learner.snapshot()
        if snapshot.version == self._published_version:
            return None
        await self._log.append(self._topic, 0, [(SNAPSHOT_KEY, msgspec.msgpack.encode(snapshot))])
        self._published_version = snapshot.version
        return snapshot

    def news(self, snapshot: LearnerSnapshot) -> list[Drift]:
        """The changes in a published snapshot that no earlier one told of."""
        fresh = [drift for drift in snapshot.drifts if drift.drift_id not in self._told]
        self._told = {drift.drift_id for drift in snapshot.drifts}
        return fresh


def show(metrics: metrics_module.Metrics, snapshot: LearnerSnapshot, drifts: list[Drift]) -> None:
    """Put a snapshot's figures into the metrics. Before the first label there are no losses."""
    metrics.learner_version.set(snapshot.version)
    metrics.learner_blend_weight_ratio.set(snapshot.blend_weight)
    losses = (snapshot.log_loss_champion, snapshot.log_loss_learner, snapshot.log_loss_blend)
    for model, loss in zip(metrics_module.MODELS, losses, strict=True):
        if loss is not None:
            metrics.model_log_loss_nats.labels(model).set(loss)
    for drift in drifts:
        metrics.drifts.labels(drift.kind).inc()


def create_app(settings: Settings, failure: Failure) -> faust.App:
    """A Faust app around a `LearnerService`. Raises ArtifactError if the model can't be used."""
    names = settings.topic_names
    metrics = metrics_module.Metrics()
    log = KafkaLog(kafka_access(settings))
    champions = ScorerStore(artifact_place(settings.model.artifact), settings.stream.currency)
    service = LearnerService(log, names.learner, champions.current.champion.manifest)

    def switched(switch: Switch) -> None:
        if switch.refused is None:
            service.adopt(champions.current.champion.manifest)
        else:
            metrics.champions_refused.inc()

    class App(faust.App):  # type: ignore[misc]
        """Restores the learner before the first example can arrive."""

        async def on_start(self) -> None:
            await super().on_start()
            await log.start()
            await service.restore()
            self.watcher = asyncio.create_task(watch(champions, switched))
            if settings.web.metrics_port:
                metrics_module.serve(metrics, settings.web.metrics_host, settings.web.metrics_port)

        async def on_stop(self) -> None:
            try:
                await publish()  # while the consumer still takes commits
            except RetryableError as exc:
                _log.warning("learner snapshot not published: %s", exc)
            await super().on_stop()
            self.watcher.cancel()
            await log.stop()

    app = App(**app_options(settings, f"{settings.kafka.app_id}-learner"))
    examples = app.topic(names.examples, schema=BatchSchema(), acks=False)
    published_at = time.monotonic()

    async def publish() -> None:
        nonlocal published_at
        published_at = time.monotonic()
        taken = service.next_offset
        snapshot = await service.publish()
        if snapshot is not None:
            drifts = service.news(snapshot)
            show(metrics, snapshot, drifts)
            for drift in drifts:
                _log.warning("drift: %s", drift.reason)
            await app.consumer.commit_offsets({TP(names.examples, 0): taken})

    @app.agent(examples, name="learner")  # type: ignore[untyped-decorator]
    async def learn(batches: Any) -> None:
        async for batch in batches.noack():
            metrics.learner_updates.inc(await service.take(batch))
            if time.monotonic() - published_at >= settings.model.learner_publish_seconds:
                await publish()

    @app.timer(settings.model.learner_publish_seconds)  # type: ignore[untyped-decorator]
    async def publish_the_rest() -> None:
        try:
            await publish()
        except RetryableError as exc:
            _log.warning("learner snapshot not published yet: %s", exc)

    return app


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    require_reachable(kafka_access(settings))  # before Faust, which buries the reason
    failure = Failure()
    return execute(create_app(settings, failure), failure)
