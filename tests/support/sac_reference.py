"""SAC written for reading, to compare the learner with."""

import torch
from td3_reference import Batch, Networks
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform


class SACReference(Networks):
    """SAC as algorithm 1 of the paper with automatic temperature reads."""

    def policy(self, s: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = torch.chunk(self.mlp("actor", s), 2, 1)
        std = torch.exp(torch.clip(log_std, -20, 2))
        squashed = TransformedDistribution(Normal(mean, std), TanhTransform(cache_size=1))
        action = squashed.transforms[0](mean + std * noise)
        return action, Independent(squashed, 1).log_prob(action)

    def least(self, net: str, s: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        x = torch.cat([s, action], 1)
        return torch.minimum(*(self.critic(net, k, x) for k in (0, 1)))

    def update(
        self, batch: Batch, next_noise: torch.Tensor, noise: torch.Tensor, target_entropy: float
    ) -> torch.Tensor:
        """Return the TD errors (2, B)."""
        config = self.config
        alpha = torch.exp(self.nets["temperature/log_alpha"])
        s = batch["next_observation"]
        action, log_prob = self.policy(s, next_noise)
        soft = self.least("critic_target", s, action) - alpha * log_prob
        y = batch["reward"] + batch["discount"] * soft
        self.attach()
        x = torch.cat([batch["observation"], batch["action"]], 1)
        errors = [self.critic("critic", k, x) - y.detach() for k in (0, 1)]
        loss = sum((batch["weights"] * e**2).sum() / len(e) for e in errors)
        self.adam("critic", loss, config.critic_learning_rate)
        action, log_prob = self.policy(batch["observation"], noise)
        least = self.least("critic", batch["observation"], action)
        loss = (alpha.detach() * log_prob - least).mean()
        self.adam("actor", loss, config.actor_learning_rate)
        if config.temperature.automatic:
            log_alpha = self.nets["temperature/log_alpha"]
            loss = (-log_alpha * (log_prob.detach() + target_entropy)).mean()
            self.adam("temperature", loss, config.temperature.learning_rate, plain=True)
        self.follow("critic", config.tau)
        self.updates += 1
        self.detach()
        return torch.stack(errors).detach()
