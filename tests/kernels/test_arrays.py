"""Arrays with room to grow are zeros that take no memory before they are used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from streams.kernels.arrays import grown, zeros

STATM = Path("/proc/self/statm")


@pytest.mark.parametrize("shape", [0, 3, (300_000, 7), (1_000_000, 2, 3)])
@pytest.mark.parametrize("dtype", [np.int16, np.uint64, [("a", "i8"), ("b", "?")]])
def test_zeros_are_those_of_numpy(shape: int | tuple[int, ...], dtype: object) -> None:
    found = zeros(shape, dtype)  # type: ignore[arg-type]
    want = np.zeros(shape, dtype)  # type: ignore[call-overload]
    assert found.dtype == want.dtype
    assert found.shape == want.shape
    assert found.flags.writeable
    assert found.tobytes() == want.tobytes()


def test_grown_array_keeps_the_used_items_only() -> None:
    array = np.arange(600_000).reshape(-1, 2)
    longer = grown(array, 900_000, used=200_000)
    assert longer.shape == (900_000, 2)
    assert (longer[:200_000] == array[:200_000]).all()
    assert not longer[200_000:].any()
    assert (grown(array, 300_001)[:-1] == array).all()


@pytest.mark.skipif(not STATM.exists(), reason="memory is read from Linux's /proc")
def test_unused_capacity_takes_no_memory_and_is_released() -> None:
    def resident() -> int:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    array = zeros(1 << 28, np.uint8)
    assert resident() - before < 1 << 26
    array[:] = 1
    assert resident() - before > 1 << 27
    del array
    assert resident() - before < 1 << 26
