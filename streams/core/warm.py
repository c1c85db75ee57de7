"""Runs every kernel once on a small example, so that it is compiled and kept.

`python -m streams.core.warm` does it ahead: in `make setup` and in the image. It takes half a
minute, once per machine.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from schemas.events import ClickEvent, OrderEvent, OrderLine
from schemas.features import FEATURE_NAMES
from streams.core.apply import admit, apply
from streams.core.event_rows import texts_of
from streams.core.events.decode import decode
from streams.core.events.events import DecodeRules
from streams.core.events.records import CLICKSTREAM, ORDERS, Records
from streams.core.features import features
from streams.core.partitioning import Partitioner
from streams.core.state.directory import UserDirectory
from streams.core.state.shard_state import ShardState
from streams.core.state.u64map import U64Map
from streams.core.state.windows import Chunk, WindowSums
from streams.core.texts import Texts
from streams.kernels.cells import DIGITS, Entries, combine_cells
from streams.kernels.record_batches import Batch, RecordColumns, read_batch

__all__ = ["compile_kernels"]

_AT_MS: Final = 1_700_000_000_000
_DAY_MS: Final = 86_400_000
_LATER_MS: Final = 100 * _DAY_MS
# one record without key, value and headers: length, attributes, two deltas, two lengths, headers
_BATCH: Final = bytes([12, 0, 0, 0, 1, 1, 0])


def compile_kernels() -> None:
    """Takes a second when they have been compiled on this machine before, else half a minute."""
    rules = DecodeRules(0, "EUR", {"EUR": 1.0})
    order = OrderEvent("o", "u", "placed", _AT_MS, "o", 1.0, lines=[OrderLine("i", 1.0)])
    for source, event in ((CLICKSTREAM, ClickEvent("c", "u", "view", _AT_MS)), (ORDERS, order)):
        value = msgspec.json.encode(event)
        at = np.array([_AT_MS])
        records = Records.of(np.zeros(1, np.int64), at, [b"u"], [value])
        decode(records, source, rules)
        Partitioner("murmur2", 1).of(records)
    longs, ints = np.zeros((4, 1), np.int64), np.zeros((2, 1), np.int32)
    columns = RecordColumns(longs[0], longs[1], longs[2], ints[0], longs[3], ints[1])
    read_batch(np.frombuffer(_BATCH, np.uint8), Batch(0, len(_BATCH), 0, 0, -1), columns)
    _compile_state_kernels()


def _compile_state_kernels() -> None:
    """Those of window sums, in both widths of each, of the directory and of the maps."""
    one, row = np.ones(1, np.int64), np.zeros(1, np.int64)
    for dtype, wide in ((np.int32, 1 << 20), (np.int64, 1 << 40)):
        sums = WindowSums(1, dtype)
        sums.reserve(1)
        for at_ms, delta in ((0, 1), (_LATER_MS, wide)):
            sums.add(row, row, np.array([delta], dtype), np.array([at_ms]))
            sums.advance(at_ms + _LATER_MS)  # it leaves every window
        _compile_loading(dtype)
    _compile_counting()
    _compile_features()
    entries, spare = (Entries(np.zeros(1, np.uint32), one.copy()) for _ in range(2))
    combine_cells(entries, spare, np.zeros(DIGITS, np.int64))
    users = UserDirectory()
    users.rows_of(Texts.of(["u"]))
    users.release(row)
    users.load(Texts.of(["u"]), np.empty(0, np.int64))
    users.strings(row).length_prefixed()
    users.numbered(row, np.ones(1, np.int32), "")
    table, key, value = U64Map(), np.ones(1, np.uint64), np.ones(1, np.int32)
    table.find(key)
    table.find_or_add(key, value)
    table.see(key, value)
    table.begin_drop(2)
    table.drop_some(1)
    table.load(key, value)


def _compile_loading(dtype: type[np.int32] | type[np.int64]) -> None:
    """A checkpoint's arrays can't be written to, which is another type to Numba, and they stay in
    the logs until all that they hold has left every window."""
    loaded, cell, delta = WindowSums(1, dtype), np.zeros(1, np.uint32), np.ones(1, np.int8)
    cell.flags.writeable = delta.flags.writeable = False
    loaded.load(0, 1, [(_DAY_MS, 0, Chunk(cell, delta))], loaded.counted_from_ms)
    loaded.advance(_LATER_MS)


def _compile_counting() -> None:
    """What lets events into a state."""
    rules = DecodeRules(0, "EUR", {"EUR": 1.0})
    click = ClickEvent("c", "u", "view", _AT_MS, session_id="s", item_id="i", category="k")
    # of one order that is known, and of several: Numba has another type for a column of records
    orders = [OrderEvent(name, "u", "placed", _AT_MS, name, 1.0) for name in ("o", "p")]
    state = ShardState(0, len(FEATURE_NAMES))
    for source, event in ((CLICKSTREAM, click), *((ORDERS, order) for order in orders)):
        value = msgspec.json.encode(event)
        record = Records.of(np.zeros(1, np.int64), np.array([_AT_MS]), [b"u"], [value])
        events = decode(record, source, rules)
        apply(state, events, admit(state, events, 0))
        if source == CLICKSTREAM:
            texts_of(record)


def _compile_features() -> None:
    """In all four ways in which counts and money can be as wide as they may need to be."""
    state = ShardState(0, len(FEATURE_NAMES))
    row = np.zeros(1, np.int64)
    features(state, row, _AT_MS)
    narrow = state.counts.table
    for wide in (state.counts, state.money):
        wide.table = wide.table.astype(wide.dtype)
        features(state, row, _AT_MS)
    state.counts.table = narrow
    features(state, row, _AT_MS)


if __name__ == "__main__":
    compile_kernels()
