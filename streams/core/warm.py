"""Runs every kernel once on a small example, so that it is compiled and kept."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from schemas.events import ClickEvent, OrderEvent, OrderLine
from schemas.features import FEATURE_NAMES
from streams.core.apply import admit, apply
from streams.core.decode import decode
from streams.core.events import DecodeRules
from streams.core.kernels.batches import read_batch
from streams.core.kernels.sums import add_cells
from streams.core.records import CLICKSTREAM, ORDERS, Records
from streams.core.state import ShardState
from streams.core.texts import Texts

__all__ = ["compile_kernels"]

_AT_MS: Final = 1_700_000_000_000
# one record without key, value and headers: length, attributes, two deltas, two lengths, headers
_BATCH: Final = bytes([12, 0, 0, 0, 1, 1, 0])


def compile_kernels() -> None:
    """Takes a second when they have been compiled on this machine before, else about ten."""
    rules = DecodeRules(0, "EUR", {"EUR": 1.0})
    state = ShardState(0, len(FEATURE_NAMES))
    order = OrderEvent("o", "u", "placed", _AT_MS, "o", 1.0, lines=[OrderLine("i", 1.0)])
    for source, event in ((CLICKSTREAM, ClickEvent("c", "u", "view", _AT_MS)), (ORDERS, order)):
        value = msgspec.json.encode(event)
        at = np.array([_AT_MS])
        events = decode(Records.of(np.zeros(1, np.int64), at, [b"u"], [value]), source, rules)
        apply(state, events, admit(state, events, 0).fresh)
    _compile_state(state)
    longs, ints = np.zeros((4, 1), np.int64), np.zeros((2, 1), np.int32)
    read_batch(
        np.frombuffer(_BATCH, np.uint8), 0, len(_BATCH), 0, 0, -1,
        longs[0], longs[1], longs[2], ints[0], longs[3], ints[1],
    )  # fmt: skip


def _compile_state(state: ShardState) -> None:
    """What only later steps call: growing, forgetting, and sums of other widths."""
    cells = np.zeros(1, np.uint32)
    for sums, deltas in ((np.int16, np.int32), (np.int32, np.int32), (np.int32, np.int64),
                         (np.int64, np.int64)):  # fmt: skip
        add_cells(np.zeros(1, sums), cells, np.zeros(1, deltas), 0, 1, 1)
    more = np.arange(5_000, dtype=np.uint64)
    days = np.zeros(len(more), np.int32)
    state.seen_ids.find_or_add(more, days)
    state.seen_ids.find(more)
    state.seen_ids.begin_drop(1)
    state.seen_ids.drop_some(len(more))
    state.rows_of(Texts.of([str(i) for i in range(600)]))
