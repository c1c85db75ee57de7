"""Reads audiences from ClickHouse: their sizes by arm, and who is in one now, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import sink_error

__all__ = ["ARMS", "ARMS_QUERY", "COLUMNS", "MEMBERS_QUERY", "Arms", "audiences", "members"]

ARMS: Final = ("treat", "holdout", "global_holdout")
COLUMNS: Final[Mapping[str, type]] = {
    "user_id": str,
    "segment": str,
    "entered_at": datetime,
    "number": int,
    "p_churn": float,
    "expected_spend": float,
    "value_tier": str,
    "lifecycle": str,
    "definitions": str,
}
"""Columns of a member, as in the view `audience_members`."""

ARMS_QUERY: Final = (
    "SELECT audience, arm, users, expected_spend, newest_at FROM audience_arms "
    "ORDER BY audience, arm"
)
# The most at stake first: with a limit these are the ones worth a call.
MEMBERS_QUERY: Final = (
    f"SELECT {', '.join(COLUMNS)} FROM audience_members WHERE audience = %(audience)s "  # noqa: S608
    "ORDER BY p_churn * expected_spend DESC NULLS LAST, user_id"
)
_BLOCK_ROWS: Final = 10_000


@dataclass(frozen=True)
class Arms:
    """One audience: users who are in it now, by arm, and the expected spend of those to contact."""

    audience: str
    users: Mapping[str, int]
    expected_spend: float
    newest_at: datetime


def audiences(target: ClickHouseTarget) -> list[Arms]:
    """Every audience that somebody has entered, by name. Raises SinkUnavailable, SinkRefused."""
    client = connect(target)
    try:
        rows = client.execute(ARMS_QUERY)
    except Exception as error:
        raise sink_error(error, "reading audiences", target) from error
    finally:
        client.disconnect()
    found: dict[str, Arms] = {}
    for audience, arm, users, spend, newest_at in rows:
        before = found.get(audience)
        found[audience] = Arms(
            audience,
            {**(before.users if before else dict.fromkeys(ARMS, 0)), arm: int(users)},
            spend if arm == "treat" else before.expected_spend if before else 0.0,
            max(newest_at, before.newest_at) if before else newest_at,
        )
    return list(found.values())


def members(
    target: ClickHouseTarget, audience: str, limit: int | None = None
) -> Iterator[tuple[Any, ...]]:
    """Who is in an audience now and may be contacted, the most at stake first, as they arrive from
    the server: columns as `COLUMNS`, an unknown number is None.
    Raises SinkUnavailable, SinkRefused."""
    client = connect(target)
    query = MEMBERS_QUERY + (f" LIMIT {int(limit)}" if limit is not None else "")
    try:
        yield from client.execute_iter(
            query, {"audience": audience}, settings={"max_block_size": _BLOCK_ROWS}
        )
    except GeneratorExit:
        raise
    except Exception as error:
        raise sink_error(error, f"reading audience {audience}", target) from error
    finally:
        client.disconnect()
