"""A map from uint64 keys to an int32 value, made for whole arrays at once.

Entries lie in the order of insertion in plain arrays (`keys`, `values`, `words`), so that a
checkpoint can write them page by page and only the last page changes; an index of positions stands
beside them and is built again on load. Python's dict would take five times the memory and one call
per key.

Nothing here takes long at once: a larger index takes over entry by entry with every call, and
`compact` drops old entries a part at a time. Both depend only on the calls made, so that a replay
does the same.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from streams.core.state.copy_on_write import PageGuard
from streams.kernels import hash_table
from streams.kernels.arrays import grown, zeros

__all__ = ["MapPart", "U64Map"]

MapPart = Literal["keys", "values", "words"]

_LEAST: Final = 512
_FULL: Final = 0.8  # 3 probes for a key that is there
_GROWTH: Final = 1.6
_EMPTY: Final = 6  # times as much room as entries is too much: growing leaves less than 3
_MOVED_PER_KEY: Final = 8  # of the old index, per key looked up: done long before the next growth
_WORD_BYTES: Final = 8
_NO_INDEX: Final = np.empty(0, np.uint32)
_KEYS_PAGE_BITS: Final = 15
_VALUES_PAGE_BITS: Final = 16  # 256 KiB each
_WORDS_PAGE_BITS: Final = 12  # of entries with 8 words: 256 KiB


class U64Map:
    """uint64 -> int32, vectorised. Keys may be any value, including 0.

    `record`: what an entry holds besides its value, in whole words of 8 bytes; None: nothing.
    """

    def __init__(self, record: np.dtype[Any] | None = None) -> None:
        self._n = 0
        self._record = record
        width = record.itemsize // _WORD_BYTES if record is not None else 0
        self._words = np.zeros((_LEAST, width), np.int64)
        self._keys = np.empty(_LEAST, np.uint64)
        self._values = np.empty(_LEAST, np.int32)
        self._index = np.zeros(2 * _LEAST, np.uint32)
        self._old = _NO_INDEX
        self._moved = self._until = 0  # of the entries before `_until`, those in the new index
        self._compacting: tuple[int, int, int] | None = None  # oldest, read, write
        self.keys_guard = PageGuard(_KEYS_PAGE_BITS)
        self.values_guard = PageGuard(_VALUES_PAGE_BITS)
        self.words_guard = PageGuard(_WORDS_PAGE_BITS)

    def __len__(self) -> int:
        """Entries, those included that are being dropped."""
        return self._n

    @property
    def keys(self) -> NDArray[np.uint64]:
        """The keys, in insertion order (a view). While entries are dropped, some are left-overs."""
        return self._keys[: self._n]

    @property
    def values(self) -> NDArray[np.int32]:
        """The values, in insertion order (a view)."""
        return self._values[: self._n]

    @property
    def _table(self) -> hash_table.Table:
        return hash_table.Table(self._index, self._old, self._keys, self._values, self._words)

    @property
    def words(self) -> NDArray[np.int64]:
        """The records as words, int64 [n, words of a record] (a view)."""
        return self._words[: self._n]

    @property
    def records(self) -> NDArray[Any]:
        """The records, in insertion order (a view). That of a new entry may hold anything."""
        assert self._record is not None  # noqa: S101  (only a map with records is asked for them)
        return self.words.view(self._record)[:, 0]

    @property
    def nbytes(self) -> int:
        """Memory in use, in bytes."""
        entries = self.keys.nbytes + self.values.nbytes + self.words.nbytes
        return entries + self._index.nbytes + self._old.nbytes

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The position of each key, or -1. keys: uint64 [k] -> int64 [k]."""
        found = np.empty(len(keys), np.int64)
        hash_table.find(self._table, keys, found)
        return found

    def find_or_add(
        self, keys: NDArray[np.uint64], value: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Positions of all keys, adding the missing ones with their value.

        keys: uint64 [k], may repeat; value: int32 [k]. Of a repeated missing key the first
        occurrence is added and marked. Returns positions int64 [k] and is_new bool [k].
        """
        self._reserve(len(keys))
        positions, is_new = np.empty(len(keys), np.int64), np.zeros(len(keys), np.bool_)
        before = self._n
        self._n = hash_table.find_or_add(self._table, before, keys, value, positions, is_new)
        self._appended(before)
        return positions, is_new

    def see(
        self, keys: NDArray[np.uint64], value: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Raise each key's value to `value`, adding the missing ones; one after the other.

        Returns before int32 [k], the value that the key had when its turn came (0 for a new one),
        and is_new bool [k]. keys: uint64 [k], may repeat; value: int32 [k].
        """
        self._reserve(len(keys))
        if self.values_guard.copy_on_write:
            at = self.find(keys)
            self.values_guard.before_change(self._values, at[at >= 0])
        before, is_new = np.zeros(len(keys), np.int32), np.zeros(len(keys), np.bool_)
        n = self._n
        self._n = hash_table.raise_or_add(
            self._table, n, keys, value, before, is_new, self.values_guard.dirty, _VALUES_PAGE_BITS
        )
        self._appended(n)
        return before, is_new

    def put(self, keys: NDArray[np.uint64], value: NDArray[np.int32]) -> None:
        """Set each key's value, adding the missing ones. keys: uint64 [k], distinct."""
        at, is_new = self.find_or_add(keys, value)
        self.values_guard.before_change(self._values, at[~is_new])
        self._values[at] = value

    @property
    def parts(self) -> tuple[MapPart, ...]:
        """The arrays that are all there is of the entries, by name."""
        return ("keys", "values") if self._record is None else ("keys", "values", "words")

    def before_change(self, at: NDArray[np.int64]) -> None:
        """To be called before values and records at positions `at` (int64 [k]) are changed."""
        self.values_guard.before_change(self._values, at)
        self.words_guard.before_change(self._words, at)

    def begin_drop(self, oldest: int) -> None:
        """Have entries with a value below `oldest` dropped, by the calls of `drop_some` to come."""
        if self._compacting is None:
            self._compacting = (oldest, 0, 0)

    def drop_before(self, oldest: int) -> None:
        """Drop entries with a value below `oldest` now; it takes longer the more there are."""
        while self._compacting is not None or len(self._old):
            self.drop_some(self._n + 1)
        self.begin_drop(oldest)
        self.drop_some(self._n)

    def drop_some(self, entries: int) -> None:
        """Look at so many more entries, drop the old ones. Positions change, the order stays."""
        if len(self._old):  # dropping needs one index
            self._move(entries)
            return
        if self._compacting is None:
            self._shrink()
            return
        oldest, read, write = self._compacting
        stop = min(self._n, read + entries)
        for guard, array in self._guarded():
            guard.before_change_of_range(array, write, write + stop - read)
        write = hash_table.compact(self._table, oldest, read, write, stop)
        self._compacting = (oldest, stop, write)
        if stop == self._n:
            self._n = write
            self._compacting = None

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which entries are valid, and not left over from dropping; bool [n]."""
        kept = np.ones(self._n, np.bool_)
        if self._compacting is not None:
            _, read, write = self._compacting
            kept[write:read] = False
        return kept

    def part(self, chosen: NDArray[np.bool_]) -> U64Map:
        """A map of these entries alone (bool [n]), in their order."""
        chosen = chosen & self.kept
        part = U64Map(self._record)
        part.load(self.keys[chosen], self.values[chosen], words=self.words[chosen])
        return part

    @property
    def progress(self) -> list[int]:
        """What `load` needs besides keys and values: empty, or how far dropping has come."""
        return list(self._compacting or ())

    def load(
        self,
        keys: NDArray[np.uint64],
        values: NDArray[np.int32],
        progress: list[int] | None = None,
        words: NDArray[np.int64] | None = None,
    ) -> None:
        """Fill an empty map with `keys`, `values`, `progress` and `words` (in any shape) of another
        one. Raises ValueError if there are not as many words as the entries have."""
        self._n = len(keys)
        room = max(_LEAST, len(keys))
        self._keys, self._values = grown(keys, room), grown(values, room)
        held = np.empty(0, np.int64) if words is None else words
        self._words = grown(held.reshape(len(keys), self._words.shape[1]), room)
        self._index = zeros(int(room * _GROWTH), np.uint32)
        read = write = 0
        if progress:
            oldest, read, write = progress
            self._compacting = (oldest, read, write)
        hash_table.insert_positions(self._table, 0, write)
        hash_table.insert_positions(self._table, read, self._n)
        for guard, _ in self._guarded():
            guard.grow(self._n)

    def take(self, part: MapPart, page: int) -> NDArray[Any]:
        """A page as it was when its guard was frozen (there may have been more entries then)."""
        guard: PageGuard = getattr(self, f"{part}_guard")
        return guard.take(getattr(self, f"_{part}"), page)

    def thaw(self) -> None:
        """No page will be taken any more: see `PageGuard.thaw`."""
        for guard, _ in self._guarded():
            guard.thaw()

    def _guarded(self) -> tuple[tuple[PageGuard, NDArray[Any]], ...]:
        """The arrays that hold the entries, each with its guard."""
        return (
            (self.keys_guard, self._keys),
            (self.values_guard, self._values),
            (self.words_guard, self._words),
        )

    def _reserve(self, more: int) -> None:
        """Make room for so many more entries, and go on with what goes on in the background."""
        size = self._n + more
        if size > len(self._keys):
            size = max(size, 2 * len(self._keys))
            self._keys = grown(self._keys, size, self._n)
            self._values = grown(self._values, size, self._n)
            self._words = grown(self._words, size, self._n)
        if self._n + more > _FULL * len(self._index):
            self._finish_growing()
            while self._compacting is not None:
                self.drop_some(self._n)
            slots = int(max(_GROWTH * len(self._index), (self._n + more) / _FULL * _GROWTH))
            self._old, self._index = self._index, zeros(slots, np.uint32)
            self._moved, self._until = 0, self._n
        if len(self._old):
            self._move(_MOVED_PER_KEY * more + 1)
        for guard, array in self._guarded():
            guard.grow(self._n + more)
            if guard.copy_on_write:  # after dropping, new entries come where frozen ones were
                guard.before_change_of_range(array, self._n, self._n + more)

    def _shrink(self) -> None:
        """Give room back that entries have left which were dropped."""
        slots = int(max(2 * _LEAST, self._n * _GROWTH / _FULL))
        if len(self._index) > _EMPTY * slots:
            self._old, self._index = self._index, zeros(slots, np.uint32)
            self._moved, self._until = 0, self._n
        room = max(_LEAST, self._n)
        # a checkpoint under way may need left-overs
        copy_on_write = any(guard.copy_on_write for guard, _ in self._guarded())
        if len(self._keys) > _EMPTY * room and not copy_on_write:
            self._keys = grown(self._keys[:room], room, min(room, self._n))
            self._values = grown(self._values[:room], room, min(room, self._n))
            self._words = grown(self._words[:room], room, min(room, self._n))

    def _move(self, entries: int) -> None:
        """Enter more of the old index' entries into the new one."""
        stop = min(self._until, self._moved + entries)
        hash_table.insert_positions(self._table, self._moved, stop)
        self._moved = stop
        if stop == self._until:
            self._old = _NO_INDEX

    def _finish_growing(self) -> None:
        if len(self._old):
            self._move(self._until)

    def _appended(self, start: int) -> None:
        for guard, _ in self._guarded():
            guard.changed_range(start, self._n)
