"""Generates load: any number of events per second's worth, good and bad, counted exactly.

Everything follows from the seed. Values are pre-rendered bytes with numbers filled in, because the
generator shares its cores with what it measures. Its `tally` says how many good, duplicate, late
and malformed records were yielded so far, to be compared with what Tideline's ledger says.

Shares are probabilities; the counts are what the seed makes of them. No record is two kinds of bad.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError
from streams.replay.malformed import KINDS, Malformed
from streams.replay.records import CLICKSTREAM, ORDERS, Block, TopicKind, records
from streams.replay.templates import Templates

__all__ = ["Generated", "Synthetic"]

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
START_MS: Final = 1_704_067_200_000  # 2024-01-01T00:00Z
LATE_MARGIN_MS: Final = 30 * DAY_MS
"""Late events are at least this much later than the horizon allows: a partition's own clock may be
behind the stream's by whatever a batch spans, and they must be late by any of those clocks."""
_OUT_OF_ORDER_MS: Final = 6 * HOUR_MS
_ENDLESS_STEP: Final = 10_000_000
_REACH: Final = 1_000  # a duplicate's original is at most that many good records back
_GOOD, _DUPLICATE, _LATE, _MALFORMED = range(4)


@dataclass
class Generated:
    """What was yielded so far. Out-of-order events are `good`: they count where they belong."""

    good: int = 0
    duplicate: int = 0
    late: int = 0
    out_of_order: int = 0
    malformed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """Kind -> records; `malformed.REASONS` has the dead-letter reason of each kind."""
    clickstream: int = 0
    orders: int = 0

    @property
    def total(self) -> int:
        return self.clickstream + self.orders

    def as_dict(self) -> dict[str, Any]:
        """Everything, with totals, for JSON."""
        bad = {kind: n for kind, n in self.malformed.items() if n}
        return {
            "records": self.total, "good": self.good, "duplicate": self.duplicate,
            "late": self.late, "malformed": sum(bad.values()), "malformed_by_kind": bad,
            "out_of_order": self.out_of_order,
            "clickstream": self.clickstream, "orders": self.orders,
        }  # fmt: skip


@dataclass
class Synthetic:
    """An endless or bounded source of made-up events. Raises SettingsError for senseless options.

    Iterating starts from the beginning and resets `tally`.
    """

    users: int = 10_000
    events: int | None = 100_000
    """Records to yield, bad ones included; None: endless."""
    order_share: float = 0.05
    skew: float = 0.0
    """Zipf exponent of user activity: 0 is uniform, 1 is a usual shop."""
    session_events: float = 1.0
    """Mean number of consecutive events of one user; 1: each event draws its own user."""
    late_share: float = 0.0
    duplicate_share: float = 0.0
    out_of_order_share: float = 0.0
    malformed_share: float = 0.0
    seed: int = 0
    start_ms: int = START_MS
    span_days: float = 30.0
    """Event time from the first record to the last (endless: per 10 million records)."""
    lateness_days: float = 7.0
    """The consumer's horizon: a late event is older than this, by 30 days and more."""
    settle_events: int = 2_000
    """No late events among the first ones: before a clock stands, nothing is late."""
    block_events: int = 10_000
    tally: Generated = field(default_factory=Generated, compare=False)

    def __post_init__(self) -> None:
        shares = {
            "late_share": self.late_share,
            "duplicate_share": self.duplicate_share,
            "malformed_share": self.malformed_share,
        }
        alone = {**shares, "order_share": self.order_share,
                 "out_of_order_share": self.out_of_order_share}  # fmt: skip
        wrong = [f"{name} is {v}; use 0 to 1." for name, v in alone.items() if not 0 <= v <= 1]
        if sum(shares.values()) > 1:
            wrong.append(f"{', '.join(shares)} add up to more than 1; lower one of them.")
        wrong += [
            f"{name} is {value}; use {least} or more."
            for name, value, least in (
                ("users", self.users, 1),
                ("events", 1 if self.events is None else self.events, 1),
                ("skew", self.skew, 0),
                ("session_events", self.session_events, 1),
                ("span_days", self.span_days, 0),
                ("lateness_days", self.lateness_days, 0),
            )
            if value < least
        ]
        if wrong:
            raise SettingsError("Synthetic load: " + " ".join(wrong))

    @property
    def expected_records(self) -> int | None:
        return self.events

    def summary(self) -> dict[str, Any]:
        """The options that shape the load."""
        return {
            "source": f"synthetic, seed {self.seed}", "users": self.users,
            "records": "endless" if self.events is None else self.events,
            "order share": self.order_share, "skew": self.skew,
            "late / duplicate / malformed share":
                f"{self.late_share:g} / {self.duplicate_share:g} / {self.malformed_share:g}",
        }  # fmt: skip

    def __iter__(self) -> Iterator[Block]:
        rng = np.random.default_rng(self.seed)
        self.tally = Generated()
        run = _Run(self, rng)
        done = 0
        while self.events is None or done < self.events:
            n = self.block_events if self.events is None else self.events - done
            n = min(n, self.block_events)
            yield run.block(done, n, self.tally)
            done += n


class _Run:
    """The moving parts of one iteration."""

    def __init__(self, spec: Synthetic, rng: np.random.Generator) -> None:
        self._spec = spec
        self._rng = rng
        self._templates = Templates(spec.seed, rng)
        self._malformed = Malformed(self._templates)
        self._step_ms = spec.span_days * DAY_MS / (spec.events or _ENDLESS_STEP)
        weights = np.arange(1, spec.users + 1, dtype=np.float64) ** -spec.skew
        self._activity = np.cumsum(weights) / weights.sum() if spec.skew else None
        # A copy must come well within the horizon, or it would be late rather than a duplicate.
        within_ms = spec.lateness_days * DAY_MS / 4
        self._reach = max(1, int(min(_REACH, within_ms / max(self._step_ms, 1e-9))))
        self._recent: Block = []
        self._user = (0, 0)  # the session that the last block left open: its user, events to come

    def block(self, done: int, n: int, tally: Generated) -> Block:
        """Records `done` to `done + n`, counted in `tally`."""
        spec, rng = self._spec, self._rng
        users = self._users(n)
        stream_ms = spec.start_ms + (np.arange(done, done + n) * self._step_ms).astype(np.int64)
        fate = self._fates(done, n)
        ts_ms = stream_ms.copy()
        late = np.flatnonzero(fate == _LATE)
        horizon = int(spec.lateness_days * DAY_MS) + LATE_MARGIN_MS
        ts_ms[late] -= horizon + rng.integers(0, LATE_MARGIN_MS, len(late))
        back = np.flatnonzero((rng.random(n) < spec.out_of_order_share) & (fate == _GOOD))
        most = min(_OUT_OF_ORDER_MS, int(spec.lateness_days * DAY_MS) // 2)
        ts_ms[back] -= rng.integers(0, most + 1, len(back))

        keys = self._templates.keys(users)
        values = self._templates.clicks(done, keys, ts_ms.tolist())
        kinds: list[TopicKind] = [CLICKSTREAM] * n
        for i in np.flatnonzero(rng.random(n) < spec.order_share).tolist():
            kinds[i] = ORDERS
            values[i] = self._templates.order(done + i, keys[i], int(ts_ms[i]))
        block = records(kinds, keys, values, stream_ms.tolist())
        for i in np.flatnonzero(fate == _MALFORMED).tolist():
            kind, block[i] = self._malformed.make(done + i, block[i])
            tally.malformed[kind] += 1
        repeated = self._repeat(block, fate)
        tally.duplicate += repeated
        tally.late += len(late)
        tally.out_of_order += len(back)
        tally.good += int((fate <= _DUPLICATE).sum()) - repeated
        orders = [record[0] for record in block].count(ORDERS)
        tally.orders += orders
        tally.clickstream += n - orders
        return block

    def _fates(self, done: int, n: int) -> NDArray[np.int8]:
        spec, u = self._spec, self._rng.random(n)
        edges = np.cumsum([spec.malformed_share, spec.late_share, spec.duplicate_share])
        fate = np.select(
            [u < edges[0], u < edges[1], u < edges[2]], [_MALFORMED, _LATE, _DUPLICATE], _GOOD
        ).astype(np.int8)
        settling = max(0, spec.settle_events - done)
        early = fate[:settling]
        early[early == _LATE] = _GOOD
        return fate

    def _repeat(self, block: Block, fate: NDArray[np.int8]) -> int:
        """Put a copy of an earlier good record, sent now, in each duplicate's place."""
        if not self._spec.duplicate_share:
            return 0
        good = np.flatnonzero(fate == _GOOD)
        history = self._recent + [block[i] for i in good.tolist()]
        wanted = np.flatnonzero(fate == _DUPLICATE)
        behind = len(self._recent) + np.searchsorted(good, wanted)  # good ones before each
        draws = self._rng.random(len(wanted))
        made = 0
        for i, known, u in zip(wanted.tolist(), behind.tolist(), draws.tolist(), strict=True):
            if known == 0:
                continue  # nothing to repeat yet: it stays a good record
            original = history[known - 1 - int(u * min(known, self._reach))]
            block[i] = original._replace(timestamp_ms=block[i].timestamp_ms)
            made += 1
        self._recent = history[-self._reach :]
        return made

    def _users(self, n: int) -> NDArray[np.int64]:
        spec = self._spec
        if spec.session_events <= 1:
            return self._draw_users(n)
        user, left = self._user
        lengths = self._rng.geometric(1 / spec.session_events, n)
        users = np.repeat(self._draw_users(n), lengths)
        users = np.concatenate([np.full(left, user), users])
        # The session that the block's end cuts goes on in the next block.
        ends = np.cumsum(np.concatenate([[left], lengths]))
        cut = int(ends[np.searchsorted(ends, n)])
        self._user = (int(users[n - 1]), cut - n)
        return users[:n]

    def _draw_users(self, n: int) -> NDArray[np.int64]:
        if self._activity is None:
            return self._rng.integers(0, self._spec.users, n)
        drawn = np.searchsorted(self._activity, self._rng.random(n), side="right")
        return drawn.clip(max=self._spec.users - 1).astype(np.int64)
