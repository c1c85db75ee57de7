"""Users who have long been silent, packed: a sixth of what their rows and windows would take.

Nobody here is scored, listed or erased; for any of that a user gets a row again first. All is kept
that a row holds, to the bit. Windows and questions are not: who has either isn't parked (D-041).

Users lie in blocks of up to 256, the oldest block first. A block never changes but to lose a user
who came back: a sweep takes the oldest blocks apart, and a user who is still silent afterwards goes
into a new one. In a block the bytes of all rows lie place by place, so that what is alike between
users (most of it) lies together, which LZ4 makes little of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice, pairwise
from typing import Any, Final

import cramjam
import numpy as np
from numpy.typing import NDArray

from streams.core.state.columns import ROW
from streams.core.state.u64map import U64Map
from streams.core.texts import Strings, Texts

__all__ = ["Parked", "relaid"]

_BITS: Final = 8
_BLOCK: Final = 1 << _BITS  # users
_PLACES: Final = 1 << (31 - _BITS)  # blocks that an int32 can number, with the users in them
_HEAD: Final = np.dtype("<u8")  # of what comes before a block's bytes, four of them
_HEAD_BYTES: Final = 4 * _HEAD.itemsize
_BLOCK_BYTES: Final = 300  # of a block's objects and its places in dicts, about
_DROP_AT = 1 << 16  # entries the index must have before it is worth looking for unused ones


@dataclass(slots=True, eq=False)
class _Block:
    """`turn`: blocks were made in this order. `seq`: the step that parked its users. `data`: what
    checkpoints write of it, under the name `number`. `gone`: positions of who is in there, but has
    come back."""

    turn: int
    seq: int
    users: int
    data: bytes
    number: int
    gone: set[int] = field(default_factory=set)

    @staticmethod
    def of(turn: int, seq: int, users: int, raw: bytes, number: int) -> _Block:
        """A block of `users`, as `_Open.raw` gives them."""
        head = np.array([turn, seq, users, len(raw)], _HEAD).tobytes()
        packed = bytes(cramjam.lz4.compress_block(raw, store_size=False))
        return _Block(turn, seq, users, head + packed, number)

    @staticmethod
    def read(name: str, data: bytes) -> _Block:
        """What `data` was written of. Raises ValueError."""
        if len(data) < _HEAD_BYTES:
            raise ValueError(f"parked users: block {name} is too short")
        turn, seq, users, _ = np.frombuffer(data, _HEAD, 4).tolist()
        return _Block(turn, seq, users, data, int(name))

    @property
    def raw(self) -> bytes:
        """Unpacked. Raises ValueError."""
        size = int(np.frombuffer(self.data, _HEAD, 4)[3])
        try:
            packed = memoryview(self.data)[_HEAD_BYTES:]
            return bytes(cramjam.lz4.decompress_block(packed, output_len=size))
        except cramjam.DecompressionError as exc:
            raise ValueError(f"parked users: block {self.number}: {exc}") from exc


@dataclass(frozen=True)
class _Open:
    """A block unpacked. names: uint8, one id after the other; size int32 [users], 0 for who is not
    there any more; planes uint8 [bytes of a row, users]."""

    names: NDArray[np.uint8]
    size: NDArray[np.int32]
    planes: NDArray[np.uint8]

    @property
    def there(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.size)

    def rows(self, at: NDArray[np.int64]) -> NDArray[Any]:
        """The rows at some positions, [k] of `ROW`."""
        if not len(at):
            return np.empty(0, ROW)
        return np.ascontiguousarray(self.planes[:, at].T).view(ROW)[:, 0]

    def ids(self, at: NDArray[np.int64]) -> list[bytes]:
        ends = np.cumsum(self.size, dtype=np.int64)
        starts = (ends - self.size)[at].tolist()
        return [
            self.names[start:end].tobytes()
            for start, end in zip(starts, ends[at].tolist(), strict=True)
        ]

    @property
    def raw(self) -> bytes:
        size = np.ascontiguousarray(self.size.view(np.uint8).reshape(-1, 4).T)
        return size.tobytes() + self.planes.tobytes() + self.names.tobytes()


class Parked:
    """The parked users of a shard, with their rows of `ROW`. No two of them have ids of the same
    hash."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}  # by place, the oldest first
        self._loose: dict[int, None] = {}  # places of blocks that a user has left
        self._index = U64Map()  # hash -> place and position; below 0: not here any more
        self._numbers = count()  # of blocks: never used twice, since a name means its content
        self._turns = 0
        self._known = 0
        self._bytes = 0
        self.entries = 0
        """Positions in all blocks, with those of users who have come back since."""

    def __len__(self) -> int:
        """Users who are parked."""
        return self._known

    def __contains__(self, user: str) -> bool:
        return user in self.names(Texts.of([user]).hashed)

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self._bytes + self._index.nbytes

    def free(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of these ids' hashes (uint64 [k]) nobody here has, nor any before it; bool [k]."""
        first = np.zeros(len(hashes), np.bool_)
        first[np.unique(hashes, return_index=True)[1]] = True
        return first & (self._where(hashes) < 0)

    def add(self, names: Strings, rows: NDArray[Any], seq: int) -> None:
        """Park users at step `seq`; rows: [k] of `ROW`. Their hashes are `free`."""
        ends = np.cumsum(names.size, dtype=np.int64)
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            size = names.size[start : start + _BLOCK]
            last = int(ends[start + len(part) - 1])
            planes = np.ascontiguousarray(part.view(np.uint8).reshape(len(part), -1).T)
            opened = _Open(names.data[int(ends[start]) - int(size[0]) : last], size, planes)
            block = _Block.of(self._turns, seq, len(part), opened.raw, next(self._numbers))
            place = self._put(block)
            where = place * _BLOCK + np.arange(len(part))
            self._index.put(part["user_hash"].copy(), where.astype(np.int32))
            self._known += len(part)

    def take(self, users: Texts, since: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Those of `users` (distinct) who are parked: which, int64 [k], and their rows. They are
        not parked any more. `since`: see `take_oldest`."""
        which, rows = [np.empty(0, np.int64)], [np.empty(0, ROW)]
        if not self._known:
            return which[0], rows[0]
        for place, of_place, at in self._places_of(users.hashed):
            block, opened = self._blocks[place], self._open(place)
            # another id may have the same hash
            pairs = zip(users[of_place].pieces(), opened.ids(at), strict=True)
            same = np.array([mine == theirs for mine, theirs in pairs], np.bool_)
            which.append(of_place[same])
            rows.append(_seen(opened.rows(at[same]), block, since))
            block.gone.update(at[same].tolist())
            self._loose[place] = None
        chosen, packed = np.concatenate(which), _joined(rows)
        self._not_here(users.hashed[chosen])
        return chosen, packed

    def take_oldest(self, entries: int, since: int) -> tuple[Texts, NDArray[Any], int]:
        """Take the oldest blocks apart until they had so many entries: who was in them, their rows,
        and how many entries that were.

        Who was parked before step `since` forgets which label period they were in.
        """
        taken = 0
        names, size = [np.empty(0, np.uint8)], [np.empty(0, np.int32)]
        rows = [np.empty(0, ROW)]
        while self._blocks and taken < entries:
            place = next(iter(self._blocks))
            opened = self._open(place)
            there = opened.there
            names.append(opened.names)
            size.append(opened.size[there])
            rows.append(_seen(opened.rows(there), self._blocks[place], since))
            taken += len(opened.size)
            self._drop(place)
        packed, sizes = _joined(rows), np.concatenate(size)
        hashed = packed["user_hash"].copy()
        self._not_here(hashed)
        starts = np.cumsum(sizes, dtype=np.int64) - sizes
        return Texts(np.concatenate(names), starts, sizes, hashed), packed, taken

    def hashes(self) -> NDArray[np.uint64]:
        """Of all ids, uint64 [n]; some may be there twice."""
        return self._index.keys[self._index.values >= 0]

    def names(self, wanted: NDArray[np.uint64]) -> list[str]:
        """The ids whose hash is among `wanted` (uint64 [k])."""
        return [
            name.decode()
            for place, _, at in self._places_of(wanted)
            for name in self._open(place).ids(at)
        ]

    def everyone(self, since: int) -> tuple[list[str], NDArray[Any]]:
        """The ids and rows of all who are parked, to compare or to look at."""
        names: list[str] = []
        rows = [np.empty(0, ROW)]
        for _, ids, packed in self.blocks(since):
            names += ids
            rows.append(packed)
        return names, _joined(rows)

    def blocks(self, since: int) -> Iterator[tuple[int, Strings, NDArray[Any]]]:
        """Each block, the oldest first: its number of entries, and the ids and rows of the users
        who are still in it. `since`: see `take_oldest`."""
        for place, block in self._blocks.items():
            opened = self._open(place)
            there = opened.there
            rows = _seen(opened.rows(there), block, since)
            yield block.users, Strings(opened.names, opened.size[there]), rows

    def tidy(self, blocks: int) -> None:
        """Overwrite who has come back, in so many blocks."""
        for place in list(islice(self._loose, blocks)):
            old, raw = self._blocks[place], self._open(place).raw
            new = _Block.of(old.turn, old.seq, old.users, raw, next(self._numbers))
            self._blocks[place] = new
            self._bytes += len(new.data) - len(old.data)
            del self._loose[place]

    def tidy_all(self) -> None:
        """Overwrite everybody who has come back."""
        self.tidy(len(self._loose))

    def forget(self) -> None:
        """Begin to drop what the index has of users who are not here. Once per sweep."""
        unused = len(self._index) - self._known
        if unused >= _DROP_AT and 4 * unused > len(self._index):
            self._index.begin_drop(0)

    def forget_some(self, entries: int) -> None:
        """Go on with what `forget` began."""
        self._index.drop_some(entries)

    def export(self) -> dict[str, NDArray[np.uint8]]:
        """As arrays by name. `gone` changes, the others are what their name has meant before."""
        arrays: dict[str, NDArray[np.uint8]] = {}
        gone: list[int] = []
        for place, block in self._blocks.items():
            arrays[str(block.number)] = np.frombuffer(block.data, np.uint8)
            gone += [place * _BLOCK + at for at in sorted(block.gone)]
        if gone:
            arrays["gone"] = np.array(gone, np.int64).view(np.uint8)
        return arrays

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Fill an empty object with what `export` gave; ValueError if that is damaged."""
        found = [_Block.read(n, a.tobytes()) for n, a in arrays.items() if n != "gone"]
        for block in sorted(found, key=lambda each: each.turn):
            self._turns = block.turn
            self._put(block)
        for where in arrays.get("gone", np.empty(0, np.uint8)).view(np.int64).tolist():
            self._blocks[where >> _BITS].gone.add(where & (_BLOCK - 1))
            self._loose[where >> _BITS] = None
        for place in self._blocks:
            opened = self._open(place)
            at = opened.there
            where = (place * _BLOCK + at).astype(np.int32)
            self._index.put(opened.rows(at)["user_hash"].copy(), where)
            self._known += len(at)
        self._numbers = count(max((block.number for block in found), default=-1) + 1)

    def _where(self, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Place and position of each hash; below 0 if it is not here."""
        at = self._index.find(hashes)
        where = np.full(len(hashes), -1, np.int32)
        where[at >= 0] = self._index.values[at[at >= 0]]
        return where

    def _places_of(
        self, hashes: NDArray[np.uint64]
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Block by block: its place, which of `hashes` are there, and at which positions."""
        where = self._where(hashes)
        found = np.flatnonzero(where >= 0)
        found = found[np.argsort(where[found], kind="stable")]
        places, at = where[found] >> _BITS, where[found].astype(np.int64) & (_BLOCK - 1)
        begins = np.flatnonzero(np.diff(places, prepend=-1)).tolist()
        for start, stop in pairwise([*begins, len(found)]):
            yield int(places[start]), found[start:stop], at[start:stop]

    def _not_here(self, hashes: NDArray[np.uint64]) -> None:
        self._index.put(hashes, np.full(len(hashes), -1, np.int32))
        self._known -= len(hashes)

    def _put(self, block: _Block) -> int:
        """Make this the newest block; returns its place."""
        place = self._turns % _PLACES
        if place in self._blocks:
            raise OverflowError("too many parked users for one shard: use more partitions")
        self._turns += 1
        self._blocks[place] = block
        self.entries += block.users
        self._bytes += len(block.data) + _BLOCK_BYTES
        return place

    def _drop(self, place: int) -> None:
        block = self._blocks.pop(place)
        self._loose.pop(place, None)
        self.entries -= block.users
        self._bytes -= len(block.data) + _BLOCK_BYTES

    def _open(self, place: int) -> _Open:
        block = self._blocks[place]
        k, width = block.users, ROW.itemsize
        raw = np.frombuffer(block.raw, np.uint8)
        if len(raw) < k * (4 + width):
            raise ValueError(f"parked users: block {block.number} is damaged")
        size = raw[: 4 * k].reshape(4, k).T.copy(order="C").view(np.int32)[:, 0]
        planes = raw[4 * k : (4 + width) * k].reshape(width, k)
        names = raw[(4 + width) * k :]
        if block.gone:
            at = sorted(block.gone)
            left = np.ones(k, np.bool_)
            left[at] = False
            names = names[np.repeat(left, size)]
            size[at] = 0
            planes = planes.copy()
            planes[:, at] = 0
        return _Open(names, size, planes)


def relaid(
    name: str,
    data: bytes,
    row_bytes: int,
    convert: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """A block as `Parked.export` gave it, with its rows in another layout.

    `convert`: uint8 [k, row_bytes] to uint8 [k, bytes of a new row]. Raises ValueError.
    """
    block = _Block.read(name, data)
    k = block.users
    raw = np.frombuffer(block.raw, np.uint8)
    before, after = 4 * k, (4 + row_bytes) * k
    if len(raw) < after:
        raise ValueError(f"parked users: block {name} is damaged")
    rows = np.ascontiguousarray(raw[before:after].reshape(row_bytes, k).T)
    planes = np.ascontiguousarray(convert(rows).T)
    again = raw[:before].tobytes() + planes.tobytes() + raw[after:].tobytes()
    return np.frombuffer(_Block.of(block.turn, block.seq, k, again, block.number).data, np.uint8)


def _seen(rows: NDArray[Any], block: _Block, since: int) -> NDArray[Any]:
    if block.seq < since:
        rows["question_period"] = -1
    return rows


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """The same rows in one array; numpy would leave what is between their fields to chance."""
    joined = np.concatenate([part.view(np.uint8) for part in parts])
    return joined.view(parts[0].dtype)
