"""A separate environment for each peer, with pinned versions, made on first use.

They live under the cache directory (`$TIDELINE_CACHE`, else `~/.cache/tideline`), named by what is
pinned, so that a changed pin makes a new one. A peer that can't be installed is left out, with a
message.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from schemas.errors import LocalStackError
from streams.local.kafka import cache_dir

__all__ = ["PEERS", "python_of", "ready"]

PEERS: Final = Path(__file__).parent / "peers"
_READY: Final = ".ready"
_INSTALL_SECONDS: Final = 600


def _directory(name: str) -> Path:
    pins = (PEERS / f"{name}.txt").read_bytes()
    python = f"{sys.version_info.major}.{sys.version_info.minor}".encode()
    key = hashlib.sha256(pins + python).hexdigest()[:12]
    return cache_dir() / "bench" / f"{name}-{key}"


def ready(name: str) -> bool:
    """Whether the environment of `peers/<name>.txt` is there already."""
    return (_directory(name) / _READY).exists()


def python_of(name: str, tell: Callable[[str], None] = lambda _: None) -> Path:
    """The Python of that environment, installed now if need be; `tell` hears of that.

    Raises LocalStackError that says what pip said, and what to do.
    """
    directory = _directory(name)
    python = directory / "bin" / "python"
    if ready(name):
        return python
    tell(f"installing {name} (once) ...")
    shutil.rmtree(directory, ignore_errors=True)  # of an installation that was interrupted
    directory.parent.mkdir(parents=True, exist_ok=True)
    pins = PEERS / f"{name}.txt"
    try:
        for argv in (
            # this environment's pip: to copy one into each takes 3.5 s
            [sys.executable, "-m", "venv", "--without-pip", str(directory)],
            [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet",
             "--no-deps", "--requirement", str(pins)],
        ):  # fmt: skip
            subprocess.run(
                argv, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS
            )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip().splitlines()[-3:]
        raise LocalStackError(
            f"{name} can't be installed for the benchmark: {' '.join(said)} "
            f"Check the network and the pins in {pins}, or leave it out: --without {name}."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LocalStackError(
            f"{name} is not installed after {_INSTALL_SECONDS} s. Check the network, or leave it "
            f"out: --without {name}."
        ) from error
    (directory / _READY).touch()
    return python
