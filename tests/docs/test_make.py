"""`make` explains itself: every command is listed, and a Python that is too old is reported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Makefile").read_text()

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_alone_lists_every_command() -> None:
    shown = make()
    assert shown.returncode == 0
    assert shown.stderr == ""
    (phony,) = re.findall(r"^\.PHONY: (.+)$", TEXT, re.MULTILINE)
    listed = re.findall(r"^  ([a-z-]+)  +\S", shown.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())


def test_an_old_python_is_told_and_nothing_is_on_stdout(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    answer = make("demo", f"PYTHON={old}", directory=tmp_path)
    assert answer.returncode != 0
    assert answer.stdout == ""
    assert "needs Python 3.11 or newer" in answer.stderr
    assert "Python 3.9.2" in answer.stderr
    assert not (tmp_path / ".venv").exists()


def test_demo_passes_broker_and_arguments_and_adds_nothing_to_stdout(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    program = tmp_path / ".venv" / "bin" / "tideline"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    answer = make("demo", "BROKER=kafka", "ARGS=--until-done --json", directory=tmp_path)
    assert answer.stdout == "demo --broker kafka --until-done --json\n"
