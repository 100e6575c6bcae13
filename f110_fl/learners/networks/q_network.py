"""Values of all actions of a finite set, duelling and noisy if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor, nn

from f110_fl.learners.networks.actor_critic import Encoded, Encoder, draw_parameters

# A layer after the other: (inputs,), then (outputs,), already f(epsilon).
Noise = list[Tensor]


class QNetwork(Encoded):
    """ReLU hidden layers and one output per action.

    Duelling (Wang et al. 2016, equation 9), the last hidden layer is there twice, for the
    state's value and for the advantages; both are one matrix here, and so are their outputs,
    whose first row is the value's.

    Noisy (Fortunato et al. 2018, equations 9 to 11), every weight and bias has a deviation as
    well, with factorised noise.

    Args:
        observation_size: D.
        actions: K.
        hidden: Widths of the hidden layers.
        duelling: Whether there are two streams.
        sigma: Initial deviation of the noise times sqrt(inputs); None for no noise.
        generator: Draws the initial weights.
        encoder: See `Encoded`; it has no noise.
    """

    def __init__(
        self,
        observation_size: int,
        actions: int,
        hidden: Sequence[int],
        *,
        duelling: bool,
        sigma: float | None,
        generator: torch.Generator,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__(observation_size, encoder)
        self._width = hidden[-1]
        self._duelling = duelling
        shapes = [(n, m) for m, n in pairwise((self.features, *hidden, actions))]
        if duelling:
            (width, inputs), (_, streams) = shapes[-2:]
            shapes[-2:] = [(2 * width, inputs), (1 + actions, streams)]
        fan_ins = [inputs for _, inputs in shapes]
        self.weights = draw_parameters(shapes, fan_ins, generator)
        self.biases = draw_parameters([shape[:1] for shape in shapes], fan_ins, generator)
        self._layers = tuple(zip(self.weights, self.biases, strict=True))
        self._sigmas: tuple[tuple[nn.Parameter, nn.Parameter], ...] = ()
        if sigma is not None:
            self.weight_sigmas = nn.ParameterList(
                torch.full(shape, sigma * shape[1] ** -0.5) for shape in shapes
            )
            self.bias_sigmas = nn.ParameterList(
                torch.full(shape[:1], sigma * shape[1] ** -0.5) for shape in shapes
            )
            self._sigmas = tuple(zip(self.weight_sigmas, self.bias_sigmas, strict=True))

    def draw_noise(self, generator: torch.Generator) -> Noise:
        """Draw the noise of every layer on the CPU; empty if the network has none."""
        sizes = [size for weight, _ in self._sigmas for size in reversed(weight.shape)]
        device = self.weights[0].device
        return [_scaled_noise(size, generator).to(device) for size in sizes]

    def forward(self, observation: Tensor, noise: Noise | None = None) -> Tensor:
        """Map observations (B, D) to the actions' values (B, K).

        Args:
            observation: (B, D).
            noise: From `draw_noise`; None or empty for the mean weights.
        """
        layers = self._noisy(noise) if noise else self._layers
        x = observation if self.encoder is None else self.encoder(observation)
        for weight, bias in layers[:-1]:
            x = F.linear(x, weight, bias).relu_()
        weight, bias = layers[-1]
        if not self._duelling:
            return F.linear(x, weight, bias)
        value = F.linear(x[:, : self._width], weight[:1], bias[:1])
        advantage = F.linear(x[:, self._width :], weight[1:], bias[1:])
        return value + advantage - advantage.mean(1, keepdim=True)

    def _noisy(self, noise: Noise) -> tuple[tuple[Tensor, Tensor], ...]:
        """Weights and biases with this noise: w = mu + sigma * epsilon."""
        return tuple(
            (
                torch.addcmul(weight, weight_sigma, torch.outer(outputs, inputs)),
                torch.addcmul(bias, bias_sigma, outputs),
            )
            for (weight, bias), (weight_sigma, bias_sigma), inputs, outputs in zip(
                self._layers, self._sigmas, noise[::2], noise[1::2], strict=True
            )
        )


def _scaled_noise(size: int, generator: torch.Generator) -> Tensor:
    """f(epsilon) = sgn(epsilon) sqrt(|epsilon|) of normal numbers: (size,)."""
    noise = torch.empty(size).normal_(generator=generator)
    return noise.sign() * noise.abs().sqrt()
