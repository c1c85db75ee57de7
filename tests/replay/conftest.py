"""What the replay tests share: the published schemas, and a look into records."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from streams.replay import completejourney
from streams.replay.records import InputRecord


class Schemas:
    """Validates values against `schemas/json`."""

    def __init__(self) -> None:
        folder = resources.files("schemas") / "json"
        self._validators = {
            kind: jsonschema.Draft202012Validator(
                json.loads((folder / f"{kind}.v1.schema.json").read_text())
            )
            for kind in ("clickstream", "orders")
        }

    def check(self, record: InputRecord) -> dict[str, Any]:
        """The event in `record`, valid and keyed by its user."""
        event: dict[str, Any] = json.loads(record.value)
        self._validators[record.topic_kind].validate(event)
        assert record.key == event["user_id"].encode()
        return event


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    return Schemas()


@pytest.fixture(scope="session")
def month() -> completejourney.CompleteJourney:
    """The first 30 days of 300 households."""
    pytest.importorskip("pyarrow")
    return completejourney.orders(days=(0, 30), users=300)
