"""Every environment variable that code, pages or configuration name is one that Tideline reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from streams.settings import Settings, describe, secret_files
from streams.settings.reader import CACHE_ENV, CONFIG_ENV, TEST_PREFIX

ROOT = Path(__file__).parents[2]
COMPOSE_ONLY = "TIDELINE_IMAGE_TAG"  # Compose reads it, no process does
KNOWN = {row.env for row in describe(Settings())} | {*secret_files(), CONFIG_ENV, CACHE_ENV}
SUFFIXES = {".py", ".md", ".yml", ".toml", ".sql", ""}


def files() -> Iterator[Path]:
    """All but the tests, which name wrong variables on purpose."""
    yield from (f for f in ROOT.glob("*") if f.suffix in SUFFIXES and f.is_file())
    for folder in ("schemas", "models", "streams", "deploy", "docs", ".ci"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in SUFFIXES and file.is_file() and "__pycache__" not in file.parts:
                yield file


def test_every_variable_that_is_named_is_read() -> None:
    named = {
        (name, str(file.relative_to(ROOT)))
        for file in files()
        for name in re.findall(r"\bTIDELINE_[A-Z_]*[A-Z]\b", file.read_text(encoding="utf-8"))
    }
    assert {"docker-compose.yml", "deploy/Dockerfile", "README.md", "SECURITY.md"} <= {
        where for _, where in named
    }
    wrong = {
        (name, where)
        for name, where in named
        if name not in KNOWN | {COMPOSE_ONLY} and not name.startswith(TEST_PREFIX)
    }
    assert not wrong
