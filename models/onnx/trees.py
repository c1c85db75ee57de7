"""Reads the decision trees back out of an ONNX graph, as the boxes that their leaves are.

Reasons need the trees themselves (`models.explain`), and taking them from the very bytes that score
means that they can't differ from the model. ONNX is protocol buffers; of those a few message types
are read here, by their numbers in onnx.proto3, because the `onnx` package is for training only.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.onnx.protobuf import fields, messages, one, varint
from schemas.errors import ArtifactError

__all__ = ["Leaves", "tree_leaves"]

_ENSEMBLE: Final = "TreeEnsembleRegressor"
# Field numbers: ModelProto.graph; GraphProto.node; NodeProto.input, output, op_type, attribute;
# AttributeProto.name, f, i, s, floats, ints, strings.
_GRAPH, _NODE = 7, 1
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE = 1, 2, 4, 5
_NAME, _FLOATS, _INTS, _STRINGS = 1, 7, 8, 9


@dataclass(frozen=True)
class Leaves:
    """All leaves of the trees behind one output: where each is, and what it adds.

    A leaf is a box: it is reached iff every feature on its path lies in its interval. feature int32
    [L, J]; low and high float32 [L, J]: low < value <= high; nan bool [L, J]: whether an unknown
    value is inside; value float64 [L]; part int32 [L]: which sum it belongs to (an ensemble and a
    target). Rows with fewer than J features are padded with intervals that hold everything.
    """

    feature: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    nan: NDArray[np.bool_]
    value: NDArray[np.float64]
    part: NDArray[np.int32]

    @property
    def parts(self) -> int:
        """How many sums there are."""
        return int(self.part.max()) + 1

    def of_columns(self, columns: Sequence[int]) -> Leaves:
        """The same boxes for rows with feature f in column `columns[f]`; below 0: always unknown.

        A condition on a feature that is always unknown holds for all rows or for none.
        """
        at = np.array(columns, np.int32)[self.feature]
        never = np.where(self.nan, -np.inf, np.inf).astype(np.float32)
        return replace(
            self,
            feature=np.maximum(at, 0),
            low=np.where(at < 0, never, self.low),
            high=np.where(at < 0, -never, self.high),
        )

    def inside(self, x: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which conditions hold for which row: x float32 [k, F] -> bool [k, L, J]."""
        values = x[:, self.feature]
        with np.errstate(invalid="ignore"):
            known = (values > self.low) & (values <= self.high)
        return known | (np.isnan(values) & self.nan)

    def sums(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """x float32 [k, F] -> each part's sum of the leaves reached, float64 [k, parts]."""
        reached = self.inside(x).all(axis=2) * self.value
        return np.stack([reached[:, self.part == p].sum(axis=1) for p in range(self.parts)], axis=1)


def tree_leaves(onnx: bytes, output: str) -> Leaves:
    """The leaves of all tree ensembles that the graph's `output` is computed from.

    Raises `ArtifactError` if there are none, or they branch in a way that we don't export.
    """
    try:
        nodes = [_node(body) for body in messages(one(onnx, _GRAPH), _NODE)]
        ensembles = _behind(nodes, output)
        boxes = [box for part in ensembles for box in _boxes(part)]
    except (KeyError, IndexError, ValueError, struct.error, RecursionError) as error:
        raise ArtifactError(
            f"The model's trees can't be read ({error!r}), so no score could be explained. Export "
            "it with `tideline train`."
        ) from error
    if not boxes:
        raise ArtifactError(
            f"No decision trees lead to the model's output {output}, so no score could be "
            "explained. Export it with `tideline train`."
        )
    return _packed(boxes)


@dataclass(frozen=True)
class _Node:
    op_type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, list[Any]]


@dataclass(frozen=True)
class _Box:
    """One leaf: per feature on its path (low, high, unknown inside), its value and its sum."""

    sides: dict[int, tuple[float, float, bool]]
    value: float
    part: tuple[int, int]


def _behind(nodes: list[_Node], output: str) -> list[tuple[int, _Node]]:
    """The ensembles among `output`'s ancestors, numbered."""
    maker = {name: node for node in nodes for name in node.outputs}
    waiting, seen = [output], set()
    while waiting:
        name = waiting.pop()
        if name in maker and name not in seen:
            seen.add(name)
            waiting += maker[name].inputs
    return [
        (number, node)
        for number, node in enumerate(nodes)
        if node.op_type == _ENSEMBLE and seen & set(node.outputs)
    ]


def _boxes(numbered: tuple[int, _Node]) -> Iterator[_Box]:
    number, node = numbered
    a = node.attributes
    place = {
        key: i for i, key in enumerate(zip(a["nodes_treeids"], a["nodes_nodeids"], strict=True))
    }
    missing = a.get("nodes_missing_value_tracks_true") or [0] * len(place)
    targets: defaultdict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    for tree, leaf, target, weight in zip(
        a["target_treeids"], a["target_nodeids"], a["target_ids"], a["target_weights"], strict=True
    ):
        targets[tree, leaf].append((target, weight))

    def walk(at: int, sides: dict[int, tuple[float, float, bool]]) -> Iterator[_Box]:
        tree, mode = a["nodes_treeids"][at], a["nodes_modes"][at]
        if mode == b"LEAF":
            for target, weight in targets[tree, a["nodes_nodeids"][at]]:
                yield _Box(sides, weight, (number, target))
            return
        if mode != b"BRANCH_LEQ":
            raise ValueError(f"a branch of kind {mode.decode()}")
        feature, edge = a["nodes_featureids"][at], a["nodes_values"][at]
        low, high, nan = sides.get(feature, (-np.inf, np.inf, True))
        yes = (low, min(high, edge), nan and bool(missing[at]))
        no = (max(low, edge), high, nan and not missing[at])
        yield from walk(place[tree, a["nodes_truenodeids"][at]], {**sides, feature: yes})
        yield from walk(place[tree, a["nodes_falsenodeids"][at]], {**sides, feature: no})

    children = {
        (tree, child)
        for tree, mode, *pair in zip(
            a["nodes_treeids"], a["nodes_modes"], a["nodes_truenodeids"], a["nodes_falsenodeids"],
            strict=True,
        )
        if mode != b"LEAF"
        for child in pair
    }  # fmt: skip
    for key, at in place.items():
        if key not in children:
            yield from walk(at, {})


def _packed(boxes: list[_Box]) -> Leaves:
    parts = {part: i for i, part in enumerate(dict.fromkeys(box.part for box in boxes))}
    shape = len(boxes), max(1, *(len(box.sides) for box in boxes))
    feature, nan = np.zeros(shape, np.int32), np.ones(shape, np.bool_)
    low, high = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
    for i, box in enumerate(boxes):
        for j, (f, (lo, hi, unknown)) in enumerate(box.sides.items()):
            feature[i, j], low[i, j], high[i, j], nan[i, j] = f, lo, hi, unknown
    return Leaves(
        feature, low, high, nan,
        np.array([box.value for box in boxes]),
        np.array([parts[box.part] for box in boxes], np.int32),
    )  # fmt: skip


def _node(body: bytes) -> _Node:
    return _Node(
        one(body, _OP_TYPE).decode(),
        [name.decode() for name in messages(body, _INPUT)],
        [name.decode() for name in messages(body, _OUTPUT)],
        dict(map(_attribute, messages(body, _ATTRIBUTE))),
    )


def _attribute(body: bytes) -> tuple[str, list[Any]]:
    """Name and list of an attribute; a list of numbers may come packed or one by one."""
    values: list[Any] = []
    for number, kind, value in fields(body):
        if number == _FLOATS:
            values += np.frombuffer(value, "<f4").tolist()
        elif number == _STRINGS or (number == _INTS and kind == 0):
            values.append(value)
        elif number == _INTS:
            at = 0
            while at < len(value):
                number_, at = varint(value, at)
                values.append(number_)
    return one(body, _NAME).decode(), values
