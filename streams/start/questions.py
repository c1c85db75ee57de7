"""Decides which question or check comes next, given what is known. Pure: nothing is asked here.

A stage is a few questions and one check. When the check fails, the stage's answers are forgotten,
and its questions are asked again; the facts that the check has found may add some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from schemas.topics import TopicNames
from streams.settings import SECTIONS, Secret

__all__ = [
    "ASKED",
    "SECRETS",
    "STAGES",
    "Ask",
    "Check",
    "Facts",
    "Known",
    "Question",
    "Stage",
    "Value",
    "default_of",
    "next_step",
]

Value: TypeAlias = str | int | float | bool
Values: TypeAlias = Mapping[str, Value]
"""By key: `<table>.<field>` of a setting, or `start.<name>` for what is no setting."""
_SHOWN_TOPICS: Final = 8
_TLS: Final = ("ssl", "sasl_ssl")
_SASL: Final = ("sasl_plaintext", "sasl_ssl")
TLS_PORT: Final = 9440
"""ClickHouse's usual port of the native protocol with TLS."""


@dataclass(frozen=True)
class Question:
    """One question. `default` is taken for an empty answer; None: there must be an answer."""

    key: str
    text: str
    default: Value | None = None
    hint: str = ""
    """Said before the question."""
    choices: tuple[str, ...] = ()
    secret: bool = False
    only: bool = False
    """The default is the only answer that can work: it is shown, and nobody is asked."""


@dataclass(frozen=True)
class Facts:
    """What the checks have found so far."""

    secured: bool = False
    """A broker listens, but does not answer to plain text."""
    tls: bool = False
    brokers: int = 1
    topics: Mapping[str, int] = field(default_factory=dict)
    """Partitions of each topic there is."""
    own_taken: bool = False
    """Topics with the names of Tideline's own exist with another number of partitions."""
    keys: int = 0
    """Keys among the newest records of the input topics."""
    fitting: tuple[str, ...] = ()
    """Partitioners that put all of them where they are."""
    clickhouse_failed: bool = False
    secrets: frozenset[str] = frozenset()
    """Keys of the passwords that were typed here."""
    currencies: tuple[str, ...] = ()
    """Those that the history and the newest orders name, the most frequent first."""
    history: bool = False
    """There is a history that a model can be trained on."""
    horizon_days: int = 28
    """The horizon to propose."""
    horizon: str = ""
    """What that horizon means for these customers, in words."""
    slow: bool = False
    """Many customers pause for longer than the time after which they count as gone."""
    models: str = ""
    """Directory to propose for models."""


@dataclass(frozen=True)
class Stage:
    """Questions that are checked together."""

    name: str
    title: str
    questions: Callable[[Values, Facts], Iterator[Question]]
    needs: tuple[str, ...] = ()
    """Stages that must have passed before this one can be checked."""


@dataclass(frozen=True)
class Known:
    """Answers, facts, and which stages have passed or failed their check.

    `before` has the answers of a stage that failed: they are proposed again.
    """

    values: Values = field(default_factory=dict)
    facts: Facts = Facts()
    passed: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    before: Values = field(default_factory=dict)

    def answered(self, key: str, value: Value) -> Known:
        return replace(self, values={**self.values, key: value})

    def after(self, stage: Stage, facts: Facts) -> Known:
        """The stage's check has passed."""
        return replace(self, facts=facts, passed=self.passed | {stage.name})

    def given_up(self, stage: Stage) -> Known:
        """The stage has failed for good."""
        return replace(self, failed=self.failed | {stage.name})

    def again(self, stage: Stage, facts: Facts, fixed: frozenset[str] = frozenset()) -> Known:
        """The stage's questions are asked again, and later stages checked again. Answers of `fixed`
        keys stay, since only the environment can change them."""
        asked = {q.key for q in stage.questions(self.values, facts)} - fixed
        later = [s.name for s in STAGES[STAGES.index(stage) :]]
        return replace(
            self,
            facts=facts,
            values={k: v for k, v in self.values.items() if k not in asked},
            before={**self.before, **{k: v for k, v in self.values.items() if k in asked}},
            passed=self.passed - set(later),
        )


@dataclass(frozen=True)
class Ask:
    """The next step is a question."""

    stage: Stage
    question: Question


@dataclass(frozen=True)
class Check:
    """The next step is a stage's check."""

    stage: Stage


def next_step(known: Known) -> Ask | Check | None:
    """What comes next; None: all stages have passed, or can't."""
    for stage in STAGES:
        if stage.name in known.passed | known.failed or known.failed & set(stage.needs):
            continue
        for question in stage.questions(known.values, known.facts):
            if question.key not in known.values:
                return Ask(stage, _proposing(question, known.before))
        return Check(stage)
    return None


def _proposing(question: Question, before: Values) -> Question:
    if question.secret or question.only or before.get(question.key, "") == "":
        return question
    return replace(question, default=before[question.key])


def default_of(key: str) -> Any:
    """The default of a setting, a password's in clear."""
    table, _, name = key.partition(".")
    default = SECTIONS[table].__dataclass_fields__[name].default
    return default.reveal() if isinstance(default, Secret) else default


def _default(key: str, text: str, hint: str = "", **more: Any) -> Question:
    return Question(key, text, default_of(key), hint, **more)


def _kafka(values: Values, facts: Facts) -> Iterator[Question]:
    yield _default("kafka.broker_url", "Kafka brokers",
                   "As host:port; several are separated by commas.")  # fmt: skip
    security = values.get("kafka.security")
    if facts.secured or security is not None:
        yield Question(
            "kafka.security", "Security of the listener",
            "sasl_ssl" if facts.tls else "sasl_plaintext",
            "The listener does not answer to plain text, so it wants "
            + ("TLS, and perhaps a login." if facts.tls else "a login."),
            ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
        )  # fmt: skip
    if security in _TLS:
        yield _default("kafka.ca_file", "CA bundle that signs the brokers' certificates",
                       "A PEM file; Enter takes the system's bundle.")  # fmt: skip
    if security in _SASL:
        yield _default("kafka.sasl_mechanism", "SASL mechanism",
                       choices=("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"))  # fmt: skip
        yield Question("kafka.username", "Kafka user")
        yield Question("kafka.password", "Password of the Kafka user", secret=True)


def _topics(values: Values, facts: Facts) -> Iterator[Question]:
    app = str(values.get("kafka.app_id", default_of("kafka.app_id")))
    own = TopicNames("", "", app).own
    others = {name: n for name, n in facts.topics.items() if name not in own}
    yield Question("kafka.clickstream_topic", "Topic of clickstream events",
                   _likely(others, "clickstream", "click"), _listed(others))  # fmt: skip
    yield Question("kafka.orders_topic", "Topic of orders", _likely(others, "orders", "order"))
    if facts.own_taken:
        yield Question("kafka.app_id", "Prefix of Tideline's own topics", f"{app}-2",
                       f"Topics named {app}-… exist already, with another number of partitions. "
                       "They may belong to another installation.")  # fmt: skip
    names = [str(values.get(key, "")) for key in ("kafka.clickstream_topic", "kafka.orders_topic")]
    there = [others[name] for name in names if name in others]
    if there:
        yield Question("kafka.partitions", "Partitions", there[0],
                       f"Partitions: {there[0]}, as the topics have.", only=True)  # fmt: skip
    else:
        yield _default("kafka.partitions", "Partitions of each topic",
                       "Both topics will be created. No more workers than partitions can share the "
                       "load. `tideline repartition` can multiply the number later.")  # fmt: skip
    if facts.brokers > 1 and not {*names, *own} <= set(facts.topics):
        yield Question("kafka.replication_factor", "Replicas of each new topic",
                       min(3, facts.brokers), f"There are {facts.brokers} brokers.")  # fmt: skip


def _likely(topics: Mapping[str, int], usual: str, word: str) -> str:
    if usual in topics:
        return usual
    return next((name for name in sorted(topics) if word in name.lower()), usual)


def _listed(topics: Mapping[str, int]) -> str:
    if not topics:
        return "There are no topics yet. Those that are missing will be created."
    shown = [f"{name} ({n})" for name, n in sorted(topics.items())[:_SHOWN_TOPICS]]
    more = len(topics) - len(shown)
    return (
        f"Topics there, and their partitions: {', '.join(shown)}"
        + (f", and {more} more" if more else "")
        + ". Missing ones will be created."
    )


def _keys(values: Values, facts: Facts) -> Iterator[Question]:
    key, text = "kafka.partitioner", "Partitioner of the producers"
    choices = ("murmur2", "crc32", "fnv1a", "unchecked")
    if facts.fitting and facts.keys:
        fits = "murmur2" if "murmur2" in facts.fitting else facts.fitting[0]
        yield Question(key, text, fits, f"Partitioner: {fits}. It puts all of the newest "
                       f"{facts.keys:,} keys where they are.", choices, only=True)  # fmt: skip
        return
    why = (
        "No partitioner that Tideline knows puts all of the newest keys where they are. Perhaps "
        "one producer has another setting than the rest. Answer unchecked only if all producers "
        "use the same partitioner, and it is none of these."
        if facts.keys
        else "The topics have no keys yet that would show it. murmur2: Java and most clients; "
        "crc32: librdkafka, unless it is set to murmur2_random; fnv1a: Sarama."
    )
    yield Question(key, text, None if facts.keys else default_of(key), why, choices)


def _clickhouse(values: Values, facts: Facts) -> Iterator[Question]:
    yield _default("clickhouse.host", "ClickHouse host")
    yield _default("clickhouse.port", "Port of its native protocol",
                   f"9000, or {TLS_PORT} with TLS; not 8123, which is HTTP.")  # fmt: skip
    tls = values.get("clickhouse.port") == TLS_PORT
    if tls or facts.clickhouse_failed:
        yield Question("clickhouse.secure", "Connect with TLS", tls,
                       f"TLS: yes, because port {TLS_PORT} is for TLS." if tls else "",
                       only=tls and not facts.clickhouse_failed)  # fmt: skip
    if values.get("clickhouse.secure") and facts.clickhouse_failed:
        yield _default("clickhouse.ca_file", "CA bundle that signs its certificate",
                       "A PEM file; Enter takes the system's bundle.")  # fmt: skip
    yield _default("clickhouse.user", "ClickHouse user")
    yield Question("clickhouse.password", "Its password", "", "Enter for none.", secret=True)
    yield _default("clickhouse.database", "Database for Tideline's tables",
                   "It will be created if it is missing.")  # fmt: skip


def _secrets(values: Values, facts: Facts) -> Iterator[Question]:
    if facts.secrets:
        yield Question(
            "start.keep", "Where to keep the password", "file",
            "file: in a file of its own that only you can read. environment: it is not stored, you "
            "set the variable yourself. toml: in clear text among the other settings.",
            ("file", "environment", "toml"),
        )  # fmt: skip


def _history(values: Values, facts: Facts) -> Iterator[Question]:
    yield Question(
        "start.files", "Files with past orders", "none",
        "Exports of your shop: CSV, Excel, Parquet or JSON. Several are separated by spaces.",
    )  # fmt: skip


def _currency(values: Values, facts: Facts) -> Iterator[Question]:
    named = facts.currencies
    one = named[0] if named else default_of("stream.currency")
    seen = f"Your orders name {', '.join(named)}." if named else ""
    yield Question("stream.currency", "Currency of all results", one, seen)
    others = sorted(set(named) - {values.get("stream.currency", one)})
    if others:
        yield Question(
            "stream.currency_rates", "Exchange rates",
            hint=f"There are orders in {', '.join(others)}. What one unit is worth in "
            f"{values.get('stream.currency', one)}, such as {others[0]}=1.08; several are "
            "separated by commas.",
        )  # fmt: skip


def _model(values: Values, facts: Facts) -> Iterator[Question]:
    if not facts.history:
        return
    yield Question("start.horizon_days", "Days without an order that mean churn",
                   facts.horizon_days, facts.horizon)  # fmt: skip
    if facts.slow:
        days = 3.0 * float(values.get("start.horizon_days", facts.horizon_days))
        yield Question("alerts.active_within_days", "", days,
                       f"Customers count as gone after {days:g} days (three horizons), because "
                       "many of yours pause for long.", only=True)  # fmt: skip
    yield Question("model.artifact", "Directory for your models", facts.models)


def _nothing(values: Values, facts: Facts) -> Iterator[Question]:
    yield from ()


STAGES: Final = (
    Stage("kafka", "Kafka", _kafka),
    Stage("topics", "Topics", _topics, ("kafka",)),
    Stage("keys", "Keys", _keys, ("kafka", "topics")),
    Stage("clickhouse", "ClickHouse", _clickhouse),
    Stage("secrets", "Passwords", _secrets, ("kafka", "clickhouse")),
    Stage("history", "History", _history),
    Stage("currency", "Currency", _currency, ("history",)),
    Stage("model", "Model", _model, ("history", "currency")),
    Stage(
        "look", "What Tideline reads", _nothing, ("kafka", "topics", "keys", "history", "currency")
    ),
)
"""In the order in which they are asked."""

ASKED: Final = (
    "kafka.broker_url", "kafka.security", "kafka.ca_file", "kafka.sasl_mechanism",
    "kafka.username", "kafka.clickstream_topic", "kafka.orders_topic", "kafka.app_id",
    "kafka.partitions", "kafka.replication_factor", "kafka.partitioner", "clickhouse.host",
    "clickhouse.port", "clickhouse.secure", "clickhouse.ca_file", "clickhouse.user",
    "clickhouse.database", "stream.currency", "stream.currency_rates",
    "alerts.active_within_days", "model.artifact",
)  # fmt: skip
"""Settings that are asked for, apart from passwords."""


SECRETS: Final = ("kafka.password", "clickhouse.password")
"""Passwords that are asked for."""
