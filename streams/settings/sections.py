"""Every setting of Tideline: its name, default, rule and help.

    environment TIDELINE_BROKER_URL   wins over
    TOML file   [kafka] broker_url    (TIDELINE_CONFIG or --config)  wins over
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
from streams.settings.reader import Secret, setting

__all__ = [
    "SECTIONS",
    "AlertSettings",
    "ClickHouseSettings",
    "KafkaSettings",
    "LogSettings",
    "ModelSettings",
    "PrivacySettings",
    "Settings",
    "StreamSettings",
    "WebSettings",
]


@dataclass(frozen=True)
class KafkaSettings:
    """Where events come from, and what Tideline calls itself there."""

    broker_url: str = setting(
        "127.0.0.1:9092", "Kafka brokers as host:port, separated by commas", rules.BROKERS
    )
    app_id: str = setting(
        "tideline", "consumer group, and the prefix of Tideline's own topics", rules.TOPIC
    )
    clickstream_topic: str = setting("clickstream", "topic of clickstream events", rules.TOPIC)
    orders_topic: str = setting("orders", "topic of order events", rules.TOPIC)
    partitions: int = setting(
        4,
        "partitions of both input topics, so shards; fixed once created",
        rules.between(1, 10_000),
    )
    replication_factor: int = setting(
        1, "copies of each topic that `tideline topics` creates", rules.between(1, 100)
    )
    session_timeout_seconds: float = setting(
        10.0, "seconds until a silent worker loses its partitions", rules.between(1.0, 1_800.0)
    )
    instance_id: str = setting(
        "",
        "name of this worker in its group, kept over restarts, which then move no shards",
        rules.INSTANCE,
    )
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = setting(
        "plaintext", "the listener's protocol: plaintext, ssl (TLS), sasl_plaintext or sasl_ssl"
    )
    kafka_ca_file: str = setting(
        "", "PEM file of who signs the brokers' certificates; empty: the system's authorities"
    )
    kafka_client_cert_file: str = setting("", "PEM file of our own certificate, if brokers want it")
    kafka_client_key_file: str = setting(
        "", "PEM file of its private key; empty: in the same file as the certificate"
    )
    kafka_client_key_password: Secret = setting(  # noqa: RUF009 (immutable)
        Secret(""), "password of that private key, if it has one"
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = setting(
        "SCRAM-SHA-512", "how to log in with sasl_ssl: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN"
    )
    kafka_username: str = setting("", "Kafka user, for sasl_ssl and sasl_plaintext")
    kafka_password: Secret = setting(Secret(""), "Kafka password")  # noqa: RUF009 (immutable)

    @property
    def brokers(self) -> tuple[str, ...]:
        return rules.brokers(self.broker_url)


@dataclass(frozen=True)
class ClickHouseSettings:
    """Where results go: the native protocol, not HTTP."""

    clickhouse_host: str = setting("127.0.0.1", "ClickHouse host", rules.HOST)
    clickhouse_port: int = setting(9000, "ClickHouse native port (not 8123, HTTP)", rules.PORT)
    clickhouse_database: str = setting("tideline", "database of all tables", rules.IDENTIFIER)
    clickhouse_user: str = setting("default", "ClickHouse user")
    clickhouse_password: Secret = setting(Secret(""), "ClickHouse password")  # noqa: RUF009 (immutable)
    clickhouse_secure: bool = setting(
        False, "true: connect with TLS (port 9440) and check the certificate"
    )
    clickhouse_ca_file: str = setting(
        "", "PEM file of who signs ClickHouse's certificate; empty: the system's authorities"
    )


@dataclass(frozen=True)
class StreamSettings:
    """How events become state: the clock, lateness, batches, money."""

    clock: Literal["wall", "event"] = setting(
        "wall", "wall: the time of day; event: the newest event time, to replay old data"
    )
    lateness_days: float = setting(
        7.0, "days an event may be late and still count", rules.between(0.0, 90.0)
    )
    max_future_seconds: float = setting(
        300.0, "seconds an event may be ahead of the clock; beyond: dead letter", rules.NOT_NEGATIVE
    )
    max_batch_records: int = setting(
        20_000, "records taken in one batch of a shard, at most", rules.between(1, 1_000_000)
    )
    sweep_interval_seconds: float = setting(
        86_400.0, "seconds in which every user is rescored by the clock once", rules.POSITIVE
    )
    checkpoint_interval_seconds: float = setting(
        30.0, "seconds between checkpoints, so the most that recovery replays", rules.POSITIVE
    )
    currency: str = setting("USD", "currency of all amounts in results", rules.CURRENCY)
    currency_rates: str = setting(
        "",
        "one unit of other currencies in `currency`, like EUR=1.08,GBP=1.27; others: dead letter",
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
        "directory of models, whose file CURRENT is followed, or of one that stays; "
        "empty: those shipped",
    )
    learner_publish_seconds: float = setting(
        1.0, "seconds between snapshots that the learner publishes, at least", rules.POSITIVE
    )
    shop_min_days: float = setting(
        28.0,  # models.evidence says why, also of alert_min_orders
        "days since the shop's first order before anybody is scored",
        rules.NOT_NEGATIVE,
    )
    score_sample_share: float = setting(
        0.001, "share of scores logged with their features, for `tideline skew`", rules.SHARE
    )


@dataclass(frozen=True)
class AlertSettings:
    """Who becomes an alert, and when it ends."""

    alert_enter: float = setting(0.5, "churn probability at which an alert opens", rules.SHARE)
    alert_leave: float = setting(0.35, "churn probability below which it closes", rules.SHARE)
    alert_cooldown_days: float = setting(
        14.0, "days after an alert before the same user can have another", rules.NOT_NEGATIVE
    )
    alert_min_orders: int = setting(
        2, "orders a user must have had to be alerted about", rules.NOT_NEGATIVE
    )
    alert_active_within_days: float = setting(
        84.0, "days since the last order after which a user counts as gone", rules.POSITIVE
    )
    holdout_share: float = setting(
        0.1, "share of alerted users nobody contacts, to measure uplift", rules.SHARE
    )


@dataclass(frozen=True)
class WebSettings:
    """What a process serves over HTTP."""

    metrics_host: str = setting("127.0.0.1", "address that serves Prometheus metrics", rules.HOST)
    metrics_port: int = setting(0, "port for Prometheus metrics; 0: off", rules.LISTEN_PORT)
    web_port: int = setting(0, "port for Faust's own pages; 0: off", rules.LISTEN_PORT)


@dataclass(frozen=True)
class PrivacySettings:
    """What ClickHouse and the alerts topic get to see of users."""

    pseudonym_key: Secret = setting(  # noqa: RUF009 (immutable)
        Secret(""),
        "key that turns user ids into pseudonyms in all results (HMAC); empty: user ids stay",
        rules.KEY,
    )


@dataclass(frozen=True)
class LogSettings:
    """Logging. Logs never hold user ids."""

    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "least level logged")
    log_format: Literal["text", "json"] = setting("text", "text for people, json for machines")


SECTIONS: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        "kafka": KafkaSettings,
        "clickhouse": ClickHouseSettings,
        "stream": StreamSettings,
        "model": ModelSettings,
        "alerts": AlertSettings,
        "privacy": PrivacySettings,
        "web": WebSettings,
        "log": LogSettings,
    }
)


@dataclass(frozen=True)
class Settings:
    """All settings. `Settings()` holds the defaults; `origins` says where each value came from."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    clickhouse: ClickHouseSettings = field(default_factory=ClickHouseSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    web: WebSettings = field(default_factory=WebSettings)
    log: LogSettings = field(default_factory=LogSettings)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def topic_names(self) -> TopicNames:
        kafka = self.kafka
        return TopicNames(kafka.clickstream_topic, kafka.orders_topic, kafka.app_id)
