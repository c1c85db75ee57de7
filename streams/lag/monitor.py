"""Watches consumer lag from outside the workers: one look at Kafka is one `LagReport`.

It is a process beside the workers: kafka-python's admin blocks, and a monitor inside a worker dies
with it. A bad answer does not stop it: the lag becomes `unknown`, with a problem in words, and the
next group, topic or look follows.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, TypeVar

from kafka.errors import KafkaError

from schemas.errors import BrokerUnavailable
from streams.kafka.access import kafka_access
from streams.kafka.admin import connect, partition_counts
from streams.kafka.committed import Committed
from streams.kafka.end_offsets import EndOffsets, Partition
from streams.kafka.groups import (
    Membership,
    committed_by,
    group_names,
    membership,
    newest_records,
    oldest_records,
)
from streams.lag.report import LagReport
from streams.lag.status import Role
from streams.lag.tracker import GroupWindow, LogWindow, Rules
from streams.settings import Settings

__all__ = ["Watch", "poll", "poll_once", "reports", "rules_of", "watched"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_PROBED_RECORDS: Final = 1_000  # more than this is no trail of transaction markers
_PROBES: Final = 20  # in one look: each may take a second


def watched(settings: Settings) -> dict[str, dict[str, int]]:
    """Our consumer groups -> topic -> partitions as configured (used where the broker does not
    say)."""
    names, kafka = settings.topic_names, settings.kafka
    return {
        kafka.app_id: {
            names.clickstream: kafka.partitions,
            names.orders: kafka.partitions,
        },
        names.learner_group: {names.examples: 1},
    }


def rules_of(settings: Settings) -> Rules:
    lag = settings.lag
    return Rules(lag.window_commits, int(lag.min_distance_seconds * 1000), lag.allowed_records)


def poll_once(settings: Settings, timeout_seconds: float = 10.0) -> LagReport:
    """Connect, look once, disconnect. Raises BrokerUnavailable only if no broker can be reached."""
    access = kafka_access(settings)
    with connect(access, timeout_seconds) as admin, EndOffsets(access, timeout_seconds) as ends:
        return poll(admin, ends, Watch(settings))


class Watch:
    """What the monitor keeps from look to look: the windows of every group and log."""

    def __init__(
        self, settings: Settings, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self.ours = watched(settings)
        self._roles: dict[str, Role] = {
            settings.kafka.app_id: "worker", settings.topic_names.learner_group: "learner"
        }  # fmt: skip
        self.now_ms = now_ms
        self.log = LogWindow()
        self._wanted = re.compile(settings.lag.groups)
        self._rules = rules_of(settings)
        self._windows: dict[str, GroupWindow] = {}

    def wants(self, group: str) -> bool:
        return self._wanted.fullmatch(group) is not None

    def window(self, group: str) -> GroupWindow:
        return self._windows.setdefault(
            group, GroupWindow(group, self._rules, role=self._roles.get(group, ""))
        )

    def keep(self, groups: list[str]) -> None:
        """Forget all other groups: they are gone."""
        for gone in set(self._windows) - set(groups):
            del self._windows[gone]

    def known(self) -> list[str]:
        """Ours first, and then those of the last look."""
        return [*self.ours, *sorted(set(self._windows) - set(self.ours))]

    def blind(self, why: str) -> LagReport:
        """The report of a look that reached no broker: everything is `unknown`."""
        now_ms = self.now_ms()
        self.log.saw({}, {}, now_ms)
        groups = tuple(
            self.window(name).look(now_ms, None, self.log, None, _expected(self.ours, name, {}))
            for name in self.known()
        )
        return LagReport(now_ms, groups, (why,), answered=False)


def poll(admin: Any, ends: EndOffsets, watch: Watch) -> LagReport:
    """One look. In this order, so that lag can't come out negative:

    1. The names of all groups.
    2. Committed offsets and members, group by group: kafka-python raises for all if one fails.
    3. Partition counts of all their topics.
    4. Beginnings and ends of these logs: in one question; topic by topic if that fails.
    5. The time of the oldest and the newest record, of logs where a group is further back than the
       monitor has watched.
    """
    return _Look(admin, ends, watch).report()


class _Look:
    """One look; collects problems in place of errors."""

    def __init__(self, admin: Any, ends: EndOffsets, watch: Watch) -> None:
        self._admin, self._ends, self._watch = admin, ends, watch
        self._problems: list[str] = []
        self._answers = 0

    def _ask(self, what: str, question: Callable[..., T], *args: Any) -> T | None:
        # ValueError: kafka-python could not parse the answer
        try:
            answer = question(*args)
        except (KafkaError, OSError, ValueError) as error:
            if what:
                self._problems.append(f"{what}: {type(error).__name__}")
            else:
                _log.debug("not answered: %r", error)
            return None
        self._answers += 1
        return answer

    def report(self) -> LagReport:
        started = time.monotonic()
        watch = self._watch
        listed = self._ask("consumer groups", group_names, self._admin)
        others = watch.known() if listed is None else listed
        names = list(dict.fromkeys([*watch.ours, *filter(watch.wants, others)]))
        committed = {
            name: self._ask(f"committed offsets of {name}", committed_by, self._admin, name)
            for name in names
        }
        members = self._members(names)
        topics = {topic for ours in watch.ours.values() for topic in ours}
        topics |= {topic for found in committed.values() if found for topic, _ in found}
        counted = self._ask("partition counts", partition_counts, self._admin, sorted(topics))
        counts: Mapping[str, int] = {} if counted is None else counted
        if counted is not None:
            missing = sorted({t for ours in watch.ours.values() for t in ours} - set(counted))
            self._problems += [
                f"topic {topic} does not exist; run `tideline topics --create`" for topic in missing
            ]
            committed = {
                name: found
                and {at: each for at, each in found.items() if at[1] < counts.get(at[0], 0)}
                for name, found in committed.items()
            }
        places = {at for found in committed.values() if found for at in found}
        for name in watch.ours:
            places |= {at for at in _expected(watch.ours, name, counts) if at[0] in counts}
        log_ends = self._of_logs("end offsets", self._ends.of, places) if self._answers else {}
        starts = (
            self._of_logs("first offsets", self._ends.beginnings_of, places) if log_ends else {}
        )
        now_ms = watch.now_ms()
        watch.log.saw(log_ends, starts, now_ms)
        self._bracket(committed)
        groups = tuple(
            watch.window(name).look(
                now_ms, committed[name], watch.log, members.get(name),
                _expected(watch.ours, name, counts),
            )
            for name in names
        )  # fmt: skip
        watch.keep(names)
        self._probe(names)
        return LagReport(
            now_ms, groups, tuple(self._problems), time.monotonic() - started, self._answers > 0
        )

    def _members(self, names: list[str]) -> dict[str, Membership]:
        """Who is in each group. Without an answer for the first one there is none for the others:
        a broker whose answer can't be read would be asked hundreds of times."""
        found: dict[str, Membership] = {}
        for name in names:
            try:
                answer = membership(self._admin, name)
            except (KafkaError, OSError) as error:
                _log.debug("members of %s: %r", name, error)
                continue
            except ValueError as error:
                _log.debug("members are not known: %r", error)
                break
            if answer is not None:
                found[name] = answer
        return found

    def _of_logs(
        self,
        what: str,
        question: Callable[[set[Partition]], Mapping[Partition, int]],
        places: set[Partition],
    ) -> dict[Partition, int]:
        every = self._ask("", question, places)
        if every is not None:
            return dict(every)
        found: dict[Partition, int] = {}
        for topic in sorted({topic for topic, _ in places}):
            of_topic = {place for place in places if place[0] == topic}
            found |= self._ask(f"{what} of {topic}", question, of_topic) or {}
        return found

    def _bracket(self, committed: Mapping[str, Mapping[Partition, Committed] | None]) -> None:
        """Add the times of records from before the first look. What a broker can't say is left out:
        the lag in seconds then has no bracket, and says so."""
        log = self._watch.log
        wanted = {
            at
            for found in committed.values()
            for at, each in (found or {}).items()
            if max(0, log.start(*at)) <= each.offset < log.end(*at)
            and log.needs_earlier(*at, each.offset)
        }
        if not wanted:
            return
        for question in (newest_records, oldest_records):
            for at, (offset, written_ms) in (
                self._ask("", question, self._admin, wanted) or {}
            ).items():
                log.begin(*at, offset, written_ms)

    def _probe(self, names: list[str]) -> None:
        """Where a small lag stands still, look whether there is a record at all: a consumer that
        has read everything stays before the marker of a transaction."""
        stuck = {at for name in names for at in self._watch.window(name).stuck(_PROBED_RECORDS)}
        for place, start, end in sorted(stuck)[:_PROBES]:
            if self._ask("", self._ends.nothing_between, place, start, end):
                self._watch.log.nothing_between(place, start, end)


def _expected(
    ours: Mapping[str, Mapping[str, int]], group: str, counts: Mapping[str, int]
) -> list[Partition]:
    return [
        (topic, number)
        for topic, configured in ours.get(group, {}).items()
        for number in range(counts.get(topic, configured))
    ]


def reports(
    settings: Settings,
    interval_seconds: float,
    timeout_seconds: float = 10.0,
    pause: Callable[[float], bool | None] = time.sleep,
) -> Generator[LagReport]:
    """A report every `interval_seconds`; reconnects by itself.

    `pause` waits for a number of seconds; the reports end when it returns True.
    """
    access = kafka_access(settings)
    watch = Watch(settings)
    while True:
        with (
            contextlib.suppress(BrokerUnavailable),
            connect(access, timeout_seconds) as admin,
            EndOffsets(access, timeout_seconds) as ends,
        ):
            while True:
                started = time.monotonic()
                report = poll(admin, ends, watch)
                yield report
                if not report.answered:
                    break  # connect again
                if pause(max(0.0, interval_seconds - (time.monotonic() - started))):
                    return
        yield watch.blind("Kafka does not answer")
        if pause(interval_seconds):
            return
