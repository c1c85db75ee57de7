"""Sets metrics from the reports of shards and the sink."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping

from streams.core.ages import Ages
from streams.core.health import SHARES, STATES, Figures, Limits, Recent, State, judge
from streams.core.stages import Stage
from streams.core.state.shard_state import ShardState
from streams.core.state.totals import MEMBER, key_of
from streams.core.step import Outputs
from streams.telemetry.dead_letter_log import DeadLetterLog
from streams.telemetry.health import Recovery
from streams.telemetry.metrics import STAGES, Metrics

__all__ = ["MetricsMonitor", "SinkMetrics"]

_log = logging.getLogger(__name__)

_MEMORY_EVERY_SECONDS = 5.0  # adding up a state's arrays is cheap, but not free


class MetricsMonitor:
    """`streams.shard.services.Monitor` on Prometheus metrics."""

    def __init__(
        self, metrics: Metrics, sources: tuple[str, str], limits: Limits | None = None
    ) -> None:
        """sources: the names of the clickstream and orders topics."""
        self._metrics = metrics
        self._sources = sources
        self._limits = limits or Limits()
        self._recent: dict[int, Recent] = {}
        self._states: dict[tuple[int, str], tuple[State, int]] = {}  # as said, and in which minute
        self._memory_at: dict[int, float] = {}
        self._segments: dict[int, int] = {}  # by which of its definitions a shard's gauges are
        self._dead_letters = DeadLetterLog()
        self.states: dict[int, str] = {}
        """The last word on each shard."""
        self.recoveries: dict[int, Recovery] = {}
        """Of the shards that are replaying."""
        self._stages = {stage: metrics.batch_seconds.labels(stage) for stage in STAGES}

    def stepped(
        self,
        shard: int,
        outputs: Outputs,
        state: ShardState,
        seconds: float,
        stages: Mapping[Stage, float],
    ) -> None:
        m, counts, label = self._metrics, outputs.counts, str(shard)
        m.records_accepted.labels(label).inc(counts.accepted)
        for outcome, count in (
            ("scored", counts.scored),
            ("duplicate", counts.duplicates),
            ("late", counts.late),
            ("dead_letter", counts.dead_letters),
            ("erased", counts.erased),
            ("canary", counts.canaries),
        ):
            m.events.labels(label, outcome).inc(count)
        reasons = Counter(letter.reason for letter in outputs.dead_letters)
        self._judge(
            shard,
            Figures(
                counts.accepted - counts.canaries, counts.late, counts.dead_letters,
                reasons["wrong_partition"], reasons["future_timestamp"],
            ),
        )  # fmt: skip
        m.batches.labels(label).inc()
        m.scores_refused.inc(outputs.refused)
        m.step_seconds.observe(seconds)
        for stage, spent in stages.items():
            self._stages[stage].observe(spent)
        for reason, letters in reasons.items():
            m.dead_letters.labels(reason).inc(letters)
        self._dead_letters.report(outputs.dead_letters)
        self._clocks(shard, outputs)
        for alert in outputs.alerts:
            m.alerts.labels(alert.state).inc()
        m.alerts_over_budget.inc(outputs.over_budget)
        m.alerts_postponed.inc(outputs.postponed)
        changes = outputs.tables.get("segment_changes")
        if changes is not None:
            moved: Counter[str] = Counter(changes["dimension"])
            for dimension, count in moved.items():
                m.segment_changes.labels(dimension).inc(count)
        for change in outputs.audiences:
            m.audience_changes.labels(change.audience, change.change).inc()
        definitions = state.meta.definitions
        m.definitions.labels(label).set(definitions.number if definitions else 0)
        m.users.labels(label).set(state.known)
        if "segment_totals" in outputs.tables:
            self._sizes(shard, state)
        m.last_accepted_timestamp_seconds.labels(label).set_to_current_time()
        if time.monotonic() - self._memory_at.get(shard, 0.0) > _MEMORY_EVERY_SECONDS:
            self._memory_at[shard] = time.monotonic()
            m.state_bytes.labels(label).set(state.nbytes)

    def _sizes(self, shard: int, state: ShardState) -> None:
        """Sizes of the shop's own segments, as they are told to ClickHouse, beside what their
        owners expect."""
        m, label, users = self._metrics, str(shard), state.meta.totals.users
        if self._segments.get(shard) != state.meta.rules_taken:
            self._segments[shard] = state.meta.rules_taken
            m.segment_users.remove_by_labels({"shard": label})  # of segments that are no more
            m.segment_expected_users.clear()
            for each in state.meta.definitions.segments if state.meta.definitions else ():
                for bound, size in zip(("min", "max"), each.expect.size or (), strict=False):
                    m.segment_expected_users.labels(each.name, bound).set(size)
        for slot in state.meta.segment_slots:
            if slot is not None and not slot.ended:
                m.segment_users.labels(slot.name, label).set(
                    users.get(key_of(slot.name, MEMBER), 0)
                )

    def _clocks(self, shard: int, outputs: Outputs) -> None:
        for topic, applied_ms in zip(self._sources, outputs.applied_ms, strict=True):
            if applied_ms:
                applied = self._metrics.last_applied_record_timestamp_seconds
                applied.labels(topic, str(shard)).set(applied_ms / 1000)
        for topic, lead_ms in zip(self._sources, outputs.clock_leads_ms, strict=True):
            if lead_ms:
                gauge = self._metrics.producer_clock_lead_seconds
                gauge.labels(topic, str(shard)).set(lead_ms / 1000)
        if outputs.watermark_lead_ms:
            self._metrics.watermarks_set_back.inc()
            _log.warning(
                "shard %s: the watermark was %s s ahead of any plausible event and was set back. "
                "Events that were late meanwhile are dead letters: run "
                "`tideline dlq replay --reason late`",
                shard,
                outputs.watermark_lead_ms // 1000,
                extra={"fact": "watermark_set_back", "shard": shard},
            )

    def _judge(self, shard: int, figures: Figures) -> None:
        """Show the shares of the last hour, and say in the log when one gets worse; or better, but
        not in the minute of the last line: a share may tremble around its limit."""
        m, label = self._metrics, str(shard)
        minute = int(time.monotonic() // 60)
        recent = self._recent.setdefault(shard, Recent()).add(minute, figures)
        for verdict in judge(recent, Figures(), self._limits):
            share = verdict.check
            m.recent_share_ratio.labels(label, share).set(recent.share(share))
            m.health_state.labels(label, share).set(STATES.index(verdict.state))
            before, said_minute = self._states.get((shard, share), ("ok", -1))
            is_worse = STATES.index(verdict.state) > STATES.index(before)
            if is_worse or (verdict.state != before and minute > said_minute):
                self._states[shard, share] = verdict.state, minute
                level = logging.INFO if verdict.state == "ok" else logging.WARNING
                words = f"{verdict.detail}. {verdict.remedy}".rstrip(". ")
                fields = {
                    "fact": "share", "shard": shard, "reason": share, "status": verdict.state,
                }  # fmt: skip
                _log.log(
                    level, "shard %s, %s is %s: %s", shard, share, verdict.state, words,
                    extra=fields,
                )  # fmt: skip

    def recovering(self, shard: int, steps_left: int, records_left: int) -> None:
        m, label = self._metrics, str(shard)
        m.recovery_batches_remaining.labels(label).set(steps_left)
        m.recovery_remaining_records.labels(label).set(records_left)
        begun = self.recoveries.get(shard)
        records = max(records_left, begun.records if begun else 0)
        self.recoveries[shard] = Recovery(steps_left, records_left, records)

    def checkpoint_took(self, seconds: float) -> None:
        self._metrics.checkpoint_seconds.observe(seconds)

    def checkpoint_written(self, shard: int, nbytes: int) -> None:
        self._metrics.checkpoint_bytes.labels(str(shard)).inc(nbytes)

    def state(self, shard: int, name: str) -> None:
        self.states[shard] = name
        self.recoveries.pop(shard, None)
        self._metrics.set_shard_state(shard, name)

    def forget(self, shard: int) -> None:
        self._memory_at.pop(shard, None)
        self.states.pop(shard, None)
        self.recoveries.pop(shard, None)
        self._recent.pop(shard, None)
        for share in SHARES:
            self._states.pop((shard, share), None)
        self._metrics.forget_shard(shard)

    def alert_readable(self, seconds: float) -> None:
        self._metrics.event_to_alert_seconds.observe(seconds)

    def journalled(self, seconds: float) -> None:
        self._stages["journal"].observe(seconds)

    def stored(self, seconds: float, ages: Ages | None, *, replayed: bool) -> None:
        self._stages["send"].observe(seconds)
        if ages is not None:
            visible = self._metrics.record_visible_seconds
            visible.observe("replayed" if replayed else "first", ages.ages_ms / 1000, ages.counts)


class SinkMetrics:
    """`streams.clickhouse.sink.SinkObserver` on Prometheus metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def inserted(self, table: str, rows: int, seconds: float) -> None:
        self._metrics.sink_rows.labels(table).inc(rows)
        self._metrics.sink_insert_seconds.labels(table).observe(seconds)

    def retry(self, error_type: str) -> None:
        self._metrics.sink_retries.labels(error_type).inc()
