"""Writes the JSON Schemas of the events, for the people who produce them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from schemas.events import EVENT_VERSION, ClickEvent, Contact, OrderEvent

__all__ = ["SCHEMA_DIR", "main", "published_schemas"]

SCHEMA_DIR = Path(__file__).parent / "json"


def published_schemas() -> dict[str, str]:
    """File name -> JSON text of every published schema (JSON Schema 2020-12)."""
    texts = {}
    of = {"clickstream": ClickEvent, "contacts": Contact, "orders": OrderEvent}
    for name, struct in of.items():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"Tideline {name} event, version {EVENT_VERSION}",
            **msgspec.json.schema(struct),
        }
        texts[f"{name}.v{EVENT_VERSION}.schema.json"] = json.dumps(schema, indent=2) + "\n"
    return texts


def main() -> None:
    """Write every schema to `schemas/json/`."""
    SCHEMA_DIR.mkdir(exist_ok=True)
    for name, text in published_schemas().items():
        (SCHEMA_DIR / name).write_text(text)


if __name__ == "__main__":
    main()
