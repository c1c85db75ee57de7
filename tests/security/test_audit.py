"""`make audit` finds what it says it looks for."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.audit import LOCKS, advisories, known_problems, lock_problems, main, pins

GOOD = f"one==1.2 ; python_version < '4' \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"  # noqa: E501


def test_the_locks_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "0 problems; known vulnerabilities were not looked for" in capsys.readouterr().out
    assert all(len(pins(lock.read_text())) > 30 for lock in LOCKS)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("one>=1.2 --hash=sha256:" + "a" * 64, "not NAME==VERSION"),
        ("one @ https://example.org/one.whl", "not NAME==VERSION"),
        ("--index-url https://example.org", "not NAME==VERSION"),
        ("-e .", "not NAME==VERSION"),
        ("one==1.2", "no hash"),
        ("one==1.2 \\\n    --hash=md5:" + "a" * 32, "something else"),
    ],
)
def test_a_loose_pin_is_reported(line: str, problem: str) -> None:
    assert list(lock_problems(GOOD)) == []
    (message,) = lock_problems(f"{GOOD}{line}\n")
    assert problem in message


def osv(events: list[dict[str, str]], versions: list[str] | None = None) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": "One"}
    ranges = [{"type": "ECOSYSTEM", "events": events}]
    affected = {"package": package, "ranges": ranges, "versions": versions or []}
    return {"id": "PYSEC-1", "summary": "bad", "affected": [affected]}


@pytest.mark.parametrize(
    ("advisory", "hit"),
    [
        (osv([{"introduced": "0"}]), True),
        (osv([{"introduced": "0"}, {"fixed": "1.2"}]), False),
        (osv([{"introduced": "1.0"}, {"fixed": "1.2.1"}]), True),
        (osv([{"introduced": "1.3"}]), False),
        (osv([{"introduced": "0"}, {"last_affected": "1.2"}]), True),
        (osv([{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.1"}]), True),
        (osv([{"introduced": "2"}], ["1.2"]), True),
        (osv([{"introduced": "0"}]) | {"withdrawn": "2026-01-01T00:00:00Z"}, False),
    ],
)
def test_an_advisory_hits_what_it_affects(
    advisory: dict[str, Any], hit: bool, tmp_path: Path
) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("PYSEC-1.json", json.dumps(advisory))
    found = list(known_problems(pins(GOOD), advisories(archive)))
    assert found == (["one 1.2: PYSEC-1: bad"] if hit else [])
