"""Which parts of the state changed since the last checkpoint, and what they held when it began.

A checkpoint is the state as it was between two steps, but it is written while later steps run. So
a change is announced before it is made: `before_change` marks it for the next checkpoint and, if
one is under way that has not got there yet, puts aside what was there. That is copy on write; each
part is copied once per checkpoint at most, and never all at once (D-010).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["PageGuard", "RowGuard", "Sliceable"]


class Sliceable(Protocol):
    """An array, or what gives one for a slice."""

    def __getitem__(self, part: slice, /) -> NDArray[Any]: ...


class PageGuard:
    """Guards a growing 1-d array, by pages of 2**bits entries.

    `dirty` is bool [pages]. A user that changes entries in a kernel may set it there, after having
    called `before_change` if `copy_on_write`: a checkpoint is under way.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.dirty = np.zeros(4, np.bool_)
        self.copy_on_write = False
        self._length = 0  # of the frozen array
        self._waiting = np.empty(0, np.bool_)  # pages of it that were not taken yet
        self._put_aside: dict[int, NDArray[Any]] = {}

    def grow(self, length: int) -> None:
        """The array may have so many entries from now on."""
        pages = self._pages(length)
        if pages > len(self.dirty):
            grown = np.zeros(max(pages, 2 * len(self.dirty)), np.bool_)
            grown[: len(self.dirty)] = self.dirty
            self.dirty = grown

    def changed_range(self, start: int, stop: int) -> None:
        """Entries start to stop were appended."""
        if stop > start:
            self.dirty[start >> self.bits : self._pages(stop)] = True

    def changed(self, positions: NDArray[np.int64]) -> None:
        """Entries at `positions` (int64 [k]) have changed; if `copy_on_write`, `before_change` was
        called before."""
        self.dirty[positions >> self.bits] = True

    def before_change(self, array: Sliceable, positions: NDArray[np.int64]) -> None:
        """Entries at `positions` (int64 [k]) are about to change."""
        pages = positions >> self.bits
        self.dirty[pages] = True
        if self.copy_on_write:
            self._save(array, pages)

    def before_change_of_range(self, array: Sliceable, start: int, stop: int) -> None:
        """Entries start to stop are about to change, or to be dropped."""
        if stop > start:
            pages = np.arange(start >> self.bits, self._pages(stop))
            self.dirty[pages] = True
            if self.copy_on_write:
                self._save(array, pages)

    def _save(self, array: Sliceable, pages: NDArray[np.int64]) -> None:
        held = pages[pages < len(self._waiting)]
        for page in np.unique(held[self._waiting[held]]).tolist():
            self._put_aside[page] = self._page(array, page)
            self._waiting[page] = False

    def freeze(self, length: int, *, everything: bool) -> NDArray[np.int64]:
        """Begin a checkpoint of the first `length` entries; returns the pages that changed since
        the last one, or all. Those can be taken until `thaw`."""
        pages = self._pages(length)
        self.grow(length)
        self._waiting = self.dirty[:pages] | everything
        self.dirty[:pages] = False
        self._length, self._put_aside, self.copy_on_write = length, {}, True
        return np.flatnonzero(self._waiting)

    def take(self, array: Sliceable, page: int) -> NDArray[Any]:
        """A copy of a page as it was when the checkpoint began. `array` is what it is now."""
        found = self._put_aside.pop(page, None)
        if found is None:
            assert self._waiting[page], page  # noqa: S101  (else nobody has watched it)
            found = self._page(array, page)
            self._waiting[page] = False
        return found

    def thaw(self) -> None:
        """The checkpoint has all it needs, or is given up."""
        self.copy_on_write, self._put_aside, self._waiting = False, {}, np.empty(0, np.bool_)

    def _page(self, array: Sliceable, page: int) -> NDArray[Any]:
        start = page << self.bits
        return array[start : min(start + (1 << self.bits), self._length)].copy()

    def _pages(self, length: int) -> int:
        return -(-length >> self.bits)


class RowGuard:
    """Guards rows that are changed here and there: what one batch touches may lie in every page.

    So single rows are put aside, not pages. `pack` gives a copy of some rows (int64 [k] or a slice)
    as a 1-d array of one item each.
    """

    def __init__(self, bits: int, pack: Callable[[Any], NDArray[Any]]) -> None:
        self.bits = bits
        self._pack = pack
        self._dirty = np.zeros(4, np.bool_)
        self._length = 0
        self._waiting = np.empty(0, np.bool_)
        self._saved = np.empty(0, np.bool_)
        self._put_aside: dict[int, list[tuple[NDArray[np.int64], NDArray[Any]]]] = {}
        """By page, or taking one would go through all that ever was put aside."""

    @property
    def copy_on_write(self) -> bool:
        """Whether a checkpoint is under way."""
        return len(self._waiting) > 0

    def grow(self, length: int) -> None:
        """There may be so many rows from now on."""
        pages = -(-length >> self.bits)
        if pages > len(self._dirty):
            grown = np.zeros(max(pages, 2 * len(self._dirty)), np.bool_)
            grown[: len(self._dirty)] = self._dirty
            self._dirty = grown

    def before_change(self, rows: NDArray[np.int64]) -> None:
        """`rows` (int64 [k], may repeat) are about to change."""
        pages = rows >> self.bits
        self._dirty[pages] = True
        if not len(self._waiting):
            return
        there = rows < self._length
        held = rows[there][self._waiting[pages[there]]]
        new = np.unique(held[~self._saved[held]])
        if len(new):
            self._saved[new] = True
            self._put(new, self._pack(new))

    def _put(self, rows: NDArray[np.int64], packed: NDArray[Any]) -> None:
        """`rows` ascend."""
        pages = rows >> self.bits
        begins = np.flatnonzero(np.diff(pages, prepend=-1)).tolist()
        for start, stop in zip(begins, [*begins[1:], len(rows)], strict=True):
            part = rows[start:stop], packed[start:stop]
            self._put_aside.setdefault(int(pages[start]), []).append(part)

    def freeze(self, length: int, *, everything: bool) -> NDArray[np.int64]:
        """As `PageGuard.freeze`."""
        self.grow(length)
        pages = -(-length >> self.bits)
        self._waiting = self._dirty[:pages] | everything
        self._dirty[:pages] = False
        self._length, self._saved, self._put_aside = length, np.zeros(length, np.bool_), {}
        return np.flatnonzero(self._waiting)

    def take(self, page: int) -> NDArray[Any]:
        """A copy of a page's rows as they were when the checkpoint began."""
        assert self._waiting[page], page  # noqa: S101  (else nobody has watched it)
        self._waiting[page] = False
        start = page << self.bits
        stop = min(start + (1 << self.bits), self._length)
        found = self._pack(slice(start, stop))
        for rows, packed in self._put_aside.pop(page, ()):
            found[rows - start] = packed
        return found

    def thaw(self) -> None:
        """The checkpoint has all it needs, or is given up."""
        self._waiting = self._saved = np.empty(0, np.bool_)
        self._put_aside = {}
