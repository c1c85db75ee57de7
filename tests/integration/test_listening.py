"""Processes listen on loopback, on the configured ports, and nowhere else."""

from __future__ import annotations

import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from streams.local.process import free_port, wait_until
from streams.settings import as_environ
from tests.integration.forking import ForkedProcess
from tests.integration.models import models
from tests.integration.world import STOP_SECONDS, WAIT_SECONDS, World

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="sockets are read from /proc"),
]

LISTEN = "0A"
STARTED = {
    "worker": "ready in",
    "learner": "Starting",
    "trainer": "trainer started",
    "lag": "monitor started",
}


def listening(pid: int) -> set[tuple[str, int]]:
    """(address, port) of every TCP socket on which a process listens."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(file)
        except OSError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTEN and rest[5] in inodes:
                address, port = local.split(":")
                found.add((_address(address), int(port, 16)))
    return found


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, words)


def test_the_reading_of_proc_is_right() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ("127.0.0.1", server.getsockname()[1]) in listening(os.getpid())


@pytest.mark.parametrize(
    "command", [("worker",), ("learner",), ("trainer",), ("lag", "--serve")], ids=" ".join
)
def test_a_process_listens_on_the_configured_address_or_on_loopback(
    command: tuple[str, ...], world: Callable[..., World], tmp_path: Path
) -> None:
    here = world()
    metrics, web = free_port(), free_port()
    faust = command[0] in {"worker", "learner"}
    for changes, expected in (
        ({}, set()),
        ({"WEB_METRICS_PORT": metrics, "WEB_PORT": web}, {("127.0.0.1", metrics)}),
        ({"WEB_METRICS_PORT": metrics, "WEB_METRICS_HOST": "127.0.0.9"}, {("127.0.0.9", metrics)}),
    ):
        wanted = expected | ({("127.0.0.1", web)} if faust and "WEB_PORT" in changes else set())
        environ = as_environ(here.settings) | {
            f"TIDELINE_{name}": str(value) for name, value in changes.items()
        }
        if command[0] == "trainer":
            environ["TIDELINE_MODEL_ARTIFACT"] = str(models(here))
        log = tmp_path / f"{len(changes)}.log"
        child = ForkedProcess(command[0], command, log, environ)
        child.start()
        try:
            pid = child.pid
            assert pid is not None
            if wanted:
                if not wait_until(partial(_all_listen, pid, wanted), WAIT_SECONDS, 0.2):
                    pytest.fail(f"{listening(pid)} {log.read_text()[-2000:]}")
            else:
                assert wait_until(partial(_logged, log, STARTED[command[0]]), WAIT_SECONDS, 0.2)
            assert listening(pid) == wanted
            if faust and "WEB_PORT" in changes:
                _no_tables(web)
        finally:
            child.stop(STOP_SECONDS)


def _all_listen(pid: int, wanted: set[tuple[str, int]]) -> bool:
    return listening(pid) >= wanted


def _logged(log: Path, words: str) -> bool:
    return words in log.read_text()


def _no_tables(port: int) -> None:
    """Faust's pages that would show data are not served."""
    for page in ("table", "table/", "tables", "table/x/y"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10)
        assert refused.value.code == 404, page
        refused.value.close()
