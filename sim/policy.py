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

Or it is a directory of ``tools/export_policy.py``: ``contract.json`` has the format, ``policy.npz``
the tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from sim.config import Config, ObservationPart
from sim.layout import COMMAND_SIZE
from sim.network import ARGMAX, CLIP, RELU, TANH, Network, act, make_memory, make_scratch

Array = NDArray[np.float32]

METADATA: Final = "policy"  # key of the metadata entry

# Of an exported policy's directory, as `f110_fl.robot.contract` has them.
CONTRACT: Final = "contract.json"
ARRAYS: Final = "policy.npz"

_EPSILON: Final = np.float32(1e-8)  # added to variances
_EMPTY: Final = np.zeros(0, np.float32)
_CODES: Final = {"relu": RELU, "tanh": TANH, "clip": CLIP, "argmax": ARGMAX}


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

    def columns(self, name: ObservationPart) -> slice:
        """Return where a part is in the observation.

        Raises:
            PolicyError: If it is not observed.
        """
        start = 0
        for part, size in self.observation:
            if part == name:
                return slice(start, start + size)
            start += size
        raise PolicyError(f"{name} is not among the stated parts of the observation")

    @property
    def convolutions(self) -> list[tuple[str, str, int]]:
        """Names of filters and biases, and the stride, of each of the encoder's layers."""
        own = self.encoder
        pairs = zip(own.layers, own.strides, strict=True) if own is not None else ()
        return [(*names, stride) for names, stride in pairs]

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
        form = self.form
        if form.memory is not None:
            return int(self.tensors[form.memory.input].shape[1])
        if form.encoder is not None:
            return sum(size for _, size in form.observation)
        return int(self.tensors[form.layers[0][0]].shape[1])

    def actor(self, rows: int = 1) -> Actor:
        """Return what acts by it in so many episodes."""
        return Actor(self, rows)

    def act(self, observations: ArrayLike) -> Array:
        """Map observations (B, D) to actions (B, 2) in [-1, 1], each as an episode's first."""
        seen = np.ascontiguousarray(observations, np.float32)
        return self.actor(len(seen)).act(seen)


class Actor:
    """A policy in E episodes at once.

    Args:
        policy: The policy.
        rows: E.

    Attributes:
        memory: (E, 2, H) what it remembers of each; H is 0 for those that do not remember.
    """

    def __init__(self, policy: Policy, rows: int) -> None:
        self._network = make_network(policy)
        self._scratch = make_scratch(self._network, rows)
        self.memory = make_memory(self._network, rows)

    def reset(self, row: int) -> None:
        """Forget an episode: another one begins."""
        self.memory[row] = 0.0

    def act(self, observations: Array) -> Array:
        """Map observations (E, D) to actions (E, 2) in [-1, 1], and remember."""
        actions = np.zeros((len(observations), COMMAND_SIZE), np.float32)
        self.write(np.ascontiguousarray(observations, np.float32), actions, 0, len(actions))
        return actions

    def write(self, observations: Array, actions: Array, first: int, last: int) -> None:
        """Write the actions (E, 2) of the episodes ``first`` to ``last - 1``, and remember.

        Different ranges may be written by different threads at the same time.
        """
        act(self._network, observations, self.memory, self._scratch, actions, first, last)


# TypeError: a type numpy lacks, or what is no contract.
_UNREADABLE: Final = OSError, ValueError, SafetensorError, TypeError, KeyError, EOFError, BadZipFile
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
            not finite.
    """
    found: dict[str, Array] = {}
    for name in form.names:
        if name not in tensors:
            raise PolicyError(f"tensor {name!r} is missing")
        found[name] = np.array(tensors[name], np.float32, order="C")
        if not np.isfinite(found[name]).all():
            raise PolicyError(f"tensor {name!r} holds a number that is not finite")
    stated = sum(size for _, size in form.observation)
    if form.encoder is not None:
        inputs, width = stated, _encoded(form, found)
    elif form.memory is not None:
        inputs, width = _remembered(form.memory, found)
    else:
        first = found[form.layers[0][0]]
        inputs = width = first.shape[1] if first.ndim == 2 else 0

    if form.variance is not None and (found[form.variance] < 0.0).any():
        raise PolicyError(f"tensor {form.variance!r} holds negative variances")
    for i, (weights, biases) in enumerate(form.layers):
        outputs = len(found[weights]) if found[weights].ndim else 0
        _check(found, weights, (outputs, width))
        _check(found, biases, (outputs,))
        width = outputs
        if form.duelling and i == len(form.layers) - 2:
            width = outputs // 2
    for vector in (form.mean, form.variance):
        if vector is not None:
            _check(found, vector, (inputs,))
    needed = len(form.actions) + form.duelling or COMMAND_SIZE
    if width < needed or (form.actions and width > needed):
        raise PolicyError(f"output {form.output!r} of {width} numbers; {needed} are needed")
    if form.observation and stated != inputs:
        raise PolicyError(f"the observation has {stated} numbers, the first layer takes {inputs}")
    return Policy(form, found)


def _check(found: Mapping[str, Array], name: str, needed: tuple[int, ...]) -> None:
    if found[name].shape != needed:
        raise PolicyError(f"tensor {name!r} has shape {found[name].shape}; {needed} is needed")


def _encoded(form: PolicyFormat, found: Mapping[str, Array]) -> int:
    """Check an encoder's tensors, and return how many features it makes."""
    scan = form.columns("lidar")
    channels, beams = 1, scan.stop - scan.start
    for weights, biases, stride in form.convolutions:
        outputs, _, width = found[weights].shape if found[weights].ndim == 3 else (0, 0, 0)
        _check(found, weights, (outputs, channels, width))
        _check(found, biases, (outputs,))
        if not 0 < width <= beams:
            raise PolicyError(f"tensor {weights!r} is {width} wide; allowed: 1 to {beams}")
        channels, beams = outputs, (beams - width) // stride + 1
    rest = sum(size for _, size in form.observation) - (scan.stop - scan.start)
    return int(channels * beams + rest)


def _remembered(form: MemoryFormat, found: Mapping[str, Array]) -> tuple[int, int]:
    """Check a memory's tensors, and return how many numbers it observes and has for outputs."""
    first = found[form.input]
    inputs, units = (first.shape[1], len(first) // 4) if first.ndim == 2 else (0, 0)
    for name, shape in (
        (form.input, (4 * units, inputs)),
        (form.hidden, (4 * units, units)),
        (form.bias, (4 * units,)),
    ):
        _check(found, name, shape)
    return inputs, units


def load_policy(path: Path, agent: str | None = None) -> Policy:
    """Read an agent's policy from a file, or from the directory of an exported one.

    Args:
        path: As described above.
        agent: Name of the agent; None: the only one.

    Raises:
        PolicyError: If there is no such file, agent or policy.
    """
    read = _read_exported if path.is_dir() else _read
    try:
        return read(path, agent)
    except PolicyError as error:
        who = "" if agent is None else f"{agent!r}: "
        raise PolicyError(f"{path}: {who}{error}") from None
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        kind = "safetensors file" if read is _read else "exported policy"
        raise PolicyError(f"{path}: not a readable {kind}: {reason}") from None


def _read(path: Path, agent: str | None) -> Policy:
    with safe_open(path, framework="numpy") as file:
        agent, form = _format_of(agent, policy_formats(file.metadata() or {}))
        there = set(file.keys())
        names = {name: f"{agent}/{name}" for name in form.names}
        return make_policy(
            form, {k: file.get_tensor(name) for k, name in names.items() if name in there}
        )


def _read_exported(path: Path, agent: str | None) -> Policy:
    contract = json.loads((path / CONTRACT).read_bytes())
    forms = _FORMATS.validate_json(json.dumps({contract["agent"]: contract["policy"]}))
    with np.load(path / ARRAYS) as file:
        return make_policy(_format_of(agent, forms)[1], dict(file))


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


def _format_of(agent: str | None, forms: Mapping[str, PolicyFormat]) -> tuple[str, PolicyFormat]:
    if agent is None and len(forms) == 1:
        return next(iter(forms.items()))
    if agent is None or agent not in forms:
        known = ", ".join(map(repr, forms)) or "none"
        missing = "the agent must be named" if agent is None else "the file has no policy of it"
        raise PolicyError(f"{missing}; it has those of: {known}")
    return agent, forms[agent]


def make_network(policy: Policy) -> Network:
    """Prepare a policy for `sim.network.act`."""
    form, tensors = policy.form, policy.tensors
    size = policy.observation_size
    weights = [tensors[name] for name, _ in form.layers]
    biases = [tensors[name] for _, name in form.layers]
    variance = tensors[form.variance] if form.variance else np.ones(size, np.float32)
    if form.duelling:  # the value is the same for all actions: their advantages decide
        half = len(biases[-2]) // 2
        weights[-2:] = weights[-2][half:], weights[-1][1:]
        biases[-2:] = biases[-2][half:], biases[-1][1:]
    scan = slice(0, 0) if form.encoder is None else form.columns("lidar")
    filters = [(tensors[w], tensors[b], stride) for w, b, stride in form.convolutions]
    inputs, hidden, gates = _EMPTY.reshape(0, 0), _EMPTY.reshape(0, 0), _EMPTY
    if form.memory is not None:
        names = form.memory.input, form.memory.hidden, form.memory.bias
        inputs, hidden, gates = (tensors[name] for name in names)
    shapes = [(*found.shape, stride) for found, _, stride in filters]
    return Network(
        sizes=np.array([weights[0].shape[1], *map(len, biases)], np.int64),
        weights=np.concatenate([matrix.T.ravel() for matrix in weights]),
        biases=np.concatenate(biases),
        activation=_CODES[form.activation],
        output=_CODES[form.output],
        actions=np.array(form.actions, np.float32).reshape(-1, COMMAND_SIZE),
        mean=tensors[form.mean] if form.mean else np.zeros(size, np.float32),
        scale=1.0 / np.sqrt(variance + _EPSILON),
        limit=np.float32(form.limit or math.inf),
        scan=np.array([scan.start, scan.stop], np.int64),
        convolutions=np.array(shapes, np.int64).reshape(-1, 4),
        filters=np.concatenate([_EMPTY, *(found.ravel() for found, _, _ in filters)]),
        filter_biases=np.concatenate([_EMPTY, *(found for _, found, _ in filters)]),
        inputs=np.ascontiguousarray(inputs.T),
        hidden=np.ascontiguousarray(hidden.T),
        gate_biases=gates,
    )
