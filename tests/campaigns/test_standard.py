"""What ships is written down twice: for shards in `schemas.definitions`, for people in a file."""

from __future__ import annotations

import msgspec

from schemas.definitions import STANDARD
from streams.campaigns import read_definitions, standard_file


def test_the_file_that_ships_says_what_is_in_force() -> None:
    read = read_definitions(standard_file(), file="standard.yaml", currency="USD")
    assert msgspec.structs.replace(read, number=0, version="standard") == STANDARD
