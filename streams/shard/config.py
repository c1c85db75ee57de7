"""Settings -> the core's rules."""

from __future__ import annotations

from streams.core.config import CoreConfig
from streams.core.events.events import DecodeRules
from streams.core.health import Limit, Limits
from streams.core.partitioning import Partitioner
from streams.settings import Settings

__all__ = ["core_config", "health_limits"]

_DAY_MS = 86_400_000


def core_config(settings: Settings) -> CoreConfig:
    """What the core needs of the settings, in its own units (milliseconds)."""
    stream, alerts, names = settings.stream, settings.alerts, settings.topic_names
    return CoreConfig(
        topics=(names.clickstream, names.orders),
        decode=DecodeRules(
            max_future_ms=int(stream.max_future_seconds * 1000),
            currency=stream.currency,
            rates=stream.rates,
        ),
        lateness_ms=int(stream.lateness_days * _DAY_MS),
        sweep_interval_ms=int(stream.sweep_interval_seconds * 1000),
        alert_enter=alerts.enter,
        alert_leave=alerts.leave,
        alert_overdue_ratio=alerts.overdue_ratio,
        alert_cooldown_ms=int(alerts.cooldown_days * _DAY_MS),
        min_orders=alerts.min_orders,
        active_within_ms=int(alerts.active_within_days * _DAY_MS),
        holdout_share=alerts.holdout_share,
        shop_min_ms=int(settings.model.shop_min_days * _DAY_MS),
        sample_share=settings.model.score_sample_share,
        keep_examples=settings.model.keep_examples,
        keep_events_days=settings.clickhouse.keep_events_days,
        keep_features_days=settings.clickhouse.keep_features_days,
        partitioner=_partitioner(settings),
        misplaced=settings.kafka.misplaced,
    )


def _partitioner(settings: Settings) -> Partitioner | None:
    kafka = settings.kafka
    if kafka.partitioner == "unchecked":
        return None
    return Partitioner(kafka.partitioner, kafka.partitions)


def health_limits(settings: Settings) -> Limits:
    """From which shares on a shard is not in order."""
    health = settings.health
    return Limits(
        late=Limit(health.late_warn_share, health.late_fail_share),
        dead_letters=Limit(health.dead_letter_warn_share, health.dead_letter_fail_share),
    )
