"""Drives off-policy learners with made-up experience."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from f110_fl.config.learners import LearnerConfig
from f110_fl.learners.base import CPU, Learner, LearnerSetup, ObservationParts, Transitions
from f110_fl.learners.factory import make_learner
from f110_fl.learners.off_policy.learner import OffPolicyLearner
from sim.observation import Mirror

D, A = 5, 2
OBSERVATION: ObservationParts = (("others", 1), ("lidar", 4))
MIRROR = Mirror(np.array([0, 4, 3, 2, 1]), np.array([-1, 1, 1, 1, 1], np.float32))
CONV = {"encoder": {"kind": "conv", "channels": [3, 4], "kernels": [2, 2], "strides": [1, 1]}}
SHARED = {
    "hidden": (16, 12),
    "batch_size": 32,
    "warmup_steps": 0,
    "replay": {"capacity": 300, "alpha": 0.6, "beta": 0.5, "beta_step": 1e-3},
}
RATES = {"actor_learning_rate": 1e-3, "critic_learning_rate": 2e-3, "tau": 0.1}
TD3 = SHARED | RATES | {
    "algorithm": "td3",
    "policy_noise": 0.4,
    "noise_clip": 0.3,
    "exploration": {"start": 0.5, "end": 0.1, "steps": 40},
}  # fmt: skip
SAC = SHARED | RATES | {"algorithm": "sac", "temperature": {"learning_rate": 5e-3}}
DQN = SHARED | {
    "algorithm": "dqn",
    "learning_rate": 2e-3,
    "huber": 0.7,
    "target": {"kind": "soft", "tau": 0.1},
    "exploration": {"kind": "epsilon", "start": 0.5, "end": 0.1, "steps": 40},
}
NOISY = DQN | {
    "duelling": False,
    "exploration": {"kind": "noisy"},
    "target": {"kind": "hard", "updates": 3},
}


def make(
    settings: dict,
    seed: int = 0,
    path: Path | None = None,
    num_envs: int = 1,
    device: torch.device = CPU,
    **changes: object,
) -> OffPolicyLearner:
    config = TypeAdapter(LearnerConfig).validate_python(settings | changes)
    sequence = np.random.SeedSequence(seed)
    setup = LearnerSetup(D, A, sequence, num_envs, path, device, OBSERVATION, MIRROR)
    learner = make_learner(config, setup)
    assert isinstance(learner, OffPolicyLearner)
    return learner


def act(learner: OffPolicyLearner, observations: np.ndarray) -> np.ndarray:
    return learner.act(observations, np.arange(len(observations)))


def greedy(learner: OffPolicyLearner, observations: np.ndarray) -> np.ndarray:
    return learner.policy(len(observations)).act(observations, np.arange(len(observations)))


def observe(
    learner: OffPolicyLearner,
    observation: np.ndarray,
    action: np.ndarray,
    reward: np.ndarray,
    following: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray | None = None,
) -> None:
    envs = np.arange(len(reward))
    cut = np.zeros_like(terminated) if truncated is None else truncated
    learner.observe(Transitions(envs, observation, action, reward, following, terminated, cut))


def step(learner: OffPolicyLearner, rng: np.random.Generator, count: int = 1) -> np.ndarray:
    """One step of each environment with made-up observations."""
    observation, following = rng.standard_normal((2, count, D), dtype=np.float32)
    action = act(learner, observation)
    reward = (action.sum(1) + observation[:, 0]).astype(np.float64)
    observe(learner, observation, action, reward, following, rng.random(count) < 0.2)
    learner.update()
    return action


def copies(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.tensors().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def filled(
    monkeypatch: pytest.MonkeyPatch, settings: dict, **changes: object
) -> tuple[OffPolicyLearner, list, list]:
    """A learner that has seen 100 random steps, and lists of what it draws and prioritises."""
    learner = make(settings, warmup_steps=100, **changes)
    rng = np.random.default_rng(5)
    for _ in range(100):
        step(learner, rng)
    batches: list[dict[str, torch.Tensor]] = []
    priorities: list[tuple[torch.Tensor, torch.Tensor]] = []
    sample, renew = learner.replay.sample, learner.replay.update_priorities

    def record_sample(size: int) -> object:
        batch = sample(size)
        batches.append({name: part.double() for name, part in batch._asdict().items()})
        return batch

    def record_priorities(indices: torch.Tensor, errors: torch.Tensor) -> None:
        priorities.append((indices.clone(), errors.abs()))
        renew(indices, errors)

    monkeypatch.setattr(learner.replay, "sample", record_sample)
    monkeypatch.setattr(learner.replay, "update_priorities", record_priorities)
    return learner, batches, priorities


def assert_near(learner: OffPolicyLearner, expected: dict[str, torch.Tensor]) -> None:
    """Every network is that of a reference implementation, to single precision."""
    found = {n: t for n, t in learner.tensors().items() if n.startswith("model/")}
    assert found.keys() == {f"model/{name}" for name in expected}
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[f"model/{name}"].double(), tensor, rtol=1e-4, atol=1e-5, msg=name
        )


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
