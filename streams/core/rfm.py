"""RFM cells: how recently, how often and for how much a customer has bought, in fifths each.

Recency, frequency and monetary value as in Hughes, Strategic Database Marketing (1994), each ranked
by itself among the shop's live customers of the last sweep: 5 is the best fifth.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.core.quantities import UserQuantities

__all__ = ["RFM_RANKS", "rfm_cells"]

RFM_RANKS: Final = ("order_age", "orders", "lifetime_revenue")
"""What is ranked; of the first one less is better."""
_FIFTHS: Final = 5


def rfm_cells(q: UserQuantities, live: NDArray[np.bool_]) -> NDArray[np.int8]:
    """The cell of each of k users, int8 [k]: places in `schemas.segments.RFM_CELLS`. `live` (bool
    [k]) are the live customers; others have none, and nobody has before ranks are known."""
    recency, frequency, monetary = (q.rank(name) for name in RFM_RANKS)
    known = live & ~np.isnan(recency) & ~np.isnan(frequency) & ~np.isnan(monetary)
    fifths = [_fifth(each) for each in (recency, frequency, monetary)]
    fifths[0] = _FIFTHS - 1 - fifths[0]
    cell = (fifths[0] * _FIFTHS + fifths[1]) * _FIFTHS + fifths[2]
    return np.where(known, cell + 1, 0).astype(np.int8)


def _fifth(share_below: NDArray[np.float64]) -> NDArray[np.int64]:
    """0 to 4."""
    fifth = np.floor(np.nan_to_num(share_below) * _FIFTHS).astype(np.int64)
    return np.minimum(fifth, _FIFTHS - 1)
