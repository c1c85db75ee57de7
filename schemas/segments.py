"""The segments every shop gets, and the recommended actions of alerts: names are contract."""

from __future__ import annotations

from typing import Final

__all__ = ["DIMENSIONS", "LIFECYCLE", "RFM_CELLS", "VALUE_TIERS"]

VALUE_TIERS: Final = ("none", "low", "medium", "high")
"""By expected spend among the shard's live customers: `high` is the top 10 %, `medium` the next
30 %, `low` the rest; `none` has never ordered (too little is known for a value)."""

LIFECYCLE: Final = ("visitor", "new", "active", "at_risk", "lapsed")
"""visitor: no order yet. new: one order, less than 90 days ago. at_risk: in an open churn alert.
lapsed: no order for 90 days or more. active: everyone else."""

DIMENSIONS: Final[dict[str, tuple[str, ...]]] = {
    "value_tier": VALUE_TIERS,
    "lifecycle": LIFECYCLE,
}

RFM_CELLS: Final = (
    "none",
    *(f"R{r}F{f}M{m}" for r in range(1, 6) for f in range(1, 6) for m in range(1, 6)),
)
"""How recently, how often and for how much a customer has bought, in fifths: R5F5M5 is the best.
`none` is no live customer. Only where the definitions ask for it."""
