"""Audiences in a test: changes on Kafka, a file of destinations, and `tideline deliver`."""

from __future__ import annotations

import os
import random
import signal
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas.messages import AudienceChange
from streams.kafka import clients
from streams.kafka.access import kafka_access
from streams.kafka.topics import create_missing
from streams.local.process import free_port
from streams.settings import Settings, as_environ, override
from tests.integration.forking import ForkedProcess

__all__ = ["SECRET", "Process", "Shop", "some_changes"]

SECRET = "the-secret-of-a-shop"


def some_changes(count: int, users: int, seed: int = 7) -> list[AudienceChange]:
    """Changes of `users` people, each entering and leaving by turns."""
    draw, numbers = random.Random(seed), dict[str, int]()
    found = []
    for _ in range(count):
        user = f"u{draw.randrange(users)}"
        number = numbers[user] = numbers.get(user, 0) + 1
        found.append(
            AudienceChange(
                f"{user}-{number}", "save_now", "leaving", user,
                "entered" if number % 2 else "left", number, "2026-11-30T12:00:00.000Z", "v1",
            )
        )  # fmt: skip
    return found


class Process:
    """`tideline deliver` as a process of its own."""

    def __init__(self, settings: Settings, directory: Path, secrets: dict[str, str]) -> None:
        self.port = free_port()
        environ = {**os.environ, **as_environ(settings), **secrets}
        environ["TIDELINE_WEB_METRICS_PORT"] = str(self.port)
        self.log_path = directory / "deliver.log"
        self._child = ForkedProcess("deliver", ["deliver"], self.log_path, environ)
        self._child.start()

    @property
    def pid(self) -> int:
        pid = self._child.pid
        assert pid is not None
        return pid

    def _ended(self, which: signal.Signals) -> int:
        popen: Any = self._child._popen
        popen.send_signal(which)
        status: int = popen.wait(60)
        return status

    def kill(self) -> None:
        self._ended(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._ended(signal.SIGTERM)

    @property
    def log(self) -> str:
        return self.log_path.read_text()


class Shop:
    """Topics of its own on a broker."""

    def __init__(self, settings: Settings, directory: Path, destinations: str) -> None:
        self.directory = directory
        file = directory / "destinations.toml"
        file.write_text(destinations)
        self.settings = override(
            settings,
            deliver_destinations_file=str(file),
            kafka_session_timeout_seconds=3.0,
        )
        create_missing(self.settings)
        self._producer = clients.producer(kafka_access(self.settings))
        self._names = self.settings.topic_names

    def send(self, changes: Sequence[AudienceChange | bytes]) -> None:
        """Append to the topic of audiences, each user's to one partition."""
        partitions = self.settings.kafka.partitions
        sent = []
        for each in changes:
            if isinstance(each, bytes):
                key, value = b"?", each
            else:
                key, value = each.user_id.encode(), msgspec.json.encode(each)
            sent.append(
                self._producer.send(
                    self._names.audiences, value, key=key, partition=zlib.crc32(key) % partitions
                )
            )
        for future in sent:
            future.get(60)

    def start(self, **secrets: str) -> Process:
        return Process(self.settings, self.directory, {"CRM_SECRET": SECRET, **secrets})

    def close(self) -> None:
        self._producer.close(timeout=10)
