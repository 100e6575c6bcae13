"""DQN written for reading, to compare the learner with."""

import torch
from td3_reference import Batch, Networks

Noise = list[tuple[torch.Tensor, torch.Tensor]]  # normal numbers: inputs', outputs'


def root(x: torch.Tensor) -> torch.Tensor:
    return torch.sgn(x) * torch.sqrt(torch.abs(x))


class DQNReference(Networks):
    """Double, duelling, noisy DQN as the papers' equations read."""

    def values(self, net: str, x: torch.Tensor, noise: Noise) -> torch.Tensor:
        layers = self.layers(net)
        for i, (inputs, outputs) in enumerate(noise):
            weight, bias = layers[i]
            p, q = root(inputs.double()), root(outputs.double())
            sigma_w = self.nets[f"{net}/weight_sigmas.{i}"]
            sigma_b = self.nets[f"{net}/bias_sigmas.{i}"]
            layers[i] = (weight + sigma_w * q[:, None] * p[None, :], bias + sigma_b * q)
        *hidden, (weight, bias) = layers
        for w, b in hidden:
            x = torch.relu(x @ w.T + b)
        if not self.config.duelling:
            return x @ weight.T + bias
        half = x.shape[1] // 2
        value = x[:, :half] @ weight[0] + bias[0]
        advantages = x[:, half:] @ weight[1:].T + bias[1:]
        return torch.stack([value + a - advantages.mean(1) for a in advantages.T], 1)

    def update(self, batch: Batch, noises: tuple[Noise, Noise, Noise]) -> torch.Tensor:
        """Return the TD errors (B,); the noises are of target, choice and learning."""
        config = self.config
        s, rows = batch["next_observation"], torch.arange(len(batch["reward"]))
        later = self.values("q_target", s, noises[0])
        chosen = self.values("q", s, noises[1]) if config.double else later
        y = batch["reward"] + batch["discount"] * later[rows, chosen.argmax(1)]
        self.attach()
        q = self.values("q", batch["observation"], noises[2])
        e = q[rows, batch["action"][:, 0].long()] - y.detach()
        k = config.huber
        huber = torch.where(e.abs() <= k, e**2 / 2, k * (e.abs() - k / 2))
        loss = (batch["weights"] * huber).sum() / len(e)
        self.adam("q", loss, config.learning_rate)
        self.updates += 1
        if config.target.kind == "soft":
            self.follow("q", config.target.tau)
        elif self.updates % config.target.updates == 0:
            self.follow("q", 1.0)
        self.detach()
        return e.detach()
