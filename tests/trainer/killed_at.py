"""`tideline trainer`, with a SIGKILL at a named point of its code.

    python -m tests.trainer.killed_at models.places:LocalPlace.put 1 trainer --once

The signal comes right before the n-th call of the point, as in `tests.integration.stopped_at`.
"""

from __future__ import annotations

import os
import signal
import sys

from streams.__main__ import main
from tests.integration import stopped_at


def end() -> None:
    """As a machine that loses its power would, but for what the system still writes."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    stopped_at.send_and_wait = end
    stopped_at.stop_before(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["tideline", *sys.argv[3:]]
    main()
