"""Certificates for tests, made by the `openssl` command: an authority, and what it signs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Authority"]

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Authority:
    """A new certificate authority in `directory`; `file` is its certificate (PEM)."""

    directory: Path

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        _openssl(
            "req", "-x509", *_KEY, "-subj", f"/CN={self.directory.name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", str(self.directory / "ca.key"), "-out", str(self.file),
        )  # fmt: skip

    @property
    def file(self) -> Path:
        return self.directory / "ca.pem"

    def sign(self, name: str, hosts: str = "IP:127.0.0.1,DNS:localhost") -> Path:
        """A PEM file with a new private key and its certificate for `hosts`; the two are also in
        `<name>.key` and `<name>.crt`."""
        key, request, certificate = (self.directory / f"{name}.{e}" for e in ("key", "csr", "crt"))
        _openssl("req", "-new", *_KEY, "-subj", f"/CN={name}", "-keyout", str(key),
                 "-addext", f"subjectAltName={hosts}", "-out", str(request))  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-days", "2", "-copy_extensions", "copyall",
            "-CA", str(self.file), "-CAkey", str(self.directory / "ca.key"), "-CAcreateserial",
            "-out", str(certificate),
        )  # fmt: skip
        both = self.directory / f"{name}.pem"
        both.write_text(key.read_text() + certificate.read_text() + self.file.read_text())
        return both
