"""Says whose a guest's order is by its e-mail address, where the file has one.

1. An address that comes with a customer's id anywhere in the file, or is one, is that customer's.
2. An address that comes with no id is a customer's own id, in lower case.
3. An address that comes with several ids doesn't say whose the order is.

Ids stay the identity of those who have one: live events carry the id, and people change addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streams.history.rows import Cells, as_ints

__all__ = ["ByEmail", "by_email"]


@dataclass(frozen=True)
class ByEmail:
    """The users of n rows, guests among them, and which rows an address decided, bool [n]."""

    user: Cells
    named: NDArray[np.bool_]
    shared: NDArray[np.bool_]
    """Guests whose address is that of several customers: they have no user."""


def by_email(user: Cells, email: Cells) -> ByEmail:
    """Give rows without a user the one of their address. `email` has addresses in lower case.

    >>> from streams.history.rows import cells_of
    >>> found = by_email(cells_of(pa.array(["17", None, None])),
    ...                  cells_of(pa.array(["ann@x.org", "ann@x.org", "bob@x.org"])))
    >>> [found.user.text(row) for row in range(3)]
    ['17', '17', 'bob@x.org']
    """
    k, users = len(email.texts), len(user.texts)
    both = (user.codes >= 0) & (email.codes >= 0)
    lowest, highest = np.full(k, users), np.full(k, -1)
    np.minimum.at(lowest, email.codes[both], user.codes[both])
    np.maximum.at(highest, email.codes[both], user.codes[both])
    addresses = email.texts.cast(user.texts.type)
    as_id = as_ints(pc.index_in(addresses, pc.utf8_lower(user.texts)))
    owner = np.where(highest >= 0, lowest, as_id)
    several = (highest >= 0) & (lowest < highest)
    guest = (user.codes < 0) & (email.codes >= 0)
    shared = guest & np.append(several, False)[email.codes]
    named = guest & ~shared
    fresh = np.zeros(k, np.bool_)
    fresh[email.codes[named]] = True
    fresh &= owner < 0
    owner = np.where(fresh, users + np.cumsum(fresh) - 1, owner)
    codes = np.where(named, np.append(owner, -1)[email.codes], user.codes)
    texts = pa.concat_arrays([user.texts, addresses.filter(pa.array(fresh))])
    return ByEmail(Cells(codes, texts), named, shared)
