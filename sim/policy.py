"""Trained policies in files, and how they act, whatever algorithm trained them.

A policy is a multilayer perceptron from an observation to an action in [-1, 1]^2, which may stand
on a memory or on convolutions of the scan. Its file is a safetensors file, which may hold much
else: networks and optimizers of several agents, each tensor named ``AGENT/NAME``. The metadata
entry ``policy``, a JSON object with a `PolicyFormat` for each agent, says which of them are a
policy's::

    {"car_0": {"layers": [["model/actor/weights.0", "model/actor/biases.0"],
                          ["model/actor/weights.1", "model/actor/biases.1"]],
               "activation": "relu", "output": "tanh",
               "observation": [["lidar", 54], ["pose", 4], ["others", 4]]}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from sim.config import Config, ObservationPart
from sim.layout import COMMAND_SIZE

Array = NDArray[np.float32]

METADATA: Final = "policy"  # key of the metadata entry

_EPSILON: Final = np.float32(1e-8)  # added to variances
# Codes of what comes after a layer.
_RELU: Final = 0
_TANH: Final = 1
_CLIP: Final = 2
_ARGMAX: Final = 3
_CODES: Final = {"relu": _RELU, "tanh": _TANH, "clip": _CLIP, "argmax": _ARGMAX}


class PolicyError(ValueError):
    """A policy's file cannot be used; one line says which, what is wrong and what is allowed."""


class ConvFormat(Config):
    """Convolutions along the scan, each with ReLU, then the rest of the observation."""

    layers: tuple[tuple[str, str], ...] = Field(
        min_length=1, description="Filters (outputs, inputs, width) and biases (outputs,). [names]"
    )
    strides: tuple[int, ...] = Field(description="Steps of each layer's filters. [beams]")

    @model_validator(mode="after")
    def _consistent(self) -> ConvFormat:
        if len(self.strides) != len(self.layers) or min(self.strides) < 1:
            raise ValueError("strides must be one a layer, at least 1")
        return self


class MemoryFormat(Config):
    """A layer of LSTM units, whose outputs are the first layer's inputs.

    Rows of its parameters are those of the gates i, f, o and of g, in this order.
    """

    input: str = Field(description="Weights of the observation, (4 units, D). [name]")
    hidden: str = Field(description="Weights of the last outputs, (4 units, units). [name]")
    bias: str = Field(description="(4 units,). [name]")


class PolicyFormat(Config):
    """Which tensors make up an agent's policy, and how. Names are those after ``AGENT/``."""

    layers: tuple[tuple[str, str], ...] = Field(
        min_length=1, description="Weights (outputs, inputs) and biases (outputs,). [names]"
    )
    activation: Literal["relu", "tanh"] = Field(description="Of all layers except the last. [-]")
    output: Literal["tanh", "clip", "argmax"] = Field(
        description="tanh, clip: the action is the first two outputs, squashed, or clipped to "
        "[-1, 1]; argmax: it is the entry of actions with the largest output. [-]"
    )
    actions: tuple[tuple[float, float], ...] = Field(
        (), description="Actions to choose from, for argmax, each in [-1, 1]^2. [-]"
    )
    duelling: bool = Field(
        False,
        description="For argmax: the last hidden layer is there twice, for the state's value and "
        "for the advantages, and the last layer's first row is the value's. [bool]",
    )
    observation: tuple[tuple[ObservationPart, int], ...] = Field(
        (), description="Parts of the observation and their sizes; empty: the environment's. [-]"
    )
    mean: str | None = Field(None, description="Tensor subtracted from the observation. [name]")
    variance: str | None = Field(
        None, description="Tensor: what is left is divided by the root of it plus 1e-8. [name]"
    )
    limit: float | None = Field(
        None, gt=0, description="What is left is clipped to [-limit, limit]. [-]"
    )
    encoder: ConvFormat | None = Field(None, description="Before the first layer. [-]")
    memory: MemoryFormat | None = Field(None, description="Before the first layer. [-]")

    @model_validator(mode="after")
    def _consistent(self) -> PolicyFormat:
        if (self.output == "argmax") != bool(self.actions):
            raise ValueError(f"output {self.output!r} with {len(self.actions)} actions")
        if any(not -1.0 <= value <= 1.0 for action in self.actions for value in action):
            raise ValueError("actions must be in [-1, 1]")
        if self.duelling and (self.output != "argmax" or len(self.layers) < 2):
            raise ValueError("duelling needs argmax and a hidden layer")
        if self.encoder is not None and self.memory is not None:
            raise ValueError("encoder and memory exclude each other")
        return self

    @property
    def drives(self) -> bool:
        """Whether scripted cars can drive by it: the simulator runs layers alone."""
        return self.encoder is None and self.memory is None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its tensors."""
        layers = [*self.layers, *(self.encoder.layers if self.encoder else ())]
        memory = [self.memory.input, self.memory.hidden, self.memory.bias] if self.memory else []
        normaliser = [name for name in (self.mean, self.variance) if name is not None]
        return (*(name for layer in layers for name in layer), *memory, *normaliser)


class Policy(NamedTuple):
    """A policy in memory."""

    form: PolicyFormat
    tensors: dict[str, Array]  # those that the format names

    @property
    def observation_size(self) -> int:
        """How many numbers it observes, D."""
        return int(self.tensors[self.form.layers[0][0]].shape[1])

    def act(self, observations: ArrayLike) -> Array:
        """Map observations (B, D) to actions (B, 2) in [-1, 1]."""
        rows = np.ascontiguousarray(observations, np.float32)
        network = make_network(self)
        actions = np.zeros((len(rows), COMMAND_SIZE), np.float32)
        act(network, rows, make_scratch(network, 1), actions, 0, len(rows))
        return actions


_FORMATS: Final = TypeAdapter(dict[str, PolicyFormat])


def policy_metadata(forms: Mapping[str, PolicyFormat]) -> dict[str, str]:
    """Return the metadata of a file with these agents' policies."""
    text = _FORMATS.dump_json(dict(sorted(forms.items())), exclude_defaults=True)
    return {METADATA: text.decode()}


def make_policy(form: PolicyFormat, tensors: Mapping[str, ArrayLike]) -> Policy:
    """Put a policy together from tensors, and check it.

    Args:
        form: How they make it up.
        tensors: Those that the format names, and others.

    Raises:
        PolicyError: If one is missing, has a shape that does not fit, or holds a number that is
            not finite, or if scripted cars cannot drive by it.
    """
    if not form.drives:
        raise PolicyError("no scripted car drives by a network with a memory or an encoder")
    found: dict[str, Array] = {}
    for name in form.names:
        if name not in tensors:
            raise PolicyError(f"tensor {name!r} is missing")
        found[name] = np.array(tensors[name], np.float32, order="C")
        if not np.isfinite(found[name]).all():
            raise PolicyError(f"tensor {name!r} holds a number that is not finite")
    first = found[form.layers[0][0]]
    inputs = first.shape[1] if first.ndim == 2 else 0

    def check(name: str, needed: tuple[int, ...]) -> None:
        if found[name].shape != needed:
            raise PolicyError(f"tensor {name!r} has shape {found[name].shape}; {needed} is needed")

    if form.variance is not None and (found[form.variance] < 0.0).any():
        raise PolicyError(f"tensor {form.variance!r} holds negative variances")
    width = inputs
    for i, (weights, biases) in enumerate(form.layers):
        outputs = len(found[weights]) if found[weights].ndim else 0
        check(weights, (outputs, width))
        check(biases, (outputs,))
        width = outputs
        if form.duelling and i == len(form.layers) - 2:
            width = outputs // 2
    for vector in (form.mean, form.variance):
        if vector is not None:
            check(vector, (inputs,))
    needed = len(form.actions) + form.duelling or COMMAND_SIZE
    if width < needed or (form.actions and width > needed):
        raise PolicyError(f"output {form.output!r} of {width} numbers; {needed} are needed")
    stated = sum(size for _, size in form.observation)
    if form.observation and stated != inputs:
        raise PolicyError(f"the observation has {stated} numbers, the first layer takes {inputs}")
    return Policy(form, found)


def load_policy(path: Path, agent: str) -> Policy:
    """Read an agent's policy from a file.

    Args:
        path: A safetensors file as described above.
        agent: Name of the agent.

    Raises:
        PolicyError: If there is no such file, agent or policy.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            form = _format_of(agent, file.metadata() or {})
            there = set(file.keys())
            names = {name: f"{agent}/{name}" for name in form.names}
            return make_policy(
                form, {k: file.get_tensor(name) for k, name in names.items() if name in there}
            )
    except PolicyError as error:
        raise PolicyError(f"{path}: {agent!r}: {error}") from None
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: a type numpy lacks
        raise PolicyError(f"{path}: not a readable safetensors file: {error}") from None


def policy_formats(metadata: Mapping[str, str]) -> dict[str, PolicyFormat]:
    """Return the formats of a file's policies by agent, from its metadata.

    Raises:
        PolicyError: If there is no entry of them, or an invalid one.
    """
    if METADATA not in metadata:
        raise PolicyError(f"the file's metadata has no entry {METADATA!r}")
    try:
        return _FORMATS.validate_json(metadata[METADATA], strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PolicyError(f"metadata {METADATA!r}: {where}: {first['msg']}") from None


def _format_of(agent: str, metadata: Mapping[str, str]) -> PolicyFormat:
    forms = policy_formats(metadata)
    if agent not in forms:
        known = ", ".join(map(repr, forms)) or "none"
        raise PolicyError(f"the file has no policy of it; it has those of: {known}")
    return forms[agent]


class Network(NamedTuple):
    """A policy for kernels: its layers one after the other in one array."""

    sizes: NDArray[np.int64]  # (L + 1,) widths, from the observation's to the output's
    weights: Array  # of each layer (inputs, outputs), so that the compiler can use vectors
    biases: Array
    activation: int
    output: int
    actions: Array  # (N, 2)
    mean: Array  # (D,)
    scale: Array  # (D,)
    limit: np.float32


def make_network(policy: Policy) -> Network:
    """Prepare a policy for `act`."""
    form, tensors = policy.form, policy.tensors
    size = policy.observation_size
    weights = [tensors[name] for name, _ in form.layers]
    biases = [tensors[name] for _, name in form.layers]
    variance = tensors[form.variance] if form.variance else np.ones(size, np.float32)
    if form.duelling:  # the value is the same for all actions: their advantages decide
        half = len(biases[-2]) // 2
        weights[-2:] = weights[-2][half:], weights[-1][1:]
        biases[-2:] = biases[-2][half:], biases[-1][1:]
    return Network(
        sizes=np.array([size, *map(len, biases)], np.int64),
        weights=np.concatenate([matrix.T.ravel() for matrix in weights]),
        biases=np.concatenate(biases),
        activation=_CODES[form.activation],
        output=_CODES[form.output],
        actions=np.array(form.actions, np.float32).reshape(-1, COMMAND_SIZE),
        mean=tensors[form.mean] if form.mean else np.zeros(size, np.float32),
        scale=1.0 / np.sqrt(variance + _EPSILON),
        limit=np.float32(form.limit or math.inf),
    )


def make_scratch(network: Network, rows: int) -> Array:
    """Working memory of `act`, (rows, 2, widest layer)."""
    return np.zeros((rows, 2, int(network.sizes.max())), np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def act(
    network: Network, observations: Array, scratch: Array, actions: Array, first: int, last: int
) -> None:
    """Act on the observations ``first`` to ``last - 1``, each for itself, in single precision.

    Args:
        network: The policy.
        observations: (E, D).
        scratch: From `make_scratch`; row ``first`` is written.
        actions: (E, 2), written.
        first: First observation.
        last: One past the last.
    """
    layers = len(network.sizes) - 1
    for e in range(first, last):
        x, y = scratch[first, 0], scratch[first, 1]
        for i in range(network.sizes[0]):
            value = (observations[e, i] - network.mean[i]) * network.scale[i]
            x[i] = min(max(value, -network.limit), network.limit)
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
def _activate(x: Array, activation: int) -> None:
    if activation == _RELU:
        for o in range(len(x)):
            x[o] = max(x[o], np.float32(0.0))
    else:
        for o in range(len(x)):
            x[o] = math.tanh(x[o])


@njit(cache=True, nogil=True, error_model="numpy")
def _choose(outputs: Array, network: Network, action: Array) -> None:
    """Turn the last layer's outputs into an action."""
    if network.output == _ARGMAX:
        best = 0
        for k in range(1, len(network.actions)):
            if outputs[k] > outputs[best]:
                best = k
        action[:] = network.actions[best]
    else:
        for k in range(len(action)):
            squashed = network.output == _TANH
            action[k] = math.tanh(outputs[k]) if squashed else min(max(outputs[k], -1.0), 1.0)
