"""Schemas as tables for the kernel that reads events."""

from __future__ import annotations

import msgspec
import pytest

from schemas.events import ClickEvent
from streams.kernels.fields import Fields


def test_schema_that_the_kernel_cannot_read_is_refused() -> None:
    class Odd(msgspec.Struct):
        when: dict[str, int]

    with pytest.raises(TypeError, match="no kernel"):
        Fields.of(Odd, slots={})
    with pytest.raises(ValueError, match="more than 16 bytes"):
        Fields.of(ClickEvent, slots={}, names={"type": ("x" * 17,)})
