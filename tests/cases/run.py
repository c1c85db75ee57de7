"""Runs cases through the real commands, in a folder of their own, and says what came of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from streams.cli import tideline

__all__ = ["Case", "Done", "Outcome", "left_out", "net", "run_case", "said"]


@dataclass(frozen=True)
class Outcome:
    """What one command left."""

    exit_code: int
    stdout: str
    stderr: str
    folder: Path

    @property
    def json(self) -> Any:
        """Its `--json`."""
        return json.loads(self.stdout)

    @property
    def history(self) -> dict[str, Any]:
        """How the file was read, by whichever command."""
        found = self.json
        return dict(
            found.get("source") or found.get("history") or found.get("about", {}).get("history")
        )


@dataclass(frozen=True)
class Case:
    """Inputs, the commands on them, and the right answer in words.

    The inputs are in a folder of the cases' directory, named as the case, whose `prepare` scripts
    make the rest (`"make.py > orders.csv"`); or `build` writes them.
    """

    name: str
    commands: Sequence[Sequence[str]]
    expected: str
    got: Callable[[list[Outcome]], str]
    prepare: Sequence[str] = ()
    build: Callable[[Path], object] | None = None


@dataclass(frozen=True)
class Done:
    """A case that ran."""

    case: Case
    got: str

    @property
    def right(self) -> bool:
        return self.got == self.case.expected


def net(outcomes: list[Outcome]) -> str:
    """Orders, users, what came back and what is left, of each command."""
    lines = []
    for outcome in outcomes:
        if outcome.exit_code:
            lines.append(said([outcome]))
            continue
        read = outcome.history
        back = sum(read["returned"].values())
        lines.append(
            f"{read['orders']:,} orders of {read['users']:,}, "
            f"net {sum(read['revenue'].values()):,.2f}"
            + (f" ({back:,.2f} came back)" if back else "")
        )
    return "; ".join(lines)


def left_out(outcomes: list[Outcome]) -> str:
    """The rows left out by each command, by reason."""
    return "; ".join(
        ", ".join(
            f"{f['rows']:,} {f['reason'].split(' (today')[0]}" for f in outcome.history["left_out"]
        )
        or "none"
        for outcome in outcomes
    )


def said(outcomes: list[Outcome]) -> str:
    """The exit status and message of each command that failed; `done` of one that did not."""
    return "; ".join(
        " ".join(o.stderr.split()) + f" [{o.exit_code}]" if o.exit_code else "done"
        for o in outcomes
    )


def run_case(case: Case, folder: Path, cases: Path | None = None) -> Done:
    """Run a case in `folder`, which is empty; its inputs come from `cases`, or are built."""
    if case.build is not None:
        case.build(folder)
    else:
        assert cases is not None
        for file in (cases / case.name).iterdir():
            shutil.copy(file, folder)
    for line in case.prepare:
        script, _, into = (part.strip() for part in line.partition(">"))
        made = subprocess.run(
            [sys.executable, script], cwd=folder, capture_output=True, text=True, check=True
        )
        if into:
            (folder / into).write_text(made.stdout)
    outcomes = []
    with _working_in(folder):
        for words in case.commands:
            result = CliRunner().invoke(tideline, list(words), prog_name="tideline")
            outcomes.append(Outcome(result.exit_code, result.stdout, result.stderr, folder))
    return Done(case, case.got(outcomes))


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
