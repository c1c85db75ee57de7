"""`make audit`: what is locked is exact, hashed, from no odd place, and as it was installed.

Offline it checks that
 1. every pin names one version and has sha256 hashes, and no lock names a URL, path or index;
 2. each image's lock is a part of requirements.lock;
 3. every installed package is the locked version, and its files are those it was installed with.

Known vulnerabilities need a list of them. `make audit ARGS="--known all.zip"` takes the export of
the OSV database for PyPI (one JSON document per advisory, in a ZIP file or a directory), so that
it works where nothing can be looked up; without it the audit says that it did not look.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

__all__ = ["advisories", "known_problems", "lock_problems", "main", "pins"]

ROOT = Path(__file__).parents[1]
LOCKS = tuple(
    ROOT / name
    for name in (
        "requirements.lock",
        "deploy/requirements.lock",
        "deploy/objects.lock",
        "deploy/trainer.lock",
        "deploy/console.lock",
    )
)
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*\\?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64} ?\\?")


def _entries(text: str) -> list[list[str]]:
    """The lock's requirements, each with its continuation lines."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and found:
            found[-1].append(line.strip())
        else:
            found.append([line.strip()])
    return found


def pins(text: str) -> set[tuple[str, str, str]]:
    """(name, version, marker) of every pin in a lock."""
    found: set[tuple[str, str, str]] = set()
    for head, *_ in _entries(text):
        match = _PIN.fullmatch(head)
        if match:
            found.add((canonicalize_name(match[1]), match[2], match[3] or ""))
    return found


def lock_problems(text: str) -> Iterator[str]:
    """What is wrong with the form of a lock."""
    for head, *rest in _entries(text):
        if not _PIN.fullmatch(head):
            yield f"{head}: not NAME==VERSION"
        elif not rest:
            yield f"{head}: no hash"
        elif not all(_HASH.fullmatch(line) for line in rest):
            yield f"{head}: something else than sha256 hashes"


def installed_problems(locked: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Installed packages that are another version than locked, or whose files were changed."""
    owned: dict[Path, dict[str, str]] = {}  # file -> package -> digest; some share files
    for name, version, marker in sorted(locked):
        if marker and not Marker(marker).evaluate():
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not wanted here
        if Version(found.version) != Version(version):
            yield f"{name}: {found.version} is installed, {version} is locked"
        for file in found.files or ():
            path = Path(str(found.locate_file(file)))
            if file.hash is not None and file.hash.mode == "sha256" and path.is_file():
                owned.setdefault(path, {})[name] = file.hash.value
    for path, digests in owned.items():
        raw = hashlib.sha256(path.read_bytes()).digest()
        if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() not in digests.values():
            yield f"{', '.join(digests)}: {path.name} is not what was installed ({path})"


def advisories(source: Path) -> Iterator[dict[str, Any]]:
    """The OSV documents in a ZIP file or a directory."""
    if source.is_dir():
        for file in sorted(source.rglob("*.json")):
            yield json.loads(file.read_bytes())
        return
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield json.loads(archive.read(name))


def known_problems(
    locked: Iterable[tuple[str, str, str]], known: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Locked versions that an advisory names, by its list of versions or its ranges."""
    versions: dict[str, set[str]] = {}
    for name, version, _ in locked:
        versions.setdefault(str(name), set()).add(version)
    for advisory in known:
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            if package.get("ecosystem") != "PyPI":
                continue
            name = str(canonicalize_name(package.get("name", "")))
            for version in sorted(versions.get(name, ())):
                if _affects(affected, version):
                    summary = advisory.get("summary") or advisory.get("details", "")[:80]
                    yield f"{name} {version}: {advisory['id']}: {summary}"


def _affects(affected: Mapping[str, Any], version: str) -> bool:
    if version in affected.get("versions", ()):
        return True
    here = Version(version)
    for each in affected.get("ranges", ()):
        if each.get("type") != "ECOSYSTEM":
            continue
        inside = False
        for event in each.get("events", ()):  # in order of version, by OSV's rules
            try:
                if "introduced" in event:
                    start = event["introduced"]
                    inside = inside or start == "0" or here >= Version(start)
                elif "fixed" in event:
                    inside = inside and here < Version(event["fixed"])
                elif "last_affected" in event:
                    inside = inside and here <= Version(event["last_affected"])
            except InvalidVersion:
                continue
        if inside:
            return True
    return False


def main(arguments: list[str] | None = None) -> int:
    """Print what is wrong; 0 if nothing is."""
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__.split("\n")[0])
    parser.add_argument("--known", type=Path, help="OSV advisories: a ZIP file or a directory")
    options = parser.parse_args(arguments)
    texts = [lock.read_text() for lock in LOCKS]
    all_, *images = map(pins, texts)
    problems = [f"{lock.name}: {p}" for lock, text in zip(LOCKS, texts, strict=True)
                for p in lock_problems(text)]  # fmt: skip
    # Without their markers, which name the systems that somebody needs a package on.
    all_pins = {(name, v) for name, v, _ in all_}
    only = sorted({(name, v) for image in images for name, v, _ in image} - all_pins)
    problems += [f"{name}=={v}: only in an image's lock" for name, v in only]
    problems += installed_problems(all_)
    if options.known:
        problems += known_problems(all_, advisories(options.known))
    for problem in problems:
        print(problem)
    searched = (
        "looked for in the list given" if options.known else "not looked for (no --known list)"
    )
    print(f"{len(all_)} pins, {len(problems)} problems; known vulnerabilities were {searched}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
