"""One Apache Kafka for all processes of `pytest -n`, and names on it that no other process has.

A broker of its own for each process takes processor time even while nobody uses it: 2 s to start,
2 s to warm up and 1.7 s in every 100. The process that hands the tests out has the one broker, from
the first test that asks until all of them have ended: every other process may end before tests of
another one do. `make faults` measures how long recoveries take, undisturbed: there each process has
a broker of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import LocalStackError
from streams.local.kafka import ApacheKafka
from streams.local.process import LOOPBACK

__all__ = ["BrokerLender", "borrowed", "numbers"]

_START_SECONDS = 300.0
"""For an answer of the lender: its broker's start, and what has to be downloaded once."""
_MOST = 1_000_000  # numbers of a process


def numbers() -> Iterator[int]:
    """1, 2, 3 ..., or where several processes share a broker, numbers of this process alone."""
    process = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return itertools.count(1 + _MOST * int(process.removeprefix("gw")))


class BrokerLender:
    """Starts a broker when the first process asks for it, and tells each its port."""

    def __init__(self, directory: Path) -> None:
        """`directory`: of the broker's data and log."""
        self._broker = ApacheKafka(directory)
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._lend, name="broker-lender", daemon=True)
        self._thread.start()

    def _lend(self) -> None:
        answer: dict[str, object] = {}
        while True:
            try:
                asking, _ = self._listener.accept()
            except OSError:  # `stop`
                return
            with asking, contextlib.suppress(OSError):  # it may have ended meanwhile
                answer = answer or self._start()
                asking.sendall(json.dumps(answer).encode())

    def _start(self) -> dict[str, object]:
        try:
            return {"port": self._broker.start().port}
        except LocalStackError as error:
            return {"error": str(error)}

    def stop(self) -> None:
        """Stop the broker, if there is one."""
        self._listener.shutdown(socket.SHUT_RDWR)  # `close` alone would leave `accept` waiting
        self._thread.join()
        self._listener.close()
        self._broker.stop()


def borrowed(lender_port: int, directory: Path) -> ApacheKafka:
    """The lender's broker: where it is. Who borrows it does not stop it. `directory` stays empty.

    Raises LocalStackError if it could not be started, OSError if the lender is gone.
    """
    with socket.create_connection((LOOPBACK, lender_port), timeout=_START_SECONDS) as asked:
        answer = json.loads(asked.makefile("rb").read())
    if "error" in answer:
        raise LocalStackError(answer["error"])
    return ApacheKafka(directory, answer["port"])
