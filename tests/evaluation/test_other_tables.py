"""The comparison with other tables looks only at what was known: tables that end at the cut give
the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from streams.core.features import DAY_MS
from streams.replay.completejourney import FIRST_DAY_MS
from tests.evaluation.other_tables import Tables


@pytest.mark.slow
def test_nothing_after_a_cut_is_known_at_it() -> None:
    tables = Tables([str(household) for household in range(1, 301)])
    cut_ms = FIRST_DAY_MS + 250 * DAY_MS
    known = tables.columns(cut_ms)
    whole = {name: len(table) for name, table in _dated(tables).items()}
    tables.lines = tables.lines[tables.lines.ms < cut_ms]
    tables.got = tables.got[tables.got.begin <= cut_ms]
    tables.redeemed = tables.redeemed[tables.redeemed.ms < cut_ms]
    assert all(len(table) < whole[name] for name, table in _dated(tables).items())
    for name, columns in tables.columns(cut_ms).items():
        assert columns.shape[0] == 300
        assert np.isfinite(columns).any(), name
        np.testing.assert_array_equal(columns, known[name], err_msg=name)


def _dated(tables: Tables) -> dict[str, pd.DataFrame]:
    return {"lines": tables.lines, "got": tables.got, "redeemed": tables.redeemed}
