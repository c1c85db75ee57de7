"""Contacts: a shop says that it contacted somebody, and is told whom to leave alone.

A contact is a record of the clickstream's topic and no event: it is nothing that the customer did,
so no window, feature or label knows of it. It is refused when it is late, broken or said twice as
events are, and counts in the ledger as they do (D-081).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import ContactCap
from schemas.events import Contact
from streams.core.apply import Applied, Counted
from streams.core.events.events import CONTACT, Events, Lines
from streams.core.hashing import hashes
from streams.core.state.contacts import add_contacts, contacts_of
from streams.core.state.shard_state import ShardState
from streams.core.texts import TableRows, Texts

__all__ = [
    "NONE_ADMITTED",
    "Contacts",
    "contact_rows",
    "left_alone_until_ms",
    "take_contacts",
    "take_in",
]

_OWN_IDS: Final = np.uint64(0x5BD1E9955BD1E995)
"""A shop may number contacts and clicks alike: keep the two apart."""


@dataclass(frozen=True)
class Contacts:
    """The contacts of a step: as `events`, of which only users, times, ids and positions say
    something, and what each of them says."""

    events: Events
    said: Sequence[Contact]

    def users(self, admitted: Applied) -> list[str]:
        """Of those that count."""
        return [self.said[i].user_id for i in admitted.fresh.tolist()]


def take_contacts(events: Events) -> tuple[Events, Contacts]:
    """The events without the contacts among their rejects; and these, in the order of the
    records."""
    if not any(reject.reason == CONTACT for reject in events.rejects):
        return events, _NO_CONTACTS
    found = sorted(
        ((r.position, r.contact) for r in events.rejects if r.contact is not None),
        key=lambda each: each[0],
    )
    others = [each for each in events.rejects if each.reason != CONTACT]
    return replace(events, rejects=others), _contacts(found)


def _contacts(found: Sequence[tuple[int, Contact]]) -> Contacts:
    said, n = [contact for _, contact in found], len(found)
    zeros = np.zeros(n, np.int64)
    nothing = np.empty(0, np.uint64)
    as_events = Events(
        users=Texts.of([each.user_id for each in said]),
        kind=np.zeros(n, np.int8),
        ts_ms=np.array([each.ts for each in said], np.int64),
        id_hash=hashes([each.event_id for each in said]) ^ _OWN_IDS,
        order=np.zeros(n, np.uint64),
        session=np.zeros(n, np.uint64),
        rating_tenths=np.zeros(n, np.int32),
        amount_cents=zeros,
        discount_cents=zeros,
        coupon=np.zeros(n, np.bool_),
        order_lines=np.zeros(n, np.int32),
        lines=Lines(np.empty(0, np.int32), nothing, nothing),
        positions=np.array([position for position, _ in found], np.int64),
    )
    return Contacts(as_events, said)


NONE_ADMITTED: Final = Applied(np.empty(0, np.int64), np.empty(0, np.int64), 0, 0)
_NO_CONTACTS: Final = _contacts([])


def take_in(state: ShardState, contacts: Contacts, admitted: Applied) -> Counted:
    """Remember the contacts that count. The rows are those of users who have one, int64 [k]:
    nobody becomes a user by being contacted."""
    fresh = admitted.fresh
    if not len(fresh):
        return Counted(fresh, fresh)
    users = contacts.events.users[fresh]
    add_contacts(state.contacts, users.hashed, contacts.events.ts_ms[fresh])
    rows = [state.rows_by_user.get(user) for user in users.tolist()]
    known = np.array([row for row in rows if row is not None], np.int64)
    state.will_change(known)
    return Counted(known, np.empty(0, np.int64), len(rows) - len(known))


def left_alone_until_ms(
    state: ShardState, rows: NDArray[np.int64], cap: ContactCap | None, now_ms: int
) -> NDArray[np.int64]:
    """Until when the users in `rows` (int64 [k]) have had enough contacts: ms, int64 [k]; 0: they
    have not."""
    if cap is None or not len(state.contacts):
        return np.zeros(len(rows), np.int64)
    times_ms = contacts_of(state.contacts, state.columns.user_hash[rows])
    until_ms = times_ms[:, cap.contacts - 1] + cap.per_ms
    return np.where((times_ms[:, cap.contacts - 1] > 0) & (until_ms > now_ms), until_ms, 0)


def contact_rows(
    state: ShardState, contacts: Contacts, admitted: Applied, cases: Sequence[tuple[str, str]]
) -> TableRows:
    """`contacts` rows of those that count. `cases`: of each, the user's open alert when it came (""
    if there was none), and the arm that alerts have them in."""
    fresh = admitted.fresh.tolist()
    said, n = [contacts.said[i] for i in fresh], len(fresh)
    meta = state.meta
    return {
        "event_id": [each.event_id for each in said],
        "user_id": [each.user_id for each in said],
        "shard": np.full(n, meta.shard, np.uint16),
        "seq": np.full(n, meta.seq, np.uint64),
        "contacted_at": np.array([each.ts for each in said], np.int64),
        "campaign": [each.campaign or "" for each in said],
        "channel": [each.channel or "" for each in said],
        "alert_id": [open_alert for open_alert, _ in cases],
        "named_alert_id": [each.alert_id or "" for each in said],
        "arm": [arm for _, arm in cases],
    }
