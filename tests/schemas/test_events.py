"""The published JSON Schemas are those of the code, and say the same about an event."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import msgspec
import pytest

from schemas.events import CLICK_TYPES, ORDER_TYPES, ClickEvent, OrderEvent
from schemas.features import FEATURE_NAMES, FEATURES, FEATURES_HASH, WINDOWS
from schemas.publish import SCHEMA_DIR, published_schemas
from schemas.segments import DIMENSIONS
from schemas.tables import TABLES

CLICK = {"event_id": "e", "user_id": "u", "type": "view", "ts": 1_600_000_000_000}
ORDER = CLICK | {"type": "placed", "order_id": "o", "amount": 12.5}
LINE = {"item_id": "i", "amount": 1}


def test_published_schemas_are_those_of_the_code() -> None:
    assert {p.name for p in SCHEMA_DIR.glob("*.json")} == set(published_schemas())
    for name, text in published_schemas().items():
        assert (SCHEMA_DIR / name).read_text() == text, "run `python -m schemas.publish`"
        jsonschema.Draft202012Validator.check_schema(json.loads(text))


def both_say(struct: type[Any], name: str, event: Any) -> bool:
    """Whether the event is valid, when the struct and the schema agree on it."""
    schema = json.loads((SCHEMA_DIR / name).read_text())
    by_schema = jsonschema.Draft202012Validator(schema).is_valid(event)
    try:
        msgspec.json.decode(json.dumps(event), type=struct)
        by_struct = True
    except msgspec.ValidationError:
        by_struct = False
    assert by_schema == by_struct, event
    return by_struct


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True), ({"extra": 1}, True), ({"v": 1}, True), ({"session_id": None}, True),
        ({"type": "review", "rating": 4.5, "text": "fine"}, True), ({"rating": 0}, False),
        ({"rating": 5.5}, False), ({"ts": "x"}, False), ({"ts": 1.5}, False),
        ({"type": "x"}, False),
        ({"user_id": ""}, False), ({"user_id": "u" * 128}, True), ({"user_id": "u" * 129}, False),
        ({"item_id": 5}, False), ({"query": "q" * 10_001}, False), ({"simulated": 1}, False),
        ({"event_id": None}, False), ({"v": "1"}, False),
    ],
)  # fmt: skip
def test_struct_and_schema_agree_on_clicks(change: dict[str, Any], good: bool) -> None:
    assert both_say(ClickEvent, "clickstream.v1.schema.json", CLICK | change) == good


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True), ({"amount": 0}, True), ({"amount": -1}, False), ({"amount": 1e9}, True),
        ({"amount": 1.1e9}, False), ({"currency": "EUR"}, True), ({"currency": "eur"}, False),
        ({"currency": "EURO"}, False), ({"currency": None}, True), ({"discount": -1}, False),
        ({"lines": [LINE]}, True), ({"lines": [LINE | {"quantity": -1}]}, False),
        ({"lines": [{"amount": 1}]}, False), ({"lines": None}, False), ({"coupon": ""}, False),
        ({"type": "view"}, False), ({"type": "returned"}, True), ({"order_id": ""}, False),
    ],
)  # fmt: skip
def test_struct_and_schema_agree_on_orders(change: dict[str, Any], good: bool) -> None:
    assert both_say(OrderEvent, "orders.v1.schema.json", ORDER | change) == good


@pytest.mark.parametrize("name", [*CLICK, "order_id", "amount"])
def test_what_is_required_is_required_by_both(name: str) -> None:
    event = {k: v for k, v in ORDER.items() if k != name}
    assert not both_say(OrderEvent, "orders.v1.schema.json", event)
    if name in CLICK:
        event = {k: v for k, v in CLICK.items() if k != name}
        assert not both_say(ClickEvent, "clickstream.v1.schema.json", event)


def test_every_type_is_accepted() -> None:
    for kind in CLICK_TYPES:
        assert both_say(ClickEvent, "clickstream.v1.schema.json", CLICK | {"type": kind})
    for kind in ORDER_TYPES:
        assert both_say(OrderEvent, "orders.v1.schema.json", ORDER | {"type": kind})


def test_features_have_unique_names_and_have_not_changed() -> None:
    """Trained artifacts and stored states carry this hash: change it knowingly."""
    assert len(set(FEATURE_NAMES)) == len(FEATURES) == 157
    assert all(f.unit and f.words for f in FEATURES)
    assert FEATURES_HASH == "1ef4e2fc37c62466e66571e58df5e5a2ce736b55571f86506ef64e315e451968"
    for window in WINDOWS:
        assert window.length_seconds % window.hop_seconds == 0


def test_tables_name_their_columns_once() -> None:
    for name, table in TABLES.items():
        assert table.name == name
        assert len(table.columns) > 3
    assert all(len(set(names)) == len(names) for names in DIMENSIONS.values())
