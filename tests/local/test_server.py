"""A local server starts, answers, fails and stops the same way, whatever its program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from schemas.errors import LocalStackError
from streams.local.process import ChildProcess
from streams.local.server import LocalServer

ANSWERS = (
    "import pathlib, socket, sys\n"
    "port, directory = int(sys.argv[1]), pathlib.Path(sys.argv[2])\n"
    "(directory / 'starts').open('a').write('x')\n"
    "listener = socket.create_server(('127.0.0.1', port))\n"
    "while True: listener.accept()[0].close()\n"
)
FAILS = "raise SystemExit('no such disk')"


class Server(LocalServer):
    name = "small server"
    ready_seconds = 20.0

    def __init__(self, directory: Path | None = None, code: str = ANSWERS) -> None:
        super().__init__(directory)
        self.code = code
        self.data = Path()

    def _program(self, directory: Path) -> ChildProcess:
        self.data = directory
        directory.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-c", self.code, str(self.port), str(directory)]
        return ChildProcess(self.name, argv, directory / "log")


def test_a_server_answers_after_its_start_and_keeps_its_port() -> None:
    with Server() as server:
        port, pid = server.port, server.pid
        assert server.bootstrap == f"127.0.0.1:{port}"
        assert server.process is not None
        assert server.process.running
        server.stop()
        server.start()
        assert server.port == port
        assert server.pid != pid
    assert server.pid is None


def test_a_server_that_runs_is_not_started_a_second_time(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        pid = server.pid
        with pytest.raises(LocalStackError, match="small server is already started; stop it"):
            server.start()
        assert server.pid == pid


def test_a_failed_start_leaves_nothing_and_can_be_repeated() -> None:
    server = Server(code=FAILS)
    with pytest.raises(LocalStackError, match=r"(?s)small server exited with status 1.*such disk"):
        server.start()
    assert server.process is None
    assert not server.data.exists()
    server.code = ANSWERS
    server.start()
    server.stop()
    server.stop()


def test_what_is_on_disk_survives_a_crash_and_goes_with_a_temporary_directory() -> None:
    server = Server().start()
    server.kill()
    assert server.pid is None
    server.start()
    assert (server.data / "starts").read_text() == "xx"
    server.stop()
    assert not server.data.exists()


def test_a_directory_that_was_given_is_kept(tmp_path: Path) -> None:
    with Server(tmp_path):
        pass
    assert (tmp_path / "starts").exists()
