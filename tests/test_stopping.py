"""The hand-over of stop requests: what a request does before it, after it, and twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streams.stopping import SIGNALS, StopRequests


class Process:
    """What happened to the process that `requests` belongs to."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.requests = StopRequests(leave=lambda status: self.events.append(f"left with {status}"))

    def stop(self) -> None:
        self.events.append("stopping")


@pytest.fixture
def process() -> Process:
    return Process()


def test_a_request_before_the_hand_over_ends_the_process(process: Process) -> None:
    process.requests.receive("SIGTERM")
    assert process.events == ["left with 0"]


def test_a_request_after_the_hand_over_stops_it_in_order(process: Process) -> None:
    process.requests.hand_over(process.stop)
    process.requests.receive("SIGINT")
    assert process.events == ["stopping"]


def test_only_the_first_request_stops(process: Process) -> None:
    process.requests.hand_over(process.stop)
    for name in ("SIGTERM", "SIGTERM", "SIGINT"):
        process.requests.receive(name)
    assert process.events == ["stopping"]


def test_a_hand_over_waits_while_a_request_ends_the_process() -> None:
    """Or something could begin between the decision to end the process and its end."""
    alive: list[bool] = []

    def leave(_: int) -> None:
        handing_over.start()
        handing_over.join(0.5)
        alive.append(handing_over.is_alive())

    requests = StopRequests(leave)
    handing_over = threading.Thread(target=requests.hand_over, args=(lambda: None,))
    requests.receive("SIGTERM")
    handing_over.join(60)
    assert alive == [True]
    assert not handing_over.is_alive()


HOLD = (
    "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from streams import stopping; stopping.hold(); "
)
ME = "os.kill(os.getpid(), signal.{}); "


@pytest.mark.parametrize("number", sorted(SIGNALS))
@pytest.mark.parametrize(
    ("program", "status", "printed"),
    [
        # while held, the process goes on; then the request that waited ends it
        (
            HOLD + ME + "print(1, flush=True); stopping.StopRequests.listen(); signal.pause()",
            0,
            "1",
        ),
        (HOLD + "stopping.StopRequests.listen(); " + ME + "signal.pause()", 0, ""),
        # after the hand-over it stops, in the listening thread, and Python's own end is covered
        (
            HOLD + "import threading; e = threading.Event(); stopping.StopRequests.listen()"
            ".hand_over(e.set); " + ME + "e.wait(); print(2); " + ME + "raise SystemExit(3)",
            3,
            "2",
        ),
        # a command that ends by itself is ended by the signal
        (HOLD + ME + "print(4, flush=True); stopping.release(); signal.pause()", None, "4"),
    ],
    ids=["held", "listening", "handed over", "released"],
)
def test_a_real_signal(program: str, status: int | None, printed: str, number: int) -> None:
    name = signal.Signals(number).name
    done = subprocess.run(
        [sys.executable, "-c", program.format(name, name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (-number if status is None else status), done.stderr
    assert done.stdout.strip() == printed
    if status is not None:
        assert done.stderr == ""


def test_what_was_not_held_is_not_released() -> None:
    """A program that uses our commands keeps the signals that it has blocked itself."""
    program = (
        "import signal; from streams import stopping; "
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}); stopping.release(); "
        "stopping.hold(); stopping.hold(); stopping.release(); "
        "print(*signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == str(int(signal.SIGINT))


def test_holding_imports_nothing_slow() -> None:
    program = (
        "import sys; sys.path.insert(0, '.'); before = set(sys.modules); "
        "from streams import stopping; stopping.hold(); print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True, text=True, timeout=60, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    new = {name.split(".")[0] for name in done.stdout.split()}
    assert not new & {"click", "logging", "threading", "msgspec", "numpy", "faust"}, new
