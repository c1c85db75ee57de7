"""Columns that are asked for once, and what some rows of them are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from streams.rules.evaluate import Flags, Floats, Quantities

__all__ = ["Columns", "Part"]

_Column = TypeVar("_Column", bound=NDArray[Any])


class Columns:
    """`Quantities` that ask others for each column once."""

    def __init__(self, quantities: Quantities) -> None:
        self._of = quantities
        self._known: dict[tuple[str, str], NDArray[Any]] = {}
        self.size = quantities.size

    def number(self, name: str) -> Floats:
        """float64 [k]."""
        return self._once("number", name, self._of.number)

    def code(self, name: str) -> NDArray[np.integer[Any]]:
        """Integers [k]."""
        return self._once("code", name, self._of.code)

    def flag(self, name: str) -> Flags:
        """bool [k]."""
        return self._once("flag", name, self._of.flag)

    def rank(self, name: str) -> Floats:
        """float64 [k]."""
        return self._once("rank", name, self._of.rank)

    def _once(self, what: str, name: str, ask: Callable[[str], _Column]) -> _Column:
        if (what, name) not in self._known:
            self._known[what, name] = ask(name)
        return cast(_Column, self._known[what, name])


class Part:
    """`Quantities` of the rows from `start` to `stop` of others."""

    def __init__(self, quantities: Quantities, start: int, stop: int) -> None:
        self._of, self._rows = quantities, slice(start, stop)
        self.size = stop - start

    def number(self, name: str) -> Floats:
        """float64 [stop - start]; so are ranks."""
        return self._of.number(name)[self._rows]

    def code(self, name: str) -> NDArray[np.integer[Any]]:
        """Integers [stop - start]."""
        return self._of.code(name)[self._rows]

    def flag(self, name: str) -> Flags:
        """bool [stop - start]."""
        return self._of.flag(name)[self._rows]

    def rank(self, name: str) -> Floats:
        """float64 [stop - start]."""
        return self._of.rank(name)[self._rows]
