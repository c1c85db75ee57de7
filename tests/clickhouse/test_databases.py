"""A database goes from test to test only while it is what the migrations made."""

from __future__ import annotations

import time

import pytest

from streams.clickhouse.client import connect
from tests.databases import Databases

pytestmark = pytest.mark.clickhouse


@pytest.mark.parametrize("old", [False, True])
def test_one_that_was_changed_is_not_lent_again(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    """Whether its definitions are as young as the change, to the second, or older."""
    monkeypatch.setattr(databases, "_spare", [])
    with databases.lent() as first:
        pass
    (made,) = databases._spare
    if old:
        youngest_s = max(stamp for _, _, stamp in made.stamps)
        while time.time() <= youngest_s + 1:
            time.sleep(0.1)
    with databases.lent() as changed, connect(changed) as client:
        assert changed == first  # nothing was changed in it until now
        client.execute("ALTER TABLE alerts MODIFY COMMENT 'another'")
    assert databases._spare == []
