"""Actors and critics of TD3 and SAC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor, nn

LOG_STD_RANGE = (-20.0, 2.0)  # of a squashed normal distribution, as in its authors' code


def draw_parameters(
    shapes: Sequence[tuple[int, ...]], fan_ins: Sequence[int], generator: torch.Generator
) -> nn.ParameterList:
    """Draw from U(-1/sqrt(fan in), 1/sqrt(fan in)), as PyTorch's and TD3's layers are.

    Args:
        shapes: Shapes of the parameters.
        fan_ins: Inputs of the layer that each belongs to.
        generator: Draws them.
    """
    return nn.ParameterList(
        torch.empty(shape).uniform_(-(n**-0.5), n**-0.5, generator=generator)
        for shape, n in zip(shapes, fan_ins, strict=True)
    )


class Encoder(nn.Module):
    """Maps observations (B, D) to features (B, F); see `f110_fl.learners.networks.encoder`.

    Attributes:
        features: F.
    """

    features: int


class Encoded(nn.Module):
    """A network that sees observations through an encoder, if it has one.

    Args:
        observation_size: D.
        encoder: Maps observations to features; None: they are the features.

    Attributes:
        features: F.
    """

    def __init__(self, observation_size: int, encoder: Encoder | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.features = observation_size if encoder is None else encoder.features


class _ReluLayers(Encoded):
    """ReLU hidden layers, then a linear one.

    Args:
        observation_size: D.
        widths: Of hidden layers and output.
        generator: Draws the initial weights.
        encoder: See `Encoded`.
    """

    def __init__(
        self,
        observation_size: int,
        widths: Sequence[int],
        generator: torch.Generator,
        encoder: Encoder | None,
    ) -> None:
        super().__init__(observation_size, encoder)
        sizes = (self.features, *widths)
        shapes = [(outputs, inputs) for inputs, outputs in pairwise(sizes)]
        self.weights = draw_parameters(shapes, sizes[:-1], generator)
        self.biases = draw_parameters([shape[:1] for shape in shapes], sizes[:-1], generator)
        # Indexing a ParameterList costs more than a layer on one observation.
        self._layers = tuple(zip(self.weights, self.biases, strict=True))

    def linear(self, x: Tensor) -> Tensor:
        """Map observations (B, D) to outputs (B, last width)."""
        if self.encoder is not None:
            x = self.encoder(x)
        for weight, bias in self._layers[:-1]:
            x = F.linear(x, weight, bias).relu_()
        weight, bias = self._layers[-1]
        return F.linear(x, weight, bias)


class Actor(_ReluLayers):
    """Deterministic policy: ReLU hidden layers, tanh output in [-1, 1].

    Args:
        observation_size: D.
        action_size: A.
        hidden: Widths of the hidden layers.
        generator: Draws the initial weights.
        encoder: See `Encoded`.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__(observation_size, (*hidden, action_size), generator, encoder)

    def forward(self, observation: Tensor) -> Tensor:
        """Map observations (B, D) to actions (B, A)."""
        return self.linear(observation).tanh_()


class SquashedActor(_ReluLayers):
    """Normal distribution squashed by tanh (Haarnoja et al. 2018b, appendix C).

    Args:
        observation_size: D.
        action_size: A.
        hidden: Widths of the ReLU hidden layers.
        generator: Draws the initial weights.
        encoder: See `Encoded`.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__(observation_size, (*hidden, 2 * action_size), generator, encoder)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Map observations (B, D) to means and log deviations before squashing, (B, A) each."""
        mean, log_std = self.linear(observation).chunk(2, 1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def mode(self, observation: Tensor) -> Tensor:
        """Map observations (B, D) to the squashed means (B, A)."""
        return self.forward(observation)[0].tanh()

    def draw(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Map observations (B, D) with standard normal numbers (B, A) to actions (B, A)."""
        mean, log_std = self(observation)
        return torch.addcmul(mean, log_std.exp(), noise).tanh()

    def sample(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw actions and their log densities, both differentiable in the parameters.

        The density is that of equation 26, with log(1 - tanh^2 u) written as
        2 (log 2 - u - softplus(-2 u)), which stays finite and exact for large u.

        Args:
            observation: (B, D).
            noise: (B, A), standard normal.

        Returns:
            Actions (B, A) and log densities (B,).
        """
        mean, log_std = self(observation)
        u = torch.addcmul(mean, log_std.exp(), noise)
        # log N(u) - log(1 - tanh^2 u) of each component, constants apart
        terms = 2.0 * (u + F.softplus(-2.0 * u)) - log_std - 0.5 * noise.square()
        constant = 2.0 * math.log(2.0) + 0.5 * math.log(2.0 * math.pi)
        return u.tanh(), terms.sum(1) - u.shape[1] * constant


class TwinCritic(Encoded):
    """Two independent action values, evaluated together as batched matrix products.

    Both see what the same encoder, if there is one, makes of the observation.

    Args:
        observation_size: D.
        action_size: A.
        hidden: Widths of the hidden layers.
        generator: Draws the initial weights.
        encoder: See `Encoded`.
        layer_norm: Whether each hidden layer is normalised before its ReLU (Ba et al. 2016,
            equation 4), as in DroQ's critics (Hiraoka et al. 2022).
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        encoder: Encoder | None = None,
        *,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(observation_size, encoder)
        self._columns = observation_size, action_size
        sizes = list(pairwise((self.features + action_size, *hidden, 1)))
        fan_ins = [inputs for inputs, _ in sizes]
        self.weights = draw_parameters([(2, m, n) for m, n in sizes], fan_ins, generator)
        self.biases = draw_parameters([(2, 1, n) for _, n in sizes], fan_ins, generator)
        self._layers = tuple(zip(self.weights, self.biases, strict=True))
        self._norms: tuple[tuple[nn.Parameter, nn.Parameter] | None, ...] = (None,) * len(hidden)
        if layer_norm:
            self.gains = nn.ParameterList(torch.ones(2, 1, width) for width in hidden)
            self.offsets = nn.ParameterList(torch.zeros(2, 1, width) for width in hidden)
            self._norms = tuple(zip(self.gains, self.offsets, strict=True))

    def forward(self, observation_action: Tensor) -> Tensor:
        """Map observations with actions (B, D + A) to both critics' values (2, B)."""
        x = self._inputs(observation_action).expand(2, -1, -1)
        for (weight, bias), norm in zip(self._layers[:-1], self._norms, strict=True):
            x = torch.baddbmm(bias, x, weight)
            if norm is not None:
                gain, offset = norm
                x = torch.addcmul(offset, F.layer_norm(x, x.shape[-1:]), gain)
            x = x.relu_()
        weight, bias = self._layers[-1]
        return torch.baddbmm(bias, x, weight).squeeze(-1)

    def first(self, observation_action: Tensor) -> Tensor:
        """Map observations with actions (B, D + A) to the first critic's values (B,)."""
        x = self._inputs(observation_action)
        for (weight, bias), norm in zip(self._layers[:-1], self._norms, strict=True):
            x = torch.addmm(bias[0], x, weight[0])
            if norm is not None:
                gain, offset = norm
                x = torch.addcmul(offset[0], F.layer_norm(x, x.shape[-1:]), gain[0])
            x = x.relu_()
        weight, bias = self._layers[-1]
        return torch.addmm(bias[0], x, weight[0]).squeeze(-1)

    def _inputs(self, observation_action: Tensor) -> Tensor:
        """Map observations with actions (B, D + A) to features with actions (B, F + A)."""
        if self.encoder is None:
            return observation_action
        observation, action = observation_action.split(self._columns, 1)
        # Actions may have gradients, what they stand beside has none.
        return torch.cat((self.encoder(observation.detach()), action), 1)
