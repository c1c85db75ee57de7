"""Checks each stage's answers against the world, with the doctor's checks where it has one."""
# ruff: noqa: PLC0415  (drivers are imported by the check that needs them)

from __future__ import annotations

import glob
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from schemas.errors import SettingsError, TidelineError
from schemas.events import OrderEvent
from streams.ops import doctor
from streams.ops.doctor import Finding
from streams.settings import Settings
from streams.start.questions import Facts, Value
from streams.start.samples import Live, live, sentence

if TYPE_CHECKING:
    from streams.core.events.records import Records
    from streams.evaluation.history import History
    from streams.history.report import Report
    from streams.history.several import Histories

__all__ = ["Looked", "Read", "World", "files_named"]

Read = Callable[[Sequence[Path], Sequence[str]], "Histories"]
"""Reads files of orders with options as `tideline backfill` takes them. Raises SettingsError."""

DEFAULT_HORIZON_DAYS = 28
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Looked:
    """What a check has found; it has passed if no finding is a failure."""

    findings: tuple[Finding, ...]
    facts: Facts

    @property
    def passed(self) -> bool:
        return all(finding.state != "fail" for finding in self.findings)


@dataclass
class World:
    """What answers are checked against: brokers, ClickHouse, files. `now_ms`: the wall clock."""

    read: Read
    now_ms: Callable[[], int]
    records: dict[tuple[str, int], Records] = field(default_factory=dict)
    """The newest records of the input topics, by (topic, partition)."""
    histories: Histories | None = None

    def look(
        self, stage: str, settings: Settings, values: Mapping[str, Value], facts: Facts
    ) -> Looked:
        """The check of one stage."""
        checks: dict[str, Callable[[Settings, Mapping[str, Value], Facts], Looked]] = {
            "kafka": self._kafka,
            "topics": self._topics,
            "keys": self._keys,
            "clickhouse": self._clickhouse,
            "history": self._history,
            "currency": self._currency,
        }
        if stage not in checks:
            return Looked((), facts)
        try:
            return checks[stage](settings, values, facts)
        except TidelineError as error:
            return Looked((Finding(stage, "fail", str(error)),), facts)

    def live(self, settings: Settings) -> Iterator[Live]:
        """What a worker would make of the newest records of each input topic."""
        from streams.core.events.records import CLICKSTREAM, ORDERS
        from streams.shard.config import core_config

        clock_ms = self.now_ms() if settings.stream.clock == "wall" else 0
        names = settings.topic_names
        for topic, source in ((names.clickstream, CLICKSTREAM), (names.orders, ORDERS)):
            yield live(self.records, topic, source, core_config(settings), clock_ms)

    def past(self, currency: str, most: int = 3) -> list[str]:
        """A few orders and clicks of the history, the oldest, in a line each."""
        from streams.core.events.records import CLICKSTREAM, ORDERS

        first = next(iter(self.histories), []) if self.histories else []
        return [
            sentence(r.value, ORDERS if r.topic_kind == "orders" else CLICKSTREAM, currency)
            for r in first[:most]
        ]

    @property
    def reports(self) -> list[Report]:
        """How each file was read."""
        return self.histories.reports if self.histories else []

    def _kafka(self, settings: Settings, values: Mapping[str, Value], facts: Facts) -> Looked:
        from streams.kafka.access import kafka_access
        from streams.kafka.admin import cluster, connect
        from streams.kafka.reach import speaks_tls

        answers = next(doctor.check("kafka", settings))  # topics are checked later
        access = kafka_access(settings)
        if answers.state == "fail":
            if settings.kafka.security == "plaintext":
                tls = speaks_tls(access, _TIMEOUT_SECONDS)
                facts = replace(facts, secured=tls is not None, tls=bool(tls))
            return Looked((answers,), facts)
        with connect(access, _TIMEOUT_SECONDS) as admin:
            found = cluster(admin)
        return Looked((answers,), replace(facts, brokers=found.brokers, topics=found.partitions))

    def _topics(self, settings: Settings, values: Mapping[str, Value], facts: Facts) -> Looked:
        from streams.kafka import topics
        from streams.kafka.key_check import fitting_partitioners, newest_records

        reports = topics.check(settings, _TIMEOUT_SECONDS)
        names = settings.topic_names
        wrong = [report for report in reports if report.state == "wrong"]
        if wrong:
            taken = any(report.topic.name in names.own for report in wrong)
            found = tuple(map(doctor.topic_finding, wrong))
            return Looked(found, replace(facts, own_taken=taken))
        inputs = (names.clickstream, names.orders)
        missing = [r.topic.name for r in reports if r.state == "missing"]
        there = [topic for topic in inputs if topic not in missing]
        self.records = newest_records(settings, there)
        keys = sum(int((some.key_bytes >= 0).sum()) for some in self.records.values())
        said = f"{len(reports) - len(missing)} of {len(reports)} exist and are as needed"
        new = ", ".join(topic for topic in inputs if topic in missing)
        if new:
            said += f"; {new} will be created"
        return Looked(
            (Finding("topics", "ok", said),),
            replace(
                facts, keys=keys,
                fitting=fitting_partitioners(self.records, settings.kafka.partitions),
                currencies=self._live_currencies(settings),
            ),
        )  # fmt: skip

    def _live_currencies(self, settings: Settings) -> tuple[str, ...]:
        """The currencies that the newest orders name; a record that is no order names none."""
        named: Counter[str] = Counter()
        decode = msgspec.json.Decoder(OrderEvent).decode
        for (topic, _), some in self.records.items():
            for value in some.values if topic == settings.kafka.orders_topic else ():
                try:
                    currency = decode(value or b"").currency
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                named.update([currency] if currency else [])
        return tuple(currency for currency, _ in named.most_common())

    def _keys(self, settings: Settings, values: Mapping[str, Value], facts: Facts) -> Looked:
        return Looked(tuple(doctor.check("keys", settings)), facts)

    def _clickhouse(self, settings: Settings, values: Mapping[str, Value], facts: Facts) -> Looked:
        answers = next(doctor.check("clickhouse", settings))  # tables are created later
        failed = answers.state == "fail"
        return Looked((answers,), replace(facts, clickhouse_failed=failed))

    def _history(self, settings: Settings, values: Mapping[str, Value], facts: Facts) -> Looked:
        self.histories = None
        files = files_named(str(values.get("start.files", "")))
        if not files:
            said = "no files: customers are unknown until they order again"
            return Looked((Finding("history", "ok", said),), replace(facts, history=False))
        if settings.kafka.partitioner == "unchecked":
            said = "the partitioner is unchecked, so a customer's shard is not known"
            return Looked((Finding("history", "fail", said, "Continue without files"),), facts)
        found = self.read(files, shlex.split(str(values.get("start.options", ""))))
        self.histories = found
        doubts = tuple(
            Finding("history", "warn", report.one_order_each)
            for report in found.reports
            if report.one_order_each
        )
        named = [c for report in found.reports for c in report.revenue if c]
        currencies = tuple(dict.fromkeys([*named, *facts.currencies]))
        return Looked(doubts, replace(facts, history=not doubts, currencies=currencies))

    def _currency(self, settings: Settings, values: Mapping[str, Value], facts: Facts) -> Looked:
        """Whether all of the history has a value, and which horizon fits it."""
        if self.histories is None:
            return Looked((), replace(facts, history=False))
        from streams.evaluation.history import read_history
        from streams.evaluation.rhythm import judge_horizon, usual_gap_days
        from streams.evaluation.training import longest_horizon_days

        if not facts.history:
            return Looked((), facts)
        try:
            history: History = read_history(
                self.histories, settings.stream.currency, settings.stream.rates
            )
        except SettingsError as error:
            said = f"No model can be trained on this history: {error}"
            return Looked((Finding("model", "warn", said),), replace(facts, history=False))
        placed = history.standing()
        longest = longest_horizon_days(history.first_ms, history.last_ms)
        gone_after_days = int(settings.alerts.active_within_days)
        if longest < 1:
            said = "This history is too short to train a model on. The model that ships is used."
            return Looked((Finding("model", "warn", said),), replace(facts, history=False))
        gaps = usual_gap_days(placed.user, placed.ts_ms)
        fit = judge_horizon(
            gaps, customers=len(history.users), horizon_days=min(DEFAULT_HORIZON_DAYS, longest),
            gone_after_days=gone_after_days, longest_days=longest,
        )  # fmt: skip
        if fit.verdict == "too short" and fit.fitting_days is None:
            said = f"No model can be trained on this history: {fit.sentence()}"
            return Looked((Finding("model", "warn", said),), replace(facts, history=False))
        days = fit.horizon_days
        if fit.verdict in ("short", "too short") and fit.fitting_days is not None:
            days = fit.fitting_days
        return Looked(
            (),
            replace(
                facts, horizon_days=days, horizon=fit.sentence(), slow=bool(fit.gone_sentence())
            ),
        )


def files_named(text: str) -> list[Path]:
    """The files that a line names, as a shell would: quotes, ~ and patterns. Raises SettingsError.

    >>> files_named("'my orders.csv' b.csv")
    [PosixPath('my orders.csv'), PosixPath('b.csv')]
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"{text}: {error}. Close the quotes.") from error
    found: list[Path] = []
    for word in words:
        path = Path(word).expanduser()
        matches = [] if path.exists() else sorted(glob.glob(str(path)))
        found += [Path(match) for match in matches] or [path]
    return found
