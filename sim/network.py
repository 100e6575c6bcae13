"""How trained policies act: networks in single precision, in compiled functions."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float32]
Sizes = NDArray[np.int64]

# Codes of what comes after a layer.
RELU: Final = 0
TANH: Final = 1
CLIP: Final = 2
ARGMAX: Final = 3


class Network(NamedTuple):
    """A policy for kernels, of D numbers observed, with its layers one after the other in arrays.

    There is an encoder if ``convolutions`` has rows, and a memory of H units if ``gate_biases`` has
    4 H numbers, those of the gates i, f, o and of g.
    """

    sizes: Sizes  # (L + 1,) widths, from the features' to the output's
    weights: Array  # of each layer (inputs, outputs), so that the compiler can use vectors
    biases: Array
    activation: int
    output: int
    actions: Array  # (N, 2)
    mean: Array  # (D,)
    scale: Array  # (D,)
    limit: np.float32
    scan: Sizes  # (2,) the scan's first column, and one past its last
    convolutions: Sizes  # (K, 4) of each layer: channels out, channels in, width, stride
    filters: Array  # of each layer (channels out, channels in, width)
    filter_biases: Array
    inputs: Array  # (D, 4 H)
    hidden: Array  # (H, 4 H)
    gate_biases: Array  # (4 H,)

    @property
    def units(self) -> int:
        """How many numbers are remembered, H."""
        return len(self.gate_biases) // 4


def make_scratch(network: Network, rows: int) -> Array:
    """Working memory of `act`, (rows, 3, widest layer)."""
    beams = int(network.scan[1] - network.scan[0])
    widths = [len(network.mean), len(network.gate_biases), int(network.sizes.max())]
    for channels, _, width, stride in network.convolutions.tolist():
        beams = (beams - width) // stride + 1
        widths.append(channels * beams + len(network.mean))
    return np.zeros((rows, 3, max(widths)), np.float32)


def make_memory(network: Network, rows: int) -> Array:
    """What is remembered when an episode begins, (rows, 2, H): outputs and cells, all zero."""
    return np.zeros((rows, 2, network.units), np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def act(
    network: Network,
    observations: Array,
    memory: Array,
    scratch: Array,
    actions: Array,
    first: int,
    last: int,
) -> None:
    """Act on the observations ``first`` to ``last - 1``, each for itself, in single precision.

    Args:
        network: The policy.
        observations: (E, D).
        memory: (E, 2, H) from `make_memory` or the last call, written.
        scratch: From `make_scratch`; row ``first`` is written.
        actions: (E, 2), written.
        first: First observation.
        last: One past the last.
    """
    layers = len(network.sizes) - 1
    for e in range(first, last):
        x, y = scratch[first, 0], scratch[first, 1]
        for i in range(len(network.mean)):
            value = (observations[e, i] - network.mean[i]) * network.scale[i]
            x[i] = min(max(value, -network.limit), network.limit)
        if len(network.convolutions):
            _encode(network, x, y, scratch[first, 2])
        if len(network.gate_biases):
            _remember(network, x, y, memory[e])
        row = bias = 0
        for layer in range(layers):
            outputs = network.sizes[layer + 1]
            y[:outputs] = network.biases[bias : bias + outputs]
            bias += outputs
            for i in range(network.sizes[layer]):
                value = x[i]
                if value != 0.0:  # of inactive units
                    weights = network.weights[row : row + outputs]
                    for o in range(outputs):
                        y[o] += value * weights[o]
                row += outputs
            x, y = y, x
            if layer < layers - 1:
                _activate(x[:outputs], network.activation)
        _choose(x, network, actions[e])


@njit(cache=True, nogil=True, error_model="numpy")
def _encode(network: Network, x: Array, y: Array, z: Array) -> None:
    """Replace an observation in ``x`` by its features: what the convolutions give, then the rest.

    Of each layer with its ReLU, channels come one after the other.
    """
    start, stop = network.scan[0], network.scan[1]
    beams, row, bias = stop - start, 0, 0
    y[:beams] = x[start:stop]
    for layer in range(len(network.convolutions)):
        shape = network.convolutions[layer]
        channels, inputs, width, stride = shape[0], shape[1], shape[2], shape[3]
        places = (beams - width) // stride + 1
        for o in range(channels):
            for place in range(places):
                total = network.filter_biases[bias + o]
                for c in range(inputs):
                    for k in range(width):
                        tap = network.filters[row + (o * inputs + c) * width + k]
                        total += tap * y[c * beams + place * stride + k]
                z[o * places + place] = max(total, np.float32(0.0))
        row += channels * inputs * width
        bias += channels
        beams = places
        y, z = z, y
    found = network.convolutions[-1, 0] * beams
    z[:start] = x[:start]
    z[start : len(network.mean) - stop + start] = x[stop : len(network.mean)]
    x[:found] = y[:found]
    x[found : found + len(network.mean) - stop + start] = z[: len(network.mean) - stop + start]


@njit(cache=True, nogil=True, error_model="numpy")
def _remember(network: Network, x: Array, gates: Array, memory: Array) -> None:
    """Take a step of the LSTM layer, whose outputs replace ``x``.

    Its equations are those of `f110_fl.learners.networks.lstm`.
    """
    count = len(network.gate_biases)
    units = count // 4
    outputs, cells = memory[0], memory[1]
    gates[:count] = network.gate_biases
    for i in range(len(network.mean)):
        value = x[i]
        for g in range(count):
            gates[g] += value * network.inputs[i, g]
    for i in range(units):
        value = outputs[i]
        for g in range(count):
            gates[g] += value * network.hidden[i, g]
    for u in range(units):
        keep = _logistic(gates[units + u]) * cells[u]
        cells[u] = keep + _logistic(gates[u]) * math.tanh(gates[3 * units + u])
    for u in range(units):
        outputs[u] = _logistic(gates[2 * units + u]) * math.tanh(cells[u])
        x[u] = outputs[u]


@njit(cache=True, nogil=True, error_model="numpy")
def _logistic(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))


@njit(cache=True, nogil=True, error_model="numpy")
def _activate(x: Array, activation: int) -> None:
    if activation == RELU:
        for o in range(len(x)):
            x[o] = max(x[o], np.float32(0.0))
    else:
        for o in range(len(x)):
            x[o] = math.tanh(x[o])


@njit(cache=True, nogil=True, error_model="numpy")
def _choose(outputs: Array, network: Network, action: Array) -> None:
    """Turn the last layer's outputs into an action."""
    if network.output == ARGMAX:
        best = 0
        for k in range(1, len(network.actions)):
            if outputs[k] > outputs[best]:
                best = k
        action[:] = network.actions[best]
    else:
        for k in range(len(action)):
            squashed = network.output == TANH
            action[k] = math.tanh(outputs[k]) if squashed else min(max(outputs[k], -1.0), 1.0)
