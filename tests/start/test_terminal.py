"""`tideline start` on a real terminal of 80 columns: what is typed, Ctrl-C, and the next start."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from streams.local.process import wait_until
from streams.settings import Settings
from streams.start.files import draft_of

pytestmark = pytest.mark.kafka

_ON_THE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    # A test run in the background ignores it, and a command that ran in this process may hold it.
    "signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT}); "
    "os.execv(sys.executable, [sys.executable, '-m', 'streams', *sys.argv[1:]])"
)
WAIT_SECONDS = 120.0


class Terminal:
    """A program on a terminal of 80 columns and 24 lines, which is its controlling one."""

    def __init__(self, *args: str) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _ON_THE_TERMINAL, *args],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.screen = ""

    def until(self, text: str) -> None:
        """Read until `text` has come, and forget what came before its end."""
        stop = time.monotonic() + WAIT_SECONDS
        while text not in self.screen:
            assert time.monotonic() < stop, self.screen
            if select.select([self._master], [], [], 1.0)[0]:
                self._read()

    def type(self, text: str) -> None:
        self.screen = ""
        os.write(self._master, text.encode())

    def interrupt(self) -> int:
        """Press Ctrl-C until it ends; returns its exit status.

        A signal between the print of a prompt and the wait for a key is seen at the next key only:
        CPython's readline does not look in between.
        """
        self.type("\x03")
        while not wait_until(lambda: self._popen.poll() is not None, 5.0):
            os.write(self._master, b"\x03")
        return self.ended()

    def ended(self) -> int:
        """Its exit status."""
        status = self._popen.wait(WAIT_SECONDS)
        while select.select([self._master], [], [], 0.1)[0] and self._read():
            pass
        os.close(self._master)
        return status

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the other side is closed
            return False
        self.screen += data.decode()
        return bool(data)


def start(target: Path) -> Terminal:
    return Terminal("start", "--config", str(target))


def test_ctrl_c_keeps_the_answers_and_the_next_start_goes_on(
    tmp_path: Path, settings: Settings
) -> None:
    target = tmp_path / "tideline.toml"
    first = start(target)
    first.until("Kafka brokers [127.0.0.1:9092]: ")
    assert first.interrupt() == 130
    assert "Stopped." in first.screen
    assert not draft_of(target).exists(), "nothing was answered"

    second = start(target)
    second.until("Kafka brokers")
    second.type(f"{settings.kafka.broker_url}\n")
    second.until("Topic of clickstream events")
    assert second.interrupt() == 130
    assert "Your answers are kept in" in second.screen

    third = start(target)
    third.until("Topic of clickstream events")
    assert "Kafka brokers" not in third.screen
    assert f"{settings.kafka.broker_url} answers" in third.screen
    third.type("\x04")
    assert third.ended() == 130


def test_nothing_is_wider_than_the_terminal_and_a_password_is_not_shown(
    tmp_path: Path, settings: Settings
) -> None:
    target = tmp_path / "tideline.toml"
    here = start(target)
    seen = ""
    for question, answer in (
        ("Kafka brokers", f"kafka\n{settings.kafka.broker_url}"),
        ("Topic of clickstream events", settings.kafka.clickstream_topic),
        ("Topic of orders", settings.kafka.orders_topic),
        ("Partitions of each topic", "2"),
        ("Partitioner of the producers", ""),
        ("ClickHouse host", "127.0.0.1"),
        ("Port of its native protocol", "1"),
        ("ClickHouse user", ""),
        ("Its password", "sesame-typed"),
        ("Database for Tideline's tables", ""),
    ):
        here.until(question)
        here.until(": ")
        seen += here.screen
        here.type(f"{answer}\n")
    here.until("fail")
    here.until("ClickHouse host")
    assert here.interrupt() == 130
    seen += here.screen
    assert "sesame" not in seen + draft_of(target).read_text()
    # a prompt may be, with what is typed; nor can a path be broken
    said = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in seen.replace("\r", "").split("\n")]
    wide = [line for line in said if len(line) > 80 and "]: " not in line and "/" not in line]
    assert wide == []
