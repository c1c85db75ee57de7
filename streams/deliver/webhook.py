"""Tideline's own format: one POST of JSON with several changes, in order, signed.

    {"changes": [AudienceChange, ...]}

Any status from 200 to 299 says that all were taken. The order in a request is each person's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from schemas.messages import AudienceChange
from streams.deliver.destinations import Destination
from streams.deliver.exchange import Conversation, RefusedAllError, Request, refusal_of

__all__ = ["idempotency_key", "webhook"]


def webhook(where: Destination, changes: Sequence[AudienceChange]) -> Conversation:
    """Delivers `changes` in one request."""
    body = msgspec.json.encode({"changes": changes})
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": idempotency_key(changes),
    }
    refusal = refusal_of((yield Request("POST", where.url, headers, body, is_signed=True)))
    if refusal is not None:
        raise RefusedAllError(refusal)
    return [None] * len(changes)


def idempotency_key(changes: Sequence[AudienceChange]) -> str:
    """The change's id, if there is one change; else a hash of all ids. After a restart the same
    changes may come in other requests, so a receiver goes by each change's `change_id`."""
    if len(changes) == 1:
        return changes[0].change_id
    joined = "\n".join(change.change_id for change in changes)
    return hashlib.sha256(joined.encode()).hexdigest()[:32]
