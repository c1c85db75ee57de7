"""Signs what goes to webhooks, so that a receiver knows whom it is from and when it was sent.

    Tideline-Signature: t=<seconds since 1970>,v1=<hex>[,v1=<hex>]
    v1 = HMAC-SHA256(secret, t "." body)

Both secrets sign while one replaces the other; a receiver takes any of them. Receivers refuse a
time that is more than some minutes off, so that nobody can send a recorded request again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from streams.settings import Secret

__all__ = ["HEADER", "signature"]

HEADER: Final = "Tideline-Signature"


def signature(secrets: Sequence[Secret], body: bytes, at_seconds: int) -> str:
    """The value of the header.

    >>> signature([Secret("k")], b"{}", 1700000000)[:32]
    't=1700000000,v1=c6ef4734033cee23'
    """
    signed = f"{at_seconds}.".encode() + body
    values = (hmac.new(s.reveal().encode(), signed, hashlib.sha256).hexdigest() for s in secrets)
    return ",".join((f"t={at_seconds}", *(f"v1={value}" for value in values)))
