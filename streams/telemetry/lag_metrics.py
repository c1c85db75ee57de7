"""The metrics of the lag monitor."""

from __future__ import annotations

from typing import Final

from streams.telemetry.registry import LONG_SECONDS, Registry

__all__ = ["GROUP_ROLES", "GROUP_STATUSES", "LAG_STATUSES", "NO_SECONDS", "LagMetrics"]

LAG_STATUSES: Final = (
    "ok", "uncommitted", "pending", "warn", "unknown", "stop", "stall", "rewind",
)  # fmt: skip
GROUP_ROLES: Final = ("worker", "learner")
GROUP_STATUSES: Final = ("ok", "uncommitted", "pending", "warn", "unknown", "error")
NO_SECONDS: Final = ("uncommitted", "no_answer", "no_bracket", "expired")
_LAG_LABELS: Final = ("consumer_group", "topic", "partition")


class LagMetrics(Registry):
    """An uncommitted or unknown lag has no sample: it is not a number. Samples are made while they
    are read: a cluster has tens of thousands of partitions."""

    def _declare_lag(self) -> None:
        self.consumer_lag_records = self._sampled(
            "consumer_lag_records",
            "Records between the committed offset and the end of the log",
            *_LAG_LABELS,
        )
        self.consumer_lag_seconds = self._sampled(
            "consumer_lag_seconds",
            "Age of the oldest record that was not committed, in seconds; 0 without lag",
            *_LAG_LABELS,
        )
        self.consumer_lag_seconds_unknown = self._sampled(
            "consumer_lag_seconds_unknown",
            f"1 where there is no lag in seconds, by reason: {', '.join(NO_SECONDS)}",
            *_LAG_LABELS,
            "reason",
        )
        self.consumer_lag_records_per_second = self._sampled(
            "consumer_lag_records_per_second",
            "Velocity: by how many records the lag grows per second; negative: it shrinks",
            *_LAG_LABELS,
        )
        self.consumer_time_to_close_seconds = self._sampled(
            "consumer_time_to_close_seconds",
            "Seconds until caught up at that velocity; no sample while lag does not shrink",
            *_LAG_LABELS,
        )
        self.consumer_retention_used_ratio = self._sampled(
            "consumer_retention_used_ratio",
            "Share of the retained log that is not committed, 0 to 1; at 1 records are lost",
            *_LAG_LABELS,
        )
        self.consumer_time_to_loss_seconds = self._sampled(
            "consumer_time_to_loss_seconds",
            "Seconds until that share is 1 at that velocity; no sample while lag does not grow",
            *_LAG_LABELS,
        )
        self.consumer_committed = self._sampled(
            "consumer_committed",
            "1 if the group has committed an offset there, else 0",
            *_LAG_LABELS,
        )
        self.consumer_subscribed = self._sampled(
            "consumer_subscribed",
            "0 for a topic that no member of the group subscribes to any more; else no sample",
            *_LAG_LABELS,
        )
        self.consumer_status = self._sampled(
            "consumer_status",
            f"1 for a partition's present status: {', '.join(LAG_STATUSES)}",
            *_LAG_LABELS,
            "status",
        )
        self.partition_hot = self._sampled(
            "partition_hot",
            "1 for a partition whose log grows far faster than the topic's others; else no sample",
            "topic",
            "partition",
        )
        self.consumer_group_lag_records = self._sampled(
            "consumer_group_lag_records", "Lag of a group in all its topics", "consumer_group"
        )
        self.consumer_group_lag_seconds = self._sampled(
            "consumer_group_lag_seconds", "Largest lag of a group in seconds", "consumer_group"
        )
        self.consumer_group_members = self._sampled(
            "consumer_group_members", "Members of a group; no sample if not known", "consumer_group"
        )
        self.consumer_group_window_ratio = self._sampled(
            "consumer_group_window_ratio",
            "Share of the window of commits that is filled, 0 to 1, in the emptiest partition",
            "consumer_group",
        )
        self.consumer_group_status = self._sampled(
            "consumer_group_status",
            f"1 for a group's present status, else 0: {', '.join(GROUP_STATUSES)}",
            "consumer_group",
            "status",
        )
        self.consumer_group_role = self._sampled(
            "consumer_group_role",
            "1 for each of Tideline's own groups, by the process that it belongs to: "
            f"{', '.join(GROUP_ROLES)}; no sample for the groups of others",
            "consumer_group",
            "role",
        )
        self.ledger_accepted_records = self._sampled(
            "ledger_accepted_records", "Records of the last hour by the view recent_ledger", "shard"
        )
        self.ledger_unaccounted_records = self._sampled(
            "ledger_unaccounted_records",
            "Records of the last hour whose outcome is not in ClickHouse, by recent_ledger",
            "shard",
        )
        self.ledger_doubled_records = self._sampled(
            "ledger_doubled_records",
            "Records of the last hour that two batches took in, by recent_ledger",
            "shard",
        )
        self.ledger_missing_batches = self._sampled(
            "ledger_missing_batches",
            "Batches that are missing between those of the last hour, by recent_ledger",
            "shard",
        )
        self.ledger_checked_timestamp_seconds = self._sampled(
            "ledger_checked_timestamp_seconds",
            "Unix time at which the lag monitor last read recent_ledger",
        )
        self.canary_seconds = self._histogram(
            "canary_seconds",
            "Time from a canary's sending until its row is readable in ClickHouse, in seconds; the "
            "lag monitor looks once a second",
            buckets=LONG_SECONDS,
        )
        self.canary_age_seconds = self._sampled(
            "canary_age_seconds",
            "Seconds since the newest canary was sent whose row is readable; no sample before the "
            "first was sent",
            "partition",
        )
        self.canaries_sent = self._counter("canaries_sent", "Canaries that Kafka has taken")
        self.canary_errors = self._counter(
            "canary_errors",
            "Failures to send a canary or to look for it, by error; lost: given up after an hour",
            "error_type",
        )
        self.lag_monitor_up = self._gauge(
            "lag_monitor_up", "1 if the last poll is recent and got every answer, else 0"
        )
        self.lag_monitor_poll_seconds = self._gauge(
            "lag_monitor_poll_seconds", "Time of the last poll, in seconds"
        )
        self.lag_monitor_webhooks = self._counter(
            "lag_monitor_webhooks", "Calls of the webhook by result: sent, failed", "result"
        )
