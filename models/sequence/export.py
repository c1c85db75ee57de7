"""Writes the network of `models.sequence.network` as ONNX, with nothing of jax in it.

Inputs `x` float32 [N, F] and `events` float32 [N, TAIL_EVENTS, channels]; for each head one output
float32 [N]. Needs the `onnx` package, as all artifacts' writers do.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.champion import INPUT, OUTPUTS
from models.sequence.fit import Fitted, training
from models.sequence.model import EVENTS_INPUT
from models.training.export import IR_VERSION, OPSET, P_MIN, require
from schemas.tails import EVENT_KINDS, TAIL_CHANNELS, TAIL_EVENTS

__all__ = ["export"]

_FEW: Final = -1e9


class _Graph:
    """Writes nodes one by one; whatever is no name becomes a constant."""

    def __init__(self) -> None:
        self._helper, self._numpy = require("onnx.helper"), require("onnx.numpy_helper")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, op: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(op, names, [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Floats are float32; integers and lists of them int64."""
        array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        name = f"c{len(self.constants)}"
        self.constants.append(self._numpy.from_array(array, name))
        return name

    def floats(self, flags: str) -> str:
        return self("Cast", flags, to=require("onnx").TensorProto.FLOAT)

    def dense(self, value: str, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        return self("Add", self("MatMul", value, weights), bias)

    def channel(self, at: int) -> str:
        """One of the events' channels, [N, T]."""
        return self("Gather", EVENTS_INPUT, np.int64(at), axis=2)

    def known(self, value: str) -> tuple[str, str]:
        """The value, 0 where it is not a number; and whether it is one, as 1 or 0."""
        unknown = self("IsNaN", value)
        return self("Where", unknown, 0.0, value), self.floats(self("Not", unknown))

    def log1p(self, value: str) -> str:
        return self("Log", self("Add", value, 1.0))

    def one_hot(self, number: str, size: int) -> str:
        index = self("Cast", number, to=require("onnx").TensorProto.INT64)
        return self("OneHot", index, [size], np.array([0.0, 1.0]), axis=-1)


def export(fitted: Fitted) -> bytes:
    """The network as the bytes of an ONNX file: the same weights give the same bytes. Raises
    `ArtifactError` if a library is missing."""
    net, graph, w, scale = training("network"), _Graph(), fitted.weights, fitted.scale
    there = graph("Greater", graph.channel(net.KIND), 0.0)
    windows = _windows(net, graph, w, scale)
    hidden = _gru(net, graph, w, _events(net, graph, w, scale), there)
    asked = graph("Unsqueeze", graph.dense(windows, w["ask_w"], w["ask_b"]), [2])
    fits = graph("Squeeze", graph("MatMul", hidden, asked), [2])
    fits = graph("Div", fits, float(np.sqrt(net.UNITS)))
    attention = graph("Softmax", graph("Where", there, fits, _FEW), axis=1)
    seen = graph("MatMul", graph("Unsqueeze", attention, [1]), hidden)
    both = graph("Concat", graph("Squeeze", seen, [1]), "last", axis=1)
    tail = graph("Tanh", graph.dense(both, w["events_w"], w["events_b"]))
    both = graph("Concat", tail, windows, axis=1)
    gate = graph("Sigmoid", graph.dense(both, w["gate_w"], w["gate_b"]))
    gate = graph("Mul", gate, graph("ReduceMax", graph.floats(there), axes=[1], keepdims=1))
    apart = graph("Mul", gate, graph("Sub", tail, windows))
    fused = graph("Add", windows, apart)
    deep = graph("Relu", graph.dense(fused, w["deep_w"], w["deep_b"]))
    both = graph("Concat", fused, deep, axis=1)
    raw = graph("Add", graph.dense(both, w["heads_w"], w["heads_b"]), scale.level)
    for at, head in enumerate(fitted.heads):
        z = graph("Gather", raw, np.int64(at), axis=1)
        if head == OUTPUTS[1]:
            graph("Exp", z, output=head)
            continue
        odds = graph("Exp", graph("Neg", z))  # not Sigmoid: see `models.training.export`
        p = graph("Div", 1.0, graph("Add", odds, 1.0))
        graph("Clip", p, P_MIN, 1.0 - P_MIN, output=head)
    return _bytes(graph, fitted, w["windows_w1"].shape[0] // 2)


def _windows(net: Any, graph: _Graph, w: Any, scale: Any) -> str:
    size = graph.log1p(graph("Abs", INPUT))
    z = graph(
        "Div", graph("Sub", graph("Mul", graph("Sign", INPUT), size), scale.mean), scale.scale
    )
    z, known = graph.known(z)
    z = graph("Clip", z, -net.Z_MOST, net.Z_MOST)
    z = graph("Mul", z, known)
    both = graph("Concat", z, known, axis=1)
    wide = graph("Relu", graph.dense(both, w["windows_w1"], w["windows_b1"]))
    return graph("Tanh", graph.dense(wide, w["windows_w2"], w["windows_b2"]))


def _events(net: Any, graph: _Graph, w: Any, scale: Any) -> str:
    hours = graph("Mul", graph.channel(net.GAP), 24.0)
    gap = graph.known(graph("Div", graph.log1p(hours), net.GAP_SCALE))
    age = graph("Div", graph.log1p(graph.channel(net.AGE)), net.AGE_SCALE)
    mean, spread = scale.amount.tolist()
    amount = graph("Sub", graph.log1p(graph.channel(net.AMOUNT)), mean)
    amount_known = graph.known(graph("Div", amount, spread))
    same = graph.known(graph.channel(net.SAME))
    scalars = [graph("Unsqueeze", s, [2]) for s in (*gap, age, *amount_known, *same)]
    kind = graph("MatMul", graph.one_hot(graph.channel(net.KIND), len(EVENT_KINDS) + 1), w["kind"])
    number = graph.channel(net.CATEGORY)
    group = graph("Add", graph("Mod", number, float(net.CATEGORY_GROUPS), fmod=1), 1.0)
    group = graph("Mul", group, graph.floats(graph("Greater", number, 0.0)))
    category = graph("MatMul", graph.one_hot(group, net.CATEGORY_GROUPS + 1), w["category"])
    summed = graph.dense(graph("Concat", *scalars, axis=2), w["event_w"], w["event_b"])
    return graph("Relu", graph("Add", graph("Add", kind, category), summed))


def _gru(net: Any, graph: _Graph, w: Any, events: str, there: str) -> str:
    """[N, T, UNITS]; and `last`, [N, UNITS], the state after the newest event. Who has no event
    gets a state of nothing, which the gate then leaves out."""

    def rows(weights: NDArray[np.float32]) -> NDArray[np.float32]:
        return weights.T[None]

    numbers = require("onnx").TensorProto
    count = graph(
        "Cast", graph("ReduceSum", graph.floats(there), [1], keepdims=0), to=numbers.INT32
    )
    count = graph("Max", count, graph("Cast", 1, to=numbers.INT32))
    biases = np.concatenate([w["gru_wb"], w["gru_rb"]])[None]
    inputs = graph("Transpose", events, perm=[1, 0, 2])
    names = [inputs, *map(graph.constant, (rows(w["gru_w"]), rows(w["gru_r"]), biases)), count]
    helper = require("onnx.helper")
    graph.nodes.append(
        helper.make_node(
            "GRU", names, ["gru", "gru_last"], hidden_size=net.UNITS, linear_before_reset=1
        )
    )
    graph("Squeeze", "gru_last", [0], output="last")
    return graph("Transpose", graph("Squeeze", "gru", [1]), perm=[1, 0, 2])


def _bytes(graph: _Graph, fitted: Fitted, features: int) -> bytes:
    helper, numbers = require("onnx.helper"), require("onnx").TensorProto
    inputs = {INPUT: ["N", features], EVENTS_INPUT: ["N", TAIL_EVENTS, len(TAIL_CHANNELS)]}
    whole = helper.make_graph(
        graph.nodes,
        "tideline_sequence",
        [helper.make_tensor_value_info(n, numbers.FLOAT, shape) for n, shape in inputs.items()],
        [helper.make_tensor_value_info(head, numbers.FLOAT, ["N"]) for head in fitted.heads],
        graph.constants,
    )
    opset = [helper.make_opsetid("", OPSET[""])]
    model = helper.make_model(whole, opset_imports=opset, producer_name="tideline")
    model.ir_version = IR_VERSION
    require("onnx.checker").check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
