"""How old the records of a step are, in a few hundred numbers however many records there are.

They are kept until ClickHouse has the step's rows, which takes as long as ClickHouse is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ages"]

_EXACT_BITS: Final = 7


@dataclass(frozen=True)
class Ages:
    """ages_ms: int64 [k], rising; counts: int64 [k], how many records have that age.

    An age is exact below 128 ms, and above rounded up by less than 1/64 of itself.
    """

    ages_ms: NDArray[np.int64]
    counts: NDArray[np.int64]

    @staticmethod
    def of(timestamps_ms: Sequence[NDArray[np.int64]], now_ms: int) -> Ages:
        """The ages at `now_ms` of the records of several topics, int64 [n] each.

        A timestamp that is ahead of `now_ms` has the age 0: its clock is ahead. One before 1970,
        and so the -1 of a record without a timestamp, counts as 1970: such a record is old rather
        than fresh.

        >>> ages = Ages.of([np.array([1_000, 1_400, 1_000, 9_999])], 1_500)
        >>> ages.ages_ms.tolist(), ages.counts.tolist()
        ([0, 100, 500], [1, 1, 2])
        """
        written_ms = np.concatenate((*timestamps_ms, np.empty(0, np.int64)))
        age_ms = now_ms - np.minimum(np.maximum(written_ms, 0), now_ms)
        # A small floating-point number: the leading bits, and how many bits were dropped behind
        # them. Both in one integer, which rises with the age.
        bits = np.frexp(age_ms.astype(np.float64))[1].astype(np.int64)
        dropped = np.maximum(bits - _EXACT_BITS, 0)
        leading = -(-age_ms >> dropped)
        found = np.bincount((dropped << (_EXACT_BITS - 1)) + leading)
        codes = np.flatnonzero(found)
        dropped = np.maximum((codes >> (_EXACT_BITS - 1)) - 1, 0)
        return Ages((codes - (dropped << (_EXACT_BITS - 1))) << dropped, found[codes])

    def later(self, waited_ms: int) -> Ages:
        """The same records so much later; a clock that was set back makes nothing younger."""
        return Ages(self.ages_ms + max(0, waited_ms), self.counts)
