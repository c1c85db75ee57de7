"""A replay that is held at a time sends all before it first, and then the rest."""

from __future__ import annotations

import pytest

from streams.demo.backstage import parts
from streams.replay.records import Block, InputRecord


def block(*times: int) -> Block:
    return [InputRecord("orders", b"u", b"{}", ms) for ms in times]


class Source:
    """Twelve records in three blocks."""

    expected_records: int | None = 12

    def __iter__(self) -> object:
        return iter([block(1, 2, 3, 3), block(3, 4, 5, 6), block(6, 7, 8, 9)])

    def summary(self) -> dict[str, object]:
        return {}


@pytest.mark.parametrize("hold_at_ms", [0, 1, 3, 4, 6, 9, 10])
def test_every_record_is_in_one_part(hold_at_ms: int) -> None:
    before, behind = parts(Source(), hold_at_ms)  # type: ignore[arg-type]
    first = [record.timestamp_ms for records in before for record in records]
    rest = [record.timestamp_ms for records in behind for record in records]
    assert first + rest == [1, 2, 3, 3, 3, 4, 5, 6, 6, 7, 8, 9]
    assert all(ms < hold_at_ms for ms in first)
    assert all(ms >= hold_at_ms for ms in rest)


def test_without_a_time_there_is_one_part() -> None:
    source = Source()
    (whole,) = parts(source, None)  # type: ignore[arg-type]
    assert whole is source  # type: ignore[comparison-overlap]
