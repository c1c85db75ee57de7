"""Fetches the console's packages again, from their registry: `python -m tests.console.vendored`.

Each is packed by npm under its exact version; some of its files are kept beside the manifest, with
its licence. Neither building nor running needs node.
`test_vendored_files_are_those_of_the_manifest` hashes them again.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["VENDOR", "main"]

VENDOR: Final = Path(__file__).parents[2] / "streams" / "console" / "static" / "vendor"


class Vendored(NamedTuple):
    """One package, and the files of it that are kept: name here -> path in the package."""

    name: str
    version: str
    licence: str
    files: dict[str, str]


WANTED: Final = (
    Vendored("htmx.org", "4.0.1", "0BSD", {"htmx.min.js": "package/dist/htmx.min.js"}),
    Vendored(
        "uplot", "1.6.32", "MIT",
        {"uPlot.iife.min.js": "package/dist/uPlot.iife.min.js",
         "uPlot.min.css": "package/dist/uPlot.min.css"},
    ),
)  # fmt: skip


def main() -> None:
    """Fetch all, write files, licences and the manifest."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    manifest = []
    for package in WANTED:
        with tempfile.TemporaryDirectory() as place:
            subprocess.run(
                ["npm", "pack", f"{package.name}@{package.version}", "--silent"],
                cwd=place, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            (archive,) = Path(place).glob("*.tgz")
            with tarfile.open(archive) as tar:
                licence = _read(tar, "package/LICENSE")
                contents = {name: _read(tar, path) for name, path in package.files.items()}
        licence_file = f"{package.name.partition('.')[0]}.LICENSE.txt"
        (VENDOR / licence_file).write_bytes(licence)
        for name, content in contents.items():
            (VENDOR / name).write_bytes(content)
        manifest.append(
            {"name": package.name, "version": package.version, "licence": package.licence,
             "licence_file": licence_file,
             "sha256": {name: _hash(content) for name, content in
                        {**contents, licence_file: licence}.items()}}
        )  # fmt: skip
    (VENDOR / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _read(tar: tarfile.TarFile, path: str) -> bytes:
    file = tar.extractfile(path)
    assert file is not None, path
    return file.read()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
