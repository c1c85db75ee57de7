"""An S3 on this machine: moto's server, which takes real, signed HTTP requests.

It is a Flask application (with flask-cors). Its buckets are in this process, so they are still
there after the server was away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer

from models.artifact import artifacts_root
from models.places import Place, place
from streams.local.process import LOOPBACK, free_port

__all__ = ["CREDENTIALS", "S3", "serving", "shipped_files", "shipped_version"]

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "a-key-id",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-is-never-shown",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3:
    """A server that may go away and come back at the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server = self._new()

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{self.port}"}

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
        self._server = self._new()

    def bucket(self, name: str) -> Place:
        """A new, empty bucket, by this process's environment."""
        found = place(f"s3://{name}/models")
        found.filesystem.mkdir(name)  # type: ignore[attr-defined]
        return found

    @contextmanager
    def away(self) -> Iterator[None]:
        self.stop()
        yield
        self.start()

    def _new(self) -> ThreadedMotoServer:
        return ThreadedMotoServer(LOOPBACK, self.port, verbose=False)


@contextmanager
def serving() -> Iterator[S3]:
    """A server, and this process's environment leads to it."""
    server = S3()
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environ.items():
            patch.setenv(name, value)
        yield server
    server.stop()


def shipped_version() -> str:
    (version,) = (path.name for path in artifacts_root().iterdir() if path.is_dir())
    return version


def shipped_files() -> dict[str, bytes]:
    """The files of the artifact that ships, by name."""
    directory = artifacts_root() / shipped_version()
    return {file.name: file.read_bytes() for file in directory.iterdir()}
