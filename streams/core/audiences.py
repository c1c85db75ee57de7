"""Who is in which audience, in which arm, and whom a feed may name.

An audience has the members of a segment, or customers in an open churn alert. Who is held out
follows from a hash of the campaign's salt and the user, so that nobody changes sides and no two
campaigns hold out the same people. A global holdout is in no feed at all. Of the audiences in one
priority list a person is in the first only, also if that one holds them out: else the next one's
effect would be measured on people chosen by the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import ALERTS, Definitions
from schemas.lives import life_of
from schemas.messages import AudienceChange
from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.core.erasure import erased_namesakes
from streams.core.hashing import hashes, mix, stable_id
from streams.core.state.shard_state import ShardState
from streams.core.state.slots import (
    ARMS,
    GLOBAL_HOLDOUT,
    HOLDOUT,
    TREAT,
    AudienceSlot,
)
from streams.core.texts import TableRows
from streams.core.times import iso_utc

__all__ = ["Assignment", "arms_of", "hash_share", "held_everywhere", "update_audiences"]

_CHANGES: Final = ("entered", "left")
_MANTISSA: Final = np.uint64(11)  # the upper 53 of 64 bits fill a float64


def hash_share(user_hash: NDArray[np.uint64], salt: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each user and this salt, uniform and independent of other salts'.

    user_hash: xxh64 of the user ids' UTF-8, uint64 [k]. Returns float64 [k].

    >>> users = hashes([str(i) for i in range(100_000)])
    >>> held = [hash_share(users, salt) < 0.1 for salt in ("spring", "summer")]
    >>> [round(float(each.mean()), 2) for each in (*held, held[0] & held[1])]
    [0.1, 0.1, 0.01]
    """
    salted = np.repeat(hashes([salt]), len(user_hash))
    return (mix(user_hash, salted) >> _MANTISSA).astype(np.float64) * 2.0**-53


def arms_of(
    user_hash: NDArray[np.uint64], salt: str, holdout_share: float, definitions: Definitions
) -> NDArray[np.int8]:
    """The arm of each user (uint64 [k]) in a campaign: places in `ARMS`, int8 [k]."""
    arms = np.full(len(user_hash), TREAT, np.int8)
    if holdout_share > 0:
        arms[hash_share(user_hash, salt) < holdout_share] = HOLDOUT
    arms[held_everywhere(user_hash, definitions)] = GLOBAL_HOLDOUT
    return arms


def held_everywhere(user_hash: NDArray[np.uint64], definitions: Definitions) -> NDArray[np.bool_]:
    """Which users (uint64 [k]) are in the global holdout, bool [k]."""
    share = definitions.global_holdout_share
    if share <= 0:
        return np.zeros(len(user_hash), np.bool_)
    held: NDArray[np.bool_] = hash_share(user_hash, definitions.global_salt) < share
    return held


@dataclass(frozen=True)
class Assignment:
    """One audience after a step, of the users that the step looked at."""

    slot: AudienceSlot
    entered: NDArray[np.bool_]
    """bool [k]; with any arm."""
    left: NDArray[np.bool_]
    arms: NDArray[np.int8]


def update_audiences(
    state: ShardState,
    rows: NDArray[np.int64],
    definitions: Definitions,
    now_ms: int,
    suppressed: NDArray[np.bool_],
    capped: NDArray[np.bool_],
) -> tuple[list[Assignment], TableRows | None, list[AudienceChange]]:
    """Bring the audiences of the users in `rows` (int64 [k], distinct) up to date, after their
    segments. Who is `suppressed` (bool [k]) is in no feed, and who is `capped` (bool [k]) enters
    none; both stay in their arms, or the arms would not compare. Returns who entered and left;
    `audience_changes` rows, None if there are none; and the messages of feeds, which name nobody
    who is held out."""
    c = state.columns
    if not any(state.meta.audience_slots):
        return [], None, []
    before, fed_before = c.audiences[rows], c.feeds[rows]
    assigned, fed = np.zeros_like(before), np.zeros_like(fed_before)
    found = []
    for bit, slot, member in _assigned(state, rows):
        mask = np.uint32(1 << bit)
        audience = slot.audience
        arms = arms_of(c.user_hash[rows], audience.salt, audience.holdout_share, definitions)
        assigned |= np.where(member, mask, np.uint32(0))
        may = ~suppressed & (~capped | ((fed_before & mask) != 0))
        fed |= np.where(member & (arms == TREAT) & may, mask, np.uint32(0))
        was = (before & mask) != 0
        found.append((bit, Assignment(slot, member & ~was, was & ~member, arms)))
    c.audiences[rows], c.feeds[rows] = assigned, fed
    tables: list[TableRows] = []
    messages: list[AudienceChange] = []
    for bit, each in found:
        mask = np.uint32(1 << bit)
        was_fed, is_fed = (fed_before & mask) != 0, (fed & mask) != 0
        changed = np.flatnonzero(each.entered | each.left | (was_fed != is_fed))
        if len(changed):
            rows_of, told = _describe(
                state, rows[changed], each, changed, was_fed, is_fed, definitions, now_ms
            )
            tables.append(rows_of)
            messages += told
    if not tables:
        return [each for _, each in found], None, []
    table: TableRows = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    return [each for _, each in found], table, _without_handovers(messages)


def _without_handovers(messages: list[AudienceChange]) -> list[AudienceChange]:
    """Without those who leave an audience and enter it again in the same step, as a campaign
    follows another: its feed goes on."""
    whose = Counter((each.audience, each.user_id) for each in messages)
    if len(whose) == len(messages):
        return messages
    return [each for each in messages if whose[each.audience, each.user_id] == 1]


def _assigned(
    state: ShardState, rows: NDArray[np.int64]
) -> Iterator[tuple[int, AudienceSlot, NDArray[np.bool_]]]:
    """Every audience with its bit, and which of the users are in it. Those that have ended come
    first: whom another salt's takes over leaves before entering. Then the first of a list."""
    c, meta = state.columns, state.meta
    bits = {slot.name: i for i, slot in enumerate(meta.segment_slots) if slot is not None}
    taken: dict[str, NDArray[np.bool_]] = {}
    slots = [(i, slot) for i, slot in enumerate(meta.audience_slots) if slot is not None]
    for bit, slot in sorted(slots, key=_turn):
        audience = slot.audience
        if slot.ended:
            member = np.zeros(len(rows), np.bool_)
        elif audience.segment == ALERTS:
            member = c.at_risk[rows].copy()
        else:
            member = (c.segments[rows] & np.uint64(1 << bits[audience.segment])) != 0
        if audience.priority_list and not slot.ended:
            others = taken.setdefault(audience.priority_list, np.zeros(len(rows), np.bool_))
            member &= ~others
            others |= member
        yield bit, slot, member


def _turn(found: tuple[int, AudienceSlot]) -> tuple[bool, int, int]:
    bit, slot = found
    return not slot.ended, slot.audience.priority, bit


def _describe(
    state: ShardState,
    rows: NDArray[np.int64],
    assignment: Assignment,
    at: NDArray[np.int64],
    was_fed: NDArray[np.bool_],
    is_fed: NDArray[np.bool_],
    definitions: Definitions,
    now_ms: int,
) -> tuple[TableRows, list[AudienceChange]]:
    """Rows and messages of the users in `rows` (int64 [n]), at places `at` of the step's."""
    c, audience, n = state.columns, assignment.slot.audience, len(rows)
    c.audience_changes[rows] += 1
    life = life_of(state.meta.seq)
    users = [str(user) for user in state.users[rows]]
    numbers = c.audience_changes[rows]
    ids = [
        stable_id(user, "audience", number, life, *erased_namesakes(state, user))
        for user, number in zip(users, numbers.tolist(), strict=True)
    ]
    arms = [ARMS[arm] for arm in assignment.arms[at].tolist()]
    # Who changes sides without leaving is one whom the global holdout has taken or released, or who
    # is to be left alone, or no longer: what the feed hears of it is in the row as well.
    leaves = assignment.left[at] | (was_fed[at] & ~is_fed[at])
    changes = [_CHANGES[int(left)] for left in leaves]
    table: TableRows = {
        "change_id": np.array(ids, object),
        "user_id": np.array(users, object),
        "shard": np.full(n, state.meta.shard, np.uint16),
        "audience": np.full(n, audience.name, object),
        "segment": np.full(n, audience.segment, object),
        "change": np.array(changes, object),
        "number": numbers.astype(np.uint32),
        "arm": np.array(arms, object),
        "fed": is_fed[at].astype(np.uint8),
        "salt": np.full(n, audience.salt, object),
        "changed_at": np.full(n, now_ms, np.int64),
        "definitions": np.full(n, definitions.version, object),
        "p_churn": c.p_churn[rows],
        "expected_spend": c.expected_spend[rows],
        "value_tier": np.array([VALUE_TIERS[code] for code in c.value_tier[rows]], object),
        "lifecycle": np.array([LIFECYCLE[code] for code in c.lifecycle[rows]], object),
        "life": np.full(n, life, np.uint32),
    }
    messages = [
        AudienceChange(
            change_id=ids[i],
            audience=audience.name,
            segment=audience.segment,
            user_id=users[i],
            change=changes[i],
            number=int(numbers[i]),
            at=iso_utc(now_ms),
            definitions=definitions.version,
            p_churn=_known(c.p_churn[rows[i]]),
            expected_spend=_known(c.expected_spend[rows[i]]),
            value_tier=table["value_tier"][i],
            lifecycle=table["lifecycle"][i],
        )
        for i in np.flatnonzero(was_fed[at] != is_fed[at]).tolist()
    ]
    return table, messages


def _known(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
