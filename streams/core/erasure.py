"""Forgets a person at a step's border, and keeps what they had sent before from coming back.

The state keeps an `Erasure` for each erased person: a salted hash of the user id and the point up
to which their events are excluded. Records of an input topic can't be deleted one by one, so the
person's old events are there until retention, and are read again when a state is rebuilt.

No id is hashed for this alone: a probe of 32 bits, made from the hash that every event has of its
user, selects the candidates, and only for those is the salted hash computed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.messages import Erasure, ErasureRequest
from streams.core.events.events import Events, Reject
from streams.core.events.records import Records
from streams.core.features import DAY_MS
from streams.core.hashing import hashes, mix
from streams.core.memberships import forget_waits
from streams.core.plan import Clock
from streams.core.state.contacts import forget_contacts
from streams.core.state.shard_state import Meta, ShardState
from streams.core.texts import Texts
from streams.core.totals import discount

__all__ = [
    "digest",
    "due",
    "erase",
    "erased_namesakes",
    "exclude_erased_events",
    "exclude_erased_rejects",
    "named_in",
    "probe_of",
]

_USER_ID: Final = re.compile(rb'"user_id"\s*:\s*("(?:[^"\\]|\\.)*")')


def digest(salt: bytes, user: str) -> str:
    """32 hex digits that stand for a user in records that must not name one.

    >>> digest(b"salt", "u-42")
    'd12ce25208fe29b163daa0c6e5fe28a5'
    """
    return hashlib.sha256(salt + user.encode()).hexdigest()[:32]


def _probes(salt: bytes, user_hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """32 bits per user, salted, from the hashes a state keeps of its users' ids (uint64 [n])."""
    key = np.frombuffer(hashlib.sha256(salt).digest()[:8], "<u8")
    mixed = mix(np.broadcast_to(key, user_hashes.shape), user_hashes)
    low: NDArray[np.uint32] = mixed.astype(np.uint32)
    return low


_HASH_NAME: Final = int(_probes(b"", hashes(["which hash is this?"]))[0])


def probe_of(salt: bytes, user: str) -> int:
    """The `probe` of one user id. Its upper half names the hash it was made with: erasures are
    kept for longer than a build."""
    return _HASH_NAME << 32 | int(_probes(salt, hashes([user]))[0])


def _candidates(erased: Sequence[Erasure], user_hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Which users (hashes uint64 [n]) may be among the `erased`, who share a salt; ascending."""
    wanted = [e.probe & 0xFFFF_FFFF for e in erased if e.probe >> 32 == _HASH_NAME]
    if len(wanted) < len(erased):
        return np.arange(len(user_hashes))
    probes = _probes(erased[0].salt, user_hashes)
    return np.flatnonzero(np.isin(probes, np.array(wanted, np.uint32)))


def due(
    meta: Meta,
    requests: Iterable[ErasureRequest],
    done: Iterable[Erasure],
    *,
    clock: Clock,
    wall_ms: int,
) -> tuple[Erasure, ...]:
    """What this shard still has to erase, for the next plan. Pure; `wall_ms` is given.

    `requests` are all there are, `done` what this shard has reported. A shard that was rebuilt from
    the input topics finds its own reports, and erases up to the same point again.
    """
    known = {e.digest: e for e in meta.erased}
    reported = {e.digest: e for e in done}
    found = []
    for request in requests:
        mine, report = known.get(request.digest), reported.get(request.digest)
        if mine is not None and mine.erasure_id == request.erasure_id:
            continue
        if report is not None and report.erasure_id == request.erasure_id:
            found.append(report)
            continue
        # By the event clock the present is the newest event, whatever the time of the request.
        now_ms = meta.clock_ms + 1
        if clock == "wall":
            now_ms = max(now_ms, wall_ms, request.requested_at_ms)
        # A request with another number of partitions has offsets of other input topics.
        of_these = meta.partitions in (0, len(request.ends)) and meta.shard < len(request.ends)
        ends = request.ends[meta.shard] if of_these else (0, 0)
        earlier = [e for e in (mine, report) if e is not None]
        found.append(
            Erasure(
                erasure_id=request.erasure_id,
                digest=request.digest,
                salt=request.salt,
                probe=request.probe,
                shard=meta.shard,
                cutoff_ms=max([now_ms, *(e.cutoff_ms for e in earlier)]),
                stop=_later([ends, *(e.stop for e in earlier)]),
                recorded_before_ms=request.requested_at_ms + DAY_MS,
            )
        )
    return tuple(found)


def _later(offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return max(o[0] for o in offsets), max(o[1] for o in offsets)


def erase(state: ShardState, order: Erasure) -> None:
    """Forget one person: their row if there is one, and from now on what they sent before."""
    meta, found, cutoff_ms = state.meta, order.found, order.cutoff_ms
    row = _row_of(state, order)
    if row is not None:
        found = True
        # an event may be dated ahead of the clock
        cutoff_ms = max(cutoff_ms, int(state.columns.last_activity_ms[row]) + 1)
        forget_waits(state, row)
        discount(state, row)
        state.drop_user(row)
    if order.probe >> 32 == _HASH_NAME:  # also of one who was contacted and is not known otherwise
        for user_hash in state.contacts.keys[_candidates([order], state.contacts.keys)]:
            forget_contacts(state.contacts, user_hash)
    done = msgspec.structs.replace(
        order, cutoff_ms=cutoff_ms, found=found, seq=meta.seq, shard=meta.shard
    )
    meta.erased = [e for e in meta.erased if e.digest != order.digest] + [done]
    state.erasure_cache = None


def _row_of(state: ShardState, order: Erasure) -> int | None:
    rows = _candidates([order], state.rows_by_user.hashes)
    for row, user in zip(rows.tolist(), state.users[rows].tolist(), strict=True):
        if user and digest(order.salt, user) == order.digest:
            return int(row)
    hashes = state.parked.hashes()
    for user in state.parked.names(hashes[_candidates([order], hashes)]):
        if digest(order.salt, user) == order.digest:
            return int(state.rows_of(Texts.of([user]))[0])
    return None


def _by_salt(state: ShardState) -> dict[bytes, dict[str, Erasure]]:
    """Who was erased, by salt and digest."""
    if state.erasure_cache is None:
        found: dict[bytes, dict[str, Erasure]] = {}
        for each in state.meta.erased:
            found.setdefault(each.salt, {})[each.digest] = each
        state.erasure_cache = found
    by_salt: dict[bytes, dict[str, Erasure]] = state.erasure_cache
    return by_salt


def erased_namesakes(state: ShardState, user: str) -> tuple[int, ...]:
    """Distinguishes a user from a person who was erased under the same id: empty for nearly
    every user, else the cutoff. Episodes begin again at 1, and ids made of them must not."""
    found = (people.get(digest(salt, user)) for salt, people in _by_salt(state).items())
    return tuple(person.cutoff_ms for person in found if person is not None)


def exclude_erased_events(
    state: ShardState, events: Events, records: Records, source: int
) -> NDArray[np.bool_] | None:
    """Which events must not count, as their person was erased after sending them: bool [n], or
    None if all may (nearly always)."""
    out: NDArray[np.bool_] | None = None
    for salt, people in _by_salt(state).items():
        candidates = _candidates(list(people.values()), events.users.hashed)
        for i, user in zip(candidates.tolist(), events.users[candidates].tolist(), strict=True):
            person = people.get(digest(salt, user))
            if person is None:
                continue
            if out is None:
                out = np.zeros(len(events), np.bool_)
            out[i] |= int(events.ts_ms[i]) < person.cutoff_ms or _before(
                person, records, int(events.positions[i]), source
            )
    return out


def exclude_erased_rejects(
    state: ShardState, rejects: Sequence[Reject], records: Records, source: int
) -> list[Reject]:
    """Those of the records that can't be used which may become dead letters: not what an erased
    person had sent. Their own time can't be read, so the record's counts."""
    if not state.meta.erased or not rejects:
        return list(rejects)
    by_salt = _by_salt(state)

    def belongs(reject: Reject) -> bool:
        at = reject.position
        people = (
            people.get(digest(salt, name))
            for name in named_in(records.keys[at], records.values[at])
            for salt, people in by_salt.items()
        )
        return any(
            int(records.timestamps_ms[at]) < person.cutoff_ms
            or _before(person, records, at, source)
            for person in people
            if person is not None
        )

    return [reject for reject in rejects if not belongs(reject)]


def named_in(key: bytes | None, value: bytes | None) -> set[str]:
    """The users that a broken record names: its key, and any `user_id` in its text.

    >>> sorted(named_in(b"a", b'{"user_id": "b", "lines": ['))
    ['a', 'b']
    """
    names = set()
    if key is not None:
        names.add(key.decode(errors="replace"))
    for quoted in _USER_ID.findall(value or b""):
        try:
            name: Any = msgspec.json.decode(quoted)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        names.add(str(name))
    return names


def _before(person: Erasure, records: Records, position: int, source: int) -> bool:
    """Whether a record was in the topic when the erasure was requested."""
    return (
        int(records.offsets[position]) < person.stop[source]
        and int(records.timestamps_ms[position]) < person.recorded_before_ms
    )
