"""Reads the table `examples` in a stream: what there is, and the rows that were drawn.

Rows come in the order of the table's key. A shard that started over has asked some questions again:
of those with the same user and time the first counts, which is the one that was served.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES, columns_by_name, listed_names
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import sink_error

__all__ = [
    "HORIZONS_QUERY",
    "Answers",
    "Examples",
    "Keys",
    "Matured",
    "answers",
    "horizons",
    "keys",
    "matured",
]

_KEYS_AT_ONCE: Final = 65_536
_ROWS_AT_ONCE: Final = 4_096
"""Rows with features that come together: 5 MB of hex digits."""
_ASKED: Final = "toUnixTimestamp64Milli(asked_at)"
_USER: Final = "xxHash64(user_id)"
_WITH: Final = (
    f"WITH {_USER} * 10723151780598845931 + toUInt64({_ASKED}) AS z0, "
    "bitXor(z0, bitShiftRight(z0, 30)) * 13787848793156543929 AS z1, "
    "bitXor(z1, bitShiftRight(z1, 27)) * 10723151780598845931 AS z2 "
)
"""Numbers wrap around, so that what is drawn is `streams.core.hashing.mix` of user and time."""
_DRAWN: Final = "bitXor(z2, bitShiftRight(z2, 31))"
_FIRST_ORDER: Final = "toUnixTimestamp64Milli(first_order_at)"
_WEEK: Final = f"intDiv({_ASKED}, 604800000)"
# As digits: numbers would become Python objects one by one, which takes three times as long.
_BITS: Final = "arrayStringConcat(arrayMap(v -> hex(v), features))"
_IN_ORDER: Final = "ORDER BY asked_at, user_id, ordinal"
HORIZONS_QUERY: Final = (
    "SELECT horizon_days, count() FROM examples FINAL GROUP BY horizon_days ORDER BY 1"
)
Row = tuple[Any, ...]
Bounds = Mapping[tuple[int, int], int]
"""The highest hash that is drawn, by week and band, and label."""


@dataclass(frozen=True)
class Examples:
    """Which examples: those of one horizon whose truth became known in (after, until]."""

    target: ClickHouseTarget
    horizon_days: int
    after_ms: int = 0
    until_ms: int | None = None
    min_orders: int = 2
    """Of customers."""

    @property
    def week(self) -> str:
        """SQL for the number of a row's week and band (`models.training.sample.band_week`)."""
        band = f"(lifetime_orders >= 1) + (lifetime_orders >= {max(1, self.min_orders)})"
        return f"(3 * {_WEEK} + {band})"

    @property
    def condition(self) -> str:
        known = "toUnixTimestamp64Milli(matured_at)"
        until = "" if self.until_ms is None else f" AND {known} <= {self.until_ms}"
        return f"horizon_days = {self.horizon_days} AND {known} > {self.after_ms}{until}"

    def keys_query(self) -> str:
        """What `keys` asks for."""
        return (
            f"{_WITH}SELECT {_ASKED}, {_DRAWN}, {self.week}, churned FROM examples FINAL "  # noqa: S608
            f"WHERE {self.condition} {_IN_ORDER}"
        )

    def matured_query(self, bounds: Bounds) -> str:
        """What `matured` asks for."""
        return (
            f"{_WITH}SELECT {_USER}, {_ASKED}, churned, spend, {_FIRST_ORDER}, feature_names, "  # noqa: S608
            f"{_BITS} FROM examples FINAL WHERE {self._drawn(bounds)} {_IN_ORDER}"
        )

    def answers_query(self, bounds: Bounds) -> str:
        """What `answers` asks for."""
        since = "features[indexOf(splitByChar(',', feature_names), 'days_since_order')]"
        last_order = f"if(isNaN({since}), 0, {_ASKED} - toInt64(round({since} * 86400000.)))"
        return (
            f"SELECT {_USER}, {_ASKED}, churned, {_FIRST_ORDER}, {last_order} "  # noqa: S608
            f"FROM examples FINAL WHERE {self.condition} AND user_id IN "
            f"({_WITH}SELECT user_id FROM examples FINAL WHERE {self._drawn(bounds)}) {_IN_ORDER}"
        )

    def _drawn(self, bounds: Bounds) -> str:
        """SQL that is true up to the bound of the row's week and label."""
        strata = ", ".join(f"toInt64({2 * week + label})" for week, label in bounds)
        highest = ", ".join(f"toUInt64({bound})" for bound in bounds.values())
        stratum = f"toInt64(2 * {self.week} + churned)"
        # A stratum that gives nothing has the bound 0.
        bound = f"transform({stratum}, [{strata}], [{highest}], toUInt64(0))"
        return f"{self.condition} AND {_DRAWN} <= {bound}"


@dataclass(frozen=True)
class Keys:
    """k examples without their features: asked_ms int64 [k], drawn uint64 [k] (a mix of user and
    time), week int64 [k] (and band, one number), churned int64 [k]."""

    asked_ms: NDArray[np.int64]
    drawn: NDArray[np.uint64]
    week: NDArray[np.int64]
    churned: NDArray[np.int64]


@dataclass(frozen=True)
class Matured:
    """k examples, by column [k]: user uint64 (its hash), asked_ms int64, churned bool, spend
    float32, first_order_ms int64 (0: none, or not known); x float32 [k, F], with the features of
    this build, by name."""

    user: NDArray[np.uint64]
    asked_ms: NDArray[np.int64]
    churned: NDArray[np.bool_]
    spend: NDArray[np.float32]
    first_order_ms: NDArray[np.int64]
    x: NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """k examples without their features, by column [k]: user uint64 (its hash), asked_ms int64,
    churned bool, first_order_ms int64 (0: none, or not known), last_order_ms int64 (the newest
    before it was asked; 0: none)."""

    user: NDArray[np.uint64]
    asked_ms: NDArray[np.int64]
    churned: NDArray[np.bool_]
    first_order_ms: NDArray[np.int64]
    last_order_ms: NDArray[np.int64]


def horizons(target: ClickHouseTarget) -> dict[int, int]:
    """How many examples there are of each horizon. Raises SinkUnavailable, SinkRefused."""
    return {
        int(days): int(count)
        for part in _parts(target, HORIZONS_QUERY, _KEYS_AT_ONCE)
        for days, count in part
    }


def keys(which: Examples) -> Iterator[Keys]:
    """All of them, some at a time. Raises SinkUnavailable, SinkRefused."""
    last = None
    for part in _parts(which.target, which.keys_query(), _KEYS_AT_ONCE):
        asked, drawn, week, churned = zip(*part, strict=True)
        found = np.array(drawn, np.uint64)
        first = np.append(drawn[0] != last, found[1:] != found[:-1])
        last = drawn[-1]
        yield Keys(
            np.array(asked, np.int64)[first],
            found[first],
            np.array(week, np.int64)[first],
            np.array(churned, np.int64)[first],
        )


def matured(which: Examples, bounds: Bounds) -> Iterator[Matured]:
    """Those up to the bounds of their strata (week and label), some at a time.
    Raises SinkUnavailable, SinkRefused."""
    last = None
    for part in _parts(which.target, which.matured_query(bounds), _ROWS_AT_ONCE):
        fresh = []
        for row in part:
            if row[:2] != last:
                fresh.append(row)
            last = row[:2]
        if fresh:
            user, asked, churned, spend, first_order, names, features = zip(*fresh, strict=True)
            yield Matured(
                np.array(user, np.uint64),
                np.array(asked, np.int64),
                np.array(churned, np.bool_),
                np.array(spend, np.float32),
                np.array(first_order, np.int64),
                _by_name(names, features),
            )


def answers(which: Examples, bounds: Bounds) -> Iterator[Answers]:
    """Every example of the users of those up to the bounds, some at a time.
    Raises SinkUnavailable, SinkRefused."""
    for part in _parts(which.target, which.answers_query(bounds), _KEYS_AT_ONCE):
        user, asked, churned, first_order, last = zip(*part, strict=True)
        yield Answers(
            np.array(user, np.uint64),
            np.array(asked, np.int64),
            np.array(churned, np.bool_),
            np.array(first_order, np.int64),
            np.array(last, np.int64),
        )


def _by_name(listed: tuple[str, ...], features: tuple[str, ...]) -> NDArray[np.float32]:
    """float32 [k, F] of the features' bits in hex: each row's where this build has them, and NaN
    where it had none."""
    x = np.full((len(listed), len(FEATURE_NAMES)), np.nan, np.float32)
    for names in set(listed):
        rows = np.flatnonzero([other == names for other in listed])
        raw = bytes.fromhex("".join(features[i] for i in rows.tolist()))
        found = np.frombuffer(raw, "<f4").reshape(len(rows), -1)
        places = np.array(columns_by_name(listed_names(names), FEATURE_NAMES))
        known = np.flatnonzero(places >= 0)
        x[np.ix_(rows, known)] = found[:, places[known]]
    return x


def _parts(target: ClickHouseTarget, query: str, at_once: int) -> Iterator[list[Row]]:
    """The rows of a query as they come, at most so many at a time; never none."""
    client = connect(target)
    try:
        rows = iter(client.execute_iter(query, settings={"max_block_size": at_once}))
        while part := list(islice(rows, at_once)):
            yield part
    except Exception as error:
        raise sink_error(error, "reading examples", target) from error
    finally:
        client.disconnect()
