"""Three Apache Kafka nodes on loopback, each broker and controller, of which one at a time may die.

As in production: every topic is on three brokers, two must have a record before it is acknowledged,
and no broker that lacks records may become a leader.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from streams.kafka.admin import connect
from streams.local import kafka
from streams.local.kafka import ApacheKafka
from streams.local.process import LOOPBACK, ChildProcess, free_port

__all__ = ["Cluster", "Node"]

_REPLICATED = """\
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
inter.broker.listener.name=PLAINTEXT
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
replica.lag.time.max.ms=3000
"""


class Node(ApacheKafka):
    """One of the three. It answers once it has joined the others."""

    def __init__(
        self, data_dir: Path, number: int, controllers: Sequence[int], cluster_id: str
    ) -> None:
        super().__init__(data_dir, free_port())
        self.number = number
        self._controllers, self._cluster_id = controllers, cluster_id

    def _program(self, directory: Path) -> ChildProcess:
        home = kafka._install()
        log_dir, config = directory / "log", directory / "server.properties"
        directory.mkdir(parents=True, exist_ok=True)
        config.write_text(self._properties(log_dir))
        if not log_dir.exists():
            kafka._run(
                ["java", *kafka._java_arguments(home), "kafka.tools.StorageTool", "format",
                 "--cluster-id", self._cluster_id, "--config", str(config)],
                "Kafka's StorageTool failed.",
            )  # fmt: skip
        return ChildProcess(
            f"Kafka node {self.number}",
            ["java", f"-XX:SharedArchiveFile={home / 'classes.jsa'}",
             *kafka._java_arguments(home), "kafka.Kafka", str(config)],
            directory / "kafka.log",
        )  # fmt: skip

    def _properties(self, log_dir: Path) -> str:
        single = kafka._settings(
            {"template": kafka._PLAIN_LISTENERS, "port": self.port},
            self._controllers[self.number - 1], log_dir, 3_000,
        )  # fmt: skip
        voters = ",".join(
            f"{number}@{LOOPBACK}:{port}" for number, port in enumerate(self._controllers, 1)
        )
        changed = {
            "node.id": str(self.number), "controller.quorum.voters": voters,
            **dict(line.split("=", 1) for line in _REPLICATED.splitlines()),
        }  # fmt: skip
        kept = [line for line in single.splitlines() if line.split("=")[0] not in changed]
        return "\n".join([*kept, *(f"{name}={value}" for name, value in changed.items())]) + "\n"


class Cluster:
    """The three nodes. A quorum needs two, so the second one's start waits for nobody else."""

    def __init__(self, directory: Path) -> None:
        controllers = [free_port() for _ in range(3)]
        cluster_id = kafka._cluster_id()
        self.nodes = [
            Node(directory / f"node-{number}", number, controllers, cluster_id)
            for number in (1, 2, 3)
        ]
        self._stack = ExitStack()

    @property
    def bootstrap(self) -> str:
        """All three, as clients take them."""
        return ",".join(node.bootstrap for node in self.nodes)

    def __enter__(self) -> Self:
        for node in self.nodes:  # none answers before there are two
            node._child = node._program(node.data_dir)
            node._child.start()
            self._stack.callback(node.stop)
        for node in self.nodes:
            assert node._child is not None
            node._child.wait_ready(node._answers, node.ready_seconds)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def lacking(self) -> list[str]:
        """Partitions that are not on all three brokers, as topic and number, and how many they are
        on: none once a node that came back has all that it missed."""
        with connect(tuple(self.bootstrap.split(","))) as admin:
            return [
                f"{topic['name']} {each['partition_index']}: {len(each['isr_nodes'])}"
                for topic in admin.describe_topics(admin.list_topics())
                for each in topic["partitions"]
                if len(each["isr_nodes"]) < len(self.nodes)
            ]
