"""An interrupt at any instruction of a child's start: it is told, and nobody waits for ever."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from streams.local.process import _Spawner

WAIT_SECONDS = 20


class Stop(BaseException):
    """As Ctrl-C is: not an Exception."""


def interrupted_at(spawner: _Spawner, line: int, begun: list[str]) -> str:
    """Run a child's start, with an interrupt at the so many-th traced event of the caller."""
    seen = [0]

    def spawn() -> subprocess.Popen[bytes]:
        begun.append("spawned")
        return subprocess.Popen([sys.executable, "-c", ""])

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if "process.py" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        seen[0] += 1
        if seen[0] == line:
            raise Stop
        return trace

    sys.settrace(trace)
    try:
        spawner.run(spawn).wait()
    except Stop:
        return "interrupted"
    finally:
        sys.settrace(None)
    return "started"


@pytest.mark.filterwarnings("ignore")
def test_an_interrupt_at_any_instruction_neither_hangs_nor_loses_a_child() -> None:
    spawner, outcomes = _Spawner(), []

    def every() -> None:
        for line in range(1, 2_000):
            begun: list[str] = []
            outcome = interrupted_at(spawner, line, begun)
            outcomes.append(outcome)
            if outcome == "started":
                return

    thread = threading.Thread(target=every, daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive(), f"it hangs after {len(outcomes)} interrupts"
    assert outcomes[-1] == "started"
    assert outcomes.count("interrupted") > 20
