"""A policy's network with NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.robot.contract import ContractError

Array = NDArray[np.float32]
Float = NDArray[np.float64]

_EPSILON: Final = 1e-8  # added to variances


class Memory(NamedTuple):
    """What an LSTM layer remembers: its outputs and cells, (units,) each; empty without one."""

    h: Float
    c: Float


class Network:
    """Maps an observation to an action in [-1, 1]^2, in double precision.

    So it differs from PyTorch, single precision, by PyTorch's rounding alone.

    Args:
        form: `sim.policy.PolicyFormat` as JSON.
        tensors: By the names in it.

    Raises:
        ContractError: If a tensor is missing or does not fit.
    """

    def __init__(self, form: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        def read(name: str) -> Float:
            if name not in tensors:
                raise ContractError(f"tensor {name!r} is missing")
            return np.ascontiguousarray(tensors[name], np.float64)

        self._layers = [(read(weight), read(bias)) for weight, bias in form["layers"]]
        if form.get("duelling"):  # the value is the same for all actions: their advantages decide
            self._layers[-2:] = _advantages(*self._layers[-2:])
        self._tanh = form["activation"] == "tanh"
        self._output = form["output"]
        self._actions = np.array(form.get("actions", ()))
        self._mean = read(form["mean"]) if form.get("mean") else None
        self._scale = np.ones(1)
        if form.get("variance"):
            self._scale = 1.0 / np.sqrt(read(form["variance"]) + _EPSILON)
        self._limit = form.get("limit")
        encoder, memory = form.get("encoder"), form.get("memory")
        self._filters = [(read(w), read(b)) for w, b in encoder["layers"]] if encoder else []
        self._strides = list(encoder["strides"]) if encoder else []
        self._scan = _columns(form["observation"], "lidar") if encoder else slice(0, 0)
        names = [memory[name] for name in ("input", "hidden", "bias")] if memory else []
        self._lstm = [read(name) for name in names]

    def memory(self) -> Memory:
        """What it remembers before the first observation of an episode: nothing."""
        units = self._lstm[1].shape[1] if self._lstm else 0
        return Memory(np.zeros(units), np.zeros(units))

    def act(self, observation: Array, memory: Memory) -> tuple[Array, Memory]:
        """Choose an action.

        Args:
            observation: (D,).
            memory: From `memory` or the last call.

        Returns:
            The action, (2,), and what to remember.
        """
        x = observation.astype(np.float64)
        if self._mean is not None:
            x = (x - self._mean) * self._scale
        if self._limit is not None:
            x = np.minimum(np.maximum(x, -self._limit), self._limit)
        if self._filters:
            x = self._encode(x)
        if self._lstm:
            memory = self._remember(x, memory)
            x = memory.h
        last = len(self._layers) - 1
        for i, (weight, bias) in enumerate(self._layers):
            x = weight @ x + bias
            if i < last:
                x = np.tanh(x) if self._tanh else np.maximum(x, 0.0)
        return self._choose(x).astype(np.float32), memory

    def _choose(self, x: Float) -> Float:
        """Turn the last layer's outputs into an action."""
        if self._output == "argmax":
            action: Float = self._actions[int(np.argmax(x))]
        elif self._output == "tanh":
            action = np.tanh(x[:2])
        else:
            action = np.minimum(np.maximum(x[:2], -1.0), 1.0)
        return action

    def _encode(self, x: Float) -> Float:
        """Convolve along the scan; the rest of the observation follows, in its order."""
        seen = x[None, self._scan]  # (1, B)
        for (weight, bias), stride in zip(self._filters, self._strides, strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(seen, weight.shape[2], axis=1)
            windows = windows[:, ::stride]  # (inputs, places, width)
            seen = np.tensordot(weight, windows, axes=([1, 2], [0, 2])) + bias[:, None]
            seen = np.maximum(seen, 0.0)
        return np.concatenate((seen.ravel(), x[: self._scan.start], x[self._scan.stop :]))

    def _remember(self, x: Float, memory: Memory) -> Memory:
        """Take a step of the LSTM layer; `f110_fl.learners.networks.lstm` has its equations."""
        weight, hidden, bias = self._lstm
        gates = bias + weight @ x + hidden @ memory.h
        units = len(memory.h)
        i, f, o = _sigmoid(gates[: 3 * units]).reshape(3, units)
        c = f * memory.c + i * np.tanh(gates[3 * units :])
        return Memory(o * np.tanh(c), c)


def _sigmoid(x: Float) -> Float:
    logistic: Float = 0.5 * (1.0 + np.tanh(0.5 * x))
    return logistic


def _advantages(
    hidden: tuple[Float, Float], output: tuple[Float, Float]
) -> list[tuple[Float, Float]]:
    """Return the last two layers of a duelling network without those of the state's value."""
    half = len(hidden[1]) // 2
    return [(hidden[0][half:], hidden[1][half:]), (output[0][1:], output[1][1:])]


def _columns(parts: Any, name: str) -> slice:
    """Return where a part is in an observation."""
    start = 0
    for part, size in parts:
        if part == name:
            return slice(start, start + size)
        start += size
    raise ContractError(f"the observation has no {name}")
