"""Every Prometheus metric of Tideline, declared once: name, unit, labels, help.

Names follow prometheus.io/docs/practices/naming: one unit each, base units, `_total` for counters.
Labels are small closed sets; there is never a user id among them. A `Metrics` owns its registry, so
that two workers in one test process don't share one.
"""

from __future__ import annotations

from typing import Final

from streams.core.health import SHARES
from streams.core.stages import STAGES as STEP_STAGES
from streams.telemetry.console_metrics import ConsoleMetrics
from streams.telemetry.delivery_metrics import DeliveryMetrics
from streams.telemetry.faust_watchdogs import WATCHDOGS
from streams.telemetry.lag_metrics import (
    GROUP_ROLES,
    GROUP_STATUSES,
    LAG_STATUSES,
    NO_SECONDS,
    LagMetrics,
)
from streams.telemetry.registry import LONG_SECONDS, SHORT_SECONDS

__all__ = [
    "DRIFT_KINDS",
    "GROUP_ROLES",
    "GROUP_STATUSES",
    "LAG_STATUSES",
    "MODELS",
    "NO_SECONDS",
    "OUTCOMES",
    "RECORD_STEPS",
    "SHARD_STATES",
    "STAGES",
    "TRAINER_STATES",
    "Metrics",
]

OUTCOMES: Final = ("scored", "duplicate", "late", "dead_letter", "erased", "canary")
STAGES: Final = (*STEP_STAGES, "journal", "send")
RECORD_STEPS: Final = ("first", "replayed")
SHARD_STATES: Final = ("recovering", "running", "suspended", "stopped")

MODELS: Final = ("champion", "learner", "blend")
DRIFT_KINDS: Final = ("loss", "rate", "feature")
TRAINER_STATES: Final = ("idle", "training", "waiting", "judging")
_TRAININGS: Final = ("trained", "too_few")
_DECISIONS: Final = ("promoted", "rejected")


class Metrics(LagMetrics, DeliveryMetrics, ConsoleMetrics):
    """All metrics, in one registry."""

    def __init__(self) -> None:
        super().__init__()
        self._declare_any_process()
        self._declare_input()
        self._declare_shards()
        self._declare_clocks()
        self._declare_output()
        self._declare_campaigns()
        self._declare_models()
        self._declare_trainer()
        self._declare_lag()
        self._declare_deliveries()
        self._declare_console()

    def _declare_any_process(self) -> None:
        """Any process's."""
        self.trace_spans = self._counter(
            "trace_spans", "Spans for the collector of traces, by result: sent, dropped", "result"
        )
        self.live = self._gauge("live", "1 if /healthz says ok: a restart would not help")
        self.ready = self._gauge("ready", "1 if /readyz says ok")
        self.faust_watchdogs = self._counter(
            "faust_watchdogs",
            "What Faust's watchdogs, which only log, said, once per partition and look: "
            + ", ".join(WATCHDOGS),
            "watchdog",
        )
        for watchdog in WATCHDOGS:
            self.faust_watchdogs.labels(watchdog)

    def _declare_input(self) -> None:
        """Input: accepted = scored + duplicate + late + dead_letter + erased + canary."""
        self.records_accepted = self._counter(
            "records_accepted", "Records taken from the input topics", "shard"
        )
        self.events = self._counter(
            "events", f"Records by outcome: {', '.join(OUTCOMES)}", "shard", "outcome"
        )
        self.batches = self._counter("batches", "Batches finished", "shard")
        self.batch_seconds = self._histogram(
            "batch_seconds",
            f"Time of a batch by stage, in seconds: {', '.join(STEP_STAGES)}; beside them journal; "
            "then send, until ClickHouse has all rows",
            "stage",
            buckets=LONG_SECONDS,
        )
        self.step_seconds = self._histogram(
            "step_seconds",
            "Time of a batch from its plan until its effects have left, in seconds: all stages but "
            "send",
        )
        self.record_visible_seconds = self._tallied(
            "record_visible_seconds",
            "Time from an input record's timestamp in Kafka until ClickHouse has all rows of its "
            "batch, in seconds, once per record that is no canary; replayed: by a recovery, which "
            "sends rows again that ClickHouse may have had",
            "step",
            RECORD_STEPS,
        )
        self.event_to_alert_seconds = self._histogram(
            "event_to_alert_seconds",
            "Time from a batch's newest record to its alerts being readable, in seconds",
            buckets=LONG_SECONDS,
        )

    def _declare_shards(self) -> None:
        self.users = self._gauge("users", "Users in a shard's state", "shard")
        self.state_bytes = self._gauge(
            "state_bytes", "Memory of a shard's state, in bytes", "shard"
        )
        self.shard_state = self._gauge(
            "shard_state",
            f"1 for a shard's present state: {', '.join(SHARD_STATES)}",
            "shard",
            "state",
        )
        self.recent_share_ratio = self._gauge(
            "recent_share_ratio",
            f"Share of a shard's records of the last hour, 0 to 1, of: {', '.join(SHARES)}",
            "shard",
            "share",
        )
        self.health_state = self._gauge(
            "health_state",
            "Whether that share is in order: 0 ok, 1 warning, 2 failure; [health] has the limits",
            "shard",
            "share",
        )
        self.partition_paused = self._gauge(
            "partition_paused",
            "1 while backpressure keeps a partition from being fetched",
            "topic",
            "partition",
        )
        self.recovery_batches_remaining = self._gauge(
            "recovery_batches_remaining", "Journalled batches still to replay", "shard"
        )
        self.recovery_remaining_records = self._gauge(
            "recovery_remaining_records", "Records of those batches", "shard"
        )
        self.shard_stuck_seconds = self._sampled(
            "shard_stuck_seconds",
            "Seconds for which a shard that has something to read has not moved, while Kafka and "
            "ClickHouse answer",
            "shard",
        )
        self.last_accepted_timestamp_seconds = self._gauge(
            "last_accepted_timestamp_seconds",
            "Unix time at which a shard last finished a batch",
            "shard",
        )

        self.last_applied_record_timestamp_seconds = self._gauge(
            "last_applied_record_timestamp_seconds",
            "Unix time at which the newest record that a shard has applied was written",
            "topic",
            "partition",
        )

    def _declare_clocks(self) -> None:
        """Clocks. No sample: nothing was compared, or refused, yet."""
        self.worker_clock_lead_seconds = self._gauge(
            "worker_clock_lead_seconds",
            "By how much this machine's clock is certainly ahead of the Kafka broker's (negative: "
            "behind), when it last wrote to the journal",
        )
        self.producer_clock_lead_seconds = self._gauge(
            "producer_clock_lead_seconds",
            "By how much the event that was last refused as future_timestamp was ahead",
            "topic",
            "partition",
        )
        self.watermarks_set_back = self._counter(
            "watermarks_set_back",
            "Watermarks that were further ahead than any plausible event, and were set back",
        )

    def _declare_output(self) -> None:
        self.alerts = self._counter("alerts", "Alerts by state: open, closed", "state")
        self.segment_changes = self._counter(
            "segment_changes",
            "Segment changes: by value_tier, lifecycle, and segment of the shop's own",
            "dimension",
        )
        self.dead_letters = self._counter("dead_letters", "Dead letters by reason code", "reason")
        self.sink_rows = self._counter("sink_rows", "Rows inserted into ClickHouse", "table")
        self.sink_pending_rows = self._gauge("sink_pending_rows", "Rows waiting to be inserted")
        self.sink_oldest_row_seconds = self._gauge(
            "sink_oldest_row_seconds", "For how long the oldest of those rows has waited"
        )
        self.sink_insert_seconds = self._histogram(
            "sink_insert_seconds",
            "Time of one insert with its retries, in seconds",
            "table",
            buckets=LONG_SECONDS,
        )
        self.sink_retries = self._counter(
            "sink_retries", "Repeated inserts, by error", "error_type"
        )
        self.checkpoint_seconds = self._histogram(
            "checkpoint_seconds",
            "Time for which a part of a checkpoint blocks its shard, in seconds",
            buckets=SHORT_SECONDS,
        )
        self.checkpoint_bytes = self._counter(
            "checkpoint_bytes", "Bytes written to the checkpoints topic", "shard"
        )

    def _declare_models(self) -> None:
        self.champion_info = self._gauge(
            "champion_info", "1 for the champion that new steps use", "version"
        )
        self.champions_refused = self._counter(
            "champions_refused",
            "Promoted artifacts that failed their checks; the old champion stays in use",
        )
        self.scores_refused = self._counter(
            "scores_refused",
            "Scores without a number from the champion; the customer keeps the last score",
        )
        self.learner_updates = self._counter("learner_updates", "Matured labels learned")
        self.learner_version = self._gauge(
            "learner_version", "Version of the newest learner snapshot"
        )

        self.model_log_loss_nats = self._gauge(
            "model_log_loss_nats",
            "Log loss of live predictions over about the last 2,000 labels, of: "
            + ", ".join(MODELS),
            "model",
        )
        self.learner_blend_weight_ratio = self._gauge(
            "learner_blend_weight_ratio", "Blend weight of the learner in the scores, 0 to 1"
        )
        self.drifts = self._counter(
            "drifts", f"Drifts detected, by kind: {', '.join(DRIFT_KINDS)}", "kind"
        )
        for kind in DRIFT_KINDS:
            self.drifts.labels(kind)  # a rate needs a 0 to begin with

    def _declare_trainer(self) -> None:
        """The trainer's."""
        self.trainer_up = self._gauge(
            "trainer_up", "1 if the last look at labels and models succeeded, else 0"
        )
        self.trainer_looks = self._counter(
            "trainer_looks", "Looks of the trainer at labels and models after which nothing was due"
        )
        self.trainer_state = self._gauge(
            "trainer_state",
            "1 for the trainer's present state: idle, training, waiting (for labels to judge a "
            "challenger by), judging",
            "state",
        )
        self.trainer_trainings = self._counter(
            "trainer_trainings",
            f"Trainings of the trainer, by outcome: {', '.join(_TRAININGS)} (labels)",
            "outcome",
        )
        self.trainer_decisions = self._counter(
            "trainer_decisions",
            f"Challengers that the trainer judged, by decision: {', '.join(_DECISIONS)}",
            "decision",
        )
        for outcome in _TRAININGS:
            self.trainer_trainings.labels(outcome)
        for decision in _DECISIONS:
            self.trainer_decisions.labels(decision)
        self.trainer_training_seconds = self._gauge(
            "trainer_training_seconds", "Time that the newest training took, in seconds"
        )
        self.trainer_new_labels = self._gauge(
            "trainer_new_labels", "Labels that became known since the newest training"
        )
        self.trainer_models = self._gauge(
            "trainer_models", "Models in the store that a trainer made"
        )

    def set_shard_state(self, shard: int, state: str) -> None:
        """1 for `state`, 0 for the others."""
        for each in SHARD_STATES:
            self.shard_state.labels(str(shard), each).set(each == state)

    def set_trainer_state(self, state: str) -> None:
        """1 for `state`, 0 for the others."""
        for each in TRAINER_STATES:
            self.trainer_state.labels(each).set(each == state)

    def _declare_campaigns(self) -> None:
        self.alerts_over_budget = self._counter(
            "alerts_over_budget",
            "Customers who were worth an alert and found no room in the day's budget, once a day",
        )
        self.alerts_postponed = self._counter(
            "alerts_postponed",
            "Alerts that waited for the end of quiet hours, each time their customer was looked at",
        )
        self.segment_users = self._gauge(
            "segment_users",
            "Users in a segment of the shop's own, by shard: add them up",
            "segment",
            "shard",
        )
        self.segment_expected_users = self._gauge(
            "segment_expected_users",
            "Least and most users that a segment's owner expects in all shards (`expect.size`); a "
            "segment without it has none",
            "segment",
            "bound",
        )
        self.audience_changes = self._counter(
            "audience_changes",
            "People who entered or left an audience's feed; nobody who is held out is among them",
            "audience",
            "change",
        )
        self.definitions = self._gauge(
            "definitions",
            "Number of the definitions that a shard has in force, as `tideline segments history` "
            "counts; 0: those that ship",
            "shard",
        )
        self.definitions_refused = self._gauge(
            "definitions_refused",
            "1 if the newest definitions can't be used here, so that older ones stay in force",
        )

    def forget_shard(self, shard: int) -> None:
        """Drop the gauges of a shard that another worker owns now; its counters stay."""
        for gauge in (
            self.users,
            self.state_bytes,
            self.recovery_batches_remaining,
            self.recovery_remaining_records,
            self.last_accepted_timestamp_seconds,
            self.definitions,
            self.segment_users,
        ):
            gauge.remove_by_labels({"shard": str(shard)})
        for gauge in (self.shard_state, self.recent_share_ratio, self.health_state):
            gauge.remove_by_labels({"shard": str(shard)})
        for gauge in (
            self.partition_paused,
            self.producer_clock_lead_seconds,
            self.last_applied_record_timestamp_seconds,
        ):
            gauge.remove_by_labels({"partition": str(shard)})
