"""Writes LightGBM boosters as ONNX: `x` float32 [N, F] -> `p_churn`, `spend`, ... float32 [N].

Heads that are needed together share a file (`models.champion.MODEL_FILES`), so that no batch pays
for a head that it does not need.

A graph is built from `Booster.dump_model()`, node by node, so that exactly what LightGBM decides
is what ONNX Runtime decides:

- LightGBM compares float64 thresholds with `value <= threshold`. Inputs are float32, so each
  threshold becomes the largest float32 that is not above it; both then agree for every float32.
- A missing value follows the split's default direction (`missing_type` NaN); where training saw
  no missing value (`missing_type` None) LightGBM reads NaN as 0, and so does the graph.
- Each tree's mean leaf is moved into the intercept, so that float32 sums stay small and exact.

The trees' sum becomes `slope * raw + intercept`. If the head has a curve (`models.curve`), the
curve's log-odds are added to those of a probability, and the curve's mean is added to an amount.
Only training needs this module; it needs `pip install tideline[train]`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.champion import CURVE, CURVE_FILE, INPUT, LONG, MODEL_FILES, OUTPUTS
from models.curve import EventBase, SpendBase, base_nodes, input_nodes
from schemas.errors import ArtifactError
from schemas.features import FEATURE_NAMES

__all__ = ["OPSET", "P_MIN", "Head", "export_files", "export_graph", "export_long", "require"]

OPSET: Final = {"": 17, "ai.onnx.ml": 3}
IR_VERSION: Final = 8
P_MIN: Final = 1e-6
"""`p_churn` is kept this far from 0 and 1, so that its log-odds are finite in float32."""


def require(module: str) -> Any:
    """Imports a training library. Raises `ArtifactError` that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ArtifactError(
            f"Training needs {module}, which is not installed. Run `pip install tideline[train]`."
        ) from error


@dataclass(frozen=True)
class Head:
    """One booster and what happens to its raw sum, `z = slope * raw + intercept`.

    `sigmoid` gives a probability, of log-odds `z` and those of `base`; `exp` and `identity` an
    amount, which is cut off at 0, and to which the mean of `base` is added.
    """

    booster: Any
    link: Literal["sigmoid", "exp", "identity"]
    slope: float = 1.0
    intercept: float = 0.0
    base: EventBase | SpendBase | None = None

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which features the trees or the curve look at, bool [F]."""
        split: NDArray[np.bool_] = self.booster.feature_importance("split") > 0
        return split | np.isin(FEATURE_NAMES, self.base.reads() if self.base else [])

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """What LightGBM itself computes for `x` [n, F], float64 [n]: the graph's reference."""
        raw = np.asarray(self.booster.predict(x, raw_score=True, num_threads=1), dtype=np.float64)
        z = self.slope * raw + self.intercept
        if self.link == "sigmoid":
            if isinstance(self.base, EventBase):
                z = z + self.base.log_odds(x)
            with np.errstate(over="ignore"):  # rows that the curve was not made for
                return np.clip(1.0 / (1.0 + np.exp(-z)), P_MIN, 1.0 - P_MIN)
        amount = np.exp(z) if self.link == "exp" else np.maximum(z, 0.0)
        return (
            amount + np.exp(self.base.log_mean(x)) if isinstance(self.base, SpendBase) else amount
        )


_COLUMNS: Final = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_values",
    "nodes_modes",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
    "target_treeids",
    "target_nodeids",
    "target_ids",
    "target_weights",
)


@dataclass
class _Trees:
    """The attributes of one TreeEnsembleRegressor, filled node by node."""

    offset: float = 0.0
    columns: dict[str, list[Any]] = field(default_factory=lambda: {c: [] for c in _COLUMNS})
    count: int = 0

    def add_tree(self, root: dict[str, Any]) -> None:
        leaves = list(_leaf_values(root))
        mean = float(np.mean(leaves))
        self.offset += mean
        self._add_node(root, [0], mean)
        self.count += 1

    def _row(self, **values: Any) -> None:
        for name, value in values.items():
            self.columns[name].append(value)

    def _add_node(self, node: dict[str, Any], ids: list[int], mean: float) -> int:
        node_id = ids[0]
        ids[0] += 1
        self._row(nodes_treeids=self.count, nodes_nodeids=node_id)
        at = len(self.columns["nodes_nodeids"]) - 1
        if "split_index" not in node:
            self._row(
                nodes_featureids=0, nodes_values=0.0, nodes_modes="LEAF",
                nodes_truenodeids=0, nodes_falsenodeids=0, nodes_missing_value_tracks_true=0,
                target_treeids=self.count, target_nodeids=node_id, target_ids=0,
                target_weights=float(node["leaf_value"]) - mean,
            )  # fmt: skip
            return node_id
        threshold = float32_not_above(_threshold(node))
        self._row(
            nodes_featureids=int(node["split_feature"]), nodes_values=threshold,
            nodes_modes="BRANCH_LEQ", nodes_truenodeids=0, nodes_falsenodeids=0,
            nodes_missing_value_tracks_true=int(_missing_goes_left(node)),
        )  # fmt: skip
        self.columns["nodes_truenodeids"][at] = self._add_node(node["left_child"], ids, mean)
        self.columns["nodes_falsenodeids"][at] = self._add_node(node["right_child"], ids, mean)
        return node_id


def float32_not_above(value: float) -> float:
    """The largest float32 that is not above `value`.

    >>> float32_not_above(0.5)
    0.5
    >>> float32_not_above(0.1) < 0.1
    True
    >>> float32_not_above(1e300) == float(np.finfo(np.float32).max)
    True
    """
    top = float(np.finfo(np.float32).max)
    if value >= top:
        return top
    if value < -top:
        return float("-inf")
    nearest = np.float32(value)
    return float(np.nextafter(nearest, np.float32("-inf")) if float(nearest) > value else nearest)


def _threshold(node: dict[str, Any]) -> float:
    if node["decision_type"] != "<=":
        raise ArtifactError("Categorical splits can't be exported. Train on numeric features.")
    return float(node["threshold"])


def _missing_goes_left(node: dict[str, Any]) -> bool:
    if node["missing_type"] == "NaN":
        return bool(node["default_left"])
    if node["missing_type"] == "None":
        return _threshold(node) >= 0.0
    raise ArtifactError("`zero_as_missing` can't be exported. Train without it.")


def _leaf_values(node: dict[str, Any]) -> list[float]:
    if "leaf_coeff" in node:
        raise ArtifactError("Linear trees can't be exported. Train with `linear_tree=false`.")
    if "split_index" in node:
        return _leaf_values(node["left_child"]) + _leaf_values(node["right_child"])
    return [float(node["leaf_value"])]


def _head_nodes(helper: Any, tensor: Any, name: str, head: Head) -> list[Any]:
    dump = head.booster.dump_model()
    if dump.get("average_output"):
        raise ArtifactError("Random forests can't be exported. Train with `boosting=gbdt`.")
    trees = _Trees()
    for tree in dump["tree_info"]:
        trees.add_tree(tree["tree_structure"])
    sign = -1.0 if head.link == "sigmoid" else 1.0
    z, parts = f"{name}_z", iter(f"{name}_{i}" for i in range(99))
    raw, flat, scaled = next(parts), next(parts), next(parts)
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor", [INPUT], [raw], domain="ai.onnx.ml", n_targets=1,
            aggregate_function="SUM", post_transform="NONE", **trees.columns,
        ),
        helper.make_node("Reshape", [raw, "flat_shape"], [flat]),
        _constant(helper, f"{name}_slope", sign * head.slope),
        _constant(helper, f"{name}_intercept",
                  sign * (head.slope * trees.offset + head.intercept)),
        helper.make_node("Mul", [flat, f"{name}_slope"], [scaled]),
        helper.make_node("Add", [scaled, f"{name}_intercept"], [z]),
    ]  # fmt: skip
    base = f"{name}_base"
    if head.base is not None:
        nodes += base_nodes(helper, tensor, head.base, base)
    if head.link != "sigmoid":
        amount = next(parts) if head.base is not None else name
        last = ("Max", [z, "zero"]) if head.link == "identity" else ("Exp", [z])
        nodes.append(helper.make_node(*last, [amount]))
        if head.base is not None:
            nodes.append(helper.make_node("Add", [amount, base], [name]))
        return nodes
    # 1 / (1 + exp(-z)) and not Sigmoid, whose kernel is an approximation good to about 1e-7:
    # not enough, relative to the small probabilities of loyal customers.
    exped, odds, plus_one, p = next(parts), next(parts), next(parts), next(parts)
    nodes.append(helper.make_node("Exp", [z], [exped]))
    if head.base is not None:
        nodes.append(helper.make_node("Mul", [exped, base], [odds]))
    return [
        *nodes,
        helper.make_node("Add", [exped if head.base is None else odds, "one"], [plus_one]),
        helper.make_node("Div", ["one", plus_one], [p]),
        helper.make_node("Clip", [p, "p_min", "p_max"], [name]),
    ]


def _constant(helper: Any, name: str, value: float) -> Any:
    return helper.make_node("Constant", [], [name], value_float=float(np.float32(value)))


def export_files(heads: Mapping[str, Head], features: int) -> dict[str, bytes]:
    """The artifact's ONNX files by name, for heads by the name of their output; `features`: F.

    Raises `ArtifactError` for boosters that ONNX can't express exactly, and `ValueError` for heads
    that no file takes: of an unknown name, or without those that share a file with them.
    """
    takes = {file: outputs for file, outputs in MODEL_FILES.items() if {*outputs} <= heads.keys()}
    if {name for outputs in takes.values() for name in outputs} != heads.keys():
        raise ValueError(f"heads are {sorted(heads)}, files {dict(MODEL_FILES)}")
    files = {
        file: export_graph({name: heads[name] for name in outputs}, features)
        for file, outputs in takes.items()
    }
    base = heads[OUTPUTS[0]].base
    if isinstance(base, EventBase):
        files[CURVE_FILE] = _curve(base, features)
    return files


def export_graph(heads: Mapping[str, Head], features: int) -> bytes:
    """One ONNX file that computes these heads, by the name of their output, from F `features`.

    Raises `ArtifactError` for boosters that it can't express exactly.
    """
    helper, tensor = require("onnx.helper"), require("onnx").TensorProto
    constants = [("zero", 0.0), ("one", 1.0), ("p_min", P_MIN), ("p_max", 1.0 - P_MIN)]
    nodes = [
        *(_constant(helper, name, value) for name, value in constants),
        helper.make_node("Constant", [], ["flat_shape"], value_ints=[-1]),
    ]
    bases = [head.base for head in heads.values() if head.base is not None]
    if bases:
        nodes += input_nodes(helper, tensor, INPUT, bases)
    for name, head in heads.items():
        nodes += _head_nodes(helper, tensor, name, head)
    return _model(nodes, heads, features)


def _curve(base: EventBase, features: int) -> bytes:
    helper, tensor = require("onnx.helper"), require("onnx").TensorProto
    nodes = input_nodes(helper, tensor, INPUT, [base])
    return _model([*nodes, *base_nodes(helper, tensor, base, CURVE)], [CURVE], features)


def export_long(idle: EventBase, value: SpendBase, features: int) -> bytes:
    """The ONNX file of the long horizon, from F `features`: two curves without trees."""
    helper, tensor = require("onnx.helper"), require("onnx").TensorProto
    constants = [("one", 1.0), ("p_min", P_MIN), ("p_max", 1.0 - P_MIN)]
    nodes = [
        *(_constant(helper, name, number) for name, number in constants),
        *input_nodes(helper, tensor, INPUT, [idle, value]),
        *base_nodes(helper, tensor, idle, "idle_odds"),
        helper.make_node("Add", ["idle_odds", "one"], ["idle_plus_one"]),
        helper.make_node("Div", ["one", "idle_plus_one"], ["idle"]),
        helper.make_node("Clip", ["idle", "p_min", "p_max"], [LONG[0]]),
        *base_nodes(helper, tensor, value, LONG[1]),
    ]
    return _model(nodes, LONG, features)


def _model(nodes: list[Any], outputs: Iterable[str], features: int) -> bytes:
    helper, tensor = require("onnx.helper"), require("onnx").TensorProto
    graph = helper.make_graph(
        nodes,
        "tideline",
        [helper.make_tensor_value_info(INPUT, tensor.FLOAT, ["N", features])],
        [helper.make_tensor_value_info(name, tensor.FLOAT, ["N"]) for name in outputs],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSET.items()]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="tideline")
    model.ir_version = IR_VERSION
    require("onnx.checker").check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
