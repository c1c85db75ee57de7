"""Which of a champion's models a user is scored by: users are banded by their orders so far.

- customers: as many orders as its training required (`eligibility` in its manifest; two unless
  trained otherwise), so that there is one gap to compare silence to;
- few orders: at least one, but fewer. Will they come back, when, and what is it worth?
- visitors: none yet. Will they order?

The bands have models of their own: fitted together, customers' value was predicted worse where most
people order once (D-070). Everybody's number means the same: `p_churn` is the chance of no order
within the horizon, so a visitor's chance to order is the rest.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES

__all__ = ["BANDS", "CUSTOMERS", "FEW_ORDERS", "OTHERS", "VISITORS", "band_of", "band_of_rows"]

VISITORS: Final = "visitors"
FEW_ORDERS: Final = "few_orders"
CUSTOMERS: Final = "customers"
BANDS: Final = (VISITORS, FEW_ORDERS, CUSTOMERS)
"""By rising evidence; `band_of` gives positions here."""
OTHERS: Final = (FEW_ORDERS, VISITORS)
"""The bands with models beside the champion's own."""
_ORDERS: Final = FEATURE_NAMES.index("lifetime_orders")


def band_of(
    orders: NDArray[np.integer] | NDArray[np.floating], min_orders: int
) -> NDArray[np.int8]:
    """The band of users with so many orders, as a position in `BANDS`: int8 [k].

    `min_orders`: of the champion; below 1 it counts as 1. An unknown number (NaN) counts as none.

    >>> band_of(np.array([0, 1, 2, 9]), 2).tolist()
    [0, 1, 2, 2]
    """
    some, enough = orders >= 1, orders >= max(1, min_orders)
    band: NDArray[np.int8] = some.astype(np.int8) + enough.astype(np.int8)
    return band


def band_of_rows(x: NDArray[np.float32], min_orders: int) -> NDArray[np.int8]:
    """The same for rows of features x float32 [k, F]."""
    return band_of(x[:, _ORDERS], min_orders)
