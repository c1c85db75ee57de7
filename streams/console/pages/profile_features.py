"""The features that a customer's newest score row was made of, in words and with their units."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from schemas.features import FEATURES, listed_names
from streams.console.page import Ask, Column, Table

__all__ = ["feature_table"]

NEWEST: Final = """
SELECT toUnixTimestamp64Milli(scored_at) AS scored_ms, toString(feature_names) AS feature_names,
    features
FROM customer_features WHERE user_id = %(user_id)s LIMIT 1
"""
COLUMNS: Final = (
    Column("group", "Group", "tag"),
    Column("words", "What", wide=True),
    Column("value", "Value", "text"),
    Column("unit", "Unit"),
    Column("name", "Feature", "code"),
)
_KNOWN: Final = {each.name: each for each in FEATURES}
_WINDOW: Final = re.compile(r"_(?P<length>\d+[hd])$")
_GROUPS: Final = (
    ("gap", "rhythm"), ("day_gap", "rhythm"), ("silen", "rhythm"), ("longer_gap", "rhythm"),
    ("order_days", "rhythm"), ("days_since", "how long ago"), ("lifetime", "in all"),
    ("tenure", "in all"), ("mean_order", "in all"), ("day_of_year", "time of the year"),
)  # fmt: skip
_OFF: Final = (
    "The features of scores are not kept, or none was written of this customer since they are. Set "
    "`TIDELINE_CLICKHOUSE_KEEP_FEATURES_DAYS=14`, say, for the workers, and start them again; a "
    "customer's come with the next score row, within a day."
)


async def feature_table(ask: Ask, user: str) -> Table:
    """Folded, those that are neither 0 nor unknown first. Raises ReadFailed."""
    found = (await ask.reader.rows(NEWEST, user_id=user)).first()
    rows = [] if found is None else feature_rows(
        listed_names(str(found["feature_names"])), found["features"], ask.settings.stream.currency
    )  # fmt: skip
    return Table(
        "features", "What the score was made of", COLUMNS, rows, empty=_OFF,
        as_of_ms=None if found is None else int(found["scored_ms"]), folded=True,
    )  # fmt: skip


def feature_rows(names: Any, values: Any, currency: str) -> list[list[Any]]:
    """`COLUMNS` of features by name, also those of a release that had others."""
    rows = []
    for name, value in zip(names, values, strict=True):
        known = _KNOWN.get(name)
        unit = known.unit if known else ""
        is_known = math.isfinite(value)
        rows.append([
            _group(name), known.words if known else name.replace("_", " "),
            f"{value:.6g}" if is_known else "unknown",
            currency if unit == "currency" else unit, name,
        ])  # fmt: skip
    return sorted(rows, key=lambda row: row[2] in ("0", "-0", "unknown"))


def _group(name: str) -> str:
    for begins, group in _GROUPS:
        if name.startswith(begins):
            return group
    window = _WINDOW.search(name)
    if window is None or "decayed" in name or "trend" in name:
        return "trend"
    length = window["length"]
    return f"last {length[:-1]} {'hours' if length[-1] == 'h' else 'days'}"
