"""The pre-commit hooks call the tools of `make check`, and fetch nothing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
REPOS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
ENTRIES = [shlex.split(hook["entry"]) for repo in REPOS for hook in repo["hooks"]]


def test_every_hook_is_local_and_needs_no_environment() -> None:
    assert {repo["repo"] for repo in REPOS} == {"local"}
    assert {hook["language"] for repo in REPOS for hook in repo["hooks"]} == {"system"}


def test_the_hooks_check_with_the_commands_of_make_check() -> None:
    makefile = (ROOT / "Makefile").read_text()
    check = re.search(r"^check:.*?\n\n", makefile, re.DOTALL | re.MULTILINE)
    assert check
    called = {
        tuple(words.split()) for words in re.findall(r"\$\(BIN\)/((?:ruff|mypy)[^|]*)", check[0])
    }
    tools = [entry for entry in ENTRIES if entry[0].startswith(".venv/bin/")]
    hooks = {(Path(e[0]).name, *(w for w in e[1:] if w != "--force-exclude")) for e in tools}
    assert hooks == {tuple(word for word in words if word not in (".", "\\")) for words in called}


def test_a_hook_s_tool_is_one_that_the_lock_pins() -> None:
    pinned = set(re.findall(r"^([a-z]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {Path(entry[0]).name for entry in ENTRIES} <= pinned | {"git"}
