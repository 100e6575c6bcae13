"""How gradients become steps: Adam, learning-rate schedules, and what they update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

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
from f110_fl.learners.device import Runner


def rate_factor(schedule: ScheduleConfig, update: int) -> float:
    """Return the learning rate of an update over the first one.

    Args:
        schedule: Its kind and lengths; for cosine see Loshchilov and Hutter 2017, equation 5,
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


ADAM_SLOTS = ("step", "exp_avg", "exp_avg_sq")


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


class Loss(NamedTuple):
    """A loss, and other results of computing it, all without gradients."""

    value: Tensor  # ()
    parts: dict[str, Tensor]


class Trained:
    """A network with its optimizer, and the point that it may be held near.

    Args:
        network: What is trained, in place.
        learning_rate: Before any schedule.
        config: The optimizer.
        run: Runs forward and backward pass.

    Attributes:
        optimizer: Holds the moments; ``step`` does what its own would.
        gradient: Of every parameter, from the latest ``differentiate``.
    """

    def __init__(
        self, network: nn.Module, learning_rate: float, config: OptimizerConfig, run: Runner
    ) -> None:
        self.optimizer = make_optimizer(network, learning_rate, config)
        self.gradient: list[Tensor] = []
        self._run = run
        self._config = config
        self._learning_rate = learning_rate
        self._parameters = list(network.parameters())
        self._values = [parameter.detach() for parameter in self._parameters]
        states = [self.optimizer.state[parameter] for parameter in self._parameters]
        self._means = [state["exp_avg"] for state in states]
        self._squares = [state["exp_avg_sq"] for state in states]
        self._steps = [state["step"] for state in states]
        self._mu = 0.0
        self._anchors: list[Tensor] = []

    def hold_near(self, mu: float) -> None:
        """Add mu / 2 * |w - w_now|^2 to its losses; see ``Learner.hold_near``."""
        self._mu = mu
        self._anchors = [value.clone() for value in self._values] if mu else []

    def differentiate(self, compute: Callable[[], Loss]) -> Loss:
        """Compute a loss and its gradient.

        Args:
            compute: Returns the loss, with its graph. It must do the same at every call, with
                the same tensors, change none of them and ask for no number: on a GPU it is
                called at first only, and what it did is repeated from then on.
        """

        def both() -> tuple[Loss, list[Tensor]]:
            loss = compute()
            gradient = torch.autograd.grad(loss.value, self._parameters)
            return loss._replace(value=loss.value.detach()), list(gradient)

        loss, self.gradient = self._run(both)
        return loss

    def adjust(self) -> Tensor | None:
        """Add the proximal term's gradient; clip, if wanted, and return the norm before, ()."""
        if self._mu:
            distance = torch._foreach_sub(self._values, self._anchors)
            torch._foreach_add_(self.gradient, distance, alpha=self._mu)
        longest = self._config.max_grad_norm
        if longest is None:
            return None
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self.gradient)))
        torch._foreach_mul_(self.gradient, torch.clamp(longest / (norm + 1e-6), max=1.0))
        return norm

    def step(self, factor: float) -> None:
        """Take the optimizer's step at ``factor`` times the learning rate."""
        group = self.optimizer.param_groups[0]
        decoupled = self._config.kind == "adamw"
        torch._foreach_add_(self._steps, 1.0)
        # The optimizer's own step spends as long again on looking its tensors up.
        (torch._fused_adamw_ if decoupled else torch._fused_adam_)(
            self._values,
            self.gradient,
            self._means,
            self._squares,
            [],
            self._steps,
            lr=factor * self._learning_rate,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
