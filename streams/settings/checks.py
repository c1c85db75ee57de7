"""The rules between settings: what no rule on a single one can see."""

from __future__ import annotations

from streams.settings import rules
from streams.settings.reader import DEFAULT, Secret, env_name
from streams.settings.sections import ClickHouseSettings, KafkaSettings, Settings

__all__ = ["across"]


def across(settings: Settings) -> list[str]:
    """The problems, each with the origin of both sides, as one side is usually the surprise."""
    problems: list[str] = []

    def wrong(name: str, other: str, expected: str) -> None:
        where = " and ".join(f"{n} from {settings.origins.get(n, DEFAULT)}" for n in (name, other))
        problems.append(f"{env_name(name)}: expected {expected} ({where})")

    kafka, stream, alerts, web = settings.kafka, settings.stream, settings.alerts, settings.web
    if alerts.alert_leave >= alerts.alert_enter:
        wrong(
            "alert_leave",
            "alert_enter",
            f"less than alert_enter ({alerts.alert_leave} against {alerts.alert_enter})",
        )
    if kafka.clickstream_topic == kafka.orders_topic:
        wrong("orders_topic", "clickstream_topic", "another topic than clickstream_topic")
    names = settings.topic_names
    own = {names.journal, names.checkpoints, names.alerts, names.dead_letters, names.erasures}
    own |= {names.examples, names.learner}
    for name, topic in (
        ("clickstream_topic", names.clickstream),
        ("orders_topic", names.orders),
    ):
        if topic in own:
            wrong(name, "app_id", f"a topic that is not Tideline's own ({topic})")
    if rules.rates(stream.currency_rates).get(stream.currency, 1.0) != 1.0:
        wrong("currency_rates", "currency", f"no rate for {stream.currency} itself: it is 1")
    if web.metrics_port and web.metrics_port == web.web_port:
        wrong("metrics_port", "web_port", f"another port than web_port ({web.web_port})")
    problems += _kafka_security(kafka) + _clickhouse_tls(settings.clickhouse)
    return problems


def _kafka_security(kafka: KafkaSettings) -> list[str]:
    """TLS and login: nothing half given, and nothing given in vain."""
    tls = kafka.kafka_security in ("ssl", "sasl_ssl")
    sasl = kafka.kafka_security in ("sasl_plaintext", "sasl_ssl")
    now = f"TIDELINE_KAFKA_SECURITY is {kafka.kafka_security}"
    problems = []
    for name in ("kafka_username", "kafka_password"):
        given = bool(_plain(getattr(kafka, name)))
        if sasl and not given:
            problems.append(f"{env_name(name)}: missing, as {now}")
        elif given and not sasl:
            problems.append(f"{env_name(name)}: of no use while {now}; set it to sasl_ssl")
    problems += [
        f"{env_name(name)}: of no use while {now}; set it to ssl or sasl_ssl"
        for name in ("kafka_ca_file", "kafka_client_cert_file", "kafka_client_key_file")
        if getattr(kafka, name) and not tls
    ]
    if kafka.kafka_client_key_file and not kafka.kafka_client_cert_file:
        problems.append("TIDELINE_KAFKA_CLIENT_CERT_FILE: missing, as a key for it is given")
    if kafka.kafka_security == "sasl_plaintext" and kafka.kafka_sasl_mechanism == "PLAIN":
        problems.append(
            "TIDELINE_KAFKA_SASL_MECHANISM: PLAIN sends the password readable without TLS; use "
            "TIDELINE_KAFKA_SECURITY=sasl_ssl, or SCRAM-SHA-512"
        )
    return problems


def _clickhouse_tls(clickhouse: ClickHouseSettings) -> list[str]:
    if clickhouse.clickhouse_ca_file and not clickhouse.clickhouse_secure:
        return [
            "TIDELINE_CLICKHOUSE_CA_FILE: of no use while TIDELINE_CLICKHOUSE_SECURE is false; "
            "set it to true"
        ]
    return []


def _plain(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value
