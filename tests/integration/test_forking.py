"""A forked process is one that was started, for all that tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.local.process import wait_until
from tests.integration.forking import Forked, fork_server, run_forked

WAIT_SECONDS = 60.0
ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "out", tmp_path / "errors"


def start(files: tuple[Path, Path], *words: str, **env: str) -> Forked:
    out, errors = files
    with out.open("wb") as to, errors.open("wb") as also:
        return fork_server(os.getpid()).start(words, ENV | env, to, also)


def test_it_has_the_environment_the_output_and_the_status_of_a_command(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDELINE_KAFKA_PARTITIONS", "7")
    process = start(files, "settings", "--json", TIDELINE_KAFKA_APP_ID="mine")
    assert process.wait(WAIT_SECONDS) == 0, files[1].read_text()
    shown = {row["env"]: row["value"] for row in json.loads(files[0].read_text())}
    assert shown["TIDELINE_KAFKA_APP_ID"] == "mine"
    assert str(shown["TIDELINE_KAFKA_PARTITIONS"]) != "7", "ours, not its own"
    assert start(files, "no-such-command").wait(WAIT_SECONDS) == 2
    assert "no-such-command" in files[1].read_text()


def test_a_command_is_run_to_its_end_or_ended_by_its_timeout() -> None:
    done = run_forked(["settings", "--json"], ENV, WAIT_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)
    assert "no-such-command" in run_forked(["no-such-command"], ENV, WAIT_SECONDS).stderr
    with pytest.raises(subprocess.TimeoutExpired):
        run_forked(["lag", "--serve"], ENV | {"TIDELINE_KAFKA_BROKER_URL": "127.0.0.1:1"}, 0.0)


def test_it_is_our_child_in_a_group_of_its_own_and_can_be_killed(files: tuple[Path, Path]) -> None:
    process = start(files, "replay", "--help")
    assert process.wait(WAIT_SECONDS) == 0
    process.kill()  # its number may be another's by now
    assert process.returncode == 0
    process = start(files, "worker", TIDELINE_KAFKA_BROKER_URL="127.0.0.1:1")
    assert wait_until(lambda: parent_and_group(process.pid) == (os.getpid(), process.pid), 60)
    process = start(files, "worker", TIDELINE_KAFKA_BROKER_URL="127.0.0.1:1")
    process.send_signal(signal.SIGSTOP)
    process.kill()
    assert process.wait(WAIT_SECONDS) == -signal.SIGKILL


def parent_and_group(pid: int) -> tuple[int, int]:
    _, parent, group, *_ = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(parent), int(group)


def test_it_does_not_outlive_the_tests(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from tests.integration.forking import fork_server\n"
        "with open(sys.argv[1], 'wb') as log:\n"
        "    env = {'TIDELINE_KAFKA_BROKER_URL': '127.0.0.1:1'}\n"
        "    print(fork_server(os.getpid()).start(['lag', '--serve'], env, log, log).pid)\n"
        "sys.stdout.flush()\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        tests.kill()

    def gone() -> bool:
        """It may stay a zombie where nobody takes care of orphans."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    assert wait_until(gone, WAIT_SECONDS)
