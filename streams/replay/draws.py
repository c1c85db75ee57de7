"""Random numbers that depend only on a name, a seed and their own number, not on what came before.

So whatever is drawn for one order stays the same, whichever other orders are replayed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import exp, factorial

import numpy as np
from numpy.typing import NDArray

__all__ = ["poisson", "sequences", "uniform"]


def sequences(names: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """uint64 [n]: where each name's sequence of draws starts."""
    key = seed.to_bytes(8, "little", signed=True)
    digests = b"".join(blake2b(n.encode(), digest_size=8, key=key).digest() for n in names)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def uniform(start: NDArray[np.uint64], number: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """The draw `number` of each sequence, in [0, 1): SplitMix64 (Steele, Lea, Flood 2014)."""
    # An array even for one number: numpy warns about scalars that wrap around, as these must.
    step = np.atleast_1d(np.asarray(number, np.int64)).astype(np.uint64) + np.uint64(1)
    z = start + step * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    draws: NDArray[np.float64] = (z >> np.uint64(11)) * 2.0**-53
    return draws


def poisson(mean: float) -> NDArray[np.float64]:
    """The cumulative Poisson distribution up to where nothing is left."""
    last = int(mean + 10 * mean**0.5 + 10)
    return np.cumsum([exp(-mean) * mean**k / factorial(k) for k in range(last)])
