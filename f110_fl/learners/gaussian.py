"""Multilayer perceptrons with a linear output, and Gaussian policies made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor, nn

Activation = Literal["tanh", "relu"]

LOG_SQRT_2_PI: Final = 0.5 * math.log(2.0 * math.pi)


class Mlp(nn.Module):
    """Hidden layers of one activation, then a linear layer.

    Args:
        sizes: Widths of input, hidden layers and output.
        activation: Of the hidden layers.
        gain: The output layer's orthogonal initial weights are this times an isometry, those of
            the hidden layers sqrt(2) times one, all biases 0. None draws weights and biases from
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
        # Indexing a ParameterList costs more than a layer on one observation.
        self._layers = tuple(zip(self.weights, self.biases, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (B, first size) to outputs (B, last size)."""
        for weight, bias in self._layers[:-1]:
            x = F.linear(x, weight, bias)
            x = x.tanh_() if self.activation == "tanh" else x.relu_()
        weight, bias = self._layers[-1]
        return F.linear(x, weight, bias)


class GaussianActor(Mlp):
    """Normal distribution of actions: its mean from an `Mlp`, its deviation a parameter.

    Args:
        sizes: Widths of input, hidden layers and output.
        activation: Of the hidden layers.
        gain: See `Mlp`.
        log_std: First logarithm of every action component's standard deviation.
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

    def log_prob(self, mean: Tensor, action: Tensor) -> Tensor:
        """Log density of actions (B, A) under means (B, A): (B,)."""
        z = (action - mean) * torch.exp(-self.log_std)
        return -0.5 * z.square().sum(-1) - self.log_std.sum() - mean.shape[-1] * LOG_SQRT_2_PI

    def entropy(self) -> Tensor:
        """Differential entropy, the same for all observations: ()."""
        return self.log_std.sum() + len(self.log_std) * (0.5 + LOG_SQRT_2_PI)
