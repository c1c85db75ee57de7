"""XXH64 is that of the library."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash

from streams.kernels.xxh64 import xxh64


@pytest.mark.parametrize("length", [*range(70), 127, 128, 255, 256, 1_000])
def test_hash_is_that_of_the_library(length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length + 1).astype(np.uint8)
    text = data[:length].tobytes()
    assert int(xxh64(data.ctypes.data, length)) == xxhash.xxh64_intdigest(text)
