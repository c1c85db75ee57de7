"""The API's paths: who may ask, what is read, and how it is answered.

`OPERATIONS` is the one list of what there is; the router and the OpenAPI document are made from it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from schemas.errors import TidelineError
from streams.console.access import Refused, Visitor
from streams.console.api import questions
from streams.console.api.answers import (
    Alert,
    Alerts,
    AudienceMember,
    AudienceMembers,
    Day,
    Member,
    Members,
    OpenAlert,
    OpenAlerts,
    Segment,
    SegmentDays,
    Segments,
    User,
    time_text,
)
from streams.console.api.feed import (
    KINDS,
    LOOK_SECONDS,
    Feed,
    Happening,
    Place,
    away,
    position_text,
    read_position_text,
)
from streams.console.api.points import Points, TooMany
from streams.console.reads import Reader, Sealed, UnknownPseudonym
from streams.console.sealing import Seal

__all__ = ["MOST_STREAMS", "OPERATIONS", "Api", "Call", "Operation", "Parameter"]

MOST_ROWS: Final = 1_000
USUAL_ROWS: Final = 100
MOST_STREAMS: Final = 50
ALIVE_SECONDS: Final = 5.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operation. `schema`: of JSON Schema."""

    name: str
    where: str
    """path or query."""
    about: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One request: who asks, and with which parameters; `path` and `query` are decoded."""

    visitor: Visitor
    reader: Reader
    path: Mapping[str, str]
    query: Mapping[str, str]

    def rows(self) -> int:
        """How many rows are wanted. Raises Refused (400)."""
        text = self.query.get("limit", str(USUAL_ROWS))
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MOST_ROWS:
            raise Refused(400, f"limit is a whole number from 1 to {MOST_ROWS}.")
        return int(text)

    def after(self, *kinds: type) -> tuple[Any, ...] | None:
        """The last row of the part before, or None. Raises Refused (400)."""
        text = self.query.get("after", "")
        if not text:
            return None
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            found = msgspec.json.decode(raw, type=tuple[kinds])  # type: ignore[valid-type]
        except (msgspec.DecodeError, binascii.Error, ValueError):
            raise Refused(400, "after is what `next` of the part before says.") from None
        return tuple(found)

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        """A parameter with few values; empty: not given. Raises Refused (400)."""
        value = self.query.get(name, "")
        if value and value not in choices:
            raise Refused(400, f"{name} is one of {', '.join(choices)}.")
        return value

    def number(self, name: str) -> float:
        """A parameter that is a number, 0 when not given. Raises Refused (400)."""
        text = self.query.get(name, "0")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < 1e15:
            raise Refused(400, f"{name} is a number.")
        return value


@dataclass(frozen=True)
class Operation:
    """One path: what it is for, which scope it needs, and how it is answered."""

    path: str
    scope: str
    about: str
    answer: type | None
    """None: a stream."""
    make: Callable[[Api, Call], Awaitable[Any]] | None
    parameters: tuple[Parameter, ...] = ()

    @property
    def route(self) -> str:
        """The path for aiohttp, whose own patterns refuse braces in a value."""
        return self.path.replace("}", ":(?s:[^/]+)}")


class Api:
    """Everything that the paths need."""

    def __init__(self, reader: Reader, seal: Seal, feed: Feed | None = None) -> None:
        self.points = Points(reader)
        self.reader = reader
        """With user ids, whoever asks."""
        self._seal, self._feed = seal, feed
        self._streams = 0
        self.closed = asyncio.Event()
        """Set when the process stops: streams end."""

    def sealed(self, visitor: Visitor, user_id: str) -> str:
        """The id as this visitor may see it."""
        return user_id if visitor.sees_ids else self._seal.sealed(user_id)

    def opened(self, visitor: Visitor, given: str) -> str:
        """The id that a visitor means. Raises UnknownPseudonym for one who may not name ids."""
        found = self._seal.opened(given)
        if found is not None:
            return found
        if not visitor.sees_ids:
            raise UnknownPseudonym(given)
        return given

    async def answer(
        self, operation: Operation, visitor: Visitor, request: web.Request
    ) -> web.StreamResponse:
        """Raises Refused, ReadFailed and UnknownPseudonym."""
        if not visitor.may(f"v1:{operation.scope}"):
            raise Refused(403, f"This needs a token with the scope {operation.scope}.")
        if operation.make is None:
            return await self._stream(visitor, request)
        reader = Sealed(self.reader, self._seal, sees_ids=visitor.sees_ids)
        call = Call(visitor, reader, request.match_info, request.query)
        try:
            found = await operation.make(self, call)
        except TooMany:
            raise Refused(503, "Too much is asked at once. Come again in a second.") from None
        return web.Response(body=_encoder.encode(found), content_type="application/json")

    # -- the stream

    async def _stream(self, visitor: Visitor, request: web.Request) -> web.StreamResponse:
        if self._feed is None:
            raise Refused(503, "This console has no connection to Kafka, so there is no stream.")
        if self._streams >= MOST_STREAMS:
            raise Refused(503, f"{MOST_STREAMS} streams are open already.")
        wanted = tuple(filter(None, request.query.get("kinds", ",".join(KINDS)).split(",")))
        if not wanted or not set(wanted) <= set(KINDS):
            raise Refused(400, f"kinds are {', '.join(KINDS)}, separated by commas.")
        last = request.headers.get("Last-Event-ID", "") or request.query.get("last_id", "")
        given = read_position_text(last) if last else {}
        if given is None:
            raise Refused(400, "This is no id of this stream's.")
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"
        self._streams += 1
        try:
            await response.prepare(request)
            async with aclosing(self._happenings(self._feed, wanted, given)) as happenings:
                async for happening in happenings:
                    async with asyncio.timeout(30):
                        await response.write(self._event(visitor, happening))
        except (ConnectionError, TimeoutError):
            pass  # the client is gone, or reads nothing
        finally:
            self._streams -= 1
        return response

    async def _happenings(
        self, feed: Feed, kinds: tuple[str, ...], given: Mapping[Place, int]
    ) -> AsyncGenerator[Happening, None]:
        """What has happened since `given`, and what happens, until the process stops."""
        position: dict[Place, int] = {}
        loop = asyncio.get_running_loop()
        said_at = 0.0
        while not self.closed.is_set():
            try:
                if not position:
                    position = await feed.now(kinds)
                    position |= {place: at for place, at in given.items() if place in position}
                    yield Happening("alive", "{}", position=position_text(position))
                    said_at = loop.time()
                async with aclosing(feed.after(position)) as found:
                    async for happening in found:
                        yield happening
                        position = read_position_text(happening.position) or position
                        said_at = loop.time()
            except TidelineError as error:
                yield away(error)
                said_at = loop.time()
            if loop.time() - said_at >= ALIVE_SECONDS:
                said_at = loop.time()
                yield Happening("alive", "{}", position=position_text(position))
            try:
                await asyncio.wait_for(self.closed.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    def _event(self, visitor: Visitor, happening: Happening) -> bytes:
        data = happening.data
        if happening.user_id and not visitor.sees_ids:
            fields = msgspec.json.decode(data)
            fields["user_id"] = self._seal.sealed(happening.user_id)
            data = _encoder.encode(fields).decode()
        lines = [f"event: {happening.name}"]
        if happening.position:
            lines.append(f"id: {happening.position}")
        lines.append(f"data: {data}")  # JSON has no line ends
        return ("\n".join(lines) + "\n\n").encode()


def _time(value: datetime | None) -> str | None:
    if value is None:
        return None
    at = value if value.tzinfo else value.replace(tzinfo=UTC)
    return time_text((at - _EPOCH) // timedelta(milliseconds=1))


def _next(*last: str | float) -> str:
    return base64.urlsafe_b64encode(_encoder.encode(last)).decode().rstrip("=")


def segment_place(name: str) -> tuple[str, str]:
    """Dimension and segment of a name.

    >>> segment_place("value_tier:high"), segment_place("save_now")
    (('value_tier', 'high'), ('save_now', 'in'))
    """
    dimension, colon, segment = name.partition(":")
    return (dimension, segment) if colon else (dimension, "in")


def _segment(row: Mapping[str, Any]) -> Segment:
    own = row["segment"] == "in"
    name = row["dimension"] if own else f"{row['dimension']}:{row['segment']}"
    return Segment(name, row["users"], row["expected_spend"], _time(row["as_of"]) or "")


async def user(api: Api, call: Call) -> User:
    user_id = api.opened(call.visitor, call.path["id"])
    point = await api.points.of(user_id)
    if point is None:
        raise Refused(404, "No customer with this id has a score.")
    return point.answer(api.sealed(call.visitor, user_id))


def _fields(kind: type[msgspec.Struct], row: Mapping[str, Any]) -> Any:
    """A struct of the columns of the same names; times as texts."""
    return kind(**{
        name: _time(row[name]) if isinstance(row[name], datetime) else row[name]
        for name in kind.__struct_fields__
    })  # fmt: skip


async def alerts_of_user(api: Api, call: Call) -> Alerts:
    found = await call.reader.rows(questions.ALERTS_OF_USER, user_id=call.path["id"])
    return Alerts([_fields(Alert, row) for row in found])


async def open_alerts(api: Api, call: Call) -> OpenAlerts:
    limit, last = call.rows(), call.after(float, str)
    found = await call.reader.rows(
        questions.OPEN_ALERTS, limit=limit + 1, is_first=int(last is None),
        priority=last[0] if last else 0.0, alert_id=last[1] if last else "",
        action=call.query.get("action", ""), least=call.number("least"),
        tier=call.one_of("tier", ("none", "low", "medium", "high")),
    )  # fmt: skip
    rows = [_fields(OpenAlert, row) for row in found]
    more = rows[limit - 1] if len(rows) > limit else None
    return OpenAlerts(rows[:limit], _next(more.priority, more.alert_id) if more else None)


async def segments(api: Api, call: Call) -> Segments:
    return Segments([_segment(row) for row in await call.reader.rows(questions.SEGMENT_SIZES)])


async def _segment_named(call: Call, name: str) -> Segment:
    found = await call.reader.rows(questions.SEGMENT_SIZES)
    by_name = {each.name: each for each in map(_segment, found)}
    if name not in by_name:
        raise Refused(404, f"There is no such segment. There are {', '.join(by_name) or 'none'}.")
    return by_name[name]


async def segment(api: Api, call: Call) -> SegmentDays:
    now = await _segment_named(call, call.path["name"])
    dimension, part = segment_place(now.name)
    place = {"dimension": dimension, "segment": part}
    sizes, moves = await asyncio.gather(
        call.reader.rows(questions.SEGMENT_DAYS, **place),
        call.reader.rows(questions.SEGMENT_MOVES, **place),
    )
    users = {row["day"]: row["users"] for row in sizes}
    moved = {row["day"]: row for row in moves}
    none = {"entered": 0, "left": 0}
    days = [
        Day(
            day.isoformat(), users.get(day),
            moved.get(day, none)["entered"], moved.get(day, none)["left"],
        )
        for day in sorted({*users, *moved})
    ]  # fmt: skip
    return SegmentDays(now, days)


async def segment_members(api: Api, call: Call) -> Members:
    now = await _segment_named(call, call.path["name"])
    dimension, part = segment_place(now.name)
    rows, following = await _people(
        api, call, questions.MEMBERS, Member, dimension=dimension, segment=part
    )
    return Members(rows, following)


async def audience_members(api: Api, call: Call) -> AudienceMembers:
    name = call.path["name"]
    there = (await call.reader.rows(questions.AUDIENCE_THERE, audience=name)).first()
    if not there or not there["arms"]:
        raise Refused(
            404, "Nobody was ever in an audience of this name. `tideline audience` lists them."
        )
    rows, following = await _people(
        api, call, questions.AUDIENCE_MEMBERS, AudienceMember, audience=name
    )
    return AudienceMembers(rows, following)


async def _people(
    api: Api, call: Call, query: str, kind: type[msgspec.Struct], **place: str
) -> tuple[list[Any], str | None]:
    limit, last = call.rows(), call.after(str)
    first = api.opened(call.visitor, last[0]) if last else ""
    # The reader of one visitor would take the first id for a pseudonym: this one is opened already.
    found = await api.reader.rows(query, limit=limit + 1, first_user_id=first, **place)
    rows = [
        _fields(kind, {**row, "user_id": api.sealed(call.visitor, row["user_id"])}) for row in found
    ]
    more = rows[limit - 1].user_id if len(rows) > limit else None
    return rows[:limit], _next(more) if more is not None else None


_ID: Final = Parameter("id", "path", "User id as the shop sends it", {"type": "string"})
_NAME: Final = Parameter(
    "name", "path", "A segment of the shop's own, or such as value_tier:high, lifecycle:new",
    {"type": "string"},
)  # fmt: skip
_AUDIENCE: Final = Parameter("name", "path", "Name of the audience", {"type": "string"})
_PAGED: Final = (
    Parameter(
        "limit", "query", "So many at most",
        {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": USUAL_ROWS},
    ),
    Parameter("after", "query", "`next` of the part before", {"type": "string"}),
)  # fmt: skip
OPERATIONS: Final = (
    Operation("/v1/users/{id}", "users", "One customer: scores, segments, next order", User, user,
              (_ID,)),
    Operation("/v1/users/{id}/alerts", "users", "All churn alerts of one customer", Alerts,
              alerts_of_user, (_ID,)),
    Operation("/v1/segments", "segments", "All segments with their sizes", Segments, segments),
    Operation("/v1/segments/{name}", "segments", "One segment, and its last 28 days", SegmentDays,
              segment, (_NAME,)),
    Operation("/v1/segments/{name}/members", "segments", "Who is in a segment now", Members,
              segment_members, (_NAME, *_PAGED)),
    Operation("/v1/audiences/{name}/members", "audiences",
              "Whom a campaign may contact now: nobody who is held out", AudienceMembers,
              audience_members, (_AUDIENCE, *_PAGED)),
    Operation("/v1/alerts", "alerts", "Open churn alerts, the most at stake first", OpenAlerts,
              open_alerts, (
                  Parameter("action", "query", "Only with this action", {"type": "string"}),
                  Parameter("tier", "query", "Only of this value tier",
                            {"enum": ["none", "low", "medium", "high"]}),
                  Parameter("least", "query", "Only with so much at stake", {"type": "number"}),
                  *_PAGED)),
    Operation("/v1/stream", "stream",
              "Server-sent events: `alert` and `audience` as they happen (AlertMessage and "
              "AudienceChange of docs/events.md), `alive`, `gap` (the topics no longer have what "
              "came between), `away` (Kafka does not answer). At least once, in order of each "
              "customer; send the last id as Last-Event-ID to go on from there", None, None, (
                  Parameter("kinds", "query", "alerts, audiences, or both with a comma",
                            {"type": "string", "default": ",".join(KINDS)}),
                  Parameter("last_id", "query", "As Last-Event-ID", {"type": "string"}))),
)  # fmt: skip
