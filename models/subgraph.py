"""Cuts an ONNX model down to some of its outputs.

ONNX Runtime computes every output of a model whichever are asked for, so heads that a batch does
not need would be paid for by every batch: 10 in place of 4 µs per row with five heads.
(`only_execute_path_to_fetches` of its run options changes nothing about it; seen on 2026-11-22.)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from models.protobuf import fields, messages, one, written

__all__ = ["with_outputs"]

# Field numbers in onnx.proto3: ModelProto.graph; GraphProto.node, output; NodeProto.input, output;
# ValueInfoProto.name.
_GRAPH, _NODE, _GRAPH_OUTPUT = 7, 1, 12
_INPUT, _OUTPUT, _NAME = 1, 2, 1
_BYTES: Final = 2


def with_outputs(onnx: bytes, outputs: Collection[str]) -> bytes:
    """The model with these outputs only, and the nodes that lead to them, otherwise unchanged.

    Raises ValueError or IndexError if `onnx` is no protocol buffer.
    """
    graph = one(onnx, _GRAPH)
    maker = {name: node for node in messages(graph, _NODE) for name in messages(node, _OUTPUT)}
    needed: set[bytes] = set()
    waiting = [name.encode() for name in outputs]
    while waiting:
        name = waiting.pop()
        if name in maker and name not in needed:
            needed.add(name)
            waiting += messages(maker[name], _INPUT)
    wanted = {name.encode() for name in outputs}

    def kept(number: int, kind: int, value: bytes) -> bool:
        if kind == _BYTES and number == _NODE:
            return not needed.isdisjoint(messages(value, _OUTPUT))
        if kind == _BYTES and number == _GRAPH_OUTPUT:
            return one(value, _NAME) in wanted
        return True

    cut = b"".join(written(*field) for field in fields(graph) if kept(*field))
    return b"".join(
        written(number, kind, cut if number == _GRAPH and kind == _BYTES else value)
        for number, kind, value in fields(onnx)
    )
