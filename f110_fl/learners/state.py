"""What a learner keeps between rounds, as named tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from f110_fl.learners.optimizer import ADAM_SLOTS, Adam
from f110_fl.tensors import TensorName


def pack_generator(generator: np.random.Generator | torch.Generator) -> Tensor:
    """State of a generator, (n,) uint8: of NumPy's as bytes of JSON."""
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


def load_named(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy ``tensors`` into those of ``targets`` with the same names.

    Raises:
        ValueError: If a name is unknown or a shape is wrong; then nothing is copied.
    """
    for name, tensor in tensors.items():
        if name not in targets:
            raise ValueError(f"unknown tensor {name!r}")
        if tensor.shape != targets[name].shape:
            raise ValueError(
                f"tensor {name!r} has shape {tuple(tensor.shape)}, "
                f"expected {tuple(targets[name].shape)}"
            )
    for name, tensor in tensors.items():
        targets[name].copy_(tensor)
