"""Watches consumer groups over time: windows of commits and of lags, in arrays of bounded size.

Kafka shows which offset a group has committed, not when, nor that it committed the same one again.
So a commit is an offset that differs from the one at the last look, and its time is that of the
look. Burrow, which reads every commit, tells a consumer that is stuck (it commits the same offset:
stall) from one that is gone (it commits nothing: stop). Here both look like a stop; it is a stall
if a member still has the partition, since a member that is gone is known to the group's coordinator
after its session timeout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.kafka.committed import Committed
from streams.kafka.end_offsets import Partition
from streams.kafka.groups import Membership
from streams.lag.commits import Commits, KeptCommits
from streams.lag.compact import Compact
from streams.lag.evaluator import evaluate
from streams.lag.status import STATUSES, Columns, GroupLag, Role, Status
from streams.lag.times import REASONS, OffsetTimes, Reason
from streams.lag.trends import hot_partitions, velocity

__all__ = ["GroupWindow", "LogWindow", "Rules"]

_PATIENCE: Final = 3  # so many windows of looks, after which a window that is not full is judged

_CODE: Final[Mapping[str, int]] = {status: code for code, status in enumerate(STATUSES)}
_WHY: Final[Mapping[str, int]] = {reason: code for code, reason in enumerate(REASONS)}

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rules:
    """commits: length of the window of commits, and of the window of looks.
    min_distance_ms: a commit that is nearer to the one before replaces it, and keeps its time.
    allowed_records: a lag up to this is ok.
    """

    commits: int = 10
    min_distance_ms: int = 0
    allowed_records: int = 0


class LogWindow:
    """What was seen of the logs themselves: beginnings, ends, and when records were written."""

    def __init__(self, looks: int, hot_window_ms: int = 60_000) -> None:
        """`looks`: so many ends of each log are kept."""
        self._looks = looks
        self._hot_window_ms = hot_window_ms
        self._times: dict[str, OffsetTimes] = {}
        self._ends: dict[str, Ints] = {}
        self._last_ends: dict[str, Ints] = {}
        self._starts: dict[str, Ints] = {}
        self._hot: dict[str, NDArray[np.bool_]] = {}
        self._unreadable: dict[Partition, tuple[int, int]] = {}

    def saw(
        self, ends: Mapping[Partition, int], starts: Mapping[Partition, int], now_ms: int
    ) -> None:
        """Take in one look at all topics. A topic that is not among them is forgotten."""
        self._ends, self._starts = _columns(ends), _columns(starts)
        self._last_ends = {topic: self._with_last(topic, now) for topic, now in self._ends.items()}
        for topic in set(self._times) - set(self._ends):
            del self._times[topic]
        for topic, column in self._ends.items():
            times = self._times.setdefault(topic, OffsetTimes(len(column)))
            times.grow(len(column))
            seen = np.flatnonzero(column >= 0)
            times.saw(seen, column[seen], now_ms)
        self._hot = {topic: self._hot_of(topic) for topic in self._ends}
        self._unreadable = {
            place: span for place, span in self._unreadable.items() if self.end(*place) == span[1]
        }

    def _with_last(self, topic: str, ends: Ints) -> Ints:
        """The last ends, [partitions, looks], with the newest on the right; -1: not known."""
        before = self._last_ends.get(topic, np.zeros((0, self._looks), np.int64))
        last = np.full((max(len(before), len(ends)), self._looks), -1, np.int64)
        last[: len(before), :-1] = before[:, 1:]
        last[: len(ends), -1] = ends
        return last

    def last_ends(self, topic: str, partition: int) -> Ints:
        """int64 [looks]: the end offset at the last looks, the newest on the right; -1: not
        known."""
        last = self._last_ends.get(topic)
        if last is None or partition >= len(last):
            return np.full(self._looks, -1, np.int64)
        found: Ints = last[partition]
        return found

    def _hot_of(self, topic: str) -> NDArray[np.bool_]:
        times = self._times[topic]
        rates = (
            times.records_per_second(partition, self._hot_window_ms)
            for partition in range(times.partitions)
        )
        return hot_partitions(np.array([np.nan if r is None else r for r in rates], np.float64))

    def end(self, topic: str, partition: int) -> int:
        """The end offset; -1: not known."""
        return _at(self._ends.get(topic), partition)

    def start(self, topic: str, partition: int) -> int:
        """The first offset that the log still has; -1: not known."""
        return _at(self._starts.get(topic), partition)

    def is_hot(self, topic: str, partition: int) -> bool:
        hot = self._hot.get(topic)
        return hot is not None and partition < len(hot) and bool(hot[partition])

    def written_ms(self, topic: str, partition: int, offset: int, after_ms: int) -> int | None:
        times = self._times.get(topic)
        if times is None or partition >= times.partitions:
            return None
        return times.written_ms(partition, offset, after_ms)

    def needs_earlier(self, topic: str, partition: int, offset: int) -> bool:
        """Whether a record is older than all that the table knows."""
        times = self._times.get(topic)
        if times is None or partition >= times.partitions or times.is_empty(partition):
            return False
        return offset < times.first_offset(partition)

    def begin(self, topic: str, partition: int, offset: int, written_ms: int) -> None:
        """A record and its time, older than all that was seen."""
        times = self._times.get(topic)
        if times is not None and partition < times.partitions:
            times.begin(partition, offset, written_ms)

    def nothing_between(self, place: Partition, start: int, end: int) -> None:
        """There is no record in [start, end), only transaction markers or what was compacted away:
        a consumer that has read all stays before them."""
        self._unreadable[place] = start, end

    def readable(self, place: Partition, offset: int, end: int) -> bool:
        """Whether anything may be left to read from `offset` on."""
        start, stop = self._unreadable.get(place, (0, -1))
        return not (stop == end and start <= offset)


class GroupWindow:
    """One consumer group over time. Memory: about 210 bytes per partition with 10 commits, twice
    that where a window spans more than 2**31 records or milliseconds."""

    def __init__(self, name: str, rules: Rules, *, role: Role = "") -> None:
        self._name, self._rules, self._role = name, rules, role
        self._places: tuple[Partition, ...] = ()
        n = rules.commits
        self._commits = KeptCommits(Commits.none(0, n))
        self._lags = Compact(np.zeros((0, n), np.int64))
        self._looked_ms = np.zeros(n, np.int64)
        self._looks = 0
        self._status = np.zeros(0, np.int8)
        self._since_ms = np.zeros(0, np.int64)
        self._columns: Columns | None = None
        self._owners: tuple[str, ...] = ()

    def look(
        self,
        now_ms: int,
        committed: Mapping[Partition, Committed] | None,
        log: LogWindow,
        membership: Membership | None = None,
        expected: Iterable[Partition] = (),
    ) -> GroupLag:
        """Take in one look, and say what is to be seen.

        committed: None if the broker gave no answer. Partitions without a commit are missing, or
        have a negative offset.
        expected: partitions that the group should have, also where it has not committed.
        """
        if committed is None:
            self._resize(tuple(sorted({*self._places, *expected})))
        else:
            self._resize(tuple(sorted({*committed, *expected})))
        places = self._places
        given: Mapping[Partition, Committed] = committed or {}
        offsets = _ints(given[p].offset if p in given else -1 for p in places)
        np.maximum(offsets, -1, out=offsets)
        ends, starts = _ints(log.end(*p) for p in places), _ints(log.start(*p) for p in places)
        lags = np.where((offsets >= 0) & (ends >= 0), np.maximum(ends - offsets, 0), -1)
        for row in np.flatnonzero(lags > 0).tolist():
            if not log.readable(places[row], int(offsets[row]), int(ends[row])):
                lags[row] = 0
        commits = self._commits.open()
        commits.add(offsets, lags, now_ms, self._rules.min_distance_ms)
        self._commits.put(commits)
        history = self._sample(lags, now_ms)

        seconds, reasons = self._seconds(given, offsets, starts, lags, log, now_ms)
        if committed is None:
            reasons[:] = _WHY["no_answer"]
        answered = committed is not None
        status = np.array(
            [
                _CODE[self._judge(row, commits, log, answered, membership, lags, offsets, now_ms)]
                for row in range(len(places))
            ],
            np.int8,
        )
        changed = status != self._status
        since_ms = np.where(changed, now_ms, self._since_ms)
        topics = membership.topics if membership is not None else None
        looks = min(self._looks, self._rules.commits)
        history = history[:, -looks:]
        columns = Columns(
            committed=offsets,
            log_start=starts,
            log_end=ends,
            lag=lags,
            lag_seconds=seconds,
            reason=reasons,
            velocity=velocity(self._looked_ms[-looks:], history),
            status=status,
            since_ms=since_ms,
            window_ratio=commits.used / self._rules.commits,
            hot=np.array([log.is_hot(*p) for p in places], np.bool_),
            subscribed=np.array([topics is None or p[0] in topics for p in places], np.bool_),
        )
        self._columns = columns.sharing(self._columns)
        self._since_ms, self._status = self._columns.since_ms, self._columns.status
        owners = tuple(membership.owners.get(p, "") if membership else "" for p in places)
        self._owners = self._owners if owners == self._owners else owners
        return GroupLag(
            self._name,
            now_ms,
            places,
            self._columns,
            self._owners,
            membership.members if membership else None,
            self._role,
            self._looked_ms[-looks:].copy(),
            np.where((history >= 0).any(axis=0), np.maximum(history, 0).sum(axis=0), -1),
        )

    def stuck(self, log: LogWindow, records: int) -> list[tuple[Partition, int, int]]:
        """Partitions whose small lag and whose end have not changed in the whole window, as (place,
        committed, end): perhaps nothing is left to read there."""
        if self._looks < self._rules.commits or not self._places:
            return []
        lags = self._lags.values()
        still = (lags == lags[:, :1]).all(axis=1)
        still &= (lags[:, 0] > 0) & (lags[:, 0] <= records)
        found = []
        for row in np.flatnonzero(still).tolist():
            ends, lag = log.last_ends(*self._places[row]), int(lags[row, 0])
            if (ends == ends[0]).all():
                found.append((self._places[row], int(ends[0]) - lag, int(ends[0])))
        return found

    def _judge(
        self,
        row: int,
        commits: Commits,
        log: LogWindow,
        answered: bool,
        membership: Membership | None,
        lags: Ints,
        offsets: Ints,
        now_ms: int,
    ) -> Status:
        if answered and offsets[row] < 0:
            return "uncommitted"
        if not answered or lags[row] < 0:
            return "unknown"
        if lags[row] <= self._rules.allowed_records:
            return "ok"
        n = self._rules.commits
        if commits.used[row] < n and self._looks < _PATIENCE * n:
            return "pending"
        recent = log.last_ends(*self._places[row])
        found = evaluate(
            commits.of(row), recent[recent >= 0].tolist(), int(lags[row]), now_ms,
            self._rules.allowed_records,
        )  # fmt: skip
        is_owned = membership is not None and self._places[row] in membership.owners
        return "stall" if found == "stop" and is_owned else found

    def _seconds(
        self,
        committed: Mapping[Partition, Committed],
        offsets: Ints,
        starts: Ints,
        lags: Ints,
        log: LogWindow,
        now_ms: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        seconds = np.where(lags == 0, 0.0, np.nan)
        reasons = np.zeros(len(lags), np.int8)
        reasons[lags < 0] = _WHY["no_answer"]
        reasons[offsets < 0] = _WHY["uncommitted"]
        for row in np.flatnonzero(lags > 0).tolist():
            place, offset = self._places[row], int(offsets[row])
            why: Reason = "expired" if offset < starts[row] else "no_bracket"
            written = (
                log.written_ms(*place, offset, committed[place].applied_ms)
                if why != "expired"
                else None
            )
            if written is None:
                reasons[row] = _WHY[why]
            else:
                seconds[row] = max(0, now_ms - written) / 1000
        return seconds, reasons

    def _sample(self, lags: Ints, now_ms: int) -> Ints:
        """The lags of the last looks, int64 [partitions, looks], with these on the right."""
        last = self._lags.values()
        last[:, :-1] = last[:, 1:].copy()
        last[:, -1] = lags
        self._lags.put(last)
        self._looked_ms[:-1] = self._looked_ms[1:].copy()
        self._looked_ms[-1] = now_ms
        self._looks += 1
        return last

    def _resize(self, places: tuple[Partition, ...]) -> None:
        if places == self._places:
            return
        old = {place: row for row, place in enumerate(self._places)}
        kept = [(row, old[place]) for row, place in enumerate(places) if place in old]
        to, of = (_ints(pair[i] for pair in kept) for i in (0, 1))

        self._commits.put(self._commits.open().moved(to, of, len(places)))
        lags = np.full((len(places), self._rules.commits), -1, np.int64)
        lags[to] = self._lags.values()[of]
        self._lags.put(lags)
        since_ms = np.zeros(len(places), np.int64)
        since_ms[to] = self._since_ms[of]
        self._since_ms = since_ms
        status = np.full(len(places), -1, np.int8)
        status[to] = self._status[of]
        self._status = status
        self._places = places


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, np.int64)


def _columns(offsets: Mapping[Partition, int]) -> dict[str, Ints]:
    """Per topic, the offset of each partition; -1: not among them."""
    last: dict[str, int] = {}
    for topic, partition in offsets:
        last[topic] = max(last.get(topic, 0), partition)
    columns = {topic: np.full(number + 1, -1, np.int64) for topic, number in last.items()}
    for (topic, partition), at in offsets.items():
        columns[topic][partition] = at
    return columns


def _at(column: Ints | None, partition: int) -> int:
    return int(column[partition]) if column is not None and partition < len(column) else -1
