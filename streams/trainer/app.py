"""The trainer as a process, or for one run: made from the settings, and looking every so often."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from models.artifact import CURRENT_FILE
from models.manifest import Eligibility
from models.registry import artifact_place
from models.training.export import require
from models.training.promotion import MIN_ROWS
from schemas.errors import ArtifactError, RetryableError, SettingsError
from schemas.tables import TABLES
from streams.clickhouse.blocks import Block
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.clickhouse.errors import sink_error
from streams.clickhouse.insert import insert_block
from streams.memory import release_memory
from streams.process import Failed, Part, run_parts, thread_part
from streams.settings import Settings
from streams.stopping import StopRequests
from streams.telemetry.endpoint import endpoint
from streams.telemetry.health import Facts, Health, judge, pages
from streams.telemetry.metrics import Metrics
from streams.trainer.plan import Action, Rules, Train, Wait
from streams.trainer.rows import Row, columns
from streams.trainer.service import Trainer
from streams.trainer.store import ModelStore
from streams.trainer.training import LiveLabels

__all__ = ["create", "run", "run_once"]

_QUERY_SECONDS = 600.0  # one query draws from all examples

_log = logging.getLogger(__name__)


def create(settings: Settings, metrics: Metrics) -> Trainer:
    """The trainer of these settings.

    Raises SettingsError if there is nothing it could promote in, ArtifactError if a package is
    missing, ModelsUnavailable.
    """
    # Read when LightGBM is loaded. Otherwise a thread that waits for another spins, and keeps the
    # workers' cores busy: a training took 37 s of CPU in place of 8.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    require("lightgbm")
    require("onnx")
    root = artifact_place(settings.model.artifact)
    if not settings.model.artifact or not root.holds(CURRENT_FILE):
        raise SettingsError(
            "TIDELINE_MODEL_ARTIFACT must name a directory of models with a file CURRENT, in which "
            "the trainer may write. To begin with the model that ships, name a directory and run "
            "`tideline models init`."
        )
    here, alerts = settings.trainer, settings.alerts
    target = clickhouse_target(settings)
    return Trainer(
        ModelStore(root),
        LiveLabels(
            replace(target, send_receive_timeout_seconds=_QUERY_SECONDS),
            Eligibility(alerts.min_orders, int(alerts.active_within_days)),
            here.rows,
            here.threads,
        ),
        Rules(
            retrain_days=here.retrain_days,
            judge_days=here.judge_days,
            min_labels=here.min_labels,
            judge_labels=MIN_ROWS,
            on_drift=here.on_drift,
            keep=here.keep_models,
        ),
        _Table(target).write,
        metrics,
        lambda: time.time_ns() // 1_000_000,
    )


def run_once(settings: Settings) -> list[Action]:
    """Do all that is due, and return what it was. Raises what `Trainer.turn` raises."""
    trainer, done = create(settings, Metrics()), list[Action]()
    while not isinstance(action := trainer.turn(), Wait):
        done.append(action)
    return done


def run(settings: Settings, requests: StopRequests) -> None:
    """Look every `poll_seconds` until a stop request. Raises as `create`, and SinkRefused."""
    metrics = Metrics()
    trainer = create(settings, metrics)
    troubles = ["no look at labels and models has ended yet"]

    def health() -> Health:
        """Alive as long as it answers: an error that waiting does not mend ends the process."""
        return judge(Facts(0.0, troubles=tuple(troubles)), 0.0)

    metrics.live.set(1)
    metrics.ready.set_function(lambda: not health().unready)
    _log.info("trainer started")

    def parts(failed: Failed) -> Sequence[Part]:
        return (
            *endpoint(metrics, settings.web.metrics_host, settings.web.metrics_port, pages(health)),
            _turns(trainer, settings.trainer.poll_seconds, metrics, troubles, failed),
        )

    run_parts(parts, requests)


def _turns(
    trainer: Trainer, poll_seconds: float, metrics: Metrics, troubles: list[str], failed: Failed
) -> Part:
    """The turns, in a thread: everything in them blocks. `troubles` says why it can't go on."""
    stopping = threading.Event()

    def turn() -> None:
        trouble = ""
        while not stopping.is_set():
            due = False
            try:
                action = trainer.turn()
                due = not isinstance(action, Wait)
                if isinstance(action, Train):
                    release_memory()
                trouble = ""
            except (RetryableError, ArtifactError) as error:
                if str(error) != trouble:  # said once
                    trouble = str(error)
                    _log.warning("the trainer can't go on for now: %s", error)
            metrics.trainer_up.set(not trouble)
            troubles[:] = ["the trainer can't go on for now; the log says why"] if trouble else []
            if not (due or trouble):
                metrics.trainer_looks.inc()
            if not due:
                stopping.wait(poll_seconds)

    # A training takes longer than a stop waits: it is left behind, and repeated.
    return thread_part("trainer", turn, stopping.set, failed)


class _Table:
    """Writes rows to `trainer_log`."""

    def __init__(self, target: ClickHouseTarget) -> None:
        self._target = target

    def write(self, rows: Sequence[Row]) -> bool:
        """Whether they arrived; if not, that is logged. Raises SinkRefused."""
        table = TABLES["trainer_log"]
        client = connect(self._target)
        try:
            insert_block(client, Block(table, [columns(rows, table.columns)]))
        except Exception as error:
            found = sink_error(error, "writing trainer_log", self._target)
            if not isinstance(found, RetryableError):
                raise found from error
            _log.warning("%s", found)
            return False
        finally:
            client.disconnect()
        return True
