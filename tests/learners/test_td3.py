"""TD3 against a plain float64 implementation, its exploration, and that it learns."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from learner_cases import (
    TD3,
    A,
    D,
    act,
    assert_near,
    copies,
    filled,
    greedy,
    make,
    observe,
    one_thread,
    step,
)
from td3_reference import TD3Reference


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


DECAYED = {"weight_decay": 0.3, "max_grad_norm": 0.5}
ADAMW = {"kind": "adamw", "weight_decay": 3.0, "schedule": {"kind": "cosine", "updates": 5}}


@pytest.mark.parametrize(
    ("delay", "options"),
    [
        (1, {}),
        (2, {}),
        (3, {}),
        (2, {"n_step": 3}),
        (2, {"optimizer": DECAYED}),
        (2, {"optimizer": ADAMW}),
        (1, {"layer_norm": True}),
    ],
)
def test_updates_match_a_plain_implementation(monkeypatch, delay, options):
    options = {"policy_delay": delay} | options
    learner, batches, priorities = filled(monkeypatch, TD3, **options)
    near_bounds = torch.tensor([1.2, -1.5])  # so that the smoothed actions reach -1 and 1
    learner.load_tensors({"model/actor_target/biases.2": near_bounds})
    reference = TD3Reference(learner.config, copies(learner))
    rng, generator = np.random.default_rng(6), torch.Generator()
    for _ in range(8):
        generator.set_state(learner.local_state()["generator"])
        noise = torch.empty(32, A).normal_(generator=generator).double()
        step(learner, rng)
        errors = reference.update(batches[-1], noise)
        assert_near(learner, reference.nets)
        indices, magnitudes = priorities[-1]
        assert torch.equal(indices.double(), batches[-1]["indices"])
        largest = errors.abs().amax(0)
        torch.testing.assert_close(magnitudes.double(), largest, rtol=1e-4, atol=1e-5)
    assert (batches[-1]["weights"] < 1).any()  # importance weights took part
    assert (batches[-1]["discount"] == 0).any()  # and so did ends of episodes


def test_actor_and_targets_move_at_every_delayed_update_only():
    learner, rng = make(TD3, policy_delay=3), np.random.default_rng(0)
    for update in range(1, 10):
        before = copies(learner)
        step(learner, rng)
        changed = {
            name.split("/")[1]
            for name, tensor in learner.tensors().items()
            if name.startswith("model/") and not torch.equal(tensor, before[name])
        }
        late = {"actor", "actor_target", "critic_target"} if update % 3 == 0 else set()
        assert changed == {"critic"} | late


def test_actions_are_uniform_during_warmup():
    learner = make(TD3, warmup_steps=1)
    actions = act(learner, np.zeros((4000, D), np.float32))
    assert actions.shape == (4000, A)
    assert actions.dtype == np.float32
    for column in actions.T:
        counts, _ = np.histogram(column, bins=10, range=(-1, 1))
        assert counts.sum() == 4000
        assert ((counts - 400) ** 2 / 400).sum() < 33.7  # chi-squared, 9 degrees: p = 1e-4
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.06


def test_exploration_noise_falls_linearly_with_environment_steps():
    learner = make(TD3, num_envs=3000)
    observations = np.zeros((3000, D), dtype=np.float32)
    without = greedy(learner, observations)
    for steps, expected in ((0, 0.5), (20, 0.3), (40, 0.1), (1000, 0.1)):
        learner.steps = steps
        assert learner.exploration == pytest.approx(expected)
        noisy = act(learner, observations)
        assert np.abs(noisy).max() <= 1
        # The median of |noise| is 0.6745 standard deviations, clipping notwithstanding.
        spread = np.median(np.abs(noisy - without)) / 0.6745
        assert spread == pytest.approx(expected, rel=0.06)
    np.testing.assert_array_equal(greedy(learner, observations), without)


def test_metrics_tell_losses_and_the_noise_now():
    learner, rng = make(TD3), np.random.default_rng(0)
    for _ in range(7):
        step(learner, rng)
    metrics = learner.pop_metrics()
    assert set(metrics) == {"critic_loss", "value", "actor_loss", "exploration", "beta"}
    assert metrics["exploration"] == pytest.approx(0.5 - 0.4 * 7 / 40)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_a_continuous_bandit(seed, alpha):
    """One step an episode, reward -|a - a*|^2: the greedy policy must find a*."""
    learner = make(
        TD3,
        seed,
        hidden=(32, 32),
        batch_size=64,
        warmup_steps=200,
        tau=0.01,
        replay={"capacity": 5000, "alpha": alpha},
    )
    observation = np.ones((1, D), dtype=np.float32)
    best, end = np.array([0.6, -0.3], dtype=np.float32), np.ones(1, dtype=bool)

    def miss(action: np.ndarray) -> np.ndarray:
        return np.square(action - best, dtype=np.float64).sum(1)

    assert miss(greedy(learner, observation)) > 0.2
    for _ in range(1500):
        action = act(learner, observation)
        observe(learner, observation, action, -miss(action), observation, end)
        learner.update()
    assert miss(greedy(learner, observation)) < 0.05
