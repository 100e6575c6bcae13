"""Generalised advantages against analytic values and the definition's double sum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ppo_reference import advantages

from f110_fl.config.learners import PPOConfig
from f110_fl.learners.ppo.rollout import generalised_advantages


def estimate(
    reward: np.ndarray,
    value: np.ndarray,
    *,
    bootstrap_value: np.ndarray | float = 0.0,
    last_value: np.ndarray | float = 0.0,
    ended: np.ndarray | bool = False,
    mask: np.ndarray | bool = True,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
) -> np.ndarray:
    shape = reward.shape
    found = np.full(shape, np.nan, np.float32)
    generalised_advantages(
        reward.astype(np.float64),
        value.astype(np.float32),
        np.broadcast_to(bootstrap_value, shape).astype(np.float32),
        np.broadcast_to(last_value, shape[1:]).astype(np.float32),
        np.broadcast_to(ended, shape).copy(),
        np.broadcast_to(mask, shape).copy(),
        discount,
        gae_lambda,
        found,
    )
    return found


def last_ends(steps: int) -> np.ndarray:
    ended = np.zeros((steps, 1), bool)
    ended[-1] = True
    return ended


def test_lambda_1_without_values_is_the_discounted_return():
    found = estimate(
        np.ones((20, 1)), np.zeros((20, 1)), ended=last_ends(20), gae_lambda=1.0, discount=0.9
    )
    expected = (1 - 0.9 ** np.arange(20, 0, -1)) / (1 - 0.9)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_lambda_0_is_the_temporal_difference_error():
    rng = np.random.default_rng(0)
    reward, value, last_value = rng.random((9, 3)), rng.random((9, 3)), rng.random(3)
    found = estimate(reward, value, last_value=last_value, gae_lambda=0.0, discount=0.7)
    expected = reward + 0.7 * np.vstack([value[1:], last_value]) - value
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_exact_values_leave_no_advantage():
    """Reward 1 for ever is worth 1 / (1 - gamma), also beyond a truncation."""
    worth = 1 / (1 - 0.95)
    ended = np.zeros((12, 2), bool)
    ended[4, 1] = True
    found = estimate(
        np.ones((12, 2)),
        np.full((12, 2), worth),
        bootstrap_value=worth,
        last_value=worth,
        ended=ended,
        discount=0.95,
    )
    np.testing.assert_allclose(found, 0.0, atol=1e-5)


def test_an_absent_row_is_neither_read_nor_written():
    reward, value = np.ones((4, 1)), np.zeros((4, 1))
    mask = np.array([[True], [True], [False], [True]])
    ended = np.array([[False], [True], [True], [False]])
    reward[2] = value[2] = np.nan
    found = estimate(
        reward, value, ended=ended, mask=mask, last_value=10.0, gae_lambda=1.0, discount=0.5
    )
    np.testing.assert_array_equal(found[:, 0], [1.5, 1.0, np.nan, 6.0])


@given(st.data())
@pytest.mark.filterwarnings("error")
def test_rollouts_with_ends_and_absences_match_the_definition(data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    steps, envs = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    discount, gae_lambda = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))
    reward, value, bootstrap_value = rng.standard_normal((3, steps, envs)).astype(np.float32)
    last_value = rng.standard_normal(envs).astype(np.float32)
    mask, ended = rng.random((steps, envs)) < 0.8, rng.random((steps, envs)) < 0.3
    found = estimate(
        reward,
        value,
        bootstrap_value=bootstrap_value,
        last_value=last_value,
        ended=ended,
        mask=mask,
        discount=discount,
        gae_lambda=gae_lambda,
    )
    config = PPOConfig(discount=discount, gae_lambda=gae_lambda)
    for n in range(envs):
        present = np.flatnonzero(mask[:, n])
        following = np.append(value[present, n], last_value[n])[1:]
        rows = [
            (reward[t, n], value[t, n], bootstrap_value[t, n] if ended[t, n] else nxt, ended[t, n])
            for t, nxt in zip(present, following, strict=True)
        ]
        expected, _ = advantages(config, rows)
        np.testing.assert_allclose(found[present, n], expected, rtol=1e-5, atol=1e-5)
    assert np.isnan(found[~mask]).all()
