"""SAC against a plain float64 implementation, its densities, and that it learns."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from learner_cases import (
    SAC,
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
from sac_reference import SACReference

from f110_fl.learners.networks.actor_critic import SquashedActor


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("automatic", [True, False])
@pytest.mark.parametrize(
    ("optimizer", "layer_norm"), [({}, False), ({"kind": "adamw", "max_grad_norm": 0.5}, True)]
)
def test_updates_match_a_plain_implementation(monkeypatch, automatic, optimizer, layer_norm):
    temperature = {"initial": 0.3, "automatic": automatic, "learning_rate": 0.01}
    options = {"temperature": temperature, "optimizer": optimizer, "n_step": 2}
    options["layer_norm"] = layer_norm
    learner, batches, priorities = filled(monkeypatch, SAC, **options)
    reference = SACReference(learner.config, copies(learner))
    rng, generator = np.random.default_rng(6), torch.Generator()
    for _ in range(8):
        generator.set_state(learner.local_state()["generator"])
        noises = [torch.empty(32, A).normal_(generator=generator).double() for _ in range(2)]
        step(learner, rng)
        errors = reference.update(batches[-1], *noises, -A)
        assert_near(learner, reference.nets)
        largest = errors.abs().amax(0)
        torch.testing.assert_close(priorities[-1][1].double(), largest, rtol=1e-4, atol=1e-5)
    assert (learner.alpha == pytest.approx(0.3)) is not automatic
    assert (batches[-1]["weights"] < 1).any()
    assert (batches[-1]["discount"] == 0).any()


def actor(mean: float, log_std: float) -> SquashedActor:
    """One action, the same distribution whatever is observed."""
    net = SquashedActor(D, 1, (4,), torch.Generator())
    with torch.no_grad():
        net.weights[-1].zero_()
        net.biases[-1].copy_(torch.tensor([mean, log_std]))
    return net


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-1.5, 0.5)])
def test_densities_integrate_to_one(mean, log_std):
    noise = torch.linspace(-8, 8, 20001)[:, None]
    action, log_prob = actor(mean, log_std).sample(torch.zeros(20001, D), noise)
    density = log_prob.detach().double().exp()
    area = torch.trapezoid(density, action[:, 0].detach().double())
    assert float(area) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("mean", [-40.0, 40.0])
def test_densities_of_saturated_actions_are_finite_and_exact(mean):
    noise = torch.tensor([[-1.0], [0.0], [2.0]])
    net = actor(mean, -2.0)
    action, log_prob = net.sample(torch.zeros(3, D), noise)
    assert (action.abs() == 1).all()
    # Far out, 1 - tanh^2 u = 4 exp(-2 |u|).
    u = mean + math.exp(-2.0) * noise[:, 0].double()
    normal = -0.5 * noise[:, 0].double() ** 2 + 2.0 - 0.5 * math.log(2 * math.pi)
    expected = normal - math.log(4.0) + 2 * u.abs()
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-6, atol=1e-5)
    log_prob.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize(("bias", "rises"), [(-3.0, True), (1.0, False)])
def test_the_temperature_rises_below_the_target_entropy(bias, rises):
    """Deviations exp(-3) and exp(1): entropies of about -2 (-3 + 1.4) and above it."""
    learner, rng = make(SAC), np.random.default_rng(0)
    log_std = learner.tensors()["model/actor/biases.2"][A:]
    before = learner.alpha
    for _ in range(3):
        log_std.fill_(bias)
        step(learner, rng)
    assert (learner.alpha > before) is rises


def test_actions_are_those_of_the_distribution():
    learner = make(SAC, num_envs=20_000)
    observations = np.tile(np.ones(D, np.float32), (20_000, 1))
    mean, log_std = (x[0].detach().numpy() for x in learner.actor(torch.ones(1, D)))
    u = np.arctanh(act(learner, observations).astype(np.float64))
    np.testing.assert_allclose(u.mean(0), mean, atol=5 * np.exp(log_std).max() / 20_000**0.5)
    np.testing.assert_allclose(u.std(0), np.exp(log_std), rtol=0.03)
    np.testing.assert_allclose(greedy(learner, observations[:1])[0], np.tanh(mean), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_a_continuous_bandit(seed):
    """One step an episode, reward -30 |a - a*|^2: the greedy policy must find a*."""
    learner = make(
        SAC,
        seed,
        num_envs=4,
        hidden=(32, 32),
        batch_size=64,
        warmup_steps=200,
        update_every=2,
        actor_learning_rate=5e-3,
        critic_learning_rate=1e-2,
        temperature={"initial": 0.1, "learning_rate": 1e-2},
        replay={"capacity": 5000},
    )
    observation = np.ones((4, D), dtype=np.float32)
    best, end = np.array([0.6, -0.3], dtype=np.float32), np.ones(4, dtype=bool)

    def miss(action: np.ndarray) -> np.ndarray:
        return np.square(action - best, dtype=np.float64).sum(1)

    assert miss(greedy(learner, observation))[0] > 0.2
    for _ in range(500):
        action = act(learner, observation)
        observe(learner, observation, action, -30 * miss(action), observation, end)
        learner.update()
    assert miss(greedy(learner, observation))[0] < 0.05
