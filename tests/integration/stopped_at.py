"""`tideline worker`, `learner` or `lag --serve`, with a SIGTERM at a named point of its code.

    python -m tests.integration.stopped_at streams.shard.engine:Engine.assigned 1 worker

The point is a function or method, as `module:name` where the code looks it up; the signal comes
right before its n-th call, and has been taken by the listening thread when the call begins.
"""

from __future__ import annotations

from streams import stopping

if __name__ == "__main__":
    stopping.hold()  # as the command does: first of all

import functools
import importlib
import os
import signal
import sys
import time
from typing import Any

from streams.__main__ import main


def send_and_wait() -> None:
    """Send ourselves SIGTERM; returns once the listening thread has taken it."""
    print("stopped here", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    while signal.SIGTERM in signal.sigpending():
        time.sleep(0.001)


def stop_before(point: str, nth: int) -> None:
    """Wrap the function at `point` so that its `nth` call is preceded by a stop request."""
    module, _, path = point.partition(":")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
    original, left = getattr(owner, name), nth

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            send_and_wait()
        return original(*args, **kwargs)

    setattr(owner, name, call)


if __name__ == "__main__":
    stop_before(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["tideline", *sys.argv[3:]]
    main()
