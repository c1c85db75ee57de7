"""The rules between settings: what no rule on a single one can see."""

from __future__ import annotations

from streams.settings import rules
from streams.settings.reader import DEFAULT, Secret, env_name
from streams.settings.sections import (
    ClickHouseSettings,
    ConsoleSettings,
    KafkaSettings,
    Settings,
)

__all__ = ["across"]


def across(settings: Settings) -> list[str]:
    """The problems, each with the origin of both sides, as one side is usually the surprise."""
    problems: list[str] = []

    def wrong(name: str, other: str, expected: str) -> None:
        where = " and ".join(f"{n} from {settings.origins.get(n, DEFAULT)}" for n in (name, other))
        problems.append(f"{name}: expected {expected} ({where})")

    kafka, stream, alerts, web = settings.kafka, settings.stream, settings.alerts, settings.web
    if alerts.leave >= alerts.enter:
        wrong(
            "TIDELINE_ALERTS_LEAVE",
            "TIDELINE_ALERTS_ENTER",
            f"less than [alerts] enter ({alerts.leave} against {alerts.enter})",
        )
    for share in ("late", "dead_letter"):
        fields = f"{share}_warn_share", f"{share}_fail_share"
        warn, fail = (getattr(settings.health, field) for field in fields)
        if warn > fail:
            low, high = (env_name("health", field) for field in fields)
            wrong(low, high, f"at most [health] {share}_fail_share ({warn} against {fail})")
    clicks, orders = "TIDELINE_KAFKA_CLICKSTREAM_TOPIC", "TIDELINE_KAFKA_ORDERS_TOPIC"
    names = settings.topic_names
    if names.clickstream == names.orders:
        wrong(orders, clicks, "another topic than [kafka] clickstream_topic")
    for name, topic in ((clicks, names.clickstream), (orders, names.orders)):
        if topic in names.own:
            wrong(name, "TIDELINE_KAFKA_APP_ID", f"a topic that is not Tideline's own ({topic})")
    if rules.rates(stream.currency_rates).get(stream.currency, 1.0) != 1.0:
        wrong(
            "TIDELINE_STREAM_CURRENCY_RATES",
            "TIDELINE_STREAM_CURRENCY",
            f"no rate for {stream.currency} itself: it is 1",
        )
    if web.metrics_port and web.metrics_port == web.port:
        wrong(
            "TIDELINE_WEB_METRICS_PORT",
            "TIDELINE_WEB_PORT",
            f"another port than [web] port ({web.port})",
        )
    if kafka.min_insync_replicas > kafka.replication_factor:
        wrong(
            "TIDELINE_KAFKA_MIN_INSYNC_REPLICAS",
            "TIDELINE_KAFKA_REPLICATION_FACTOR",
            f"at most [kafka] replication_factor ({kafka.min_insync_replicas} against "
            f"{kafka.replication_factor})",
        )
    if settings.lag.canary_interval_seconds and stream.clock == "event":
        wrong(
            "TIDELINE_LAG_CANARY_INTERVAL_SECONDS",
            "TIDELINE_STREAM_CLOCK",
            "0 while [stream] clock is event: a canary comes at the system's time",
        )
    problems += _kafka_security(kafka) + _clickhouse_tls(settings.clickhouse)
    problems += _console_access(settings.console)
    return problems


def _kafka_security(kafka: KafkaSettings) -> list[str]:
    """TLS and login: nothing half given, and nothing given in vain."""
    tls = kafka.security in ("ssl", "sasl_ssl")
    sasl = kafka.security in ("sasl_plaintext", "sasl_ssl")
    now = f"TIDELINE_KAFKA_SECURITY is {kafka.security}"
    problems = []
    for field in ("username", "password"):
        given = bool(_plain(getattr(kafka, field)))
        if sasl and not given:
            problems.append(f"{env_name('kafka', field)}: missing, as {now}")
        elif given and not sasl:
            problems.append(
                f"{env_name('kafka', field)}: of no use while {now}; set it to sasl_ssl"
            )
    problems += [
        f"{env_name('kafka', field)}: of no use while {now}; set it to ssl or sasl_ssl"
        for field in ("ca_file", "client_cert_file", "client_key_file")
        if getattr(kafka, field) and not tls
    ]
    if kafka.client_key_file and not kafka.client_cert_file:
        problems.append("TIDELINE_KAFKA_CLIENT_CERT_FILE: missing, as a key for it is given")
    if kafka.security == "sasl_plaintext" and kafka.sasl_mechanism == "PLAIN":
        problems.append(
            "TIDELINE_KAFKA_SASL_MECHANISM: PLAIN sends the password readable without TLS; use "
            "TIDELINE_KAFKA_SECURITY=sasl_ssl, or SCRAM-SHA-512"
        )
    return problems


def _clickhouse_tls(clickhouse: ClickHouseSettings) -> list[str]:
    if clickhouse.ca_file and not clickhouse.secure:
        return [
            "TIDELINE_CLICKHOUSE_CA_FILE: of no use while TIDELINE_CLICKHOUSE_SECURE is false; "
            "set it to true"
        ]
    return []


def _console_access(console: ConsoleSettings) -> list[str]:
    """Nobody comes in by accident: neither unasked, nor by a header that anybody can send."""
    problems = []
    is_local = console.host in ("localhost", "::1") or console.host.startswith("127.")
    if not is_local and not (console.tokens_file or console.user_header):
        problems.append(
            f"TIDELINE_CONSOLE_HOST: {console.host} can be reached from elsewhere, and nobody "
            "would be asked who they are; set TIDELINE_CONSOLE_TOKENS_FILE, or "
            "TIDELINE_CONSOLE_USER_HEADER behind a reverse proxy"
        )
    if not is_local and not console.public_url:
        problems.append(
            f"TIDELINE_CONSOLE_PUBLIC_URL: missing, as TIDELINE_CONSOLE_HOST is {console.host}: "
            "requests under another name are refused"
        )
    return problems + [
        f"{env_name('console', field)}: goes with TIDELINE_CONSOLE_USER_HEADER; set both"
        for field in ("roles_header", "trusted_proxies")
        if bool(getattr(console, field)) != bool(console.user_header)
    ]


def _plain(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value
