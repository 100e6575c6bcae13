"""TD3 written for reading, to compare the learner with."""

import math

import torch
import torch.nn.functional as F  # noqa: N812

from f110_fl.config.learners import OffPolicyConfig

Batch = dict[str, torch.Tensor]


class Networks:
    """Networks in float64, by the learner's names, trained with a textbook Adam."""

    def __init__(self, config: OffPolicyConfig, tensors: dict[str, torch.Tensor]) -> None:
        self.config = config
        self.nets = {
            name.removeprefix("model/"): tensor.double()
            for name, tensor in tensors.items()
            if name.startswith("model/")
        }
        self.moments: dict[str, tuple[int, torch.Tensor, torch.Tensor]] = {}
        self.updates = 0

    def layers(self, net: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [
            (self.nets[f"{net}/weights.{i}"], self.nets[f"{net}/biases.{i}"])
            for i in range(len(self.config.hidden) + 1)
        ]

    def mlp(self, net: str, x: torch.Tensor) -> torch.Tensor:
        *hidden, (weight, bias) = self.layers(net)
        for w, b in hidden:
            x = torch.relu(F.linear(x, w, b))
        return F.linear(x, weight, bias)

    def critic(self, net: str, k: int, x: torch.Tensor) -> torch.Tensor:
        *hidden, (weight, bias) = self.layers(net)
        for i, (w, b) in enumerate(hidden):
            x = x @ w[k] + b[k]
            if f"{net}/gains.{i}" in self.nets:  # equation 4 of Ba et al. 2016
                mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
                gain, offset = (self.nets[f"{net}/{part}.{i}"][k] for part in ("gains", "offsets"))
                x = gain * (x - mean) / torch.sqrt(variance + 1e-5) + offset
            x = torch.relu(x)
        return (x @ weight[k] + bias[k])[:, 0]

    def attach(self) -> None:
        self.nets = {name: net.detach().requires_grad_(True) for name, net in self.nets.items()}

    def detach(self) -> None:
        self.nets = {name: net.detach() for name, net in self.nets.items()}

    def adam(self, net: str, loss: torch.Tensor, rate: float, plain: bool = False) -> None:
        """A step; ``plain`` leaves out decay and clipping."""
        options = self.config.optimizer
        schedule = options.schedule
        if schedule.kind == "cosine":
            phase = min(self.updates, schedule.updates) / schedule.updates
            rate *= schedule.end + (1 - schedule.end) * (1 + math.cos(math.pi * phase)) / 2
        names = [name for name in self.nets if name.startswith(f"{net}/")]
        gradients = torch.autograd.grad(loss, [self.nets[name] for name in names])
        norm = math.sqrt(sum(float((g * g).sum()) for g in gradients))
        clip = math.inf if plain or options.max_grad_norm is None else options.max_grad_norm
        decay = 0.0 if plain else options.weight_decay
        for name, gradient in zip(names, gradients, strict=True):
            w, g = self.nets[name].detach(), gradient * min(1.0, clip / (norm + 1e-6))
            if options.kind == "adamw":
                w = w - rate * decay * w
            else:
                g = g + decay * w
            t, m, v = self.moments.get(name, (0, torch.zeros_like(g), torch.zeros_like(g)))
            t, m, v = t + 1, 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            self.moments[name] = (t, m, v)
            self.nets[name] = w - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)

    def follow(self, net: str, tau: float) -> None:
        for name in [n for n in self.nets if n.startswith(f"{net}/")]:
            slow = name.replace("/", "_target/", 1)
            self.nets[slow] = (tau * self.nets[name] + (1 - tau) * self.nets[slow]).detach()


class TD3Reference(Networks):
    """TD3 as the paper's algorithm 1 reads."""

    def target(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        config = self.config
        clipped = torch.clip(noise * config.policy_noise, -config.noise_clip, config.noise_clip)
        s = batch["next_observation"]
        action = torch.clip(torch.tanh(self.mlp("actor_target", s)) + clipped, -1, 1)
        x = torch.cat([s, action], 1)
        least = torch.minimum(*(self.critic("critic_target", k, x) for k in (0, 1)))
        return batch["reward"] + batch["discount"] * least

    def update(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """Return the TD errors (2, B)."""
        y = self.target(batch, noise)
        self.attach()
        x = torch.cat([batch["observation"], batch["action"]], 1)
        errors = [self.critic("critic", k, x) - y.detach() for k in (0, 1)]
        loss = sum((batch["weights"] * e**2).sum() / len(e) for e in errors)
        self.adam("critic", loss, self.config.critic_learning_rate)
        if (self.updates + 1) % self.config.policy_delay == 0:
            s = batch["observation"]
            x = torch.cat([s, torch.tanh(self.mlp("actor", s))], 1)
            loss = -self.critic("critic", 0, x).mean()
            self.adam("actor", loss, self.config.actor_learning_rate)
            self.follow("actor", self.config.tau)
            self.follow("critic", self.config.tau)
        self.updates += 1
        self.detach()
        return torch.stack(errors).detach()
