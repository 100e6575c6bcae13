"""What a learner keeps between rounds, as named tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from f110_fl.learners.optimizer import ADAM_SLOTS, Adam
from f110_fl.tensors import TensorName

Values = NDArray[Any] | Tensor


def pack_generator(generator: np.random.Generator | torch.Generator) -> Tensor:
    """Return the state of a generator, (n,) uint8; NumPy's is JSON in ASCII."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    text = json.dumps(generator.bit_generator.state)
    return torch.frombuffer(bytearray(text, "ascii"), dtype=torch.uint8)


def unpack_generator(generator: np.random.Generator | torch.Generator, packed: Tensor) -> None:
    """Set the state of ``generator`` to what ``pack_generator`` returned.

    Raises:
        ValueError: If the bytes are not the state of this kind of generator.
    """
    if isinstance(generator, torch.Generator):
        generator.set_state(packed)
        return
    try:
        generator.bit_generator.state = json.loads(packed.numpy().tobytes())
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not the state of a NumPy generator: {error}") from error


def entry(state: Mapping[str, Tensor], name: str) -> Tensor:
    """Return ``state[name]``.

    Raises:
        ValueError: If the entry is missing.
    """
    if name not in state:
        raise ValueError(f"local state lacks {name!r}")
    return state[name]


def copies(values: Mapping[str, Values]) -> dict[str, Tensor]:
    """Return copies of arrays and tensors as tensors on the CPU."""
    return {name: torch.as_tensor(x).to("cpu", copy=True) for name, x in values.items()}


def load_entries(targets: Mapping[str, Values], state: Mapping[str, Tensor], owner: str) -> None:
    """Copy entries of a state into the arrays and tensors with the same names.

    Args:
        targets: What to write to; their entries must be in ``state``.
        state: What to read from.
        owner: What errors call the owner of the entries.

    Raises:
        ValueError: If an entry is missing or has another shape; then nothing is copied.
    """
    for name, target in targets.items():
        shape = tuple(entry(state, name).shape)
        if shape != tuple(target.shape):
            raise ValueError(f"{owner} {name!r} has shape {shape}, expected {tuple(target.shape)}")
    for name, target in targets.items():
        torch.as_tensor(target).copy_(state[name])


def named_tensors(
    networks: Mapping[str, nn.Module], optimizers: Mapping[str, Adam]
) -> dict[str, Tensor]:
    """Name every parameter and Adam moment.

    Args:
        networks: By name.
        optimizers: Each under the names of the networks that it trains.

    Returns:
        ``model/<network>/<parameter>`` and ``optimizer/<optimizer>/<parameter>/<slot>``, as
        views without gradients that stay valid, since parameters and moments change in place.
    """
    tensors = {
        str(TensorName("model", name, key)): parameter.detach()
        for name, network in networks.items()
        for key, parameter in network.named_parameters()
    }
    for name, optimizer in optimizers.items():
        for key, parameter in networks[name].named_parameters():
            for slot in ADAM_SLOTS:
                slot_name = str(TensorName("optimizer", name, key, slot))
                tensors[slot_name] = optimizer.moments[parameter][slot]
    return tensors


def layer_names(network: str, hidden: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """Name weights and biases of a multilayer perceptron's layers as `named_tensors` does.

    Args:
        network: Its name.
        hidden: Widths of its hidden layers.
    """
    parts = ((f"weights.{layer}", f"biases.{layer}") for layer in range(len(hidden) + 1))
    return tuple((f"model/{network}/{w}", f"model/{network}/{b}") for w, b in parts)
