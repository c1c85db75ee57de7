"""The definitions that the shards took, from ClickHouse: the console's pages read no Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.definitions import STANDARD, Definitions, SegmentDefinition
from streams.console.reads import Reader

__all__ = ["QUERY", "in_force", "known", "segment_of"]

QUERY: Final = """
SELECT number, document FROM definitions_history ORDER BY number DESC LIMIT 200
"""
_decoder: Final = msgspec.json.Decoder(Definitions)


async def known(reader: Reader) -> list[Definitions]:
    """All that shards have taken, the oldest first; of a later release, what this one can read.

    Raises ReadFailed.
    """
    found = []
    for row in await reader.rows(QUERY):
        try:
            found.append(_decoder.decode(row["document"]))
        except msgspec.DecodeError:
            continue
    return found[::-1]


def in_force(found: Sequence[Definitions]) -> Definitions:
    """The newest; what ships, if none was ever applied."""
    return found[-1] if found else STANDARD


def segment_of(definitions: Definitions, name: str) -> SegmentDefinition | None:
    """The definition of a segment of the shop's own."""
    return next((each for each in definitions.segments if each.name == name), None)
