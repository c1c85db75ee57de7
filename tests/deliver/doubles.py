"""Receivers on loopback, with what they got: a webhook, and doubles of two public APIs.

The doubles know the APIs from their public documentation alone: Klaviyo's OpenAPI files (revision
2026-07-15) and Braze's pages of POST /users/track. They refuse whatever the documentation does not
allow: method, path, headers, body. Nothing here was compared with the real ones.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

__all__ = ["Braze", "Got", "Klaviyo", "Receiver", "Reply", "serving"]

R = TypeVar("R", bound="Receiver")
Reply = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Got:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Takes everything with status 200, but for the replies in `next`, which come first."""

    got: list[Got] = field(default_factory=list)
    next: deque[Reply | Callable[[Got], Reply]] = field(default_factory=deque)
    url: str = ""
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def reply(self, got: Got) -> Reply:
        with self.arrived:
            self.got.append(got)
            self.arrived.notify_all()
        if self.next:
            reply = self.next.popleft()
            return reply(got) if callable(reply) else reply
        return self.take(got)

    def take(self, got: Got) -> Reply:
        return 200, {}, b""

    def wait_for(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        with self.arrived:
            assert self.arrived.wait_for(holds, seconds), f"{len(self.got)} requests came"


def _json(status: int, document: Any, kind: str = "application/json") -> Reply:
    return status, {"Content-Type": kind}, json.dumps(document).encode()


@dataclass
class Klaviyo(Receiver):
    """Profiles by external id, lists with their members, and events by unique id."""

    key: str = "pk_0123456789abcdef0123"
    profiles: dict[str, str] = field(default_factory=dict)
    lists: dict[str, set[str]] = field(default_factory=dict)
    events: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    def take(self, got: Got) -> Reply:
        if got.headers.get("authorization") != f"Klaviyo-API-Key {self.key}":
            return self._error(401, "not_authenticated", "Missing or invalid private key.")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", got.headers.get("revision", "")):
            return self._error(400, "invalid", "Missing revision header.")
        if got.body and got.headers.get("content-type") != "application/vnd.api+json":
            return self._error(415, "unsupported_media_type", "Unsupported media type.")
        path = urlsplit(got.path).path
        members = re.fullmatch(r"/api/lists/(\w+)/relationships/profiles", path)
        if members and got.method in ("POST", "DELETE"):
            return self._members(got, members[1])
        known = {
            ("GET", "/api/profiles"): self._find,
            ("POST", "/api/profile-import"): self._import,
            ("POST", "/api/events"): self._event,
        }.get((got.method, path))
        return known(got) if known else self._error(404, "not_found", "Not found.")

    def _error(self, status: int, code: str, detail: str) -> Reply:
        error = {"id": "0", "status": status, "code": code, "title": code, "detail": detail,
                 "source": {"pointer": "/data"}}  # fmt: skip
        return _json(status, {"errors": [error]}, "application/vnd.api+json")

    def _find(self, got: Got) -> Reply:
        query = parse_qs(urlsplit(got.path).query, strict_parsing=True)
        wanted = re.fullmatch(r"any\(external_id,(\[.*\])\)", query["filter"][0])
        if wanted is None or not 1 <= int(query.get("page[size]", ["20"])[0]) <= 100:
            return self._error(400, "invalid", "Invalid filter.")
        found = [
            {"type": "profile", "id": self.profiles[user], "attributes": {"external_id": user}}
            for user in json.loads(wanted[1])
            if user in self.profiles
        ]
        return _json(200, {"data": found, "links": {}}, "application/vnd.api+json")

    def _import(self, got: Got) -> Reply:
        data = got.document["data"]
        user = data["attributes"]["external_id"]
        if data["type"] != "profile":
            return self._error(400, "invalid", "Wrong type.")
        status = 200 if user in self.profiles else 201
        number = self.profiles.setdefault(user, f"01P{len(self.profiles)}")
        return _json(status, {"data": {"type": "profile", "id": number, "attributes": {}}})

    def _members(self, got: Got, name: str) -> Reply:
        if name not in self.lists:
            return self._error(404, "not_found", f"A list with id {name} does not exist.")
        data = got.document["data"]
        ids = {each["id"] for each in data if each["type"] == "profile"}
        if not 1 <= len(data) <= 1000 or not ids <= set(self.profiles.values()):
            return self._error(400, "invalid", "Invalid profiles.")
        self.lists[name] = (
            self.lists[name] | ids if got.method == "POST" else self.lists[name] - ids
        )
        return 204, {}, b""

    def _event(self, got: Got) -> Reply:
        data = got.document["data"]
        its = data["attributes"]
        metric = its["metric"]["data"]
        profile = its["profile"]["data"]
        user = profile["attributes"]["external_id"]
        if (data["type"], metric["type"], profile["type"]) != ("event", "metric", "profile"):
            return self._error(400, "invalid", "Wrong type.")
        if user == "refused":
            return self._error(400, "invalid", "Invalid profile.")
        # of a unique_id that is repeated for the same profile and metric, the first counts
        self.events.setdefault((user, metric["attributes"]["name"], its["unique_id"]), its)
        return 202, {}, b""


@dataclass
class Braze(Receiver):
    """Array attributes by external id."""

    key: str = "01234567-89ab-cdef-0123-456789abcdef"
    users: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)

    def take(self, got: Got) -> Reply:
        if got.headers.get("authorization") != f"Bearer {self.key}":
            return _json(401, {"message": "Invalid API key"})
        if (got.method, got.path) != ("POST", "/users/track"):
            return _json(404, {"message": "Not found"})
        if got.headers.get("content-type") != "application/json":
            return _json(400, {"message": "Content-Type must be application/json"})
        attributes = got.document["attributes"]
        if len(attributes) > 50:
            return _json(400, {"message": "The number of objects exceeds the limit"})
        users = [each["external_id"] for each in attributes]
        assert len(set(users)) == len(users), "the order in a request is not defined"
        errors = []
        for index, each in enumerate(attributes):
            user = each.pop("external_id")
            if user in self.refuses:
                errors.append({"type": "'external_id' is blacklisted", "input_array": "attributes",
                               "index": index})  # fmt: skip
            elif not each.pop("_update_existing_only") or user in self.users:
                self._apply(self.users.setdefault(user, {}), each)
        done = {"message": "success", "attributes_processed": len(attributes) - len(errors)}
        return _json(201, done | ({"errors": errors} if errors else {}))

    @staticmethod
    def _apply(profile: dict[str, list[str]], attributes: dict[str, dict[str, list[str]]]) -> None:
        for name, verbs in attributes.items():
            values = profile.setdefault(name, [])
            values += [value for value in verbs.get("add", ()) if value not in values]
            for value in verbs.get("remove", ()):
                if value in values:
                    values.remove(value)


@contextmanager
def serving(receiver: R, tls: ssl.SSLContext | None = None) -> Iterator[R]:
    """`receiver` on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, extra, answer = receiver.reply(Got(self.command, self.path, headers, body))
            if status == 0:  # hang up
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = _any

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    receiver.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
