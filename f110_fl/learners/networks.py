"""Multilayer perceptrons of actor and critics, and the tensors of a learner by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor, nn

from f110_fl.learner_config import OptimizerConfig

LOG_STD_RANGE = (-20.0, 2.0)  # of a squashed normal distribution, as in its authors' code
ADAM_SLOTS = ("step", "exp_avg", "exp_avg_sq")


def draw_parameters(
    shapes: Sequence[tuple[int, ...]], fan_ins: Sequence[int], generator: torch.Generator
) -> nn.ParameterList:
    """Draw from U(-1/sqrt(fan in), 1/sqrt(fan in)), as PyTorch's and TD3's layers are.

    Args:
        shapes: Of the parameters.
        fan_ins: Inputs of the layer that each belongs to.
        generator: Draws them.
    """
    return nn.ParameterList(
        torch.empty(shape).uniform_(-(n**-0.5), n**-0.5, generator=generator)
        for shape, n in zip(shapes, fan_ins, strict=True)
    )


class Actor(nn.Module):
    """Deterministic policy: ReLU hidden layers, tanh output in [-1, 1].

    Args:
        observation_size: D.
        action_size: A.
        hidden: Widths of the hidden layers.
        generator: Draws the initial weights.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = list(pairwise((observation_size, *hidden, action_size)))
        fan_ins = [inputs for inputs, _ in sizes]
        self.weights = draw_parameters([(n, m) for m, n in sizes], fan_ins, generator)
        self.biases = draw_parameters([(n,) for _, n in sizes], fan_ins, generator)
        # Indexing a ParameterList costs more than a layer on one observation.
        self._layers = tuple(zip(self.weights, self.biases, strict=True))

    def forward(self, observation: Tensor) -> Tensor:
        """Map observations (B, D) to actions (B, A)."""
        x = observation
        for weight, bias in self._layers[:-1]:
            x = F.linear(x, weight, bias).relu_()
        weight, bias = self._layers[-1]
        return F.linear(x, weight, bias).tanh_()


class SquashedActor(nn.Module):
    """Normal distribution squashed by tanh (Haarnoja et al. 2018b, appendix C).

    Args:
        observation_size: D.
        action_size: A.
        hidden: Widths of the ReLU hidden layers.
        generator: Draws the initial weights.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = list(pairwise((observation_size, *hidden, 2 * action_size)))
        fan_ins = [inputs for inputs, _ in sizes]
        self.weights = draw_parameters([(n, m) for m, n in sizes], fan_ins, generator)
        self.biases = draw_parameters([(n,) for _, n in sizes], fan_ins, generator)
        self._layers = tuple(zip(self.weights, self.biases, strict=True))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Map observations (B, D) to means and log deviations before squashing, (B, A) each."""
        x = observation
        for weight, bias in self._layers[:-1]:
            x = F.linear(x, weight, bias).relu_()
        weight, bias = self._layers[-1]
        mean, log_std = F.linear(x, weight, bias).chunk(2, 1)
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


class TwinCritic(nn.Module):
    """Two independent action values, evaluated together as batched matrix products.

    Args:
        input_size: D + A.
        hidden: Widths of the hidden layers.
        generator: Draws the initial weights.
    """

    def __init__(self, input_size: int, hidden: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        sizes = list(pairwise((input_size, *hidden, 1)))
        fan_ins = [inputs for inputs, _ in sizes]
        self.weights = draw_parameters([(2, m, n) for m, n in sizes], fan_ins, generator)
        self.biases = draw_parameters([(2, 1, n) for _, n in sizes], fan_ins, generator)
        self._layers = tuple(zip(self.weights, self.biases, strict=True))

    def forward(self, observation_action: Tensor) -> Tensor:
        """Map observations with actions (B, D + A) to both critics' values (2, B)."""
        x = observation_action.expand(2, -1, -1)
        for weight, bias in self._layers[:-1]:
            x = torch.baddbmm(bias, x, weight).relu_()
        weight, bias = self._layers[-1]
        return torch.baddbmm(bias, x, weight).squeeze(-1)

    def first(self, observation_action: Tensor) -> Tensor:
        """Map observations with actions (B, D + A) to the first critic's values (B,)."""
        x = observation_action
        for weight, bias in self._layers[:-1]:
            x = torch.addmm(bias[0], x, weight[0]).relu_()
        weight, bias = self._layers[-1]
        return torch.addmm(bias[0], x, weight[0]).squeeze(-1)


class Adam:
    """Moments and settings of Adam or AdamW, named as in `torch.optim`; it takes no steps.

    Learners call PyTorch's fused step themselves, and constructing one of its optimizers
    imports its compiler, which takes as long as all of PyTorch else: more than a second.

    Args:
        parameters: What is trained.
        learning_rate: Of the steps.
        epsilon: Added to the root of the second moment.
        weight_decay: Part of the gradient or not, as who steps decides.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        epsilon: float,
        weight_decay: float,
    ) -> None:
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        group: dict[str, Any] = {"params": list(parameters), "lr": learning_rate}
        group |= {"betas": (0.9, 0.999), "eps": epsilon, "weight_decay": weight_decay}
        self.param_groups = [group]


def make_adam(network: nn.Module, learning_rate: float, epsilon: float = 1e-8) -> Adam:
    """Adam (Kingma and Ba 2015) as `make_optimizer` makes it."""
    return make_optimizer(network, learning_rate, OptimizerConfig(), epsilon)


def make_optimizer(
    network: nn.Module, learning_rate: float, config: OptimizerConfig, epsilon: float = 1e-8
) -> Adam:
    """Make an optimizer whose moments exist, as zeros, from the start.

    Moments that appeared only at the first update would make clients that have not learned yet
    differ in their tensors' names from those that have.

    Args:
        network: What it trains.
        learning_rate: Of its steps.
        config: Adam (Kingma and Ba 2015), whose weight decay is part of the gradient, or AdamW
            (Loshchilov and Hutter 2019), whose is not.
        epsilon: Added to the root of the second moment.
    """
    optimizer = Adam(network.parameters(), learning_rate, epsilon, config.weight_decay)
    for parameter in network.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


class JointAdam:
    """Steps optimizers from `make_adam` together, on gradients that lie in one tensor.

    It does what their ``step`` would, in a fifth of the time for small networks: most of that
    is spent in looking parameters up. All share learning rate and epsilon.

    Args:
        optimizers: Their parameters get gradients, which must then be written to in place.

    Attributes:
        parameters: Of all optimizers, in their order.
        gradient: (P,), the gradients of all parameters, of which theirs are views.
    """

    def __init__(self, optimizers: Sequence[Adam]) -> None:
        group = optimizers[0].param_groups[0]
        self._beta1, self._beta2 = group["betas"]
        self._epsilon = group["eps"]
        states = {p: o.state[p] for o in optimizers for p in o.param_groups[0]["params"]}
        sizes = [parameter.numel() for parameter in states]
        self.parameters: list[Tensor] = list(states)
        device = self.parameters[0].device
        self.gradient = torch.zeros(sum(sizes), device=device)
        self._values = [parameter.detach() for parameter in states]
        self._gradients = [
            part.view_as(value)
            for part, value in zip(torch.split(self.gradient, sizes), self._values, strict=True)
        ]
        # The step counts, too, lie in one tensor: adding 1 to each would cost as much as Adam.
        self._steps = torch.zeros(len(sizes), device=device)
        self._counts = list(self._steps)
        for k, (parameter, state) in enumerate(states.items()):
            parameter.grad = self._gradients[k]
            state["step"] = self._counts[k]
        self._means = [state["exp_avg"] for state in states.values()]
        self._squares = [state["exp_avg_sq"] for state in states.values()]

    def pull(self, anchors: Sequence[Tensor], mu: float) -> None:
        """Add the gradient mu (w - anchor) of the proximal term (FedProx, Li et al. 2020)."""
        for value, gradient, anchor in zip(self._values, self._gradients, anchors, strict=True):
            gradient.add_(value - anchor, alpha=mu)

    def clip(self, longest: float) -> float:
        """Shorten the gradient to an L2 norm of ``longest``; return what it was."""
        norm = float(torch.linalg.vector_norm(self.gradient))
        if norm > longest:
            self.gradient.mul_(longest / norm)
        return norm

    def step(self, learning_rate: float) -> None:
        """Take a step with this learning rate."""
        self._steps.add_(1.0)
        torch._fused_adam_(
            self._values,
            self._gradients,
            self._means,
            self._squares,
            [],
            self._counts,
            lr=learning_rate,
            beta1=self._beta1,
            beta2=self._beta2,
            weight_decay=0.0,
            eps=self._epsilon,
            amsgrad=False,
            maximize=False,
        )


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Round denormal floats to 0 in this thread.

    The moments of units that stay inactive decay into that range and would remain there, and
    arithmetic on them is slow: Adam's step takes up to 20 times as long.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def named_tensors(
    networks: Mapping[str, nn.Module], optimizers: Mapping[str, Adam]
) -> dict[str, Tensor]:
    """Name every parameter and Adam moment.

    Args:
        networks: By name.
        optimizers: From ``make_optimizer``, each under the name of the network it trains.

    Returns:
        ``model/<network>/<parameter>`` and ``optimizer/<optimizer>/<parameter>/<slot>``, as
        views without gradients that stay valid, since parameters and moments change in place.
    """
    tensors = {
        f"model/{name}/{key}": parameter.detach()
        for name, network in networks.items()
        for key, parameter in network.named_parameters()
    }
    for name, optimizer in optimizers.items():
        for key, parameter in networks[name].named_parameters():
            for slot in ADAM_SLOTS:
                tensors[f"optimizer/{name}/{key}/{slot}"] = optimizer.state[parameter][slot]
    return tensors


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
