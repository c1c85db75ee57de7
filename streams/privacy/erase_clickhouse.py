"""Deletes what ClickHouse holds about one person, without naming them in any statement.

Statements are kept in `system.query_log` and, for mutations, in `system.mutations` and a file on
disk that stays. So the person is found by the salted hash of the user id, which costs a scan of one
column per table. `ALTER TABLE ... DELETE` rewrites the parts that have such rows, so nothing is
left behind a mask; ClickHouse removes the old parts from disk some minutes later
(`old_parts_lifetime`).

What the person did after the erasure stays: rows count only if they are from before the point that
the shard of the row reported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from clickhouse_driver import Client

from schemas.messages import Erasure, ErasureRequest
from schemas.tables import PERSONAL
from schemas.topics import TopicNames
from streams.clickhouse.client import ClickHouseTarget, connect
from streams.clickhouse.errors import sink_error
from streams.privacy.pseudonyms import KEY_ID_DIGITS, PATTERN

__all__ = [
    "KEY_IDS_QUERY",
    "Audit",
    "Deletion",
    "Person",
    "count",
    "delete",
    "key_ids",
    "was_before",
    "write_audit",
]

MUTATION_SECONDS: Final = 3_600.0  # without an answer for so long, a rewriting server has failed
_FOREVER: Final = 2**62
_TIME: Final = {
    "score_history": "scored_at",
    "latest_scores": "scored_at",
    "users_now": "scored_at",
    "user_points": "scored_at",
    "alerts": "raised_at",
    "user_alerts": "raised_at",
    "contacts": "contacted_at",
    "segment_changes": "changed_at",
    "segment_entries": "since",
    "audience_changes": "changed_at",
    "audience_entries": "since",
    "matured_predictions": "asked_at",
    "examples": "asked_at",
    "score_samples": "scored_at",
    "events": "taken_at",
    "user_features": "scored_at",
    "dead_letters": "recorded_at",
}
KEY_IDS_QUERY: Final = (
    f"SELECT DISTINCT substring(user_id, 1, {KEY_ID_DIGITS}) FROM users_now "  # noqa: S608
    f"WHERE match(user_id, '{PATTERN}')"
)
_LITERALS: Final = r""""((?:[^"\\]|\\.)*)\""""  # every JSON string in a text, also a broken one


@dataclass(frozen=True)
class Deletion:
    """Rows of one table, on disk: a row that was written twice counts twice until it is merged."""

    table: str
    rows: int


@dataclass(frozen=True)
class Person:
    """Whose rows: salted hashes of the names that results may have for one person."""

    salt: bytes
    digests: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """One row of the table `erasures`."""

    request: ErasureRequest
    finished_at_ms: int
    outcome: str
    reports: Sequence[Erasure]
    rows_deleted: int


def count(
    target: ClickHouseTarget,
    person: Person,
    names: TopicNames,
    reports: Sequence[Erasure] = (),
) -> list[Deletion]:
    """The rows that `delete` would delete, by table. Raises SinkUnavailable, SinkRefused."""
    with _connected(target, "looking for the person's rows") as client:
        return [
            _count(client, table, _condition(table, person, names, reports)) for table in PERSONAL
        ]


def key_ids(target: ClickHouseTarget) -> set[str]:
    """The key ids of the pseudonyms in ClickHouse; none if it has user ids.
    Raises SinkUnavailable, SinkRefused."""
    with _connected(target, "looking which pseudonym key is in use") as client:
        return {key_id for (key_id,) in client.execute(KEY_IDS_QUERY)}


def delete(
    target: ClickHouseTarget,
    person: Person,
    names: TopicNames,
    reports: Sequence[Erasure],
    progress: Callable[[str], None] = lambda _table: None,
) -> list[Deletion]:
    """Delete the person's rows and wait until every part is rewritten; may be run again.

    `reports` bound it: a shard that has not reported loses all rows of the person. Raises
    SinkUnavailable (run it again), SinkRefused.
    """
    found = []
    with _connected(target, "deleting the person's rows") as client:
        for table in PERSONAL:
            progress(table)
            condition = _condition(table, person, names, reports)
            before = _count(client, table, condition)
            found.append(before)
            if before.rows:
                client.execute(
                    f"ALTER TABLE {table} DELETE WHERE {condition}", settings={"mutations_sync": 2}
                )
    return found


def write_audit(target: ClickHouseTarget, audit: Audit) -> None:
    """Add or replace the run's row in `erasures`. Raises SinkUnavailable, SinkRefused."""
    request = audit.request
    row = {
        "erasure_id": request.erasure_id,
        "person": request.digest,
        "operator": request.operator,
        "requested_at": datetime.fromtimestamp(request.requested_at_ms / 1000, UTC),
        "finished_at": datetime.fromtimestamp(audit.finished_at_ms / 1000, UTC),
        "outcome": audit.outcome,
        "shards": len(request.ends),
        "shards_done": len(audit.reports),
        "shards_found": sum(report.found for report in audit.reports),
        "rows_deleted": audit.rows_deleted,
    }
    with _connected(target, "writing the audit row") as client:
        client.execute(
            f"INSERT INTO erasures ({', '.join(row)}) VALUES", [row], settings={"async_insert": 0}
        )


@contextlib.contextmanager
def _connected(target: ClickHouseTarget, doing: str) -> Iterator[Client]:
    """A client that waits for long mutations, and whose errors become ours."""
    patient = replace(target, send_receive_timeout_seconds=MUTATION_SECONDS)
    client = connect(patient)
    try:
        yield client
    except Exception as exc:
        raise sink_error(exc, doing, target) from exc
    finally:
        client.disconnect()


def _count(client: Client, table: str, condition: str) -> Deletion:
    query = f"SELECT count() FROM {table} WHERE {condition}"  # noqa: S608  (see _condition)
    ((rows,),) = client.execute(query)
    return Deletion(table, int(rows))


def _condition(table: str, person: Person, names: TopicNames, reports: Sequence[Erasure]) -> str:
    """SQL that is true for the rows to delete; digest, salt and numbers are the only values."""
    is_person = _is_person(person)
    before = was_before(table, reports)
    if table != "dead_letters":
        return f"{is_person('user_id')} AND {before}"
    literals = f"extractAll(payload, '{_escaped(_LITERALS)}')"
    theirs = f"({is_person('record_key')} OR arrayExists(s -> {is_person('s')}, {literals}))"
    stopped = " OR ".join(
        f"(topic = '{_escaped(topic)}' AND toInt64(offset) < {_stops(source, reports)})"
        for source, topic in enumerate((names.clickstream, names.orders))
    )
    return f"{theirs} AND ({before} OR {stopped})"


def was_before(table: str, reports: Sequence[Erasure]) -> str:
    """SQL that is true for the rows of a table from before their shard's cutoff; for every row of
    the console's log, whose times are those of no shard."""
    if table == "console_actions":
        return "1"
    shard = "partition" if table == "dead_letters" else "shard"
    cutoffs = _by_shard(shard, [(e.shard, e.cutoff_ms) for e in reports])
    return f"toUnixTimestamp64Milli({_TIME[table]}) < {cutoffs}"


def _stops(source: int, reports: Sequence[Erasure]) -> str:
    return _by_shard("partition", [(e.shard, e.stop[source]) for e in reports])


def _is_person(person: Person) -> Callable[[str], str]:
    digests = ", ".join(f"'{each}'" for each in person.digests)

    def is_person(expression: str) -> str:
        salted = f"concat(unhex('{person.salt.hex()}'), {expression})"
        return f"(substring(lower(hex(SHA256({salted}))), 1, 32) IN ({digests}))"

    return is_person


def _by_shard(column: str, values: Sequence[tuple[int, int]]) -> str:
    """A number that depends on the row's shard; the largest for a shard that is not listed."""
    if not values:
        return f"toInt64({_FOREVER})"
    shards = ", ".join(f"toInt64({shard})" for shard, _ in values)
    numbers = ", ".join(f"toInt64({number})" for _, number in values)
    return f"transform(toInt64({column}), [{shards}], [{numbers}], toInt64({_FOREVER}))"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
