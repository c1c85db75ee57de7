"""The first rows of a list by rank, out of a million, without merging a million.

A query here finds candidates in `customer_versions`, whose rows may be older ones of their users,
and confirms them in `customers`. What is confirmed is exact as far down as candidates go: everybody
who ranks as high has a row among them. If too few are confirmed, more candidates are taken.
"""

from __future__ import annotations

from typing import Any, Final

from streams.console.reads import Parameter, Reader, Rows

__all__ = ["ranked", "ranking"]

_SPARE: Final = 4
"""Candidates per row that is wanted: users are scored again long before their rows are merged."""
_ALL: Final = 10**9


def ranking(columns: str, rank: str, where: str) -> str:
    """A query for `ranked`: `columns` of `customers`, the highest `rank` first, of those `where`.

    `rank` must be unknown (NULL) for nobody who is `where`. With the parameters `is_first`, `rank`
    and `after_user_id` it begins behind a row; `limit` is the number of rows. Pieces are constants
    of the pages: values are parameters.
    """
    return f"""
WITH (
    SELECT (min(rank), count()) FROM (
        SELECT {rank} AS rank FROM customer_versions
        WHERE {where} AND (%(is_first)s = 1 OR {rank} <= %(rank)s)
        ORDER BY rank DESC LIMIT %(candidates)s
    )
) AS bound
SELECT {columns}, {rank} AS rank, bound.2 AS candidates
FROM customers
WHERE {rank} >= bound.1 AND {where}
    AND (%(is_first)s = 1 OR {rank} < %(rank)s
        OR ({rank} = %(rank)s AND user_id > %(after_user_id)s))
    AND user_id IN (
        SELECT user_id FROM customer_versions
        WHERE {rank} >= bound.1 AND {where} AND (%(is_first)s = 1 OR {rank} <= %(rank)s)
    )
ORDER BY rank DESC, user_id
LIMIT %(limit)s
"""  # noqa: S608  (constants of the pages)


async def ranked(
    reader: Reader, query: str, limit: int, after: tuple[float, str] | None, **given: Parameter
) -> Rows:
    """The first `limit` rows behind `after`, a rank and a user id; None: from the top.

    Raises ReadFailed.
    """
    if after is None:
        # An empty text is no pseudonym: it is no parameter.
        query = query.replace("%(after_user_id)s", "''")
        place: dict[str, Any] = {"is_first": 1, "rank": 0.0}
    else:
        place = {"is_first": 0, "rank": after[0], "after_user_id": after[1]}
    taken = _SPARE * limit
    found = await reader.rows(query, limit=limit, candidates=taken, **place, **given)
    first = found.first()
    if len(found) < limit and (first is None or first["candidates"] >= taken):
        found = await reader.rows(query, limit=limit, candidates=_ALL, **place, **given)
    return found
