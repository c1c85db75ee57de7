"""Every setting of Tideline: its name, default, rule and help; and of `processes`.

    environment TIDELINE_KAFKA_BROKER_URL   wins over
    TOML file   [kafka] broker_url          (TIDELINE_CONFIG or --config)  wins over
    the default

A secret can also be read from a file: TIDELINE_CLICKHOUSE_PASSWORD_FILE names the one that holds
TIDELINE_CLICKHOUSE_PASSWORD, without its last newline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from schemas.topics import TopicNames
from streams.settings import rules
from streams.settings.processes import (
    ConsoleSettings,
    DeliverSettings,
    LagSettings,
    TrainerSettings,
)
from streams.settings.reader import Secret, setting

__all__ = [
    "SECTIONS",
    "AlertSettings",
    "ClickHouseSettings",
    "ConsoleSettings",
    "DeliverSettings",
    "HealthSettings",
    "KafkaSettings",
    "LagSettings",
    "LogSettings",
    "ModelSettings",
    "PrivacySettings",
    "Settings",
    "StreamSettings",
    "TraceSettings",
    "TrainerSettings",
    "WebSettings",
]


@dataclass(frozen=True)
class KafkaSettings:
    """Where events come from, and under which names and login Tideline reads them."""

    broker_url: str = setting(
        "127.0.0.1:9092", "Kafka brokers, each as host:port, separated by commas", rules.BROKERS
    )
    app_id: str = setting(
        "tideline",
        "consumer group of the workers, and prefix of Tideline's own topics",
        rules.TOPIC,
    )
    clickstream_topic: str = setting("clickstream", "topic of clickstream events", rules.TOPIC)
    orders_topic: str = setting("orders", "topic of order events", rules.TOPIC)
    partitions: int = setting(
        4,
        "partitions of each input topic, one shard per partition; `tideline repartition` raises it",
        rules.between(1, 10_000),
    )
    partitioner: Literal["murmur2", "crc32", "fnv1a", "unchecked"] = setting(
        "murmur2",
        "how the producers of both topics choose a key's partition; unchecked: alike, but none of "
        "these",
    )
    misplaced: Literal["refuse", "dead_letter"] = setting(
        "refuse",
        "what happens to a record in a partition that its key does not belong to: refuse (the "
        "worker stops before it) or dead_letter",
    )
    replication_factor: int = setting(
        1, "replicas of each topic that `tideline topics` creates", rules.between(1, 100)
    )
    min_insync_replicas: int = setting(
        0,
        "replicas that must have a record before it counts as written, of each topic that "
        "`tideline topics` creates: 2 of 3 lose nothing with a broker; 0: as the brokers have it",
        rules.between(0, 100),
    )
    session_timeout_seconds: float = setting(
        10.0,
        "seconds without a heartbeat after which a worker loses its partitions",
        rules.between(1.0, 1_800.0),
    )
    instance_id: str = setting(
        "",
        "static member name of this worker, so that a restart moves no shards; empty: none",
        rules.INSTANCE,
    )
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = setting(
        "plaintext",
        "security protocol of the listener: plaintext, ssl (TLS), sasl_plaintext or sasl_ssl",
    )
    ca_file: str = setting(
        "", "CA bundle (PEM) that signs the brokers' certificates; empty: the system's"
    )
    client_cert_file: str = setting("", "client certificate (PEM), if the brokers ask for one")
    client_key_file: str = setting(
        "", "private key (PEM) of the client certificate; empty: in the certificate's file"
    )
    client_key_password: Secret = setting(  # noqa: RUF009 (immutable)
        Secret(""), "password of the client certificate's private key, if it has one"
    )
    sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = setting(
        "SCRAM-SHA-512", "SASL mechanism: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN"
    )
    username: str = setting("", "SASL user, for sasl_ssl and sasl_plaintext")
    password: Secret = setting(Secret(""), "SASL password")  # noqa: RUF009 (immutable)

    @property
    def brokers(self) -> tuple[str, ...]:
        return rules.brokers(self.broker_url)


@dataclass(frozen=True)
class ClickHouseSettings:
    """Where results go: the native protocol, not HTTP."""

    host: str = setting("127.0.0.1", "ClickHouse host", rules.HOST)
    port: int = setting(
        9000, "ClickHouse port of the native protocol (not 8123, which is HTTP)", rules.PORT
    )
    database: str = setting(
        "tideline", "ClickHouse database that holds all tables", rules.IDENTIFIER
    )
    user: str = setting("default", "ClickHouse user")
    password: Secret = setting(Secret(""), "ClickHouse password")  # noqa: RUF009 (immutable)
    secure: bool = setting(
        False, "true: connect with TLS (usually port 9440) and verify the certificate"
    )
    ca_file: str = setting(
        "", "CA bundle (PEM) that signs ClickHouse's certificate; empty: the system's"
    )
    cluster: str = setting(
        "",
        "ClickHouse cluster on whose servers `tideline migrate` makes tables, replicated; empty: "
        "on this server alone, not replicated",
        rules.CLUSTER,
    )
    keep_events_days: int = setting(
        0,
        "days for which single events are kept in ClickHouse, for the console's timelines, funnels "
        "and retention; 0: they are not",
        rules.between(0, 400),
    )
    keep_features_days: int = setting(
        0,
        "days for which the features behind each user's newest score row are kept in ClickHouse, "
        "for the console's profiles; 0: they are not",
        rules.between(0, 400),
    )


@dataclass(frozen=True)
class StreamSettings:
    """How events become state: the clock, lateness, batches, money."""

    clock: Literal["wall", "event"] = setting(
        "wall", "wall: the system clock; event: the newest event time, to replay old data"
    )
    lateness_days: float = setting(
        7.0, "days an event may be late and still count", rules.between(0.0, 90.0)
    )
    max_future_seconds: float = setting(
        300.0,
        "seconds an event may be ahead of the clock; further ahead: dead letter",
        rules.NOT_NEGATIVE,
    )
    max_batch_records: int = setting(
        20_000, "maximum records in one batch of a shard", rules.between(1, 1_000_000)
    )
    sweep_interval_seconds: float = setting(
        86_400.0, "seconds in which a sweep rescores every user once", rules.POSITIVE
    )
    checkpoint_interval_seconds: float = setting(
        30.0, "seconds between checkpoints, the most that recovery has to replay", rules.POSITIVE
    )
    currency: str = setting("USD", "currency of all amounts in results", rules.CURRENCY)
    currency_rates: str = setting(
        "",
        "exchange rates to `currency`, such as EUR=1.08,GBP=1.27; others: dead letter",
        rules.RATES,
    )

    @property
    def rates(self) -> dict[str, float]:
        """Worth of one unit of each accepted currency, `currency` itself included (1.0)."""
        return {self.currency: 1.0} | rules.rates(self.currency_rates)


@dataclass(frozen=True)
class ModelSettings:
    """The champion and the learner."""

    artifact: str = setting(
        "",
        "directory of models, whose file CURRENT is followed, or of one model that stays; a path "
        "or a URL such as s3://bucket/models; empty: the models shipped",
    )
    learner_publish_interval_seconds: float = setting(
        1.0, "minimum seconds between the learner's snapshots", rules.POSITIVE
    )
    shop_min_days: float = setting(
        28.0,  # models.evidence says why, also for [alerts] min_orders
        "days since the shop's first order before users are scored",
        rules.NOT_NEGATIVE,
    )
    score_sample_share: float = setting(
        0.001, "share of scores logged with their features, for `tideline skew`", rules.SHARE
    )
    keep_examples: bool = setting(
        True,  # D-059 says what it costs
        "whether matured label questions are kept in ClickHouse with their features, for "
        "`tideline train --live`",
    )


@dataclass(frozen=True)
class AlertSettings:
    """When an alert opens and closes, and for whom."""

    enter: float = setting(0.5, "churn probability at which an alert opens", rules.SHARE)
    leave: float = setting(0.35, "churn probability below which an alert closes", rules.SHARE)
    overdue_ratio: float = setting(
        1.25,
        "an alert opens only after so many times the customer's usual days between orders",
        rules.between(1.0, 100.0),
    )
    cooldown_days: float = setting(
        14.0, "days after an alert before the same user can have another", rules.NOT_NEGATIVE
    )
    min_orders: int = setting(
        2, "minimum orders of a user before an alert can open", rules.NOT_NEGATIVE
    )
    active_within_days: float = setting(
        84.0,
        "days since the last order after which a user counts as gone: no alert",
        rules.POSITIVE,
    )
    holdout_share: float = setting(
        0.1, "share of alerted users held out from contact, to measure uplift", rules.SHARE
    )


@dataclass(frozen=True)
class HealthSettings:
    """From which shares of a shard's records on `tideline doctor`, the log and the metric
    `tideline_health_state` warn, and from which on they report a failure; and after which time
    `/healthz` does."""

    late_warn_share: float = setting(
        0.01, "share of late records from which on a shard's state is a warning", rules.SHARE
    )
    late_fail_share: float = setting(
        0.1, "share of late records from which on a shard's state is a failure", rules.SHARE
    )
    dead_letter_warn_share: float = setting(
        0.01, "share of dead letters from which on a shard's state is a warning", rules.SHARE
    )
    dead_letter_fail_share: float = setting(
        0.1, "share of dead letters from which on a shard's state is a failure", rules.SHARE
    )
    stuck_seconds: float = setting(
        120.0,
        "seconds without progress after which /healthz says that a restart is due; 0: never",
        rules.NOT_NEGATIVE,
    )


@dataclass(frozen=True)
class TraceSettings:
    """OpenTelemetry traces of batches, for a collector."""

    endpoint: str = setting(
        "",
        "URL of an OpenTelemetry collector that takes OTLP over HTTP, such as "
        "http://127.0.0.1:4318; empty: no traces",
        rules.COLLECTOR,
    )
    share: float = setting(0.01, "share of all batches that are traced", rules.SHARE)


@dataclass(frozen=True)
class WebSettings:
    """What a process serves over HTTP."""

    metrics_host: str = setting(
        "127.0.0.1", "address on which Prometheus metrics are served", rules.HOST
    )
    metrics_port: int = setting(0, "port for Prometheus metrics; 0: off", rules.LISTEN_PORT)
    port: int = setting(0, "port for Faust's own pages; 0: off", rules.LISTEN_PORT)


@dataclass(frozen=True)
class PrivacySettings:
    """How users are named in ClickHouse and the alerts topic."""

    pseudonym_key: Secret = setting(  # noqa: RUF009 (immutable)
        Secret(""),
        "HMAC key that turns user ids into pseudonyms in all results; empty: user ids stay",
        rules.KEY,
    )


@dataclass(frozen=True)
class LogSettings:
    """Logging. Logs never hold user ids."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "minimum log level: debug, info, warning or error"
    )
    format: Literal["text", "json"] = setting(
        "text", "log format: text for people, json for machines"
    )


SECTIONS: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        "kafka": KafkaSettings,
        "clickhouse": ClickHouseSettings,
        "stream": StreamSettings,
        "model": ModelSettings,
        "trainer": TrainerSettings,
        "alerts": AlertSettings,
        "health": HealthSettings,
        "privacy": PrivacySettings,
        "lag": LagSettings,
        "deliver": DeliverSettings,
        "console": ConsoleSettings,
        "trace": TraceSettings,
        "web": WebSettings,
        "log": LogSettings,
    }
)


@dataclass(frozen=True)
class Settings:
    """All settings. `Settings()` holds the defaults.

    `origins` says where each value came from, by environment name.
    """

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    clickhouse: ClickHouseSettings = field(default_factory=ClickHouseSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    lag: LagSettings = field(default_factory=LagSettings)
    deliver: DeliverSettings = field(default_factory=DeliverSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    web: WebSettings = field(default_factory=WebSettings)
    log: LogSettings = field(default_factory=LogSettings)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def topic_names(self) -> TopicNames:
        kafka = self.kafka
        return TopicNames(kafka.clickstream_topic, kafka.orders_topic, kafka.app_id)
