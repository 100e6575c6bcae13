"""A policy as an ONNX graph: normaliser, network, squashing and the units of the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from f110_fl.robot.contract import Commands
from sim.policy import PolicyFormat

Array = NDArray[np.float32]

OPSET: Final = 17  # of 2022: what the runtimes of most boards have
IR_VERSION: Final = 8  # of the same year
_EPSILON: Final = 1e-8  # added to variances


class _Graph:
    """Nodes one after the other, each of which has one output.

    Args:
        dtype: Of what it computes with.
    """

    def __init__(self, dtype: type) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Any, dtype: type | None = None) -> str:
        """Add a constant, of the graph's type or another one, and return its name."""
        name = f"constant_{len(self.constants)}"
        array = np.ascontiguousarray(value, dtype or self.dtype).reshape(np.shape(value))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, x: str, name: str | None = None, dtype: type = np.float32) -> str:
        """Add a conversion, to single precision or another one."""
        to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", x, name=name, to=to)

    def columns(self, x: str, start: int, stop: int) -> str:
        """Return columns of (N, …)."""
        bounds = [self.constant([value], np.int64) for value in (start, stop, 1)]
        return self.add("Slice", x, *bounds)


def make_graph(
    form: PolicyFormat,
    tensors: Mapping[str, Array],
    size: int,
    commands: Commands,
    *,
    single: bool = False,
) -> ModelProto:
    """Return a policy as an ONNX model.

    Inputs are ``observation`` (N, D) and, with a memory, ``h`` and ``c`` (N, units), zeros when a
    drive begins. Outputs are ``action`` (N, 2) in [-1, 1], ``command`` (N, 2): steering angle, rad,
    and speed, m/s; with a memory also ``next_h`` and ``next_c``. All are in single precision.

    Args:
        form: How tensors make it up.
        tensors: By the names in it.
        size: D.
        commands: Units of the command.
        single: Whether it computes in single precision: what accelerators want. Otherwise it does
            in double precision, so that the order of its sums, which is up to the runtime, does
            not show.
    """
    graph = _Graph(np.float32 if single else np.float64)
    inputs, outputs = [_value("observation", size)], [_value("action", 2), _value("command", 2)]
    x = _normalised(graph, form, tensors)
    x = _encoded(graph, form, tensors, x)
    if form.memory is not None:
        names = form.memory.input, form.memory.hidden, form.memory.bias
        x = _remembered(graph, [tensors[name] for name in names], x)
        units = tensors[form.memory.hidden].shape[1]
        inputs += [_value("h", units), _value("c", units)]
        outputs += [_value("next_h", units), _value("next_c", units)]
    action = _chosen(graph, form, _layers(graph, form, tensors, x))
    graph.cast(action, "action")
    middle, half = (commands.fastest + commands.slowest) / 2, commands.fastest - commands.slowest
    scaled = graph.add("Mul", action, graph.constant([commands.steer, half / 2]))
    graph.cast(graph.add("Add", scaled, graph.constant([0.0, middle])), "command")
    model = helper.make_model(
        helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="f110-fl",
    )
    model.ir_version = IR_VERSION
    checker.check_model(model, full_check=True)
    return model


def _value(name: str, columns: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", columns])


def _normalised(graph: _Graph, form: PolicyFormat, tensors: Mapping[str, Array]) -> str:
    x = graph.cast("observation", dtype=graph.dtype)
    if form.mean is not None:
        x = graph.add("Sub", x, graph.constant(tensors[form.mean]))
    if form.variance is not None:
        scale = 1.0 / np.sqrt(tensors[form.variance].astype(graph.dtype) + _EPSILON)
        x = graph.add("Mul", x, graph.constant(scale))
    if form.limit is not None:
        x = graph.add("Clip", x, graph.constant(-form.limit), graph.constant(form.limit))
    return x


def _encoded(graph: _Graph, form: PolicyFormat, tensors: Mapping[str, Array], x: str) -> str:
    """Convolve along the scan; the rest of the observation follows, in its order."""
    if form.encoder is None:
        return x
    sizes = dict(form.observation)
    names = [part for part, _ in form.observation]
    start = sum(sizes[part] for part in names[: names.index("lidar")])
    stop, length = start + sizes["lidar"], sizes["lidar"]
    others = graph.columns(x, 0, start), graph.columns(x, stop, sum(sizes.values()))
    axis = graph.constant([1], np.int64)
    scan = graph.add("Unsqueeze", graph.columns(x, start, stop), axis)
    for (weight, bias), stride in zip(form.encoder.layers, form.encoder.strides, strict=True):
        filters = tensors[weight], tensors[bias]
        scan, length = _convolved(graph, scan, length, filters, stride)
        scan = graph.add("Relu", scan)
    return graph.add("Concat", graph.add("Flatten", scan), *others, axis=1)


def _convolved(
    graph: _Graph, x: str, length: int, filters: tuple[Array, Array], stride: int
) -> tuple[str, int]:
    """Convolve (N, inputs, length) to (N, outputs, places); return its name and the places.

    ONNX's own convolution is missing in double precision in onnxruntime, so there it is a product
    of a matrix with all windows.
    """
    weight, bias = filters
    outputs, inputs, width = weight.shape
    places = (length - width) // stride + 1
    if graph.dtype is np.float32:
        constants = [graph.constant(value) for value in filters]
        return graph.add("Conv", x, *constants, strides=[stride]), places
    index = stride * np.arange(places)[:, None] + np.arange(width)
    windows = graph.add("Gather", x, graph.constant(index, np.int64), axis=2)
    windows = graph.add("Transpose", windows, perm=[0, 2, 1, 3])  # (N, places, inputs, width)
    shape = graph.constant([0, places, inputs * width], np.int64)
    rows = graph.add("Reshape", windows, shape)
    product = graph.add("MatMul", rows, graph.constant(weight.reshape(outputs, -1).T))
    summed = graph.add("Add", product, graph.constant(bias))
    return graph.add("Transpose", summed, perm=[0, 2, 1]), places


def _remembered(graph: _Graph, tensors: Sequence[Array], x: str) -> str:
    """Take a step of the LSTM layer; `f110_fl.learners.networks.lstm` has its equations."""
    weight, hidden, bias = tensors
    units = hidden.shape[1]
    seen = graph.add("Gemm", x, graph.constant(weight), graph.constant(bias), transB=1)
    h, c = (graph.cast(name, dtype=graph.dtype) for name in "hc")
    gates = graph.add("Gemm", h, graph.constant(hidden), seen, transB=1)
    i, f, o = (
        graph.add("Sigmoid", graph.columns(gates, k * units, (k + 1) * units)) for k in range(3)
    )
    g = graph.add("Tanh", graph.columns(gates, 3 * units, 4 * units))
    cells = graph.add("Add", graph.add("Mul", f, c), graph.add("Mul", i, g))
    outputs = graph.add("Mul", o, graph.add("Tanh", cells))
    graph.cast(cells, "next_c")
    graph.cast(outputs, "next_h")
    return outputs


def _layers(graph: _Graph, form: PolicyFormat, tensors: Mapping[str, Array], x: str) -> str:
    layers = [(tensors[weight], tensors[bias]) for weight, bias in form.layers]
    if form.duelling:  # the value is the same for all actions: their advantages decide
        half = len(layers[-2][1]) // 2
        layers[-2] = layers[-2][0][half:], layers[-2][1][half:]
        layers[-1] = layers[-1][0][1:], layers[-1][1][1:]
    for i, (weight, bias) in enumerate(layers):
        x = graph.add("Gemm", x, graph.constant(weight), graph.constant(bias), transB=1)
        if i < len(layers) - 1:
            x = graph.add("Tanh" if form.activation == "tanh" else "Relu", x)
    return x


def _chosen(graph: _Graph, form: PolicyFormat, x: str) -> str:
    if form.output == "argmax":
        best = graph.add("ArgMax", x, axis=1, keepdims=0)
        return graph.add("Gather", graph.constant(form.actions), best)
    first = graph.columns(x, 0, 2)  # what follows is deviations
    if form.output == "tanh":
        return graph.add("Tanh", first)
    return graph.add("Clip", first, graph.constant(-1.0), graph.constant(1.0))
