"""Multilayer perceptrons with a linear output, and fast passes through them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor, nn

Activation = Literal["tanh", "relu"]


class Mlp(nn.Module):
    """Hidden layers of one activation, then a linear layer.

    Args:
        sizes: Widths of input, hidden layers and output.
        activation: Activation of the hidden layers.
        gain: Gain of the output layer's orthogonal initial weights; that of the hidden layers is
            sqrt(2), and all biases are 0. None draws weights and biases from
            U(-1/sqrt(fan in), 1/sqrt(fan in)) instead, as PyTorch's layers do.
        generator: Draws the initial weights.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Activation,
        gain: float | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.activation = activation
        last = len(sizes) - 2
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            weight, bias = torch.empty(outputs, inputs), torch.zeros(outputs)
            if gain is None:
                bound = inputs**-0.5
                weight.uniform_(-bound, bound, generator=generator)
                bias.uniform_(-bound, bound, generator=generator)
            else:
                nn.init.orthogonal_(weight, gain if layer == last else math.sqrt(2.0), generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (B, first size) to outputs (B, last size)."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.linear(x, weight, bias)
            if layer < last:
                x = x.tanh() if self.activation == "tanh" else x.relu()
        return x


class GaussianActor(Mlp):
    """A diagonal normal distribution of actions: an `Mlp` is its mean, a parameter its deviation.

    Args:
        sizes: Widths of input, hidden layers and output.
        activation: Activation of the hidden layers.
        gain: See `Mlp`.
        log_std: Initial logarithm of every action component's standard deviation.
        generator: Draws the initial weights.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Activation,
        gain: float | None,
        log_std: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(sizes, activation, gain, generator)
        self.log_std = nn.Parameter(torch.full((sizes[-1],), log_std))


class MlpPass:
    """Forward and backward pass of an `Mlp` on batches of one size, into memory of its own.

    For two hidden layers of 64 units and 64 rows, both passes take 57 us where autograd, whose
    bookkeeping outweighs such small products, takes 138 us. A row's output does not depend on
    what the other rows hold.

    Args:
        network: Its parameters are read at each pass.
        rows: Size of the batch, B.
    """

    def __init__(self, network: Mlp, rows: int) -> None:
        self.rows = rows
        self._tanh = network.activation == "tanh"
        self._biases = [bias.detach() for bias in network.biases]
        self._weights = [weight.detach() for weight in network.weights]
        self._transposed = [weight.T for weight in self._weights]
        self._outputs = [bias.new_empty(rows, len(bias)) for bias in self._biases]
        self._deltas = [torch.empty_like(output) for output in self._outputs[:-1]]
        self._gradients = [
            (weight.grad, bias.grad)
            for weight, bias in zip(network.weights, network.biases, strict=True)
        ]
        self._ones = self._biases[0].new_ones(rows)
        self._input = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (B, first size) to outputs (B, last size), valid until the next call."""
        self._input = x
        layers = zip(self._biases, self._transposed, self._outputs, strict=True)
        for layer, (bias, transposed, output) in enumerate(layers, 1):
            torch.addmm(bias, x, transposed, out=output)
            if layer < len(self._outputs):
                output.tanh_() if self._tanh else output.relu_()
            x = output
        return x

    def backward(self, gradient: Tensor) -> Tensor:
        """Write the parameters' gradients, which must exist, over what they were.

        Args:
            gradient: (B, last size), of the loss with respect to the latest `forward`'s output.

        Returns:
            The gradient with respect to the first layer's output before its activation, (B, its
            size), valid until the next call: times that layer's weights, it is the gradient with
            respect to the input.
        """
        for layer in range(len(self._weights) - 1, -1, -1):
            x = self._outputs[layer - 1] if layer else self._input
            weight_gradient, bias_gradient = self._gradients[layer]
            transposed = gradient.T
            torch.mm(transposed, x, out=weight_gradient)
            torch.mv(transposed, self._ones, out=bias_gradient)  # faster than torch.sum
            if layer:
                gradient = torch.mm(gradient, self._weights[layer], out=self._deltas[layer - 1])
                if self._tanh:  # tanh' = 1 - tanh^2; the outputs are not needed any more
                    gradient.addcmul_(gradient, torch.square(x, out=x), value=-1.0)
                else:
                    gradient.mul_(torch.sign(x, out=x))
        return gradient
