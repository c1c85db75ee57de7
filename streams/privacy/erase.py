"""Erases one person, step by step. Each step may be cut off: running it all again finishes it.

    1. Ask: a request goes to the topic of erasures. It holds a salted hash of the user id, and
       where the input topics end now.
    2. Every shard forgets the person at its next step, writes a checkpoint without them, and
       reports. All rows that it had written before are in ClickHouse by then.
    3. ClickHouse's rows from before that point are deleted.
    4. An audit row says what came of it, and does not say who it was.

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

_LOOK_SECONDS = 0.3  # between looks at the topic while shards are at it


@dataclass(frozen=True)
class Outcome:
    """What came of one run."""

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
    """Make sure that we know people as ClickHouse's rows do. With another pseudonym key than the
    workers', or none, no row of the person would be found, and all would seem well.

    Raises SettingsError, SinkUnavailable, SinkRefused.
    """
    ours = pseudonyms(settings)
    target = clickhouse_target(settings)
    others = key_ids(target) - ({ours.key_id} if ours else set())
    if others:
        have = f"is the key {ours.key_id}" if ours else "is not set"
        raise SettingsError(
            f"ClickHouse at {target} has people under pseudonyms of the key "
            f"{', '.join(sorted(others))}, but TIDELINE_PRIVACY_PSEUDONYM_KEY {have}. Set it to "
            "the workers' key: without it no row of the person can be found."
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

    `on_wait` hears which shards have not reported and for how many seconds; `on_table` which table
    is being cleaned. Raises BrokerUnavailable, SinkUnavailable, SinkRefused: run it again then.
    """
    started = time.monotonic()
    await board.ask(request)
    while waiting := board.waiting(request):
        seconds = time.monotonic() - started
        on_wait(waiting, seconds)
        if timeout_seconds is not None and seconds >= timeout_seconds:
            break
        await asyncio.sleep(_LOOK_SECONDS)
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
            f"topic {', '.join(wrong)}: missing, or not of {shards} partitions; "
            "run `tideline topics`, and `tideline topics --create` for what is missing"
        )
    with EndOffsets(kafka_access(settings)) as reader:
        ends = reader.of([(topic, shard) for topic in topics for shard in range(shards)])
    return [(ends[topics[0], shard], ends[topics[1], shard]) for shard in range(shards)]
