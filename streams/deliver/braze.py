"""Braze: each person's array attribute has the names of the audiences that they are in.

    POST /users/track   {"attributes": [{"external_id": ..., "tideline_audiences": {"add": [...]}}]}

By Braze's public documentation (POST /users/track; user attributes object); `add` and `remove` of a
value may be repeated, so a repeated delivery changes nothing. Braze promises no order within a
request, so none has two changes of a person. It answers 201 also if it left some out, and names
those in `errors`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from schemas.messages import AudienceChange
from streams.deliver.destinations import Destination
from streams.deliver.exchange import (
    Answer,
    Conversation,
    Refusal,
    RefusedAllError,
    Request,
    refusal_of,
)

__all__ = ["BATCH", "braze"]

BATCH: Final = 50
"""Braze takes 75 objects in a request, and 50 under its newer contracts."""


def braze(where: Destination, changes: Sequence[AudienceChange]) -> Conversation:
    """Delivers `changes`, each of another person, in one request."""
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {where.secrets[0].reveal()}",
    }
    document = {"attributes": [_attributes(where, change) for change in changes]}
    request = Request("POST", f"{where.url}/users/track", headers, json.dumps(document).encode())
    answer = yield request
    refusal = refusal_of(answer)
    if refusal is not None:
        raise RefusedAllError(refusal)
    return _refusals(answer, len(changes))


def _attributes(where: Destination, change: AudienceChange) -> dict[str, Any]:
    verb = "add" if change.change == "entered" else "remove"
    return {
        "external_id": change.user_id,
        # Who is not in Braze yet has no address there either.
        "_update_existing_only": not where.create_profiles,
        where.attribute: {verb: [change.audience]},
    }


def _refusals(answer: Answer, count: int) -> list[Refusal | None]:
    """What Braze left out. Errors that name no object are taken to be about all of them."""
    document = answer.document
    errors = document.get("errors") if isinstance(document, dict) else None
    found: list[Refusal | None] = [None] * count
    for error in errors if isinstance(errors, list) else []:
        refusal = Refusal("braze_error", str(error)[:300])
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < count:
            found[index] = refusal
        elif count > 1:
            raise RefusedAllError(refusal)
        else:
            found[0] = refusal
    return found
