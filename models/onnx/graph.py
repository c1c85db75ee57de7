"""Writes ONNX nodes one by one, as an expression is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Graph"]


class Graph:
    """Writes nodes on float64 [N]; a float is a constant."""

    def __init__(self, helper: Any, tensor: Any, prefix: str) -> None:
        self._helper, self._tensor, self._prefix = helper, tensor, prefix
        self.nodes: list[Any] = []

    def __call__(self, op: str, *inputs: str | float, output: str = "", **attributes: Any) -> str:
        names = [i if isinstance(i, str) else self._constant(i) for i in inputs]
        name = output or f"{self._prefix}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(op, names, [name], **attributes))
        return name

    def integer(self, value: str) -> str:
        """int64 [N], towards zero."""
        return self("Cast", value, to=self._tensor.INT64)

    def narrow(self, value: str, output: str) -> str:
        """float32 [N]."""
        return self("Cast", value, to=self._tensor.FLOAT, output=output)

    def column(self, x: str, at: int) -> str:
        """A column of the matrix `x` [N, F], as float64 [N]."""
        name = self._held(self._tensor.INT64, [], [at])
        return self("Cast", self("Gather", x, name, axis=1), to=self._tensor.DOUBLE)

    def table(self, values: Sequence[float]) -> str:
        """A constant float64 [k]."""
        return self._held(self._tensor.DOUBLE, [len(values)], values)

    def _constant(self, value: float) -> str:
        return self._held(self._tensor.DOUBLE, [], [value])

    def _held(self, kind: int, shape: list[int], values: Sequence[float]) -> str:
        name = f"{self._prefix}_{len(self.nodes)}"
        held = self._helper.make_tensor(name, kind, shape, values)
        self.nodes.append(self._helper.make_node("Constant", [], [name], value=held))
        return name
