"""One evaluation of a small shop, run once through the command, for every test that reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streams.cli import tideline
from tests.evaluation.shops import weekly, write


@dataclass(frozen=True)
class Evaluated:
    """What the command left."""

    result: Result
    figures: dict[str, Any]
    report: Path
    orders: Path


def run(*args: str) -> Result:
    return CliRunner().invoke(tideline, ["evaluate", *args], prog_name="tideline")


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("evaluated")
    orders = write(folder / "regulars.csv", weekly())
    report = folder / "report.html"
    result = run("--orders", str(orders), "--horizon", "14d", "--json", "--threads", "1",
                 "--report", str(report))  # fmt: skip
    assert result.exit_code == 0, result.output
    return Evaluated(result, json.loads(result.stdout), report, orders)
