"""Orders that were cancelled before the file was made: left out of it, and known to a backfill."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from schemas.errors import SettingsError
from schemas.events import OrderEvent
from streams.history.read import check_memory, read
from streams.history.source import OrderHistory
from streams.history.table import ReadOptions

NOW_MS = 1_800_000_000_000
HEAD = "Name,Email,Financial Status,Created at,Total,Lineitem quantity,Lineitem name,Lineitem price"


def test_a_cancelled_order_is_placed_and_cancelled_apart_from_what_the_file_holds(
    tmp_path: Path,
) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(
        f"{HEAD},Cancelled at\n"
        "#1,a@x.com,paid,2026-05-01 10:00:00 +0000,50.00,1,Tea,50.00,\n"
        "#2,a@x.com,voided,2026-05-02 10:00:00 +0000,30.00,1,Cup,30.00,2026-05-03 10:00:00 +0000\n"
        "#2,,,,,2,Pot,15.00,\n"
        "#3,,voided,2026-05-02 10:00:00 +0000,30.00,1,Cup,30.00,2026-05-03 10:00:00 +0000\n"
        "#4,b@x.com,paid,2026-05-02 10:00:00 +0000,20.00,1,Cup,20.00,\n"
    )
    found = read(file, ReadOptions(), NOW_MS)
    assert isinstance(found, OrderHistory)
    decode = msgspec.json.Decoder(OrderEvent).decode
    kept = [decode(record.value) for block in found for record in block]
    assert [(o.order_id, o.type) for o in kept] == [("#1", "placed"), ("#4", "placed")]
    other = [decode(record.value) for block in found.cancellations() for record in block]
    assert [(o.user_id, o.order_id, o.type) for o in other] == [
        ("a@x.com", "#2", "placed"),
        ("a@x.com", "#2", "cancelled"),
    ]
    assert len({o.event_id for o in [*kept, *other]}) == 4
    assert found.report.orders == 2


def test_a_file_that_would_not_fit_into_memory_is_refused_with_the_size_that_would() -> None:
    check_memory("a.csv", 10**9, 14 * 10**9)
    check_memory("a.csv", 10**12, None)
    with pytest.raises(
        SettingsError, match=r"13 GB of memory, and 12 GB are free.*0\.9 GB or less"
    ):
        check_memory("a.csv", 10**9, 12 * 10**9)
