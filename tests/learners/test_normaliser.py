"""Running statistics against NumPy's, and what learners make of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from f110_fl.config.learners import PPOConfig
from f110_fl.learners.base import LearnerSetup, Transitions
from f110_fl.learners.factory import make_learner
from f110_fl.learners.normaliser import Normaliser, RunningMoments
from f110_fl.learners.ppo.ppo import PPO

D, N = 4, 3


def make(num_envs: int = N, *, observations: bool = True, rewards: bool = True) -> Normaliser:
    return Normaliser(D, num_envs, 0.9, observations=observations, rewards=rewards)


def transitions(
    envs: list[int], reward: list[float], ended: list[bool] | None = None
) -> Transitions:
    count = len(envs)
    over = np.array(ended if ended is not None else [False] * count, bool)
    zero = np.zeros((count, D), np.float32)
    return Transitions(
        np.array(envs, np.int64),
        zero,
        zero[:, :2],
        np.array(reward),
        zero,
        over,
        np.zeros(count, bool),
    )


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_moments_of_batches_are_those_of_all_rows(sizes, seed):
    rng = np.random.default_rng(seed)
    moments = RunningMoments(D)
    offset, scale = rng.normal(0, 100, D), 10 ** rng.uniform(-2, 2, D)
    batches = [offset + scale * rng.standard_normal((size, D)) for size in sizes]
    for batch in batches:
        moments.add(batch)
    rows = np.concatenate(batches)
    found = {name: tensor.numpy() for name, tensor in moments.tensors.items()}
    assert found["count"] == len(rows)
    expected = (rows.mean(0), rows.var(0)) if len(rows) else (np.zeros(D), np.ones(D))
    np.testing.assert_allclose(found["mean"], expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["variance"], expected[1], rtol=1e-5, atol=1e-9)


def test_a_large_offset_costs_no_precision():
    """In float32 these sums would lose the variance altogether."""
    moments = RunningMoments(1)
    rng = np.random.default_rng(0)
    rows = 1e6 + rng.standard_normal((5000, 1))
    for row in rows:
        moments.add(row[None])
    assert moments.tensors["variance"].item() == pytest.approx(rows.var(), rel=1e-6)


def test_normalised_observations_have_zero_mean_and_unit_variance_and_are_bounded():
    normaliser = make()
    x = np.random.default_rng(0).normal(5.0, 3.0, (1000, D)).astype(np.float32)
    normaliser.count(x)
    found = normaliser.observations(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(found.std(0), 1.0, atol=1e-5)
    extreme = np.array([[1e6, -1e6, 5.0, 5.0]], np.float32)
    np.testing.assert_array_equal(normaliser.observations(extreme)[0, :2], [10, -10])


def test_before_any_observation_they_pass():
    x = np.ones((2, D), np.float32)
    np.testing.assert_allclose(make().observations(x), x, rtol=1e-6)


def test_rewards_are_divided_by_the_deviation_of_the_discounted_return():
    normaliser = make()
    returns = []
    running = np.zeros(N)
    rng = np.random.default_rng(0)
    for _ in range(50):
        envs = np.flatnonzero(rng.random(N) < 0.7)
        reward, ended = rng.standard_normal(len(envs)), rng.random(len(envs)) < 0.2
        normaliser.count_rewards(transitions(envs.tolist(), reward.tolist(), ended.tolist()))
        for n, r, over in zip(envs, reward, ended, strict=True):
            running[n] = 0.9 * running[n] + r
            returns.append(running[n])
            running[n] = 0.0 if over else running[n]
    expected = np.array([1.0, -2.0]) / np.std(returns)
    np.testing.assert_allclose(normaliser.rewards(np.array([1.0, -2.0])), expected, rtol=1e-5)
    np.testing.assert_array_equal(normaliser.rewards(np.array([1e9, -1e9])), [10, -10])


def test_what_is_off_passes_and_has_no_tensors():
    off = make(observations=False, rewards=False)
    x, r = np.ones((2, D), np.float32), np.ones(2)
    off.count(x)
    off.count_rewards(transitions([0, 1], [1.0, 2.0]))
    assert off.observations(x) is x
    assert off.rewards(r) is r
    assert off.tensors() == {}
    assert off.local_state() == {}
    assert {n.split("/")[1] for n in make().tensors()} == {"normaliser", "reward_normaliser"}


def test_tensors_follow_and_can_be_taken_over():
    source, sink = make(), make()
    views = sink.tensors()
    source.count(np.random.default_rng(0).normal(2.0, 3.0, (100, D)).astype(np.float32))
    for name, tensor in source.tensors().items():
        views[name].copy_(tensor)
    sink.reload()
    more = np.random.default_rng(1).normal(-2.0, 1.0, (50, D)).astype(np.float32)
    for normaliser in (source, sink):
        normaliser.count(more)
    for name, tensor in source.tensors().items():
        torch.testing.assert_close(views[name], tensor, rtol=1e-5, atol=1e-6)


def learner(seed: int = 0) -> PPO:
    config = PPOConfig(
        rollout_steps=8, minibatches=2, normalise_observations=True, normalise_rewards=True
    )
    made = make_learner(config, LearnerSetup(D, 2, np.random.SeedSequence(seed), num_envs=N))
    assert isinstance(made, PPO)
    return made


def step(ppo: PPO, rng: np.random.Generator) -> None:
    x, following = rng.normal(50.0, 20.0, (2, N, D)).astype(np.float32)
    action = ppo.act(x, np.arange(N))
    cut = rng.random(N) < 0.2
    ppo.observe(
        Transitions(np.arange(N), x, action, 100.0 * x[:, 0], following, np.zeros(N, bool), cut)
    )
    ppo.update()


def test_a_learner_resumes_its_statistics_exactly(tmp_path):
    original, rng = learner(), np.random.default_rng(0)
    for _ in range(13):
        step(original, rng)
    save_file(original.tensors() | original.local_state(), tmp_path / "state")
    resumed, state = learner(9), load_file(tmp_path / "state")
    resumed.load_tensors({n: state[n] for n in resumed.tensors()})
    resumed.load_local_state(state)
    for ppo in (original, resumed):
        again = np.random.default_rng(1)
        for _ in range(13):
            step(ppo, again)
    for name, tensor in (original.tensors() | original.local_state()).items():
        assert torch.equal((resumed.tensors() | resumed.local_state())[name], tensor), name


def test_a_policy_sees_what_the_learner_sees_and_leaves_the_statistics():
    ppo, rng = learner(), np.random.default_rng(0)
    for _ in range(9):
        step(ppo, rng)
    before = {n: t.clone() for n, t in ppo.normaliser.tensors().items()}
    x = rng.normal(50.0, 20.0, (N, D)).astype(np.float32)
    found = ppo.policy(N).act(x, np.arange(N))
    seen = torch.from_numpy(ppo.normaliser.observations(x))
    np.testing.assert_allclose(found, ppo.actor(seen).detach().clamp(-1, 1), atol=1e-6)
    assert all(torch.equal(t, before[n]) for n, t in ppo.normaliser.tensors().items())
    loaded = learner(5)
    loaded.load_tensors({n: t for n, t in ppo.tensors().items() if n.startswith("model/")})
    np.testing.assert_array_equal(loaded.policy(N).act(x, np.arange(N)), found)


def test_stored_observations_and_rewards_are_normalised():
    ppo, rng = learner(), np.random.default_rng(0)
    for _ in range(7):
        step(ppo, rng)
    rollout = ppo.rollout
    assert np.abs(rollout.observation[1:7]).max() < 5
    assert np.abs(rollout.reward[1:7]).max() <= 10
    assert (
        np.abs(rollout.last_observation).max() > 10
    )  # as it came: normalised when its value is asked for
