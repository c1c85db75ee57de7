"""A TCP proxy on loopback that spoils connections on purpose, at a byte or at a moment.

It knows nothing of what goes through, but for one thing that tests need: text that a client sends
(`INSERT INTO alerts`) and the server's next answers after it, so that "sent, and no reply yet" is a
moment that a test can name. "up" is from the client to the server, "down" back.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from streams.local.process import LOOPBACK

__all__ = ["Fault", "Proxy"]

Direction = Literal["up", "down"]
Action = Literal["cut", "reset", "half_close", "truncate", "delay"]

_CHUNK = 64 * 1024


@dataclass
class Fault:
    """What is done to a connection, and when; each happens `times` times, on any connection.

    action:
        cut         close both sides
        reset       close both sides with RST in place of FIN
        half_close  end this direction only; the other goes on
        truncate    swallow the rest of this direction without a word; both stay open
        delay       hold this direction up for `seconds`, once
    at_byte: passes so many bytes of the direction on that connection, and no more.
    after: or, once the client has sent these bytes:
        "up"    at the client's next bytes after them
        "down"  at the server's `answers`-th answer after them; it is not passed on. An answer is
                what the server says between two things that the client says.
    """

    action: Action
    direction: Direction = "down"
    at_byte: int | None = None
    after: bytes | None = None
    answers: int = 1
    seconds: float = 0.0
    times: int = 1
    happened: int = 0

    def __post_init__(self) -> None:
        if (self.at_byte is None) == (self.after is None):
            raise ValueError("give either at_byte or after")


@dataclass(eq=False)
class _Connection:
    """One client and its server connection, and what passed so far."""

    client: socket.socket
    server: socket.socket
    passed: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    tail: bytes = b""
    """The newest bytes of the client, for `after` texts that come in two pieces."""
    heard: dict[int, int] = field(default_factory=dict)
    """Fault's id -> answers since its `after` was seen here; -1: at the client's next bytes."""
    last: Direction = "down"
    muted: set[Direction] = field(default_factory=set)
    resetting: bool = False

    def end(self, *, reset: bool = False) -> None:
        """Make both pumps stop; with `reset`, closing then sends RST and no FIN before it."""
        self.resetting = self.resetting or reset
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                side.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)


class Proxy:
    """Passes connections to `target` on, until a fault says otherwise. A context manager."""

    def __init__(self, target: tuple[str, int], faults: Iterable[Fault] = ()) -> None:
        self._target = target
        self._faults = list(faults)
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._refusing = False
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.host = LOOPBACK
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join()

    def add(self, *faults: Fault) -> None:
        """From now on, on old and new connections."""
        with self._lock:
            self._faults.extend(faults)

    def heal(self) -> int:
        """Spoil nothing more; returns how many faults have not happened as often as they could."""
        with self._lock:
            waiting = sum(fault.happened < fault.times for fault in self._faults)
            self._faults.clear()
        return waiting

    def cut(self) -> int:
        """Close every connection there is; returns how many."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.end()
        return len(connections)

    def refuse(self, refusing: bool) -> None:
        """Take no new connections (they are closed at once), or take them again."""
        self._refusing = refusing

    @property
    def connections(self) -> int:
        return len(self._connections)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(client, server)
            with self._lock:
                self._connections.add(connection)
            threads = [
                threading.Thread(target=self._pump, args=(connection, direction), daemon=True)
                for direction in ("up", "down")
            ]
            for thread in threads:
                thread.start()
            threading.Thread(target=self._reap, args=(connection, threads), daemon=True).start()

    def _reap(self, connection: _Connection, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join()
        with self._lock:
            self._connections.discard(connection)
        connection.client.close()
        connection.server.close()

    def _pump(self, connection: _Connection, direction: Direction) -> None:
        source, sink = connection.client, connection.server
        if direction == "down":
            source, sink = sink, source
        while True:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            if connection.resetting:
                return
            if not data:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            if direction in connection.muted:
                continue
            fault, keep = self._due(connection, direction, data)
            try:
                sink.sendall(data[:keep])
                if fault is None:
                    continue
                if fault.action == "delay":
                    time.sleep(fault.seconds)
                    sink.sendall(data[keep:])
                    continue
            except OSError:
                connection.end()
                return
            if fault.action == "truncate":
                connection.muted.add(direction)
            elif fault.action == "half_close":
                connection.muted.add(direction)
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
            else:
                connection.end(reset=fault.action == "reset")
                return

    def _due(
        self, connection: _Connection, direction: Direction, data: bytes
    ) -> tuple[Fault | None, int]:
        """The fault that is due within `data`, if any, and how many of its bytes still pass."""
        with self._lock:
            before = connection.passed[direction]
            connection.passed[direction] += len(data)
            turned, connection.last = connection.last != direction, direction
            said = connection.tail + data if direction == "up" else b""
            hit: tuple[Fault | None, int] = (None, len(data))
            for fault in self._faults:
                if fault.happened >= fault.times:
                    continue
                keep = self._keep(connection, fault, direction, len(data), before, said, turned)
                if keep is not None and hit[0] is None:
                    fault.happened += 1
                    connection.heard.pop(id(fault), None)
                    hit = fault, keep
            if direction == "up":
                # What was found once is not found again in the rest of it.
                found = any(f.after is not None and f.after in said for f in self._faults)
                connection.tail = b"" if found else said[-256:]
            return hit

    def _keep(
        self, connection: _Connection, fault: Fault, direction: Direction, size: int,
        before: int, said: bytes, turned: bool,
    ) -> int | None:  # fmt: skip
        """How many of `size` bytes pass before `fault` is due; None: it is not."""
        if fault.at_byte is not None:
            if fault.direction == direction and before <= fault.at_byte < before + size:
                return fault.at_byte - before
            return None
        assert fault.after is not None
        heard = connection.heard.get(id(fault))
        if heard is None:
            if fault.after in said:
                connection.heard[id(fault)] = 0
            return None
        if direction != fault.direction:
            return None
        if direction == "down" and turned:
            connection.heard[id(fault)] = heard = heard + 1
        return 0 if direction == "up" or heard >= fault.answers else None
