"""What is compiled ahead is all that a worker calls: a kernel that is compiled in the middle of a
stream takes seconds, in which its shard stands still."""

from __future__ import annotations

import json
import subprocess
import sys

# A process of its own: the kernels of this one have been called by other tests.
_PROGRAM = """
import json, sys
from streams.core.warm import compile_kernels

def compiled():
    return {
        f"{name} {signature}"
        for module in [m for n, m in sys.modules.items() if n.startswith("streams.kernels.")]
        for name, kernel in vars(module).items()
        for signature in getattr(kernel, "signatures", ())
    }

compile_kernels()
ahead = compiled()
from streams.core.partitioning import partitions_of_keys
from tests.core.state.test_layout import written
from tests.core.state.test_state import drive, fresh, reload

assert written()  # clicks, orders, returns, questions, alerts, parked users
driver, calls = fresh(), list(drive(7, 24, 40))
for i, arguments in enumerate(calls):
    if i == len(calls) // 2:
        driver.state = reload(driver.state)  # as after a restart
    driver.feed(**arguments)
partitions_of_keys([b"key"], "crc32", 3)  # a shard looks whether records are its own
print(json.dumps(sorted(compiled() - ahead)))
"""


def test_a_stream_with_a_restart_compiles_nothing_more() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
