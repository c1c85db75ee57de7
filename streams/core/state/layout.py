"""Reads checkpoints of other releases by name: converts their arrays into this build's layout.

A layout has the name and the place of every column, measure, window and feature. A build writes its
own layout into each checkpoint. If a checkpoint has another layout, its arrays are converted into
those that this build would have written:

- a new column begins with a new user's value, a column that this build lacks is dropped, and a
  number whose dtype has become wider is widened;
- a new measure counts from now on, and a new window from where the logs begin
  (`WindowSums.counted_from_ms`); until it covers its length, its features are unknown;
- a new feature is unknown in open questions.

So a name never changes its meaning (see `schemas.features`), and a window never its tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.features import COUNT_MEASURES, FEATURE_NAMES, MONEY_MEASURES, WINDOWS
from streams.core.state.columns import NEW_ROW, PLACES, ROW
from streams.core.state.known_orders import ORDER
from streams.core.state.open_questions import PER_WINDOW, pack, unpack
from streams.core.state.parked import relaid
from streams.core.state.shard_state import VALUE_BINS, Meta
from streams.core.state.windows import Chunk, begins_ms, join_chunks

__all__ = ["LAYOUT", "OWN", "Layout", "Record", "in_own_layout", "translate"]

Arrays = Mapping[str, NDArray[Any]]
_Bytes = NDArray[np.uint8]


class Record(msgspec.Struct, frozen=True):
    """Numbers that lie side by side."""

    nbytes: int
    numbers: dict[str, tuple[str, int]]
    """Name -> numpy dtype and first byte."""
    new: bytes
    """The bytes of a new record."""

    @staticmethod
    def of(dtype: np.dtype[Any], new: bytes, places: Mapping[str, Sequence[str]]) -> Record:
        """A structured dtype. `places` names the numbers of a field that has several."""
        numbers: dict[str, tuple[str, int]] = {}
        for name, (field, offset, *_) in (dtype.fields or {}).items():
            item = field.base
            if field.shape:
                for i, place in enumerate(places[name]):
                    numbers[f"{name}/{place}"] = item.str, offset + i * item.itemsize
            else:
                numbers[name] = item.str, offset
        return Record(dtype.itemsize, numbers, new)


class Layout(msgspec.Struct, frozen=True):
    """The names in a checkpoint's arrays, and where their numbers lie."""

    row: Record
    """One user in `rows`, and in the blocks of `parked`."""
    order: Record
    """One order in `orders/words`."""
    counts: list[str]
    """Count measures, in the order in which the cells of logs number them."""
    money: list[str]
    windows: dict[str, tuple[int, int]]
    """Length and hop, seconds."""
    features: list[str]
    """Features of open questions."""
    per_window: int
    """Features that each window has; they come first, window by window."""
    value_bins: int
    """Length of `histogram`; column `value_bin` is an index into it."""


OWN: Final = Layout(
    row=Record.of(ROW, NEW_ROW.tobytes(), PLACES),
    order=Record.of(ORDER, bytes(ORDER.itemsize), {}),
    counts=list(COUNT_MEASURES),
    money=list(MONEY_MEASURES),
    windows={w.name: (w.length_seconds, w.hop_seconds) for w in WINDOWS},
    features=list(FEATURE_NAMES),
    per_window=PER_WINDOW,
    value_bins=VALUE_BINS,
)
LAYOUT: Final[_Bytes] = np.frombuffer(msgspec.msgpack.encode(OWN), np.uint8)
"""This build's layout, as a checkpoint has it."""


def in_own_layout(arrays: Arrays, meta: Meta) -> Arrays:
    """A checkpoint's arrays in this build's layout; unchanged if they are in it already.

    May reset what `meta` says about the value tiers. Raises KeyError, ValueError or
    msgspec.DecodeError for what is damaged or can't be read by name.
    """
    written = arrays["layout"].tobytes()
    if written == LAYOUT.tobytes():
        return arrays
    return translate(arrays, msgspec.msgpack.decode(written, type=Layout), OWN, meta)


def translate(arrays: Arrays, old: Layout, new: Layout, meta: Meta) -> Arrays:
    """Convert arrays from any layout into any other, as `in_own_layout`."""
    found = dict(arrays)
    if "rules_due_ms" not in old.row.numbers:
        found |= _before_segments(arrays)
    if "alert_day" not in old.row.numbers:
        found |= _no_entries("contacts", with_words=True)
    rebin = old.value_bins != new.value_bins
    if old.row != new.row or rebin:

        def convert(rows: _Bytes) -> _Bytes:
            return _converted(rows, old.row, new.row, ("value_bin",) if rebin else ())

        found["rows"] = convert(_records(arrays["rows"], old.row)).reshape(-1)
        for name, data in arrays.items():
            if name.startswith("parked/") and name != "parked/gone":
                number = name.removeprefix("parked/")
                found[name] = relaid(number, data.tobytes(), old.row.nbytes, convert)
    if rebin:  # every user is counted again with the next score
        found["histogram"] = np.zeros(new.value_bins, np.int64)
        found["histogram_in_force"] = np.zeros(new.value_bins, np.int64)
        meta.tier_total = 0
    if old.order != new.order:
        words = _records(arrays["orders/words"].view(np.uint8), old.order)
        found["orders/words"] = _converted(words, old.order, new.order).reshape(-1).view(np.int64)
    if (old.features, old.per_window, len(old.windows)) != (
        new.features,
        new.per_window,
        len(new.windows),
    ):
        _translate_questions(found, old, new)
    sums = [(each.counts, each.money, list(each.windows.items())) for each in (old, new)]
    if sums[0] != sums[1]:
        _check_windows(old, new)
        for kind in ("counts", "money"):
            _translate_sums(found, kind, old, new, meta)
    return found


def _before_segments(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """What a checkpoint lacks that is older than segments of the shop's own: nobody is in one. The
    tiers' cuts are not read: ranks in force are those of now."""
    found: dict[str, NDArray[Any]] = {"histogram_in_force": arrays["histogram"]}
    found |= _no_entries("holds", with_words=False)
    return found | _no_entries("exposures", with_words=True)


def _no_entries(name: str, *, with_words: bool) -> dict[str, NDArray[Any]]:
    """The arrays of an empty map, with or without records."""
    found: dict[str, NDArray[Any]] = {
        f"{name}/keys": np.empty(0, np.uint64),
        f"{name}/values": np.empty(0, np.int32),
        f"{name}/progress": np.empty(0, np.int64),
    }
    if with_words:
        found[f"{name}/words"] = np.empty(0, np.int64)
    return found


def _records(raw: _Bytes, record: Record) -> _Bytes:
    if len(raw) % record.nbytes:
        raise ValueError(f"{len(raw)} bytes are no whole number of {record.nbytes}")
    return raw.reshape(-1, record.nbytes)


def _converted(rows: _Bytes, old: Record, new: Record, renew: Sequence[str] = ()) -> _Bytes:
    """Records uint8 [k, old.nbytes] as uint8 [k, new.nbytes]; `renew`: begin as if new."""
    converted = np.empty((len(rows), new.nbytes), np.uint8)
    converted[:] = np.frombuffer(new.new, np.uint8)
    for name, (dtype, at) in new.numbers.items():
        if name in old.numbers and name not in renew:
            from_dtype, from_at = old.numbers[name]
            size, from_size = np.dtype(dtype).itemsize, np.dtype(from_dtype).itemsize
            raw = rows[:, from_at : from_at + from_size]
            if from_dtype != dtype:
                values = np.ascontiguousarray(raw).view(from_dtype)
                raw = _recast(name, values, np.dtype(dtype)).view(np.uint8)
            converted[:, at : at + size] = raw
    return converted


def _recast(name: str, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The same numbers in another dtype. Raises ValueError if one does not fit."""
    with np.errstate(invalid="ignore", over="ignore"):
        recast = values.astype(dtype)
        back = recast.astype(values.dtype)
    if not np.array_equal(back, values, equal_nan=values.dtype.kind == "f"):
        raise ValueError(f"{name} holds numbers that don't fit into {dtype} of this build")
    return recast


def _translate_questions(found: dict[str, NDArray[Any]], old: Layout, new: Layout) -> None:
    at = [old.features.index(name) if name in old.features else -1 for name in new.features]
    where = np.array(at, np.int64)
    for name in [name for name in found if name.startswith("questions/")]:
        if name.endswith("/words"):
            kept = f"{name.removesuffix('words')}kept"
            x = unpack(
                found[kept], found[name], len(old.features), old.per_window, len(old.windows)
            )
            picked = np.where(where < 0, np.float32(np.nan), x[:, where])
            found[kept], found[name] = pack(picked, new.per_window, len(new.windows))


def _check_windows(old: Layout, new: Layout) -> None:
    for name, (length, hop) in new.windows.items():
        before = old.windows.get(name, (length, hop))
        if before != (length, hop):
            raise ValueError(
                f"its window {name} has {before[0]} s in tiles of {before[1]} s, and this build's "
                f"has {length} s in tiles of {hop} s. A window that changes needs another name"
            )


def _translate_sums(
    found: dict[str, NDArray[Any]], kind: str, old: Layout, new: Layout, meta: Meta
) -> None:
    """Logs and `counted_from` of one kind of measures, by their names."""
    measures: list[str] = getattr(old, kind)
    wanted: list[str] = getattr(new, kind)
    from_ms = found[f"counted_from/{kind}"].reshape(len(measures), len(old.windows))
    found[f"counted_from/{kind}"] = _counted_from(
        from_ms, measures, wanted, old.windows, new.windows, meta
    ).reshape(-1)
    hops_ms = {hop * 1000 for _, hop in new.windows.values()}
    number = np.array([wanted.index(m) if m in wanted else -1 for m in measures], np.int64)
    for name in [name for name in found if name.startswith(f"{kind}/")]:
        _, hop, _, _, what = name.split("/")
        if int(hop) not in hops_ms:
            del found[name]
        elif what != "deltas" and measures != wanted:
            deltas = f"{name.removesuffix(what)}deltas"
            chunk = Chunk(found.pop(name), found[deltas], what == "gaps")
            chunk = _renumbered(chunk, number, len(wanted))
            found[f"{name.removesuffix(what)}{'gaps' if chunk.gaps else 'cells'}"] = chunk.cells
            found[deltas] = chunk.deltas


def _renumbered(chunk: Chunk, number: NDArray[np.int64], measures: int) -> Chunk:
    """A chunk of the log with renumbered measures. `number` int64 [old measures]: the new number of
    each, below 0 for a measure that this build lacks."""
    row, measure = np.divmod(chunk.index.astype(np.int64), len(number))
    kept = number[measure] >= 0
    cells = row[kept] * measures + number[measure][kept]
    if len(cells) and int(cells.max()) > np.iinfo(np.uint32).max:
        raise ValueError("there are too many users for so many measures: use more partitions")
    return join_chunks([Chunk(cells.astype(np.uint32), chunk.deltas[kept])])


def _counted_from(
    from_ms: NDArray[np.int64],
    measures: list[str],
    wanted: list[str],
    windows: Mapping[str, tuple[int, int]],
    wanted_windows: Mapping[str, tuple[int, int]],
    meta: Meta,
) -> NDArray[np.int64]:
    """From when on each sum has counted, int64 [wanted measures, wanted windows].

    A new window is summed from the logs of its hop, which reach back as far as the longest window
    of that hop. Without such logs, it counts from the next event on.
    """
    counted = meta.clock_ms > 0  # also by a backfill, before the first step
    now_ms = max(meta.clock_ms, meta.watermark_ms) + 1 if counted else 0
    names = list(windows)
    result = np.full((len(wanted), len(wanted_windows)), now_ms, np.int64)
    for w, (name, (_, hop)) in enumerate(wanted_windows.items()):
        same_hop = [other for other in names if windows[other][1] == hop]
        longest = max(same_hop, key=lambda other: windows[other][0], default=None)
        for m, measure in enumerate(wanted):
            if measure not in measures:
                continue
            of_measure = from_ms[measures.index(measure)]
            if name in windows:
                result[m, w] = of_measure[names.index(name)]
            elif longest is not None:
                logged_ms = begins_ms(meta.clock_ms, *windows[longest]) if counted else 0
                result[m, w] = max(int(of_measure[names.index(longest)]), logged_ms)
    return result
