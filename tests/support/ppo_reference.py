"""PPO written for reading, to compare the learner with."""

import numpy as np
import torch
from torch.distributions import Normal

from f110_fl.config.learners import PPOConfig


def advantages(
    config: PPOConfig, steps: list[tuple[float, float, float, bool]]
) -> tuple[list[float], list[float]]:
    """Advantages and returns of one environment's steps, by the double sum of the definition.

    A step is (reward, value of its observation, value of its next observation, ended); the next
    value of a terminated step is 0.
    """
    found = []
    for start in range(len(steps)):
        total, weight = 0.0, 1.0
        for reward, value, following, ended in steps[start:]:
            total += weight * (reward + config.discount * following - value)
            weight *= config.discount * config.gae_lambda
            if ended:
                break
        found.append(total)
    return found, [a + value for a, (_, value, _, _) in zip(found, steps, strict=True)]


class Reference:
    """PPO's update in float64 with autograd, torch's distributions and a textbook Adam.

    Transitions are dicts with observation (D,), sample (A,), log_prob, reward, next_observation
    (D,), terminated, truncated, in a list for each environment, with its row in the rollout.
    """

    def __init__(self, config: PPOConfig, tensors: dict[str, torch.Tensor]) -> None:
        self.config = config
        self.nets = {
            name.removeprefix("model/"): tensor.double()
            for name, tensor in tensors.items()
            if name.startswith("model/")
        }
        self.moments = {
            name: (0, torch.zeros_like(t), torch.zeros_like(t)) for name, t in self.nets.items()
        }

    def network(self, net: str, x: torch.Tensor) -> torch.Tensor:
        count = sum(name.startswith(f"{net}/weights.") for name in self.nets)
        activation = {"tanh": torch.tanh, "relu": torch.relu}[self.config.activation]
        for i in range(count):
            x = x @ self.nets[f"{net}/weights.{i}"].T + self.nets[f"{net}/biases.{i}"]
            x = activation(x) if i < count - 1 else x
        return x

    def value(self, observation: np.ndarray) -> float:
        return self.network("critic", torch.from_numpy(observation).double()).item()

    def samples(self, episodes: list[list[dict]]) -> dict[int, dict[str, object]]:
        """Add value, advantage and return to the transitions, by row of the rollout."""
        found = {}
        for transitions in episodes:
            steps = [
                (
                    t["reward"],
                    self.value(t["observation"]),
                    0.0 if t["terminated"] else self.value(t["next_observation"]),
                    t["terminated"] or t["truncated"],
                )
                for t in transitions
            ]
            advantage, returns = advantages(self.config, steps)
            for t, a, r, step in zip(transitions, advantage, returns, steps, strict=True):
                found[t["row"]] = t | {"advantage": a, "return": r, "value": step[1]}
        return found

    def loss(self, batch: list[dict]) -> torch.Tensor:
        config = self.config

        def column(name: str) -> torch.Tensor:
            return torch.tensor(np.array([t[name] for t in batch])).double()

        x, advantage, old_value = column("observation"), column("advantage"), column("value")
        if config.normalise_advantages:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        policy = Normal(self.network("actor", x), self.nets["actor/log_std"].exp())
        ratio = torch.exp(policy.log_prob(column("sample")).sum(1) - column("log_prob"))
        clipped = torch.clip(ratio, 1 - config.clip_range, 1 + config.clip_range)
        surrogate = torch.minimum(ratio * advantage, clipped * advantage).mean()
        value = self.network("critic", x)[:, 0]
        errors = (value - column("return")) ** 2
        if config.value_clip is not None:
            near = old_value + torch.clip(value - old_value, -config.value_clip, config.value_clip)
            errors = torch.maximum(errors, (near - column("return")) ** 2)
        entropy = policy.entropy().sum(1).mean()
        return (
            -surrogate
            + config.value_coefficient * errors.mean()
            - config.entropy_coefficient * entropy
        )

    def step(self, batch: list[dict], rate: float) -> None:
        for tensor in self.nets.values():
            tensor.requires_grad_(True)
        gradients = torch.autograd.grad(self.loss(batch), list(self.nets.values()))
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        scale = min(1.0, self.config.max_grad_norm / norm.item())
        for (name, tensor), g in zip(self.nets.items(), gradients, strict=True):
            t, m, v = self.moments[name]
            g = scale * g
            t, m, v = t + 1, 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            self.moments[name] = (t, m, v)
            below = (v / (1 - 0.999**t)).sqrt() + self.config.adam_epsilon
            self.nets[name] = (tensor - rate * m / (1 - 0.9**t) / below).detach()

    def update(self, episodes: list[list[dict]], rng: np.random.Generator, rate: float) -> None:
        samples = self.samples(episodes)
        for _ in range(self.config.epochs):
            order = rng.permutation(sorted(samples))
            count = min(self.config.minibatches, len(order))
            rows = len(order) // count
            for k in range(count):
                self.step([samples[row] for row in order[k * rows : (k + 1) * rows]], rate)
