"""The built-in cases, each through the real command; `make cases` prints them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.built_in import BUILT_IN
from tests.cases.run import Case, run_case


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", BUILT_IN, ids=lambda case: case.name)
def test_a_case_comes_out_right(tmp_path: Path, case: Case) -> None:
    assert run_case(case, tmp_path).got == case.expected
