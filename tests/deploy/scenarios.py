"""What goes wrong, as Prometheus sees it, and which alerts fire then, for `promtool test rules`.

Each scenario is a healthy shop, but for some series. All alerts that fire at a moment are named, so
a scenario also says which ones stay silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from streams.telemetry.metrics import GROUP_STATUSES

__all__ = ["SCENARIOS", "Scenario", "document"]

_MINUTES: Final = 90
_ALWAYS: Final = "TidelineWatchdog"
_AT: Final = 'consumer_group="tideline",topic="orders",partition="0"'
_OTHER: Final = 'consumer_group="reports",topic="orders",partition="0"'

_COUNTED: Final = 'tideline_record_visible_seconds_count{step="first"}'
_VISIBLE: Final = 'tideline_record_visible_seconds_bucket{le="10.0",step="first"}'


def _up(process: str) -> str:
    """The series of a process' target."""
    return f'up{{job="tideline-{process}",instance="{process}:9464"}}'


_HEALTHY: Final[Mapping[str, str]] = {
    **{_up(process): f"1x{_MINUTES}" for process in ("worker", "learner", "lag", "trainer")},
    _COUNTED: f"0+100x{_MINUTES}",
    _VISIBLE: f"0+100x{_MINUTES}",
    'tideline_consumer_group_role{consumer_group="tideline",role="worker"}': f"1x{_MINUTES}",
    **{
        f'tideline_consumer_group_status{{consumer_group="{group}",status="{status}"}}': (
            f"{int(status == 'ok')}x{_MINUTES}"
        )
        for group in ("tideline", "reports")
        for status in GROUP_STATUSES
    },
    f"tideline_consumer_lag_records{{{_AT}}}": f"50x{_MINUTES}",
    f"tideline_consumer_lag_seconds{{{_AT}}}": f"20x{_MINUTES}",
    f"tideline_consumer_retention_used_ratio{{{_AT}}}": f"0.01x{_MINUTES}",
    f'tideline_consumer_status{{{_AT},status="ok"}}': f"1x{_MINUTES}",
    f'tideline_consumer_status{{{_OTHER},status="ok"}}': f"1x{_MINUTES}",
    'tideline_lag_monitor_up{job="tideline-lag"}': f"1x{_MINUTES}",
    'tideline_lag_monitor_up{job="tideline-worker"}': f"0x{_MINUTES}",
    'tideline_shard_state{shard="0",state="running"}': f"1x{_MINUTES}",
    'tideline_shard_state{shard="0",state="recovering"}': f"0x{_MINUTES}",
    'tideline_shard_state{shard="0",state="suspended"}': f"0x{_MINUTES}",
    'tideline_partition_paused{topic="orders",partition="0"}': f"0x{_MINUTES}",
    "tideline_sink_oldest_row_seconds": f"0.2x{_MINUTES}",
    'tideline_sink_retries_total{error_type="SinkUnavailable"}': f"0x{_MINUTES}",
    **{
        f'tideline_health_state{{shard="0",share="{share}"}}': f"0x{_MINUTES}"
        for share in ("late", "dead_letters", "misplaced", "from_future")
    },
    **{
        f'tideline_ledger_{what}{{shard="0"}}': f"0x{_MINUTES}"
        for what in ("unaccounted_records", "doubled_records", "missing_batches")
    },
    "tideline_ledger_checked_timestamp_seconds": f"0+60x{_MINUTES}",
    'tideline_canary_age_seconds{partition="0"}': f"3x{_MINUTES}",
    'tideline_canary_age_seconds{partition="1"}': f"3x{_MINUTES}",
    'tideline_canaries_sent_total{job="tideline-lag"}': f"0+24x{_MINUTES}",
    'tideline_canaries_sent_total{job="tideline-worker"}': f"0x{_MINUTES}",
    "tideline_watermarks_set_back_total": f"0x{_MINUTES}",
    "tideline_worker_clock_lead_seconds": f"0.01x{_MINUTES}",
    "tideline_scores_refused_total": f"0x{_MINUTES}",
    "tideline_champions_refused_total": f"0x{_MINUTES}",
    'tideline_trainer_up{job="tideline-trainer"}': f"1x{_MINUTES}",
    'tideline_trainer_up{job="tideline-worker"}': f"0x{_MINUTES}",
    'tideline_drifts_total{kind="rate"}': f"0x{_MINUTES}",
}


@dataclass(frozen=True)
class Scenario:
    """`series` replace healthy ones, or add to them; None takes one away.

    expected: minute -> all alerts that fire then, but for the one that always does.
    """

    name: str
    expected: Mapping[int, Sequence[str]]
    series: Mapping[str, str | None] = field(default_factory=dict)


_SEGMENT: Final = {
    f'tideline_segment_users{{segment="vip",shard="{shard}"}}': f"40x{_MINUTES}" for shard in (0, 1)
}


def _expected(least: int, most: int, instance: str = "worker-1") -> dict[str, str | None]:
    """What a worker says that the segment's owner expects."""
    return {
        f'tideline_segment_expected_users{{segment="vip",bound="{bound}",instance="{instance}"}}':
        f"{size}x{_MINUTES}" for bound, size in (("min", least), ("max", most))
    }  # fmt: skip


def _status(status: str, after: int = 10, at: str = _AT) -> dict[str, str | None]:
    """A partition has another status than ok, from that minute on."""
    key = "tideline_consumer_status"
    return {
        f'{key}{{{at},status="ok"}}': f"1x{after - 1} stale",
        f'{key}{{{at},status="{status}"}}': f"_x{after} 1x{_MINUTES}",
    }


def _group_status(group: str, status: str) -> dict[str, str | None]:
    key = "tideline_consumer_group_status"
    return {
        f'{key}{{consumer_group="{group}",status="ok"}}': f"0x{_MINUTES}",
        f'{key}{{consumer_group="{group}",status="{status}"}}': f"1x{_MINUTES}",
    }


_FAST, _SLOW, _BUDGET = (
    "TidelineFreshnessBurnsFast", "TidelineFreshnessBurns", "TidelineFreshnessBudgetGoes",
)  # fmt: skip

SCENARIOS: Final = (
    Scenario("all is well", {5: [], 60: []}),
    # Freshness
    Scenario(
        "nothing is visible in time for a quarter of an hour, and then it is again",
        # At last the short windows are clean; the month's budget has still lost its share.
        {30: [], 44: [_FAST, _SLOW, _BUDGET], 52: [_SLOW, _BUDGET], 90: [_BUDGET]},
        {_VISIBLE: f"0+100x30 3000x14 3100+100x{_MINUTES}"},
    ),
    Scenario(
        "a tenth is too late: slower, and still too fast for a month",
        {60: [_SLOW, _BUDGET]},
        {_VISIBLE: f"0+90x{_MINUTES}"},
    ),
    Scenario("two in a hundred are too late", {60: [_BUDGET]}, {_VISIBLE: f"0+98x{_MINUTES}"}),
    Scenario("just within the objective", {60: []}, {_VISIBLE: f"0+99x{_MINUTES}"}),
    Scenario(
        "all is too late, and it is one record in three minutes",
        {30: [], 75: [_FAST, _SLOW, _BUDGET]},
        {
            _COUNTED: " ".join(
                f"{n}x2" for n in range(1, _MINUTES // 3 + 2)
            ),
            _VISIBLE: f"0x{_MINUTES}",
        },
    ),
    Scenario(
        "a recovery sends half a minute's records again, all of them late",
        {30: [], 42: [_BUDGET]},
        {
            'tideline_record_visible_seconds_count{step="replayed"}': f"0x39 50x{_MINUTES}",
            'tideline_record_visible_seconds_bucket{le="10.0",step="replayed"}': f"0x{_MINUTES}",
        },
    ),
    Scenario("no traffic at all", {20: []}, {
        _COUNTED: f"7x{_MINUTES}", _VISIBLE: f"7x{_MINUTES}",
        f"tideline_consumer_lag_records{{{_AT}}}": f"0x{_MINUTES}",
        f"tideline_consumer_lag_seconds{{{_AT}}}": f"0x{_MINUTES}",
    }),
    Scenario(
        "nothing moves any more, so nothing becomes visible too late either",
        {38: [], 50: [_FAST, _SLOW, _BUDGET]},
        {
            _COUNTED: f"0+100x40 4000x{_MINUTES}",
            _VISIBLE: f"0+100x40 4000x{_MINUTES}",
            f"tideline_consumer_lag_records{{{_AT}}}": f"50x39 100+300x{_MINUTES}",
            f"tideline_consumer_lag_seconds{{{_AT}}}": f"20x39 30+60x{_MINUTES}",
        },
    ),
    Scenario(
        "another group's records wait, which nobody promised to read",
        {20: []},
        {
            f"tideline_consumer_lag_records{{{_OTHER}}}": f"0+1000x{_MINUTES}",
            f"tideline_consumer_lag_seconds{{{_OTHER}}}": f"0+60x{_MINUTES}",
        },
    ),
    # Lag
    Scenario("nobody reads a partition", {10: [], 12: ["TidelineConsumerStopped"]},
             _status("stop")),
    Scenario("a consumer hangs", {10: [], 12: ["TidelineConsumerStalled"]}, _status("stall")),
    Scenario("a topic that the group has left", {20: []}, {
        **_status("stop"), f"tideline_consumer_subscribed{{{_AT}}}": f"0x{_MINUTES}",
    }),
    Scenario("offsets go back", {12: ["TidelineConsumerRewound"]}, _status("rewind")),
    Scenario("lag does not shrink", {14: [], 16: ["TidelineLagGrows"]},
             _group_status("tideline", "warn")),
    Scenario("another's group has stopped", {9: [], 12: ["TidelineOtherConsumerFails"]}, {
        **_status("stop", 1, _OTHER), **_group_status("reports", "error"),
    }),
    Scenario("another's group is slow", {20: []}, _group_status("reports", "warn")),
    Scenario("retention is about to take unread records", {20: ["TidelineDataLossNear"]}, {
        f"tideline_consumer_lag_seconds{{{_AT}}}": f"7200x{_MINUTES}",
        f"tideline_consumer_lag_records{{{_AT}}}": f"5x{_MINUTES}",
        f"tideline_consumer_retention_used_ratio{{{_AT}}}": f"0.9x{_MINUTES}",
        f"tideline_consumer_time_to_loss_seconds{{{_AT}}}": f"7200x{_MINUTES}",
    }),
    Scenario("a young log is unread to a large part", {20: []}, {
        f"tideline_consumer_retention_used_ratio{{{_AT}}}": f"0.9x{_MINUTES}",
        f"tideline_consumer_time_to_loss_seconds{{{_AT}}}": f"60x{_MINUTES}",
    }),
    # Blindness
    Scenario("the monitor gets no answers", {4: [], 6: ["TidelineMonitorBlind"]},
             {'tideline_lag_monitor_up{job="tideline-lag"}': f"0x{_MINUTES}"}),
    Scenario(
        "the monitor is gone",
        {20: ["TidelineMonitorBlind", "TidelineProcessDown"]},
        {
            'tideline_lag_monitor_up{job="tideline-lag"}': "1x9 stale",
            _up("lag"): f"1x9 0x{_MINUTES}",
        },
    ),
    Scenario(
        "the only worker is gone",
        {20: ["TidelineNoWorker", "TidelineProcessDown"]},
        {_up("worker"): f"1x9 0x{_MINUTES}"},
    ),
    Scenario(
        "one of two workers is gone",
        {20: ["TidelineProcessDown"]},
        {'up{job="tideline-worker",instance="other:9464"}': f"1x9 0x{_MINUTES}"},
    ),
    Scenario(
        "Prometheus finds no worker, and no learner",
        {4: [], 6: ["TidelineNoWorker"], 20: ["TidelineNoWorker", "TidelineProcessMissing"]},
        {
            _up("worker"): None,
            _up("learner"): None,
        },
    ),
    # Workers
    Scenario("recovery hangs", {9: [], 20: ["TidelineShardNotRunning"]}, {
        'tideline_shard_state{shard="0",state="running"}': f"0x{_MINUTES}",
        'tideline_shard_state{shard="0",state="recovering"}': f"1x{_MINUTES}",
    }),
    Scenario("a shard waits for its clock", {20: ["TidelineShardNotRunning"]}, {
        'tideline_shard_state{shard="0",state="running"}': f"0x{_MINUTES}",
        'tideline_shard_state{shard="0",state="suspended"}': f"1x{_MINUTES}",
    }),
    Scenario("a shard has moved to another worker", {20: []}, {
        'tideline_shard_state{shard="0",state="stopped",instance="old"}': f"1x{_MINUTES}",
    }),
    Scenario("ClickHouse is away", {10: [], 13: ["TidelineSinkHoldsBack"]}, {
        'tideline_partition_paused{topic="orders",partition="0"}': f"0x9 1x{_MINUTES}",
    }),
    Scenario("ClickHouse is away, and little is to be written", {11: [], 15: [
        "TidelineSinkHoldsBack"]}, {"tideline_sink_oldest_row_seconds": f"0.2x9 0+60x{_MINUTES}"}),
    Scenario("inserts are repeated, and go through", {40: ["TidelineSinkRetries"]}, {
        'tideline_sink_retries_total{error_type="SinkUnavailable"}': f"0+1x{_MINUTES}",
    }),
    Scenario("canaries do not arrive", {12: [], 14: ["TidelineCanaryLost"], 40: []}, {
        'tideline_canary_age_seconds{partition="1"}': f"3x9 30+60x19 3x{_MINUTES}",
    }),
    Scenario("canaries are late for a minute", {12: [], 20: []}, {
        'tideline_canary_age_seconds{partition="1"}': f"3x9 70x1 3x{_MINUTES}",
    }),
    Scenario("canaries can't be sent any more", {20: []}, {
        'tideline_canary_age_seconds{partition="0"}': f"3+60x{_MINUTES}",
        'tideline_canaries_sent_total{job="tideline-lag"}': f"24x{_MINUTES}",
    }),
    Scenario("there are no canaries", {20: []}, {
        'tideline_canary_age_seconds{partition="0"}': None,
        'tideline_canary_age_seconds{partition="1"}': None,
        'tideline_canaries_sent_total{job="tideline-lag"}': f"0x{_MINUTES}",
    }),
    # Truth
    *(
        Scenario(f"the ledger is off: {what}", {10: [], 15: ["TidelineLedgerOff"]},
                 {f'tideline_ledger_{what}{{shard="0"}}': f"2x{_MINUTES}"})
        for what in ("unaccounted_records", "doubled_records", "missing_batches")
    ),
    Scenario("the ledger is off at one look", {20: []},
             {'tideline_ledger_missing_batches{shard="0"}': f"0x4 1x4 0x{_MINUTES}"}),
    Scenario("the ledger can't be read any more", {45: [], 60: ["TidelineLedgerUnwatched"]},
             {"tideline_ledger_checked_timestamp_seconds": f"0+60x10 600x{_MINUTES}"}),
    Scenario("the ledger could never be read", {14: [], 16: ["TidelineLedgerUnwatched"]},
             {"tideline_ledger_checked_timestamp_seconds": None}),
    Scenario("late records: a warning", {20: []},
             {'tideline_health_state{shard="0",share="late"}': f"1x{_MINUTES}"}),
    Scenario("late records", {20: ["TidelineRecordsLate"]},
             {'tideline_health_state{shard="0",share="late"}': f"2x{_MINUTES}"}),
    Scenario("dead letters", {20: ["TidelineDeadLetters"]},
             {'tideline_health_state{shard="0",share="dead_letters"}': f"2x{_MINUTES}"}),
    Scenario("another partitioner", {20: ["TidelineRecordsMisplaced"]},
             {'tideline_health_state{shard="0",share="misplaced"}': f"1x{_MINUTES}"}),
    Scenario("a producer's clock", {20: ["TidelineProducerClockFast"]},
             {'tideline_health_state{shard="0",share="from_future"}': f"1x{_MINUTES}"}),
    Scenario("a watermark is set back", {9: [], 15: ["TidelineWatermarkSetBack"], 75: []},
             {"tideline_watermarks_set_back_total": f"0x9 1x{_MINUTES}"}),
    Scenario("a worker's clock is behind", {20: ["TidelineWorkerClockWrong"]},
             {"tideline_worker_clock_lead_seconds": f"-75x{_MINUTES}"}),
    # Models
    Scenario("the champion gives no number", {15: ["TidelineScoresRefused"], 50: []},
             {"tideline_scores_refused_total": f"0x9 3x{_MINUTES}"}),
    Scenario("a promoted model is refused", {15: ["TidelineChampionRefused"], 50: []},
             {"tideline_champions_refused_total": f"0x9 1x{_MINUTES}"}),
    Scenario("the trainer can't read", {55: [], 65: ["TidelineTrainerBlind"]},
             {'tideline_trainer_up{job="tideline-trainer"}': f"0x{_MINUTES}"}),
    Scenario("customers change", {15: ["TidelineDrift"]},
             {'tideline_drifts_total{kind="rate"}': f"0x9 1x{_MINUTES}"}),
    # Segments: two shards of 40 users each, of whom 50 to 60 are expected, or 100 to 200
    Scenario("a segment is larger than expected", {55: [], 65: ["TidelineSegmentSize"]},
             {**_SEGMENT, **_expected(50, 60)}),
    Scenario("a segment is smaller than expected", {55: [], 65: ["TidelineSegmentSize"]},
             {**_SEGMENT, **_expected(100, 200)}),
    Scenario("a segment is as expected, also by two workers", {65: []},
             {**_SEGMENT, **_expected(50, 80), **_expected(50, 80, "worker-2")}),
    Scenario("nobody expects a size of a segment", {65: []}, _SEGMENT),
    Scenario("a worker is replaced, and its segments with it", {65: []},
             {'tideline_segment_users{segment="vip",shard="0"}': f"40x{_MINUTES}",
              'tideline_segment_users{segment="vip",shard="1"}': f"40x9 _x9 40x{_MINUTES}",
              **_expected(50, 90)}),
    # Deliveries
    Scenario("a destination is away", {5: [], 15: ["TidelineDeliveriesFailing"], 45: []},
             {'tideline_delivery_failing_seconds{destination="crm"}':
              f"0+60x30 0x{_MINUTES}"}),
    Scenario("a destination was away for too long", {15: ["TidelineDeliveriesLost"]},
             {'tideline_deliveries_lost_total{destination="crm"}': f"0x9 40x{_MINUTES}"}),
    Scenario("a destination refuses changes", {5: [], 15: ["TidelineUndelivered"]},
             {'tideline_deliveries_total{destination="crm",result="undelivered"}':
              f"0x9 3x{_MINUTES}",
              'tideline_deliveries_total{destination="crm",result="delivered"}':
              f"0+9x{_MINUTES}"}),
)  # fmt: skip


def _test(scenario: Scenario) -> dict[str, Any]:
    series = {**_HEALTHY, **scenario.series}
    unknown = [name for name, values in scenario.series.items() if values is None]
    assert set(unknown) <= set(_HEALTHY), scenario.name
    return {
        "name": scenario.name,
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values}
            for name, values in series.items()
            if values is not None
        ],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": 1}
                    for alert in sorted([_ALWAYS, *alerts])
                ],
            }
            for minute, alerts in scenario.expected.items()
        ],
    }


def document(rules: Sequence[Path]) -> dict[str, Any]:
    """What `promtool test rules` reads."""
    return {
        "rule_files": [str(path) for path in rules],
        "evaluation_interval": "1m",
        "tests": [_test(scenario) for scenario in SCENARIOS],
    }
