"""What a migration's statement is on a cluster: run on each server, and its table replicated.

Pure: text in, text out. The migrations stay as they are, with the hashes that they are known by.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["on_cluster"]

_PATH: Final = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
"""Where the replicas of a table meet, and this server's name there: macros of each server."""

_NAME: Final = r"(?:`[^`]+`|\w+)"
_DEFINITION: Final = re.compile(
    rf"""\A
    (?:
        CREATE\s+(?:OR\s+REPLACE\s+)?(?:DATABASE|TABLE|VIEW|MATERIALIZED\s+VIEW)
            (?:\s+IF\s+NOT\s+EXISTS)?
      | DROP\s+(?:TABLE|VIEW)(?:\s+IF\s+EXISTS)?
      | ALTER\s+TABLE
    )
    \s+{_NAME}
    """,
    re.VERBOSE,
)
_ENGINE: Final = re.compile(r"^ENGINE = ReplacingMergeTree(?:\((\w+)\))?$", re.MULTILINE)


def on_cluster(statement: str, cluster: str) -> str:
    """The statement for every server of the cluster. INSERT and SELECT stay as they are: the tables
    carry rows to the other servers themselves. Without a cluster every statement stays as it is.

    Raises ValueError for a definition that this does not know: it would be made on one server only.

    >>> on_cluster("ALTER TABLE alerts ADD COLUMN x UInt8", "shop")
    'ALTER TABLE alerts ON CLUSTER `shop` ADD COLUMN x UInt8'
    >>> on_cluster("SELECT 1", "shop")
    'SELECT 1'
    """
    if not cluster:
        return statement
    found = _DEFINITION.match(statement)
    if found is None:
        if re.match(r"(?:INSERT|SELECT)\b", statement):
            return statement
        raise ValueError(f"not known how to run on a cluster: {statement.splitlines()[0]}")
    replicated, engines = _ENGINE.subn(_replicated, statement[found.end() :])
    if re.match(r"CREATE\s+TABLE", statement) and not engines:
        raise ValueError(f"not known how to replicate: {statement.splitlines()[0]}")
    return f"{found[0]} ON CLUSTER `{cluster}`{replicated}"


def _replicated(engine: re.Match[str]) -> str:
    version = f", {engine[1]}" if engine[1] else ""
    return f"ENGINE = ReplicatedReplacingMergeTree({_PATH}{version})"
