"""Events that counted, as rows of ClickHouse to look at: for timelines, funnels and retention.

Rows are made only where `CoreConfig.keep_events_days` is above 0, from what a step has anyway: the
decoded columns, and the customer as the step leaves them. Only an item's id and its category are
read from the records once more. What people wrote (`query`, `text`) is left out, and order,
session and event ids are hashes: whoever has the shop's orders could name a pseudonym by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.events import CLICK_TYPES, ORDER_TYPES
from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.core.apply import Applied, Counted
from streams.core.events.events import Events
from streams.core.events.records import CLICKSTREAM, ORDERS, SOURCES, Records
from streams.core.segments import segment_names
from streams.core.state.shard_state import ShardState
from streams.core.texts import Coded, Strings, TableRows
from streams.kernels.members import Wanted, read_members
from streams.kernels.strings import Pieces

__all__ = ["EVENT_TABLE", "EVENT_TYPES", "ClickTexts", "event_rows", "texts_of"]

EVENT_TABLE: Final = "events"
EVENT_TYPES: Final = (*CLICK_TYPES, *ORDER_TYPES)
"""By the number that `Events.kind` has."""


class _Shown(msgspec.Struct, frozen=True, gc=False):
    """What is read of a click once more: the last is the flag."""

    item_id: str | None = None
    category: str | None = None
    simulated: bool = False


_READ: Final = msgspec.json.Decoder(_Shown)
_TEXTS: Final = _Shown.__struct_fields__[:-1]
_NAMES: Final = np.frombuffer(
    b"".join(name.encode().ljust(16, b"\0") for name in _Shown.__struct_fields__), np.uint64
).reshape(-1, 2)


class ClickTexts(NamedTuple):
    """Items and categories of k clicks, and whether each is simulated."""

    item: Strings
    category: Strings
    simulated: NDArray[np.bool_]


def event_rows(
    state: ShardState,
    records: Sequence[Records],
    decoded: Sequence[Events],
    admitted: Sequence[Applied],
    counted: Sequence[Counted],
    now_ms: int,
    keep_days: int,
) -> TableRows:
    """`events` rows of the events of both sources that say something new, in the order in which
    they came; none with `keep_days` 0. The state is as the step leaves it."""
    if not keep_days:
        return {}
    chosen = [np.delete(admitted[s].fresh, counted[s].repeated) for s in SOURCES]
    told = [_told(decoded[s], chosen[s]) for s in SOURCES]
    clicks, n_orders = decoded[CLICKSTREAM], len(chosen[ORDERS])
    texts = texts_of(records[CLICKSTREAM][clicks.positions[chosen[CLICKSTREAM]]])
    rows = np.concatenate([counted[s].rows for s in SOURCES])
    c, k = state.columns, len(rows)
    numbers = {name: np.concatenate([each[name] for each in told]) for name in told[0]}
    return {
        "user_id": state.users.strings(rows),
        **numbers,
        "type": Coded(numbers["type"], EVENT_TYPES),
        "item_id": _and_none(texts.item, n_orders),
        "category": _and_none(texts.category, n_orders),
        "simulated": np.concatenate([texts.simulated, np.zeros(n_orders, np.bool_)]).view(np.uint8),
        "lifecycle": Coded(c.lifecycle[rows], LIFECYCLE),
        "value_tier": Coded(c.value_tier[rows], VALUE_TIERS),
        "segments": segment_names(state, rows),
        "first_event_at": c.first_seen_ms[rows],
        "first_order_at": c.first_order_ms[rows],
        "shard": np.full(k, state.meta.shard, np.uint16),
        "taken_at": np.full(k, now_ms, np.int64),
        "keep_days": np.full(k, keep_days, np.uint16),
    }


def _told(events: Events, chosen: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What the `chosen` events (positions, int64 [k]) say in numbers. Half a hash is enough among
    the events of one user in one millisecond, or among a user's sessions."""
    return {
        "ts": events.ts_ms[chosen],
        "event_hash": events.id_hash[chosen].astype(np.uint32),
        "type": events.kind[chosen],
        "session_hash": events.session[chosen].astype(np.uint32),
        "order_hash": events.order[chosen],
        "amount": events.amount_cents[chosen] / 100,
        "lines": events.order_lines[chosen].astype(np.uint16),
        "rating": (events.rating_tenths[chosen] / 10).astype(np.float32),
    }


def _and_none(texts: Strings, n: int) -> Strings:
    """These, and n empty ones."""
    return Strings(texts.data, np.concatenate([texts.size, np.zeros(n, np.int32)]))


def texts_of(records: Records) -> ClickTexts:
    """What is read once more of k records of the clickstream, each an event that was decoded."""
    n, sizes = len(records), np.maximum(records.value_bytes, 0)
    room = int(sizes.sum(dtype=np.int64)) + 8
    data = records.data.view()
    data.flags.writeable = False  # as when events are decoded: to the compiler another type
    wanted = Wanted(
        _NAMES, np.empty((len(_TEXTS), room), np.uint8), np.zeros(len(_TEXTS), np.int64),
        np.zeros((len(_TEXTS), n), np.int32), np.zeros(n, np.bool_), np.zeros(n, np.bool_),
    )  # fmt: skip
    scratch = np.empty(int(sizes.max(initial=0)) + 8, np.uint8)
    read_members(Pieces(data, records.value_at, records.value_bytes), scratch, wanted)
    if not wanted.ok.all():
        return _slowly(records)
    item, category = (
        Strings(wanted.packed[f, : wanted.used[f]], wanted.sizes[f]) for f in range(len(_TEXTS))
    )
    return ClickTexts(item, category, wanted.flags)


def _slowly(records: Records) -> ClickTexts:
    """The same, by msgspec: for batches with an event that the kernel leaves to it."""
    found = [_READ.decode(value or b"{}") for value in records.values]
    item, category = (_strings([getattr(each, name) or "" for each in found]) for name in _TEXTS)
    return ClickTexts(item, category, np.array([each.simulated for each in found], np.bool_))


def _strings(texts: Sequence[str]) -> Strings:
    encoded = [each.encode() for each in texts]
    size = np.array([len(each) for each in encoded], np.int32)
    return Strings(np.frombuffer(b"".join(encoded), np.uint8), size)
