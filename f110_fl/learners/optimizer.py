"""How gradients become steps: Adam and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from f110_fl.config.learners import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    OptimizerConfig,
    ScheduleConfig,
    StepSchedule,
)


def rate_factor(schedule: ScheduleConfig, update: int) -> float:
    """Return the learning rate of an update as a multiple of the first one.

    Args:
        schedule: Kind and lengths; the cosine is that of Loshchilov and Hutter 2017, equation 5,
            without restarts.
        update: Updates done before, 0 for the first.
    """
    match schedule:
        case ConstantSchedule():
            return 1.0
        case LinearSchedule(updates=updates, end=end):
            return end + (1.0 - end) * max(0.0, 1.0 - update / updates)
        case CosineSchedule(updates=updates, end=end):
            return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, update / updates)))
        case StepSchedule(updates=updates, factor=factor):
            return math.pow(factor, update // updates)


ADAM_SLOTS: Final = ("step", "exp_avg", "exp_avg_sq")  # per parameter, named as in `torch.optim`
BETA_1: Final = 0.9
BETA_2: Final = 0.999


class Adam:
    """Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019), for several networks.

    The moments exist, as zeros, from the start: ones that appeared only at the first update would
    make clients that have not learned yet differ in their tensors' names from those that have.

    PyTorch's fused step is called directly. Its optimizers spend as long again on looking their
    tensors up, and making one imports a compiler, which takes more than a second.

    Args:
        networks: What is trained, in place. Their gradients are the parameters' ``grad``.
        learning_rate: Before any schedule.
        config: Kind of optimizer, weight decay, clipping and schedule. Weight decay is part of
            Adam's gradient, but not of AdamW's.
        epsilon: Added to the root of the second moment.

    Attributes:
        parameters: Parameters of all networks, in their order.
        moments: Moments by parameter and slot, float32, on the parameter's device.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        learning_rate: float,
        config: OptimizerConfig,
        epsilon: float = 1e-8,
    ) -> None:
        self.parameters = [p for network in networks for p in network.parameters()]
        self._learning_rate = learning_rate
        self._config = config
        self._epsilon = epsilon
        self._values = [parameter.detach() for parameter in self.parameters]
        self._means = [torch.zeros_like(value) for value in self._values]
        self._squares = [torch.zeros_like(value) for value in self._values]
        # The counts lie in one tensor: adding 1 to each would cost as much as a small step.
        self._steps = self._values[0].new_zeros(len(self._values))
        self._counts = list(self._steps)
        slots = zip(self._counts, self._means, self._squares, strict=True)
        self.moments = {
            parameter: dict(zip(ADAM_SLOTS, tensors, strict=True))
            for parameter, tensors in zip(self.parameters, slots, strict=True)
        }
        self._mu = 0.0
        self._anchors: list[Tensor] = []

    def learning_rate(self, update: int) -> float:
        """Return the learning rate of an update, 0 for the first."""
        return self._learning_rate * rate_factor(self._config.schedule, update)

    def set_proximal(self, mu: float) -> None:
        """Add mu / 2 * |w - w_now|^2 to every loss; see ``Learner.set_proximal``."""
        self._mu = mu
        self._anchors = [value.clone() for value in self._values] if mu else []

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def adjust_gradients(self) -> float:
        """Add the proximal term's gradient, then clip.

        Returns:
            The L2 norm before clipping; 0 without clipping.
        """
        if self._mu:
            distances = torch._foreach_sub(self._values, self._anchors)
            torch._foreach_add_(self._gradients(), distances, alpha=self._mu)
        longest = self._config.max_grad_norm
        return 0.0 if longest is None else self._clip(longest)

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]

    def _clip(self, longest: float) -> float:
        """Shorten the gradient to an L2 norm of ``longest``; return what it was."""
        gradients = self._gradients()
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, torch.clamp(longest / (norm + 1e-6), max=1.0))
        return float(norm)

    def step(self, update: int) -> None:
        """Take a step at the learning rate of an update, 0 for the first."""
        self._steps.add_(1.0)
        decoupled = self._config.kind == "adamw"
        (torch._fused_adamw_ if decoupled else torch._fused_adam_)(
            self._values,
            self._gradients(),
            self._means,
            self._squares,
            [],
            self._counts,
            lr=self.learning_rate(update),
            beta1=BETA_1,
            beta2=BETA_2,
            weight_decay=self._config.weight_decay,
            eps=self._epsilon,
            amsgrad=False,
            maximize=False,
        )


class FlatAdam(Adam):
    """Adam on gradients that lie in one tensor, which are written in place and never forgotten.

    For networks as small as PPO's, a norm over one tensor is much faster than over a dozen.

    Attributes:
        gradient: (P,), the gradients of all parameters, whose ``grad`` are views of it.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        learning_rate: float,
        config: OptimizerConfig,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(networks, learning_rate, config, epsilon)
        sizes = [parameter.numel() for parameter in self.parameters]
        self.gradient = self._values[0].new_zeros(sum(sizes))
        parts = torch.split(self.gradient, sizes)
        self._views = [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]
        for parameter, view in zip(self.parameters, self._views, strict=True):
            parameter.grad = view

    def _gradients(self) -> list[Tensor]:
        return self._views

    def _clip(self, longest: float) -> float:
        norm = float(torch.linalg.vector_norm(self.gradient))
        if norm > longest:
            self.gradient.mul_(longest / norm)
        return norm


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
