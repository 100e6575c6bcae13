"""The network of a policy in PyTorch, double precision: what exported ones are compared with.

In single precision, PyTorch's own result depends on how many rows it is asked for at once, by
more than what tells two programs apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.learners.networks.encoder import columns
from f110_fl.robot.network import Memory
from sim.policy import PolicyFormat

Array = NDArray[np.float32]


class Reference:
    """A `Runtime` of PyTorch's own layers.

    Args:
        form: How tensors make up the policy.
        tensors: By the names in it.
    """

    def __init__(self, form: PolicyFormat, tensors: Mapping[str, Array]) -> None:
        self._form = form
        self._tensors = {name: torch.from_numpy(x).double() for name, x in tensors.items()}
        self._cell: torch.nn.LSTMCell | None = None
        if form.memory is not None:
            weights = [form.memory.input, form.memory.hidden, form.memory.bias]
            self._cell = _cell(*(self._tensors[name] for name in weights))

    def memory(self) -> Memory:
        """What it remembers before the first observation; see `Runtime.memory`."""
        units = 0 if self._cell is None else self._cell.hidden_size
        return Memory(np.zeros(units), np.zeros(units))

    @torch.no_grad()
    def act(self, observation: Array, memory: Memory) -> tuple[Array, Memory]:
        """Choose an action; see `Runtime.act`."""
        form, tensors = self._form, self._tensors
        x = torch.from_numpy(observation[None]).double()
        if form.mean is not None:
            x = x - tensors[form.mean]
        if form.variance is not None:
            x = x / (tensors[form.variance] + 1e-8).sqrt()
        if form.limit is not None:
            x = x.clamp(-form.limit, form.limit)
        if form.encoder is not None:
            seen = columns(form.observation, "lidar")
            scan = x[:, None, seen]
            for (weight, bias), stride in zip(
                form.encoder.layers, form.encoder.strides, strict=True
            ):
                scan = F.conv1d(scan, tensors[weight], tensors[bias], stride).relu()
            x = torch.cat((scan.flatten(1), x[:, : seen.start], x[:, seen.stop :]), 1)
        if self._cell is not None:
            before = [torch.from_numpy(part[None]) for part in memory]
            h, c = self._cell(x, (before[0], before[1]))
            x, memory = h, Memory(h[0].numpy(), c[0].numpy())
        action: Array = self._choose(self._layers(x)).float().numpy()[0]
        return action, memory

    def _layers(self, x: Tensor) -> Tensor:
        """Run all layers; a duelling network's values are the mean-free advantages' (B, N)."""
        form, tensors = self._form, self._tensors
        for i, (weight, bias) in enumerate(form.layers[:-1]):
            if i == len(form.layers) - 2 and form.duelling:
                break
            x = F.linear(x, tensors[weight], tensors[bias])
            x = x.tanh() if form.activation == "tanh" else x.relu()
        weights, biases = (tensors[name] for name in form.layers[-1])
        if not form.duelling:
            return F.linear(x, weights, biases)
        both = F.linear(x, *(tensors[name] for name in form.layers[-2])).relu()
        advantage = F.linear(both.chunk(2, 1)[1], weights[1:], biases[1:])
        return advantage - advantage.mean(1, keepdim=True)

    def _choose(self, x: Tensor) -> Tensor:
        if self._form.output == "argmax":
            return torch.tensor(self._form.actions).double()[x.argmax(1)]
        return x[:, :2].tanh() if self._form.output == "tanh" else x[:, :2].clamp(-1.0, 1.0)


def _cell(weight: Tensor, hidden: Tensor, bias: Tensor) -> torch.nn.LSTMCell:
    """Return PyTorch's own LSTM cell, whose gates are in the order i, f, g, o."""
    units = hidden.shape[1]
    i, f, o, g = (torch.arange(k * units, (k + 1) * units) for k in range(4))
    order = torch.cat((i, f, g, o))
    cell = torch.nn.LSTMCell(weight.shape[1], units, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih.copy_(weight[order])
        cell.weight_hh.copy_(hidden[order])
        cell.bias_ih.copy_(bias[order])
        cell.bias_hh.zero_()
    return cell
