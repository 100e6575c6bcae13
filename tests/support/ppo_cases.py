"""Drives PPO with made-up experience."""

import numpy as np

from f110_fl.config.learners import PPOConfig
from f110_fl.learners.base import LearnerSetup, Transitions
from f110_fl.learners.factory import make_learner
from f110_fl.learners.ppo.ppo import PPO

D, A, N = 5, 2, 3
SMALL = {
    "actor_hidden": (16, 12),
    "critic_hidden": (10,),
    "rollout_steps": 12,
    "minibatches": 4,
    "epochs": 3,
    "learning_rate": 1e-3,
    "discount": 0.9,
    "initial_log_std": -0.5,
}


def make(seed: int = 0, num_envs: int = N, **changes: object) -> PPO:
    config = PPOConfig.model_validate(SMALL | changes)
    setup = LearnerSetup(D, A, np.random.SeedSequence(seed), num_envs=num_envs)
    learner = make_learner(config, setup)
    assert isinstance(learner, PPO)
    return learner


class World:
    """N environments of random observations whose episodes end, and which then may stand idle."""

    def __init__(self, seed: int, num_envs: int = N) -> None:
        self.rng = np.random.default_rng(seed)
        self.observation = self.rng.standard_normal((num_envs, D), dtype=np.float32)
        self.idle = np.zeros(num_envs, np.int64)

    def step(self, learner: PPO) -> dict[str, np.ndarray]:
        """Step the environments that run, and let the learner observe, but not update."""
        rng = self.rng
        self.idle[0] = 0  # one always runs
        envs = np.flatnonzero(self.idle == 0)
        self.idle = np.maximum(self.idle - 1, 0)
        observation = self.observation[envs]
        action = learner.act(observation, envs)
        following = rng.standard_normal((len(envs), D), dtype=np.float32)
        end = rng.random(len(envs))
        terminated, truncated = end < 0.1, end > 0.85
        ended = terminated | truncated
        reward = action.sum(1) + observation[:, 0].astype(np.float64)
        learner.observe(
            Transitions(envs, observation, action, reward, following, terminated, truncated)
        )
        self.observation[envs] = following
        fresh = rng.standard_normal((len(envs), D), dtype=np.float32)
        self.observation[envs[ended]] = fresh[ended]
        self.idle[envs[ended]] = rng.integers(0, 4, ended.sum())
        return {
            "envs": envs,
            "observation": observation,
            "action": action,
            "reward": reward,
            "next_observation": following,
            "terminated": terminated,
            "truncated": truncated,
        }


def run(learner: PPO, world: World, steps: int) -> None:
    for _ in range(steps):
        world.step(learner)
        learner.update()
