"""Two real ClickHouse servers with replicated tables, and the ZooKeeper where they meet.

The servers are Debian's, of 2018 (18.16), with our statements lowered to what they know; the newer
ones keep ON CLUSTER and the replicated engines as they were. ZooKeeper comes by Maven, as Apache
Kafka does.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Final, Self

from streams.local import kafka
from streams.local.process import ChildProcess, free_port
from streams.local.server import LocalServer
from tests.faults import old_clickhouse
from tests.faults.old_clickhouse import OldClickHouse

__all__ = ["CLUSTER", "ReplicatedClickHouse", "missing"]

CLUSTER: Final = "shop"
_POM: Final = Path(__file__).with_name("zookeeper-pom.xml")
_TOGETHER: Final = """\
  <interserver_http_host>{host}</interserver_http_host>
  <interserver_http_port>{interserver_port}</interserver_http_port>
  <zookeeper><node><host>{host}</host><port>{keeper_port}</port></node></zookeeper>
  <remote_servers><{cluster}><shard>
    <internal_replication>true</internal_replication>{replicas}
  </shard></{cluster}></remote_servers>
  <macros><shard>1</shard><replica>{name}</replica></macros>
  <distributed_ddl><path>/clickhouse/task_queue/ddl</path></distributed_ddl>
</yandex>
"""


def missing() -> str | None:
    """Why they can't run here, in words for a skipped test; None if they can."""
    return old_clickhouse.missing() or kafka.available()


def _jars() -> Path:
    """ZooKeeper's, from the cache, which the first call fills."""
    home = kafka.cache_dir() / "zookeeper"
    if not home.is_dir():
        done = subprocess.run(
            ["mvn", "--quiet", "--batch-mode", f"--file={_POM}", "dependency:copy-dependencies",
             "-DincludeScope=runtime", f"-DoutputDirectory={home}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return home


class _ZooKeeper(LocalServer):
    name: ClassVar[str] = "ZooKeeper"
    ready_seconds: ClassVar[float] = 60.0

    def _program(self, directory: Path) -> ChildProcess:
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "zoo.cfg"
        config.write_text(
            f"tickTime=500\ndataDir={directory / 'data'}\nclientPortAddress={self.host}\n"
            f"clientPort={self.port}\nadmin.enableServer=false\n"
        )
        return ChildProcess(
            self.name,
            ["java", "-Xmx128m", "-cp", f"{_jars()}/*",
             "org.apache.zookeeper.server.ZooKeeperServerMain", str(config)],
            directory / "zookeeper.log",
        )  # fmt: skip

    def _answers(self) -> bool:
        """It takes connections before it serves them, and such a one crashes these servers."""
        with socket.create_connection((self.host, self.port), timeout=2.0) as link:
            link.sendall(b"srvr")
            return link.makefile("rb").read().startswith(b"Zookeeper version")


class _Replica(OldClickHouse):
    """One of the servers."""

    def __init__(self, directory: Path, number: int) -> None:
        super().__init__(directory)
        self.port = free_port()
        self._number = number
        self._interserver_port = free_port()
        self.keeper_port = 0
        self.together: Sequence[_Replica] = ()

    def _program(self, directory: Path) -> ChildProcess:
        program = super()._program(directory)
        replicas = "".join(
            f"<replica><host>{each.host}</host><port>{each.port}</port></replica>"
            for each in self.together
        )
        more = _TOGETHER.format(
            host=self.host, interserver_port=self._interserver_port, replicas=replicas,
            keeper_port=self.keeper_port, cluster=CLUSTER, name=f"replica-{self._number}",
        )  # fmt: skip
        config = directory / "config.xml"
        config.write_text(config.read_text().replace("</yandex>\n", more))
        return program


class ReplicatedClickHouse:
    """Both servers, one shard, the cluster `CLUSTER`."""

    def __init__(self, directory: Path) -> None:
        self._keeper = _ZooKeeper(directory / "zookeeper")
        self.servers = [_Replica(directory / f"server-{number}", number) for number in (1, 2)]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._keeper)
        for server in self.servers:
            server.keeper_port, server.together = self._keeper.port, self.servers
            self._stack.enter_context(server)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
