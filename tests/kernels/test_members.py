"""Items, categories and the flag are read as msgspec reads them, or left to it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import event_rows
from streams.core.event_rows import ClickTexts, _slowly, texts_of
from streams.core.events.decode import decode
from streams.core.events.records import CLICKSTREAM, Records
from tests.core.driving import T0, bounded, click, to_records
from tests.kernels.test_events import CLICKS, RULES, STYLES


def accepted(values: list[bytes]) -> Records:
    """The records of those that are events."""
    records = to_records([(b"u", value, T0) for value in values])
    events = decode(records, CLICKSTREAM, RULES)
    return records[events.positions]


def plain(read: ClickTexts) -> list[tuple[str, str, bool]]:
    return [*zip(read.item, read.category, read.simulated.tolist(), strict=True)]


@bounded
@given(st.lists(CLICKS | st.dictionaries(st.sampled_from(["a", "ts"]), st.none())), STYLES)
def test_whatever_is_an_event_reads_as_by_msgspec(
    events: list[dict[str, Any]], style: dict[str, Any]
) -> None:
    values = [
        json.dumps({**e, "user_id": "u"} if "ts" in e else e, **style).encode(errors="replace")
        for e in events
    ]
    records = accepted(values)
    assert plain(texts_of(records)) == plain(_slowly(records))


@pytest.mark.parametrize(
    ("value", "item", "category", "simulated"),
    [
        ('"item_id":"i","category":"k","simulated":true', "i", "k", True),
        ('"simulated" : false , "item_id" : null', "", "", False),
        (r'"item_id":"a\"b\u00e9\ud83d\ude00","category":"\n"', 'a"bé😀', "\n", False),
        ('"item_id":"a","item_id":"bb","simulated":true,"simulated":false', "bb", "", False),
        ('"item_id":"a","item_id":null', "", "", False),
        ('"x":{"item_id":"no","simulated":true},"y":["category"]', "", "", False),
        ('"item_idx":"no","item_i":"no","category ":"no"', "", "", False),
    ],
)
def test_what_is_read(value: str, item: str, category: str, simulated: bool) -> None:
    begins = json.dumps(click("u", T0))[:-1]
    records = accepted([f"{begins},{value}}}".encode(), json.dumps(click("u", T0)).encode()])
    assert plain(texts_of(records)) == [(item, category, simulated), ("", "", False)]


def test_what_the_kernel_can_not_read_is_left_to_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(records: Records) -> ClickTexts:
        asked.append(len(records))
        return _slowly(records)

    monkeypatch.setattr(event_rows, "_slowly", noted)
    begins = json.dumps(click("u", T0, item_id="i"))[:-1]
    deep = "[" * 70 + "]" * 70
    for odd in (f'{begins},"x":{deep}}}', f'{begins},"categor\\u0079":"k"}}'):
        records = accepted([odd.encode(), msgspec.json.encode(click("u", T0, item_id="j"))])
        assert [row[0] for row in plain(texts_of(records))] == ["i", "j"]
    assert asked == [2, 2]


def test_none_are_read_of_none() -> None:
    read = texts_of(Records.empty())
    assert (len(read.item), len(read.category), len(read.simulated)) == (0, 0, 0)
    assert read.simulated.dtype == np.bool_
