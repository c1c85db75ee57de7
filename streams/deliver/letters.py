"""The topic of undelivered changes: written while delivering; listed, and sent again, by a command.

What is sent again goes into the topic of audiences once more, under a header that names the one
destination that it is for, and keeps its `change_id`. It is not sent if the person has had a later
change of that audience since: a late `entered` would put somebody back who has left. The topic of
audiences shows whether there is a later one, for as long as it has the record itself.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from kafka.errors import KafkaError

from schemas.messages import AudienceChange, Resent, Undelivered
from streams.deliver.changes import FOR_DESTINATION
from streams.kafka import clients
from streams.kafka.access import kafka_access
from streams.kafka.dead_letters import topic_records
from streams.kafka.reach import explain, require_reachable
from streams.settings import Settings

__all__ = ["Choice", "Kind", "by_reason", "choose", "chosen", "kinds", "origin", "read", "resend"]

_QUIET_SECONDS: Final = 15.0
_CHUNK: Final = 200
_letter = msgspec.json.Decoder(Undelivered)
_note = msgspec.json.Decoder(Resent)
_change = msgspec.json.Decoder(AudienceChange)


@dataclass(frozen=True)
class Kind:
    """The letters of one destination and reason."""

    destination: str
    reason: str
    letters: int
    """Those that were not sent again."""
    resent: int
    newest_ms: int
    example: str


@dataclass(frozen=True)
class Choice:
    """What can be sent again, and why the others can't: superseded (the person has a later change
    of the audience), expired (whether there is one can't be seen any more), unreadable."""

    sendable: tuple[Undelivered, ...]
    kept: tuple[tuple[Undelivered, str], ...]


def origin(letter: Undelivered) -> str:
    """Which letter: destination/topic/partition/offset."""
    return f"{letter.destination}/{letter.topic}/{letter.partition}/{letter.offset}"


def read(settings: Settings, *, again: bool = False) -> list[Undelivered]:
    """Every letter that waits, each once; with `again` also those sent again.
    Raises BrokerUnavailable."""
    letters, resent = _read(settings)
    return [each for where, each in letters.items() if again or where not in resent]


def kinds(settings: Settings) -> list[Kind]:
    """The letters by destination and reason, the most waiting first. Raises BrokerUnavailable."""
    letters, resent = _read(settings)
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for where, letter in letters.items():
        place = letter.destination, letter.reason
        groups.setdefault(place, []).append((letter.recorded_at_ms, where))
    found = []
    for (destination, reason), members in groups.items():
        waiting = [member for member in members if member[1] not in resent]
        newest_ms, example = max(waiting or members)
        sent = len(members) - len(waiting)
        found.append(Kind(destination, reason, len(waiting), sent, newest_ms, example))
    return sorted(found, key=lambda kind: (-kind.letters, kind.destination, kind.reason))


def _read(settings: Settings) -> tuple[dict[str, Undelivered], set[str]]:
    letters: dict[str, Undelivered] = {}
    resent: set[str] = set()
    for record in topic_records(settings, settings.topic_names.undelivered):
        value = record.value or b""
        try:
            found = _letter.decode(value)
        except msgspec.MsgspecError:
            with contextlib.suppress(msgspec.MsgspecError):  # neither a letter nor a note
                resent.add(_note.decode(value).resent)
            continue
        letters[origin(found)] = found
    return letters, resent


def choose(settings: Settings, letters: Sequence[Undelivered]) -> Choice:
    """Which of the letters can be sent again. Reads the topic of audiences.
    Raises BrokerUnavailable."""
    if not letters:
        return Choice((), ())
    return chosen(letters, topic_records(settings, settings.topic_names.audiences))


def chosen(letters: Sequence[Undelivered], records: Iterable[Any]) -> Choice:
    """`choose`, on the records that the topic of audiences has. Pure."""
    changes = [_decoded(letter.payload) for letter in letters]
    asked = {(change.user_id, change.audience) for change in changes if change is not None}
    newest: dict[tuple[str, str], int] = {}
    first: dict[int, int] = {}
    for record in records:
        first[record.partition] = min(record.offset, first.get(record.partition, record.offset))
        there = _decoded(record.value)
        place = (there.user_id, there.audience) if there is not None else None
        if there is not None and place in asked:
            newest[place] = max(there.number, newest.get(place, 0))
    sendable, kept = [], []
    for letter, change in zip(letters, changes, strict=True):
        if change is None:
            kept.append((letter, "unreadable"))
        elif letter.offset < first.get(letter.partition, letter.offset + 1):
            kept.append((letter, "expired"))
        elif newest.get((change.user_id, change.audience), 0) > change.number:
            kept.append((letter, "superseded"))
        else:
            sendable.append(letter)
    return Choice(tuple(sendable), tuple(kept))


def _decoded(value: bytes | None) -> AudienceChange | None:
    try:
        return _change.decode(value or b"")
    except msgspec.MsgspecError:
        return None


def resend(
    settings: Settings,
    letters: Sequence[Undelivered],
    progress: Callable[[int], None] = lambda _sent: None,
) -> int:
    """Put letters into the topic of audiences again, each for its destination; returns how many.

    A note follows each chunk, so an interruption sends a chunk twice at most, under the same ids.
    Raises BrokerUnavailable.
    """
    if not letters:
        return 0
    access = kafka_access(settings)
    require_reachable(access)
    names = settings.topic_names
    try:
        producer = clients.producer(access, client_id="tideline-deliver")
        try:
            for start in range(0, len(letters), _CHUNK):
                chunk = letters[start : start + _CHUNK]
                sent = [
                    producer.send(
                        names.audiences, value=each.payload, key=each.key,
                        partition=each.partition,
                        headers=[(FOR_DESTINATION, each.destination.encode())],
                    )
                    for each in chunk
                ]  # fmt: skip
                _acknowledged(sent)
                now_ms = time.time_ns() // 1_000_000
                notes = [msgspec.json.encode(Resent(origin(each), now_ms)) for each in chunk]
                _acknowledged([producer.send(names.undelivered, value=note) for note in notes])
                progress(start + len(chunk))
        finally:
            producer.close(timeout=_QUIET_SECONDS)
    except (KafkaError, OSError) as error:
        raise explain(access, error) from error
    return len(letters)


def _acknowledged(sent: Iterable[Any]) -> None:
    for future in sent:
        future.get(timeout=_QUIET_SECONDS)


def by_reason(kept: Iterable[tuple[Undelivered, str]]) -> list[tuple[str, str, int]]:
    """(destination, why, letters) of what is kept, the most frequent first."""
    counts = Counter((letter.destination, why) for letter, why in kept)
    return [(destination, why, n) for (destination, why), n in counts.most_common()]
