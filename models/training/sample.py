"""Which rows to train on if there are too many: the same ones in every run.

Rows are drawn by hash, the lowest first, so neither their order nor the run matters. All weeks give
equally many rows, or all that they have; a week counts for each band of users (`models.bands`) by
itself, so that visitors don't displace customers. Within a week each label gives its share, rounded
to whole rows, and at least one: so a rare label stays. The week of a row does not depend on its
label, and within a week all rows have the same chance. So a model fitted to the sample is
calibrated without weights.

Rows are seen twice: first their hashes, weeks and labels, which say up to which hash each week and
label is drawn; then, and only up to there, the rows with their features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.bands import BANDS

__all__ = [
    "WEEK_MS",
    "Bounds",
    "StratifiedSample",
    "Stratum",
    "band_week",
    "chosen",
    "quotas",
    "sampled",
]

WEEK_MS: Final = 7 * 86_400_000
_EVERY: Final = 2**64 - 1

Stratum = tuple[int, int]
"""Week (since 1970), in numbers of `band_week`, and label."""

Bounds = Mapping[Stratum, int]
"""The highest hash that is drawn of each stratum that gives any."""


def band_week(week: NDArray[np.int64] | int, band: NDArray[Any] | int) -> NDArray[np.int64]:
    """A number for each week and band: week times the number of bands, plus the band."""
    return np.asarray(week, np.int64) * len(BANDS) + np.asarray(band, np.int64)


class StratifiedSample:
    """Sees all rows once, some at a time, and tells up to which hash each stratum is drawn.

    It holds the hashes that may still be drawn: two for each row and week at most, and those that
    have come since it last looked, `rows` and one `add`.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.counts: dict[Stratum, int] = {}
        """Rows seen of each stratum."""
        self._lowest: dict[Stratum, list[NDArray[np.uint64]]] = {}
        self._unsorted = 0

    @property
    def held(self) -> int:
        """Hashes in memory."""
        return sum(len(part) for parts in self._lowest.values() for part in parts)

    def add(
        self, drawn: NDArray[np.uint64], week: NDArray[np.int64], label: NDArray[np.int64]
    ) -> None:
        """More rows, [k] each: their hashes, weeks and labels (0 or more)."""
        if not len(drawn):
            return
        labels = int(label.max()) + 1
        code = week * labels + label
        order = np.argsort(code, kind="stable")
        codes, starts = np.unique(code[order], return_index=True)
        parts = np.split(drawn[order], starts[1:])
        for each, part in zip(codes.tolist(), parts, strict=True):
            stratum = divmod(each, labels)
            self.counts[stratum] = self.counts.get(stratum, 0) + len(part)
            self._lowest.setdefault(stratum, []).append(part)
        self._unsorted += len(drawn)
        if self._unsorted > self._rows:
            self._forget()

    def _forget(self) -> None:
        # More rows only lower the level, and no stratum gives more than its week does.
        most = max(quotas(self.counts, self._rows, by_label=False).values())
        for stratum, parts in self._lowest.items():
            joined = np.concatenate(parts)
            if len(joined) > most:
                joined = np.partition(joined, most - 1)[:most]
            self._lowest[stratum] = [joined]
        self._unsorted = 0

    def bounds(self) -> dict[Stratum, int]:
        """Up to which hash the strata are drawn: those that give all of theirs, to the end."""
        found = {}
        for stratum, quota in quotas(self.counts, self._rows).items():
            if quota == self.counts[stratum]:
                found[stratum] = _EVERY
            elif quota:
                lowest = np.concatenate(self._lowest[stratum])
                found[stratum] = int(np.partition(lowest, quota - 1)[quota - 1])
        return found

    def __len__(self) -> int:
        """Rows that are drawn."""
        return min(self._rows, sum(self.counts.values()))


def quotas(
    counts: Mapping[Stratum, int], rows: int, *, by_label: bool = True
) -> dict[Stratum, int]:
    """How many rows each stratum gives; without `by_label`, how many its whole week does.

    >>> quotas({(0, 0): 90, (0, 1): 10, (1, 0): 3, (1, 1): 1}, 24)
    {(0, 0): 18, (0, 1): 2, (1, 0): 3, (1, 1): 1}
    """
    weeks: dict[int, int] = {}
    for (week, _), count in counts.items():
        weeks[week] = weeks.get(week, 0) + count
    of_week, left = {}, rows
    # The smallest first: what they lack is for the others.
    for i, (count, week) in enumerate(sorted((count, week) for week, count in weeks.items())):
        of_week[week] = min(count, left // (len(weeks) - i))
        left -= of_week[week]
    if not by_label:
        return {stratum: of_week[stratum[0]] for stratum in counts}
    found: dict[Stratum, int] = {}
    for week, total in weeks.items():
        found |= _shares({s: n for s, n in counts.items() if s[0] == week}, total, of_week[week])
    return {stratum: found[stratum] for stratum in counts}


def _shares(counts: Mapping[Stratum, int], total: int, rows: int) -> dict[Stratum, int]:
    """`rows` split as `counts` are, by largest remainders; each gives one if there is one to
    give, the rarest first."""
    exact = {s: n * rows / total for s, n in counts.items()}
    found = {s: int(share) for s, share in exact.items()}
    nearest = sorted(counts, key=lambda s: (found[s] - exact[s], counts[s], s))
    for s in nearest[: rows - sum(found.values())]:
        found[s] += 1
    for s in sorted(counts, key=lambda s: (counts[s], s)):
        richest = max(found, key=lambda s: (found[s], s))
        if not found[s] and found[richest] > 1:
            found[s], found[richest] = 1, found[richest] - 1
    return found


def chosen(
    bounds: Bounds, drawn: NDArray[np.uint64], week: int, label: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which rows of one week are drawn, bool [k]: by their hashes and labels, [k] each."""
    found = np.zeros(len(drawn), np.bool_)
    for (of_week, of_label), bound in bounds.items():
        if of_week == week:
            found |= (label == of_label) & (drawn <= np.uint64(bound))
    return found


def sampled(
    drawn: NDArray[np.uint64], week: NDArray[np.int64], label: NDArray[np.int64], rows: int
) -> NDArray[np.bool_]:
    """Which of the rows are drawn, bool [k], where all are at hand."""
    sample = StratifiedSample(rows)
    sample.add(drawn, week, label)
    bounds, found = sample.bounds(), np.zeros(len(drawn), np.bool_)
    for each in np.unique(week).tolist():
        at = np.flatnonzero(week == each)
        found[at] = chosen(bounds, drawn[at], each, label[at])
    return found
