"""The open label questions of a shard, first asked first answered, packed.

A question keeps the features it was asked with, 127 numbers, until it matures weeks later. Many are
zero, and a longer window often says what the shorter one does; so each window's numbers are kept as
what differs (by bits) from the next longer one's, and only those that are not zero are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import WINDOW_FEATURES, WINDOWS

__all__ = ["PER_WINDOW", "OpenQuestions", "QuestionQueue", "Questions", "pack", "unpack"]

_PARTS: Final = ("asked_ms", "champion", "learner", "rows", "scores", "kept", "words")
_DAY_MS: Final = 86_400_000
_BLOCK: Final = 512  # questions packed together: about 100 KiB
PER_WINDOW: Final = len(WINDOW_FEATURES)
"""Number of features of each window. These come first, window by window, the shortest first."""


def pack(
    x: NDArray[np.float32], per_window: int = PER_WINDOW, windows: int = len(WINDOWS)
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """x float32 [k, F] -> which words are kept, bits as uint8 [k * ceil(F / 8)]; and those words.

    The first columns are `windows` times `per_window` features. If there are fewer columns, words
    are packed unchanged.

    >>> x = np.zeros((2, PER_WINDOW * len(WINDOWS) + 5), np.float32)
    >>> x[1, 7] = np.nan
    >>> bool((unpack(*pack(x), x.shape[1]).view("u4") == x.view("u4")).all())
    True
    """
    bits = np.ascontiguousarray(x).view(np.uint32).copy()
    shorter = per_window * (windows - 1)
    if bits.shape[1] >= shorter + per_window:
        bits[:, :shorter] ^= bits[:, per_window : shorter + per_window].copy()
    kept = bits != 0
    return np.packbits(kept, axis=1).reshape(-1), bits[kept]


def unpack(
    kept: NDArray[np.uint8],
    words: NDArray[np.uint32],
    features: int,
    per_window: int = PER_WINDOW,
    windows: int = len(WINDOWS),
) -> NDArray[np.float32]:
    """What `pack` was given."""
    mask = np.unpackbits(kept.reshape(-1, -(-features // 8)), axis=1, count=features).astype(bool)
    bits = np.zeros(mask.shape, np.uint32)
    bits[mask] = words
    if features >= per_window * windows:
        for w in range(windows - 2, -1, -1):
            here = slice(w * per_window, (w + 1) * per_window)
            longer = slice((w + 1) * per_window, (w + 2) * per_window)
            bits[:, here] ^= bits[:, longer]
    return bits.view(np.float32)


@dataclass(frozen=True)
class OpenQuestions:
    """k questions in the order in which they were questions.

    asked_ms: int64 [k]; champion: int32 [k], index in `Meta.champions`; learner: int32 [k], its
    version; rows: int32 [k]; scores: float32 [k, 4] (p_churn, p_champion, p_learner, expected
    spend); x: float32 [k, F], the features at that time.
    """

    asked_ms: NDArray[np.int64]
    champion: NDArray[np.int32]
    learner: NDArray[np.int32]
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    x: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int | None = None) -> OpenQuestions:
        return self.at(slice(start, stop))

    def at(self, where: slice | NDArray[np.int64]) -> OpenQuestions:
        """Those at some positions."""
        return OpenQuestions(
            self.asked_ms[where], self.champion[where], self.learner[where], self.rows[where],
            self.scores[where], self.x[where],
        )  # fmt: skip


@dataclass(eq=False)
class _Block:
    """Packed questions that don't change any more, by name as a checkpoint holds them."""

    number: int
    arrays: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.arrays["rows"])

    def unpacked(self, features: int) -> OpenQuestions:
        a = self.arrays
        x = unpack(a["kept"], a["words"], features)
        scores = a["scores"].reshape(-1, 4)
        return OpenQuestions(a["asked_ms"], a["champion"], a["learner"], a["rows"], scores, x)


class Questions:
    """The open questions by the horizon that they ask about, in days; a queue each, since within
    one horizon who is asked first is due first. There is one, but for a while after a champion with
    another horizon was promoted."""

    def __init__(self, features: int) -> None:
        self._features = features
        self._numbers = count()  # of blocks: never used twice, since a name means its content
        self.by_horizon: dict[int, QuestionQueue] = {}

    def __len__(self) -> int:
        return sum(map(len, self.by_horizon.values()))

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(queue.nbytes for queue in self.by_horizon.values())

    def append(self, horizon_days: int, questions: OpenQuestions) -> None:
        """Ask more questions, none of them before those of that horizon that are already there."""
        self._queue(horizon_days).append(questions)

    def take_due(self, now_ms: int) -> Iterator[tuple[int, OpenQuestions]]:
        """Remove and yield all questions whose horizon has passed, as (horizon, questions)."""
        for horizon_days in sorted(self.by_horizon):
            queue = self.by_horizon[horizon_days]
            questions = queue.take_until(now_ms - horizon_days * _DAY_MS)
            if not len(queue):
                del self.by_horizon[horizon_days]
            if len(questions):
                yield horizon_days, questions

    def drop(self, row: int) -> None:
        """Remove the question of one user, if there is one. Takes unpacking everything."""
        for horizon_days, queue in list(self.by_horizon.items()):
            queue.drop(row)
            if not len(queue):
                del self.by_horizon[horizon_days]

    def part(self, place: NDArray[np.int64]) -> Questions:
        """The questions of some users. place: int64 [rows], the new row of each user, -1 for those
        who are left out."""
        part = Questions(self._features)
        for horizon_days, queue in self.by_horizon.items():
            for questions in queue.parts():
                rows = place[questions.rows]
                mine = np.flatnonzero(rows >= 0)
                if len(mine):
                    chosen = replace(questions.at(mine), rows=rows[mine].astype(np.int32))
                    part.append(horizon_days, chosen)
        return part

    def export(self) -> dict[str, NDArray[Any]]:
        """As arrays named `<horizon>/<name in its queue>`."""
        return {
            f"{horizon_days}/{name}": array
            for horizon_days, queue in self.by_horizon.items()
            for name, array in queue.export().items()
        }

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Fill an empty object with what `export` gave; KeyError if a part is missing."""
        for horizon in {name.split("/")[0] for name in arrays}:
            prefix = f"{horizon}/"
            of_queue = {
                k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)
            }
            self._queue(int(horizon)).load(of_queue)

    def _queue(self, horizon_days: int) -> QuestionQueue:
        new = QuestionQueue(self._features, self._numbers)
        return self.by_horizon.setdefault(horizon_days, new)


@dataclass(eq=False)
class QuestionQueue:
    """First in, first out. Full blocks are packed; the newest questions are in `_open`."""

    features: int
    _numbers: Iterator[int] = field(default_factory=count)
    _blocks: deque[_Block] = field(default_factory=deque)
    _open: list[OpenQuestions] = field(default_factory=list)
    _head: OpenQuestions | None = None  # the first block, unpacked: what is left of it

    def __len__(self) -> int:
        first = 0 if self._head is None else len(self._head)
        return first + sum(map(len, self._blocks)) + sum(map(len, self._open))

    @property
    def nbytes(self) -> int:
        """Memory of the packed blocks and of what is not packed yet."""
        packed = sum(a.nbytes for block in self._blocks for a in block.arrays.values())
        loose = [*self._open, *([self._head] if self._head is not None else [])]
        return packed + sum(a.x.nbytes + a.scores.nbytes + 16 * len(a) for a in loose)

    def append(self, questions: OpenQuestions) -> None:
        """Ask more questions, none of them before those that are already there."""
        self._open.append(questions)
        while sum(map(len, self._open)) >= _BLOCK:
            joined = _joined(self._open)
            block = joined.part(0, _BLOCK)
            self._open = [joined.part(_BLOCK)] if len(joined) > _BLOCK else []
            self._blocks.append(_Block(next(self._numbers), _arrays(block)))

    def take_until(self, asked_ms: int) -> OpenQuestions:
        """Remove and return all questions asked at or before that time."""
        parts = []
        while True:
            if self._head is None:
                if self._blocks and self._blocks[0].arrays["asked_ms"][0] <= asked_ms:
                    self._head = self._blocks.popleft().unpacked(self.features)
                elif not self._blocks and self._open and self._open[0].asked_ms[0] <= asked_ms:
                    self._head, self._open = _joined(self._open), []
                else:
                    break
            due = int(np.searchsorted(self._head.asked_ms, asked_ms, side="right"))
            parts.append(self._head.part(0, due))
            if due < len(self._head):
                self._head = self._head.part(due)
                break
            self._head = None
        return _joined(parts) if parts else self._none()

    def drop(self, row: int) -> None:
        """Remove the question of one user, if there is one. Takes unpacking everything."""
        questions = self.everything()
        left = np.flatnonzero(questions.rows != row)
        if len(left) < len(questions):
            self._blocks, self._open, self._head = deque(), [], None
            for start in range(0, len(left), _BLOCK):
                self.append(questions.at(left[start : start + _BLOCK]))

    def export(self) -> dict[str, NDArray[Any]]:
        """As arrays named `head/...`, `<number of a block>/...` and `open/...`. Blocks never change
        and keep their names."""
        arrays: dict[str, NDArray[Any]] = {}
        if self._head is not None:
            arrays |= {f"head/{k}": v for k, v in _arrays(self._head).items()}
        for block in self._blocks:
            arrays |= {f"{block.number}/{k}": v for k, v in block.arrays.items()}
        if self._open:
            arrays |= {f"open/{k}": v for k, v in _arrays(_joined(self._open)).items()}
        return arrays

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Fill an empty queue with what `export` gave; KeyError if a part is missing."""
        names = {name.split("/")[0] for name in arrays}

        def block(name: str) -> _Block:
            parts = {part: arrays[f"{name}/{part}"] for part in _PARTS}
            return _Block(next(self._numbers), parts)

        if "head" in names:
            self._head = block("head").unpacked(self.features)
        for number in sorted(int(name) for name in names if name.isdigit()):
            self._blocks.append(block(str(number)))
        if "open" in names:
            self._open = [block("open").unpacked(self.features)]

    def parts(self) -> Iterator[OpenQuestions]:
        """All questions in several parts, which have to be unpacked."""
        if self._head is not None:
            yield self._head
        for block in self._blocks:
            yield block.unpacked(self.features)
        yield from self._open

    def everything(self) -> OpenQuestions:
        """All questions at once, to compare or to look at; they have to be unpacked."""
        parts = list(self.parts())
        return _joined(parts) if parts else self._none()

    def _none(self) -> OpenQuestions:
        no = np.empty(0, np.int32)
        scores, x = np.empty((0, 4), np.float32), np.empty((0, self.features), np.float32)
        return OpenQuestions(np.empty(0, np.int64), no, no, no, scores, x)


def _joined(parts: list[OpenQuestions]) -> OpenQuestions:
    if len(parts) == 1:
        return parts[0]
    return OpenQuestions(
        np.concatenate([p.asked_ms for p in parts]),
        np.concatenate([p.champion for p in parts]),
        np.concatenate([p.learner for p in parts]),
        np.concatenate([p.rows for p in parts]),
        np.concatenate([p.scores for p in parts]),
        np.concatenate([p.x for p in parts]),
    )


def _arrays(questions: OpenQuestions) -> dict[str, NDArray[Any]]:
    kept, words = pack(questions.x)
    return {
        "asked_ms": questions.asked_ms,
        "champion": questions.champion,
        "learner": questions.learner,
        "rows": questions.rows,
        "scores": questions.scores.reshape(-1),
        "kept": kept,
        "words": words,
    }
