"""Settings as the core gets them: all of them, and in milliseconds."""

from __future__ import annotations

from streams.core.config import CoreConfig
from streams.core.events.events import DecodeRules
from streams.core.health import Limit, Limits
from streams.core.partitioning import Partitioner
from streams.settings import Settings, override
from streams.shard.config import core_config, health_limits

DAY_MS = 86_400_000


def test_every_setting_of_the_core_arrives_in_its_unit() -> None:
    settings = override(
        Settings(),
        kafka_clickstream_topic="clicks", kafka_orders_topic="buys", stream_max_future_seconds=90,
        stream_currency="EUR", stream_lateness_days=1.5, stream_sweep_interval_seconds=7,
        alerts_enter=0.7, alerts_leave=0.4, alerts_cooldown_days=2, alerts_min_orders=4,
        alerts_overdue_ratio=1.5,
        alerts_active_within_days=60, alerts_holdout_share=0.1, model_shop_min_days=30,
        model_score_sample_share=0.2, kafka_partitioner="crc32", kafka_partitions=6,
        kafka_misplaced="dead_letter", clickhouse_keep_events_days=14,
        clickhouse_keep_features_days=15,
    )  # fmt: skip
    assert core_config(settings) == CoreConfig(
        topics=("clicks", "buys"),
        decode=DecodeRules(max_future_ms=90_000, currency="EUR", rates=settings.stream.rates),
        lateness_ms=DAY_MS * 3 // 2,
        sweep_interval_ms=7_000,
        alert_enter=0.7,
        alert_leave=0.4,
        alert_cooldown_ms=2 * DAY_MS,
        alert_overdue_ratio=1.5,
        min_orders=4,
        active_within_ms=60 * DAY_MS,
        holdout_share=0.1,
        shop_min_ms=30 * DAY_MS,
        sample_share=0.2,
        partitioner=Partitioner("crc32", 6),
        misplaced="dead_letter",
        keep_examples=True,
        keep_events_days=14,
        keep_features_days=15,
    )
    assert not core_config(override(settings, model_keep_examples=False)).keep_examples
    assert core_config(override(settings, kafka_partitioner="unchecked")).partitioner is None


def test_limits_are_those_of_the_settings_and_by_default_those_of_the_core() -> None:
    assert health_limits(Settings()) == Limits()
    changed = override(
        Settings(), health_late_warn_share=0.2, health_late_fail_share=0.3,
        health_dead_letter_warn_share=0.4, health_dead_letter_fail_share=0.5,
    )  # fmt: skip
    assert health_limits(changed) == Limits(Limit(0.2, 0.3), Limit(0.4, 0.5))
