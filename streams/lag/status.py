"""What one look at a consumer group found: columns over its partitions, and rows made from them.

A number that is not known is None, or NaN, never 0 or -1: a group that has not committed is not
"behind by the whole log", and an unknown offset is not zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from streams.kafka.end_offsets import Partition
from streams.lag.compact import shared
from streams.lag.evaluator import GroupStatus, Rule, group_status
from streams.lag.times import REASONS, Reason
from streams.lag.trends import retention_ratio, seconds_to_close, seconds_to_loss

__all__ = ["STATUSES", "Columns", "GroupLag", "PartitionLag", "Role", "Status"]

Status = Rule | Literal["uncommitted", "pending", "unknown"]

Role = Literal["worker", "learner", ""]

STATUSES: Final[tuple[Status, ...]] = (
    "ok", "uncommitted", "pending", "warn", "unknown", "stop", "stall", "rewind",
)  # fmt: skip
"""ok, warn, stop, stall and rewind are Burrow's. uncommitted: the group has not committed there.
pending: behind, and not watched for long enough to judge. unknown: the broker did not say."""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition of one consumer group; None is "no number", never 0 or -1."""

    topic: str
    partition: int
    status: Status
    since_ms: int
    """Since when it has this status, as far as the monitor has seen."""
    committed: int | None
    log_start: int | None
    log_end: int | None
    lag_records: int | None
    lag_seconds: float | None
    """The age of the oldest record that was not committed; 0 without lag."""
    no_seconds: Reason
    """Why there are no seconds; '': there are."""
    records_per_second: float | None
    """How fast the lag grows; negative: it shrinks."""
    seconds_to_close: float | None
    """None also while the lag does not shrink."""
    retention_ratio: float | None
    """The share of the retained log that lies unread, 0 to 1."""
    seconds_to_loss: float | None
    """Until unread records are deleted, at this velocity; None also if the lag does not grow."""
    window_ratio: float
    """How much of its window of commits is filled, 0 to 1."""
    hot: bool
    """The log grows far faster here than in the topic's other partitions."""
    subscribed: bool
    """False: the group has members, and none of them subscribes to the topic."""
    owner: str
    """The member that has the partition, as client id and host; '': none, or not known."""


@dataclass(frozen=True)
class Columns:
    """One look at a group's partitions, all arrays [partitions]; -1 and NaN are "not known"."""

    committed: NDArray[np.int64]
    log_start: NDArray[np.int64]
    log_end: NDArray[np.int64]
    lag: NDArray[np.int64]
    lag_seconds: NDArray[np.float64]
    reason: NDArray[np.int8]
    """Index into `REASONS`."""
    velocity: NDArray[np.float64]
    status: NDArray[np.int8]
    """Index into `STATUSES`."""
    since_ms: NDArray[np.int64]
    window_ratio: NDArray[np.float64]
    hot: NDArray[np.bool_]
    subscribed: NDArray[np.bool_]

    def sharing(self, before: Columns | None) -> Columns:
        """The same, with the arrays of the look before where they have the same bits: both looks
        are held at once, and most columns of most groups stand still. No array may be changed in
        place."""
        if before is None:
            return self
        names = [each.name for each in fields(self)]
        return Columns(*(shared(getattr(self, name), getattr(before, name)) for name in names))


@dataclass(frozen=True)
class GroupLag:
    """A consumer group's partitions, in order of topic and number, and what they come to.

    Totals and the status leave out topics that the group no longer subscribes to: their lag can
    only grow.
    """

    consumer_group: str
    observed_at_ms: int
    names: tuple[Partition, ...]
    columns: Columns
    owners: tuple[str, ...]
    members: int | None = None
    """How many members the group has; None: not known."""
    role: Role = ""
    """Which of Tideline's processes it belongs to; '': none, it is another's."""
    history_ms: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    history_records: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """The group's total lag at each of the last looks; negative: not known."""

    @property
    def ours(self) -> bool:
        """Whether it is one of Tideline's own."""
        return bool(self.role)

    def _known(self) -> NDArray[np.int64]:
        lags = self.columns.lag[self.columns.subscribed]
        return lags[lags >= 0]

    @property
    def total_records(self) -> int | None:
        known = self._known()
        return int(known.sum()) if len(known) else None

    @property
    def max_records(self) -> int | None:
        known = self._known()
        return int(known.max()) if len(known) else None

    @property
    def max_seconds(self) -> float | None:
        seconds = self.columns.lag_seconds[self.columns.subscribed]
        return None if np.isnan(seconds).all() else round(float(np.nanmax(seconds)), 3)

    @property
    def records_per_second(self) -> float | None:
        velocity = self.columns.velocity[self.columns.subscribed]
        return None if np.isnan(velocity).all() else float(np.nansum(velocity))

    @property
    def status(self) -> GroupStatus:
        """As bad as the worst partition."""
        codes = np.unique(self.columns.status[self.columns.subscribed])
        return group_status(STATUSES[code] for code in codes.tolist())

    @property
    def partitions(self) -> tuple[PartitionLag, ...]:
        """One row per partition, made when asked for: a cluster has tens of thousands."""
        return tuple(self.row(index) for index in range(len(self.names)))

    def row(self, index: int) -> PartitionLag:
        c = self.columns
        one = slice(index, index + 1)
        closing = seconds_to_close(c.lag[one], c.velocity[one])
        unread = retention_ratio(c.committed[one], c.log_start[one], c.log_end[one])
        loss = seconds_to_loss(c.committed[one], c.log_start[one], c.log_end[one], c.velocity[one])
        return PartitionLag(
            *self.names[index],
            status=STATUSES[c.status[index]],
            since_ms=int(c.since_ms[index]),
            committed=_count(c.committed[index]),
            log_start=_count(c.log_start[index]),
            log_end=_count(c.log_end[index]),
            lag_records=_count(c.lag[index]),
            lag_seconds=_number(c.lag_seconds[index]),
            no_seconds=REASONS[c.reason[index]],
            records_per_second=_number(c.velocity[index]),
            seconds_to_close=_number(closing[0]),
            retention_ratio=_number(unread[0]),
            seconds_to_loss=_number(loss[0]),
            window_ratio=float(c.window_ratio[index]),
            hot=bool(c.hot[index]),
            subscribed=bool(c.subscribed[index]),
            owner=self.owners[index],
        )


def _count(value: Any) -> int | None:
    return None if value < 0 else int(value)


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
