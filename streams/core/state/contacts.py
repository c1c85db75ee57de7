"""When people were last contacted: the newest times, for frequency caps.

A `U64Map` with a record of `CONTACTED` for each person, keyed by the hash of the user id; its value
is the day of the newest contact. Who was never contacted takes no room, and who is contacted need
not be known yet.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import MAX_CONTACTS
from streams.core.state.exposures import NEVER
from streams.core.state.u64map import U64Map

__all__ = ["CONTACTED", "add_contacts", "contacts_of", "forget_contacts"]

_DAY_MS: Final = 86_400_000

CONTACTED: Final = np.dtype(
    [
        ("owner", "u8"),  # hash of the user id
        ("times_ms", "i8", (MAX_CONTACTS,)),  # the newest first; 0: there was no other
    ],
    align=True,
)


def add_contacts(contacts: U64Map, owners: NDArray[np.uint64], times_ms: NDArray[np.int64]) -> None:
    """Remember contacts with the people with these hashes (uint64 [k], may repeat) at these times
    (ms, int64 [k]). Their order makes no difference."""
    by_owner = np.lexsort((-times_ms, owners))
    owners, times_ms = owners[by_owner], times_ms[by_owner]
    people, first = np.unique(owners, return_index=True)
    place = np.arange(len(owners)) - np.repeat(first, np.diff(np.append(first, len(owners))))
    added = np.zeros((len(people), MAX_CONTACTS), np.int64)
    newest = place < MAX_CONTACTS
    added[np.searchsorted(people, owners[newest]), place[newest]] = times_ms[newest]
    found = contacts.find(people)
    known = np.flatnonzero(found >= 0)
    before = np.zeros_like(added)
    before[known] = contacts.records["times_ms"][found[known]]
    both = -np.sort(-np.concatenate([before, added], axis=1), axis=1)[:, :MAX_CONTACTS]
    contacts.put(people, (both[:, 0] // _DAY_MS).astype(np.int32))
    at = contacts.find(people)
    contacts.before_change(at)
    contacts.records["owner"][at] = people
    contacts.records["times_ms"][at] = both


def contacts_of(contacts: U64Map, owners: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The newest contacts of these people (uint64 [k]), newest first, in ms: int64 [k,
    MAX_CONTACTS], 0 where there was no other."""
    times_ms = np.zeros((len(owners), MAX_CONTACTS), np.int64)
    if len(contacts):
        found = contacts.find(owners)
        known = np.flatnonzero(found >= 0)
        times_ms[known] = contacts.records["times_ms"][found[known]]
    return times_ms


def forget_contacts(contacts: U64Map, user_hash: Any) -> None:
    """Overwrite the record of one person; the key, a hash that leads to no name, is dropped with
    those that are old."""
    at = np.flatnonzero(contacts.records["owner"] == user_hash)
    contacts.before_change(at)
    contacts.words[at] = 0
    contacts.values[at] = NEVER
