"""Pseudonyms for visitors who may not see user ids: the same id gives the same, and links work.

AES-SIV (RFC 5297) is deterministic and authenticated: nothing is kept, nothing is looked up, and
who has no key can neither make one nor change one into another's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

__all__ = ["MARK", "Seal", "random_key"]

MARK: Final = "~"
"""What every sealed id begins with."""
_ABOUT: Final = [b"tideline console: user id"]


def random_key() -> str:
    """A key for one run of the process: links end with it."""
    return secrets.token_hex(32)


class Seal:
    """Seals ids and opens them again.

    >>> seal = Seal("0123456789abcdef0123456789abcdef")
    >>> seal.opened(seal.sealed("ann")), seal.opened("~forged")
    ('ann', None)
    """

    def __init__(self, key: str) -> None:
        """`key`: 32 characters or more; all of them count."""
        self._cipher = AESSIV(hashlib.sha512(key.encode()).digest())

    def sealed(self, user_id: str) -> str:
        """The pseudonym: `~` and URL-safe base64, 23 characters longer than 4/3 of the id."""
        plain = user_id.encode(errors="surrogateescape")
        # An empty text can't be encrypted; the byte in front also keeps ids of any length apart.
        sealed = self._cipher.encrypt(b"\0" + plain, _ABOUT)
        return MARK + base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def opened(self, sealed: str) -> str | None:
        """The id behind a pseudonym, or None if we did not make it."""
        if not sealed.startswith(MARK):
            return None
        text = sealed[len(MARK) :]
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return self._cipher.decrypt(raw, _ABOUT)[1:].decode(errors="surrogateescape")
        except (binascii.Error, InvalidTag, ValueError):
            return None
