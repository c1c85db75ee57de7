"""Erases one person, in steps. Each may be interrupted: running all of them again finishes it.

    1. A request is written to the topic of erasures. It holds a salted hash of the user id, and
       the present ends of the input topics.
    2. Every shard forgets the person at its next step, writes a checkpoint without them, and
       reports. All rows that it had written before are in ClickHouse by then.
    3. ClickHouse's rows from before that point are deleted.
    4. An audit row says how it ended, without naming the person.

A second run is a new request with a later point. It finds what the first one left, or nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.errors import FatalError, SettingsError
from schemas.messages import Erasure, ErasureRequest
from streams.clickhouse.client import clickhouse_target
from streams.core.erasure import digest, probe_of
from streams.kafka.access import kafka_access
from streams.kafka.admin import connect as connect_admin
from streams.kafka.admin import partition_counts
from streams.kafka.end_offsets import EndOffsets
from streams.privacy.erase_clickhouse import (
    Audit,
    Deletion,
    Person,
    count,
    delete,
    key_ids,
    write_audit,
)
from streams.privacy.erasure_board import ErasureBoard
from streams.privacy.pseudonyms import pseudonyms
from streams.settings import Settings

__all__ = ["Outcome", "check_key", "erase", "new_request", "person_of", "preview"]

_POLL_SECONDS = 0.3  # between reads of the topic while shards work


@dataclass(frozen=True)
class Outcome:
    """The result of one run."""

    request: ErasureRequest
    reports: Sequence[Erasure]
    waiting: Sequence[int]
    """Shards that have not reported."""
    deleted: Sequence[Deletion]
    seconds: float

    @property
    def found(self) -> bool:
        return any(r.found for r in self.reports) or any(d.rows for d in self.deleted)

    @property
    def verdict(self) -> str:
        """`erased`, `nothing_found` or `unfinished`."""
        if self.waiting:
            return "unfinished"
        return "erased" if self.found else "nothing_found"


def new_request(
    settings: Settings, board: ErasureBoard, user: str, operator: str
) -> ErasureRequest:
    """A request for this moment: it covers what is in the input topics now.

    Raises BrokerUnavailable, or FatalError if the topics are not there.
    """
    salt = board.salts[0] if board.salts else os.urandom(16)
    return ErasureRequest(
        erasure_id=uuid.uuid4().hex,
        digest=digest(salt, user),
        salt=salt,
        probe=probe_of(salt, user),
        requested_at_ms=time.time_ns() // 1_000_000,
        ends=_input_ends(settings),
        operator=operator,
    )


def person_of(settings: Settings, request: ErasureRequest, user: str) -> Person:
    """The person as ClickHouse's rows know them: by user id, or by pseudonym."""
    key = pseudonyms(settings)
    digests = [request.digest]
    if key is not None:
        digests.append(digest(request.salt, key.user(user)))
    return Person(request.salt, tuple(digests))


def check_key(settings: Settings) -> None:
    """Check that our pseudonym key is the one of ClickHouse's rows. With another key than the
    workers', or none, no row of the person would be found, and the erasure would seem complete.

    Raises SettingsError, SinkUnavailable, SinkRefused.
    """
    ours = pseudonyms(settings)
    target = clickhouse_target(settings)
    others = key_ids(target) - ({ours.key_id} if ours else set())
    if others:
        have = f"is the key {ours.key_id}" if ours else "is not set"
        raise SettingsError(
            f"ClickHouse at {target} has pseudonyms of the key {', '.join(sorted(others))}, but "
            f"TIDELINE_PRIVACY_PSEUDONYM_KEY {have}. Set it to the workers' key: without it no row "
            "of the person can be found."
        )


def preview(settings: Settings, person: Person) -> list[Deletion]:
    """What ClickHouse holds of the person now. Raises SinkUnavailable, SinkRefused."""
    return count(clickhouse_target(settings), person, settings.topic_names)


async def erase(
    settings: Settings,
    board: ErasureBoard,
    request: ErasureRequest,
    person: Person,
    *,
    timeout_seconds: float | None = None,
    on_wait: Callable[[Sequence[int], float], None] = lambda _waiting, _seconds: None,
    on_table: Callable[[str], None] = lambda _table: None,
) -> Outcome:
    """Steps 1 to 4. `timeout_seconds` bounds the wait for the shards (None: for ever).

    `on_wait` gets the shards that have not reported and the seconds waited; `on_table` the table
    that is being cleaned. Raises BrokerUnavailable, SinkUnavailable, SinkRefused: run it again.
    """
    started = time.monotonic()
    await board.ask(request)
    while waiting := board.waiting(request):
        seconds = time.monotonic() - started
        on_wait(waiting, seconds)
        if timeout_seconds is not None and seconds >= timeout_seconds:
            break
        await asyncio.sleep(_POLL_SECONDS)
        await board.refresh()
    else:
        on_wait([], time.monotonic() - started)
    reports = board.reports(request)
    target, names = clickhouse_target(settings), settings.topic_names
    deleted = await asyncio.to_thread(delete, target, person, names, reports, on_table)
    outcome = Outcome(request, reports, waiting, deleted, time.monotonic() - started)
    finished_ms = 0 if waiting else time.time_ns() // 1_000_000
    rows = sum(d.rows for d in deleted)
    audit = Audit(request, finished_ms, outcome.verdict, reports, rows)
    await asyncio.to_thread(write_audit, target, audit)
    return outcome


def _input_ends(settings: Settings) -> list[tuple[int, int]]:
    """By shard: the next offsets of clickstream and orders."""
    names, shards = settings.topic_names, settings.kafka.partitions
    topics = (names.clickstream, names.orders)
    with connect_admin(kafka_access(settings)) as admin:
        counts = partition_counts(admin, [*topics, names.erasures])
    wrong = [t for t in topics if counts.get(t) != shards] + [
        t for t in (names.erasures,) if t not in counts
    ]
    if wrong:
        raise FatalError(
            f"Topic {', '.join(wrong)} is missing, or does not have {shards} partitions. Run "
            "`tideline topics`, and `tideline topics --create` for what is missing."
        )
    with EndOffsets(kafka_access(settings)) as reader:
        ends = reader.of([(topic, shard) for topic in topics for shard in range(shards)])
    return [(ends[topics[0], shard], ends[topics[1], shard]) for shard in range(shards)]
