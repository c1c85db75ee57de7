"""The proxy injects the configured fault into a connection, at the configured byte or moment."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streams.local.process import wait_until
from tests.faults.proxy import Fault, Proxy

WAIT_SECONDS = 60.0  # for what takes a moment on a machine that has nothing else to do


class Server(socketserver.ThreadingTCPServer):
    """Answers each line `text` with `<text>`; remembers what it heard, and how clients left."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        self.heard = b""
        self.left: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server_address[1]


class Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        line = b""
        try:
            while data := self.request.recv(4096):
                self.server.heard += data
                line += data
                while b"\n" in line:
                    text, line = line.split(b"\n", 1)
                    self.request.sendall(b"<" + text + b">")
            self.server.left.append("closed")
            with contextlib.suppress(OSError):
                self.request.sendall(b"bye")
        except ConnectionResetError:
            self.server.left.append("reset")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def through(server: Server) -> Iterator[Callable[..., tuple[Proxy, socket.socket]]]:
    """through(*faults): a proxy with these faults, and a client connected through it."""
    with contextlib.ExitStack() as stack:

        def connect(*faults: Fault) -> tuple[Proxy, socket.socket]:
            proxy = stack.enter_context(Proxy(server.address, faults))
            client = socket.create_connection((proxy.host, proxy.port), timeout=WAIT_SECONDS)
            return proxy, stack.enter_context(client)

        yield connect


Through = Callable[..., tuple[Proxy, socket.socket]]


def rest(client: socket.socket) -> bytes:
    """Everything until the end."""
    return b"".join(iter(lambda: client.recv(4096), b""))


def read(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := client.recv(size - len(found))):
        found += data
    return found


def silent(client: socket.socket, seconds: float = 0.2) -> bool:
    client.settimeout(seconds)
    try:
        return client.recv(1) != b"" and False
    except TimeoutError:
        return True


def test_without_faults_everything_passes_and_the_end_does_too(
    through: Through, server: Server
) -> None:
    proxy, client = through()
    big = b"x" * 300_000 + b"\n"
    threading.Thread(target=client.sendall, args=(b"one\n" + big,), daemon=True).start()
    assert read(client, 5) == b"<one>"
    assert read(client, len(big) + 1) == b"<" + big[:-1] + b">"
    client.shutdown(socket.SHUT_WR)
    assert rest(client) == b"bye"
    assert server.left == ["closed"]
    assert wait_until(lambda: proxy.connections == 0, WAIT_SECONDS)


@pytest.mark.parametrize("at", [0, 1, 7, 9])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_cut_lets_exactly_so_many_bytes_pass(
    through: Through, server: Server, direction: Any, at: int
) -> None:
    _, client = through(Fault("cut", direction, at_byte=at))
    client.sendall(b"123456789\n")
    answer = rest(client)
    if direction == "up":
        assert answer == b""
        assert wait_until(lambda: server.left == ["closed"], WAIT_SECONDS)
        assert server.heard == b"123456789\n"[:at]
    else:
        assert answer == b"<123456789>"[:at]
        assert server.heard == b"123456789\n"


def test_a_reset_is_seen_as_one_on_both_sides(through: Through, server: Server) -> None:
    _, client = through(Fault("reset", "down", at_byte=3))
    client.sendall(b"hello\n")
    with pytest.raises(ConnectionResetError):
        rest(client)
    assert wait_until(lambda: server.left == ["reset"], WAIT_SECONDS)


def test_a_half_closed_way_up_still_answers(through: Through, server: Server) -> None:
    _, client = through(Fault("half_close", "up", at_byte=4))
    client.sendall(b"one\ntwo\n")
    assert rest(client) == b"<one>bye"
    assert server.heard == b"one\n"


def test_a_truncated_answer_leaves_the_client_waiting(through: Through, server: Server) -> None:
    _, client = through(Fault("truncate", "down", at_byte=2))
    client.sendall(b"one\n")
    assert read(client, 2) == b"<o"
    client.sendall(b"two\n")
    assert wait_until(lambda: server.heard == b"one\ntwo\n", WAIT_SECONDS)
    assert silent(client)


def test_a_delay_holds_one_answer_up_and_loses_nothing(through: Through) -> None:
    _, client = through(Fault("delay", "down", at_byte=1, seconds=0.3))
    started = time.monotonic()
    client.sendall(b"one\n")
    assert read(client, 5) == b"<one>"
    assert time.monotonic() - started >= 0.3


def test_sent_and_no_reply_yet(through: Through, server: Server) -> None:
    """The server has heard the text and what follows; its second answer never arrives."""
    fault = Fault("cut", "down", after=b"INSERT INTO alerts", answers=2)
    _, client = through(fault)
    client.sendall(b"SELECT 1\n")
    assert read(client, 10) == b"<SELECT 1>"
    client.sendall(b"INSERT IN")
    assert wait_until(lambda: server.heard.endswith(b"INSERT IN"), WAIT_SECONDS)
    client.sendall(b"TO alerts\n")
    assert read(client, 20) == b"<INSERT INTO alerts>"
    client.sendall(b"rows\n")
    assert rest(client) == b""
    assert server.heard.endswith(b"rows\n")
    assert fault.happened == 1


def test_before_the_rows_are_sent(through: Through, server: Server) -> None:
    _, client = through(Fault("cut", "up", after=b"INSERT"))
    client.sendall(b"INSERT\n")
    assert read(client, 8) == b"<INSERT>"
    client.sendall(b"rows\n")
    assert rest(client) == b""
    assert server.heard == b"INSERT\n"


def test_a_fault_happens_as_often_as_it_says(server: Server) -> None:
    fault = Fault("cut", "down", after=b"INSERT", times=2)
    with Proxy(server.address, [fault]) as proxy:
        answers = []
        for _ in range(3):
            with socket.create_connection((proxy.host, proxy.port), timeout=WAIT_SECONDS) as client:
                client.sendall(b"INSERT\n")
                client.shutdown(socket.SHUT_WR)
                answers.append(rest(client))
    assert answers == [b"", b"", b"<INSERT>bye"]
    assert fault.happened == 2


def test_a_healed_wire_spoils_nothing_more(through: Through) -> None:
    done = Fault("delay", "down", at_byte=0)
    proxy, client = through(done, Fault("cut", "down", after=b"INSERT"))
    client.sendall(b"one\n")
    assert read(client, 5) == b"<one>"
    assert done.happened == 1
    assert proxy.heal() == 1
    client.sendall(b"INSERT\n")
    assert read(client, 8) == b"<INSERT>"


def test_connections_can_be_cut_and_refused_from_outside(through: Through) -> None:
    proxy, client = through()
    client.sendall(b"one\n")
    assert read(client, 5) == b"<one>"
    proxy.refuse(True)
    assert proxy.cut() == 1
    assert rest(client) == b""
    with socket.create_connection((proxy.host, proxy.port), timeout=WAIT_SECONDS) as other:
        assert rest(other) == b""
    proxy.refuse(False)
    with socket.create_connection((proxy.host, proxy.port), timeout=WAIT_SECONDS) as other:
        other.sendall(b"two\n")
        assert read(other, 5) == b"<two>"


def test_a_fault_needs_a_moment() -> None:
    with pytest.raises(ValueError, match="at_byte or after"):
        Fault("cut")
    with pytest.raises(ValueError, match="at_byte or after"):
        Fault("cut", at_byte=1, after=b"x")
