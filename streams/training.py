"""Makes training rows by replaying orders through the very code that computes live features.

At every weekly cut, each eligible user becomes one row: the features as of the cut, and what
happened in the horizon after it. Features that only a clickstream fills are left unknown when the
history has none, so that the model can't mistake "no clicks were recorded" for "did not click".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.dataset import Dataset
from schemas.events import CLICK_TYPES, OrderEvent
from schemas.features import FEATURE_NAMES
from streams.core.apply import admit, apply
from streams.core.decode import decode
from streams.core.events import DecodeRules
from streams.core.features import DAY_MS, features
from streams.core.records import CLICKSTREAM, ORDERS, Records
from streams.core.state import ShardState
from streams.core.texts import Texts
from streams.erasures import ErasureBoard
from streams.errors import SettingsError
from streams.replay.records import Block

__all__ = ["CLICK_ONLY", "build_dataset", "without_erased"]

WARM_UP_DAYS: Final = 84
"""Cuts begin so long after the first order: earlier, every customer looks new."""

_PREFIXES: Final = (
    *CLICK_TYPES,
    *(f"days_since_{kind}" for kind in CLICK_TYPES),
    *("rating_mean", "sessions", "distinct_items", "distinct_categories"),
    *("days_since_activity", "activity_decayed", "tenure_days"),
)
CLICK_ONLY: Final = np.array([name.startswith(_PREFIXES) for name in FEATURE_NAMES])
"""bool [F]: features that clicks fill, alone or with orders."""


def build_dataset(
    source: Iterable[Block],
    *,
    horizon_days: int,
    min_orders: int,
    active_within_days: int,
    cut_every_days: int = 7,
    rules: DecodeRules,
    progress: Callable[[str, float], None] = lambda _what, _done: None,
) -> Dataset:
    """Replay `source` and take a row per eligible user and cut.

    The last cut is one horizon before the end, so that every label is known. Raises SettingsError
    when the history is too short for a single cut.
    """
    blocks = [block for block in source if block]
    if not blocks:
        raise SettingsError("there are no orders to train on; check the file and its mapping")
    first_ms, last_ms = blocks[0][0].timestamp_ms, blocks[-1][-1].timestamp_ms
    start = first_ms // DAY_MS * DAY_MS + WARM_UP_DAYS * DAY_MS
    cuts = list(range(start, last_ms - horizon_days * DAY_MS + 1, cut_every_days * DAY_MS))
    if not cuts:
        days = (last_ms - first_ms) / DAY_MS
        raise SettingsError(
            f"{days:.0f} days of orders are too few: a horizon of {horizon_days} days needs at "
            f"least {WARM_UP_DAYS + horizon_days + cut_every_days}"
        )
    state = ShardState(0, len(FEATURE_NAMES))
    clicks = any(r.topic_kind == "clickstream" for block in blocks for r in block)
    rows_at: list[tuple[int, NDArray[np.int64], NDArray[np.float32]]] = []
    for i, (cut_ms, part) in enumerate(_by_cut(blocks, cuts)):
        _feed(state, part, rules)
        _advance(state, cut_ms)
        rows = _eligible(state, cut_ms, min_orders, active_within_days)
        x = features(state, rows, cut_ms)
        if not clicks:
            x[:, CLICK_ONLY] = np.nan
        rows_at.append((cut_ms, rows, x))
        progress("replay", (i + 1) / len(cuts))
    return _label(state, blocks, rows_at, horizon_days * DAY_MS, rules)


def without_erased(source: Iterable[Block], board: ErasureBoard) -> Iterator[Block]:
    """The records of `source` that are not from before an erasure of their user."""
    until: dict[bytes | None, int] = {}
    for block in source:
        for record in block:
            if record.key not in until:
                user = (record.key or b"").decode(errors="replace")
                until[record.key] = board.forgotten_until(user)
        yield [record for record in block if record.timestamp_ms >= until[record.key]]


def _by_cut(blocks: list[Block], cuts: list[int]) -> Iterator[tuple[int, Block]]:
    """For each cut, the records before it that no earlier cut had."""
    records = [record for block in blocks for record in block]
    times = np.array([r.timestamp_ms for r in records])
    stops = np.searchsorted(times, cuts)
    for start, stop, cut in zip([0, *stops[:-1]], stops, cuts, strict=True):
        yield cut, records[start:stop]


def _feed(state: ShardState, part: Block, rules: DecodeRules) -> None:
    for source, kind in ((CLICKSTREAM, "clickstream"), (ORDERS, "orders")):
        chosen = [r for r in part if r.topic_kind == kind]
        if not chosen:
            continue
        n = len(chosen)
        times = np.array([r.timestamp_ms for r in chosen], np.int64)
        events = decode(
            Records.of(np.arange(n), times, [r.key for r in chosen], [r.value for r in chosen]),
            source,
            rules,
        )
        if len(events):
            _advance(state, int(events.ts_ms.max()))
        apply(state, events, admit(state, events, lateness_ms=7 * DAY_MS).fresh)


def _advance(state: ShardState, now_ms: int) -> None:
    state.meta.clock_ms = max(state.meta.clock_ms, now_ms)
    state.counts.advance(state.meta.clock_ms)
    state.money.advance(state.meta.clock_ms)


def _eligible(
    state: ShardState, now_ms: int, min_orders: int, active_within_days: int
) -> NDArray[np.int64]:
    c, n = state.columns, state.n
    recent = now_ms - c.recent_orders_ms[:n, 0] <= active_within_days * DAY_MS
    return np.flatnonzero((c.orders[:n] >= min_orders) & recent)


def _label(
    state: ShardState,
    blocks: list[Block],
    rows_at: list[tuple[int, NDArray[np.int64], NDArray[np.float32]]],
    horizon_ms: int,
    rules: DecodeRules,
) -> Dataset:
    """Orders and spend in [cut, cut + horizon) of every row."""
    decoder = msgspec.json.Decoder(OrderEvent)
    orders = [
        decoder.decode(r.value) for block in blocks for r in block if r.topic_kind == "orders"
    ]
    known = set(state.rows_by_user)
    placed = [o for o in orders if o.type == "placed" and o.user_id in known]
    row = state.rows_by_user.rows_of(Texts.of([o.user_id for o in placed]))
    ts = np.array([o.ts for o in placed], np.int64)
    spend = np.array([o.amount * rules.rates[o.currency or rules.currency] for o in placed])
    x, churned, spent, as_of, users = [], [], [], [], []
    for cut_ms, rows, features_ in rows_at:
        inside = (ts >= cut_ms) & (ts < cut_ms + horizon_ms)
        count = np.bincount(row[inside], minlength=state.n)[rows]
        total = np.bincount(row[inside], spend[inside], minlength=state.n)[rows]
        x.append(features_)
        churned.append(count == 0)
        spent.append(total.astype(np.float32))
        as_of.append(np.full(len(rows), cut_ms, np.int64))
        users.append(rows)
    return Dataset(*(np.concatenate(parts) for parts in (x, churned, spent, as_of, users)))
