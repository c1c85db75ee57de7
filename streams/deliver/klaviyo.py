"""Klaviyo: an audience with a list has its members in it; every other one makes events.

    GET    /api/profiles?filter=any(external_id,[...])     the ids that Klaviyo gave these people
    POST   /api/profile-import                             who is missing, if they shall be made
    POST   /api/lists/LIST/relationships/profiles          who entered
    DELETE /api/lists/LIST/relationships/profiles          who left
    POST   /api/events                                     other audiences; unique_id = change_id

By Klaviyo's public OpenAPI files. All calls but the last are done when they are answered, so a
person who enters and leaves ends up outside; bulk import jobs would run at any time later. A
repeated call changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

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

__all__ = ["BATCH", "METRICS", "UNKNOWN_PROFILE", "klaviyo"]

BATCH: Final = 50
METRICS: Final = {"entered": "Tideline: entered audience", "left": "Tideline: left audience"}
UNKNOWN_PROFILE: Final = Refusal(
    "unknown_profile", "Klaviyo has no profile with this external_id; create_profiles would make it"
)
_LONGEST_FILTER: Final = 4_000
_TYPE: Final = "application/vnd.api+json"


def klaviyo(where: Destination, changes: Sequence[AudienceChange]) -> Conversation:
    """Delivers `changes`, each of another person."""
    listed = [change for change in changes if change.audience in where.lists]
    refusals: dict[str, Refusal] = {}
    profiles: dict[str, str] = {}
    for users in _filters([change.user_id for change in listed]):
        answer = yield _request(where, "GET", f"/api/profiles?{_query(users)}")
        _raise_for(answer)
        profiles |= _profiles(answer)
    for change in listed:
        if change.change != "entered" or change.user_id in profiles:
            continue
        if not where.create_profiles:
            refusals[change.change_id] = UNKNOWN_PROFILE
            continue
        answer = yield _request(where, "POST", "/api/profile-import", _new_profile(change))
        refusal = refusal_of(answer)
        if refusal is None:
            profiles[change.user_id] = str(answer.document["data"]["id"])
        else:
            refusals[change.change_id] = refusal
    for method, audience, members in _memberships(listed, profiles):
        path = f"/api/lists/{where.lists[audience]}/relationships/profiles"
        _raise_for((yield _request(where, method, path, {"data": members})))
    for change in changes:
        if change.audience not in where.lists:
            refusal = refusal_of((yield _request(where, "POST", "/api/events", _event(change))))
            if refusal is not None:
                refusals[change.change_id] = refusal
    return [refusals.get(change.change_id) for change in changes]


def _raise_for(answer: Answer) -> None:
    refusal = refusal_of(answer)
    if refusal is not None:
        raise RefusedAllError(refusal)


def _request(where: Destination, method: str, path: str, document: Any = None) -> Request:
    headers = {
        "Authorization": f"Klaviyo-API-Key {where.secrets[0].reveal()}",
        "revision": where.revision,
        "Accept": _TYPE,
    }
    if document is None:
        return Request(method, where.url + path, headers)
    headers["Content-Type"] = _TYPE
    return Request(method, where.url + path, headers, json.dumps(document).encode())


def _filters(users: Sequence[str]) -> Iterator[list[str]]:
    """`users` in lists whose filters fit into a URL."""
    part: list[str] = []
    size = 0
    for user in users:
        length = len(quote(json.dumps(user))) + 3
        if part and size + length > _LONGEST_FILTER:
            yield part
            part, size = [], 0
        part.append(user)
        size += length
    if part:
        yield part


def _query(users: Sequence[str]) -> str:
    wanted = ",".join(json.dumps(user) for user in users)
    return (
        f"filter={quote(f'any(external_id,[{wanted}])', safe='')}"
        "&fields%5Bprofile%5D=external_id&page%5Bsize%5D=100"
    )


def _profiles(answer: Answer) -> dict[str, str]:
    """User id -> Klaviyo's id of the profile."""
    return {
        str(each["attributes"]["external_id"]): str(each["id"]) for each in answer.document["data"]
    }


def _new_profile(change: AudienceChange) -> dict[str, Any]:
    return {"data": {"type": "profile", "attributes": {"external_id": change.user_id}}}


def _memberships(
    changes: Sequence[AudienceChange], profiles: Mapping[str, str]
) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """(method, audience, members) of each request. Who has no profile is in no list."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for change in changes:
        profile = profiles.get(change.user_id)
        if profile is not None:
            method = "POST" if change.change == "entered" else "DELETE"
            member = {"type": "profile", "id": profile}
            groups.setdefault((method, change.audience), []).append(member)
    for (method, audience), members in groups.items():
        yield method, audience, members


def _event(change: AudienceChange) -> dict[str, Any]:
    properties = {
        "audience": change.audience,
        "segment": change.segment,
        "number": change.number,
        "p_churn": change.p_churn,
        "expected_spend": change.expected_spend,
        "value_tier": change.value_tier,
        "lifecycle": change.lifecycle,
    }
    return {
        "data": {
            "type": "event",
            "attributes": {
                "properties": {k: v for k, v in properties.items() if v not in (None, "")},
                "time": change.at,
                "unique_id": change.change_id,
                "metric": {
                    "data": {"type": "metric", "attributes": {"name": METRICS[change.change]}}
                },
                "profile": {
                    "data": {"type": "profile", "attributes": {"external_id": change.user_id}}
                },
            },
        }
    }
