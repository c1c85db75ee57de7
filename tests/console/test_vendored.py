"""What is vendored is what its packages have, and nothing else is served from there."""

from __future__ import annotations

import hashlib
import json

from tests.console.vendored import VENDOR, WANTED


def test_vendored_files_are_those_of_the_manifest() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    hashes = {name: digest for package in manifest for name, digest in package["sha256"].items()}
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in VENDOR.iterdir()
        if file.name != "manifest.json"
    }
    assert found == hashes


def test_the_manifest_names_exact_versions_and_licences() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    assert [(each["name"], each["version"], each["licence"]) for each in manifest] == [
        (each.name, each.version, each.licence) for each in WANTED
    ]
    for each in manifest:
        assert (VENDOR / each["licence_file"]).read_text().strip()
