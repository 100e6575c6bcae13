"""Stable-Baselines3 in our environments: the adapter, and our settings in its words."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter
from small import REPOSITORY, SMALL, merge

from f110_fl.config.learners import LearnerConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.base import AlgorithmConfig
from sim.envs import F110VectorEnv

pytest.importorskip("stable_baselines3", reason="stable_baselines3 is not installed")
sys.path.insert(0, str(REPOSITORY / "tools"))
from parts.bench_time_to_policy_training import Own
from parts.stable_baselines_peer import Peer, PeerPolicy
from parts.stable_baselines_settings import HORIZON, FallingNoise, peer_settings

ENV = Scenario.model_validate(
    merge(SMALL, {"env": {"physics_steps_per_action": 10, "max_steps": 12}})
).env
ENVS = 3


def learner(**settings: Any) -> AlgorithmConfig:
    found: AlgorithmConfig = TypeAdapter[Any](LearnerConfig).validate_python(settings)
    return found


OFF_POLICY: dict[str, Any] = {
    "hidden": (8, 6),
    "batch_size": 16,
    "warmup_steps": 60,
    "update_every": 2,
    "n_step": 2,
    "replay": {"capacity": 600},
}
PPO: dict[str, Any] = {"algorithm": "ppo", "rollout_steps": 16, "minibatches": 4, "epochs": 2}


class Recorded(F110VectorEnv):
    """Keeps what every step returned."""

    def step(self, actions: NDArray[np.float32]) -> Any:
        self.found = [*getattr(self, "found", []), super().step(actions)]
        return self.found[-1]


def test_its_replay_buffer_bootstraps_where_ours_would() -> None:
    env = Recorded(ENV, ENVS)
    peer = Peer(learner(algorithm="td3", **OFF_POLICY), env, 5, ours=True, device="cpu")
    peer.run(lambda steps: steps < 150 * ENVS)
    buffer, ends = peer.model.replay_buffer, np.zeros(2, int)
    for step, (observation, reward, terminated, truncated, infos) in enumerate(env.found[:149]):
        following = observation.copy()
        for row in np.flatnonzero(terminated | truncated):
            following[row] = infos["final_obs"][row]
        np.testing.assert_array_equal(buffer.next_observations[step], following)
        np.testing.assert_array_equal(buffer.rewards[step], reward.astype(np.float32))
        worth_nothing = buffer.dones[step] * (1 - buffer.timeouts[step])
        np.testing.assert_array_equal(worth_nothing.astype(bool), terminated)
        ends += terminated.sum(), truncated.sum()
    assert ends.all()


CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({"algorithm": "td3", **OFF_POLICY}, []),
    ({"algorithm": "td3", **OFF_POLICY, "update_every": 4, "n_step": 1}, []),
    ({"algorithm": "sac", **OFF_POLICY, "temperature": {"initial": 0.5}}, []),
    ({"algorithm": "sac", **OFF_POLICY, "normalise_observations": True}, []),
    ({"algorithm": "dqn", **OFF_POLICY, "double": False, "duelling": False}, []),
    (
        {"algorithm": "dqn", **OFF_POLICY, "exploration": {"kind": "noisy"}, "huber": 2.0},
        ["double", "duelling", "huber", "exploration"],
    ),
    (PPO, []),
    (PPO | {"normalise_rewards": True, "activation": "relu", "target_kl": 1.0}, []),
]


@pytest.mark.parametrize(("settings", "left_out"), CASES)
def test_it_updates_as_often_as_ours(settings: dict[str, Any], left_out: list[str]) -> None:
    """Also: it takes all settings, its policy acts in our environments, the rest is named."""
    config, limit = learner(**settings), 60 * ENVS
    assert peer_settings(config, ENVS).left_out == left_out
    peer = Peer(config, F110VectorEnv(ENV, ENVS), 1, ours=True, device="cpu")
    peer.run(lambda steps: steps < limit)
    changes = {"learners": {"car_0": None}, "collect": {"num_envs": ENVS}}
    scenario = Scenario.model_validate(merge(SMALL, changes) | {"learners": {"car_0": config}})
    own = Own(scenario)
    own.run(lambda steps: steps < limit)
    updates = peer.model._n_updates
    ours: Any = own.learner
    if settings["algorithm"] == "ppo":
        assert updates == ours.updates * settings["epochs"] > 0
        assert peer.model.rollout_buffer.buffer_size == 16
    else:
        # The last step's updates are still due where it is told to stop before it learns.
        assert 0 < ours.updates - updates <= peer.model.gradient_steps
    policy = peer.policy(2)
    policy.reset(np.arange(2))
    observation, _ = F110VectorEnv(ENV, 2).reset(seed=0)
    chosen = policy.act(observation, np.arange(2))
    assert chosen.shape == (2, 2)
    assert np.abs(chosen).max() <= 1.0
    np.testing.assert_array_equal(policy.act(observation, np.arange(2)), chosen)


def test_a_policy_on_a_grid_chooses_from_it() -> None:
    class Model:
        def get_vec_normalize_env(self) -> None:
            return None

        def predict(self, observations: Any, deterministic: bool) -> tuple[Any, None]:
            assert deterministic
            return np.arange(len(observations)), None

    grid = np.array([[0.0, 1.0], [-1.0, 0.5]], np.float32)
    policy = PeerPolicy(Model(), grid)
    assert policy.act(np.zeros((2, 5), np.float32), np.arange(2)).tolist() == grid.tolist()


def test_rates_and_noise_fall_as_ours() -> None:
    schedule = {"kind": "linear", "updates": 10, "end": 0.5}
    rate = peer_settings(learner(**PPO, schedule=schedule), ENVS).keywords["learning_rate"]
    rollout = 16 * ENVS
    assert rate(1.0) == pytest.approx(3e-4)  # when it is made
    rates = [rate(1.0 - k * rollout / HORIZON) for k in (1, 2, 6, 11, 40)]
    assert rates == pytest.approx([3e-4 * f for f in (1.0, 0.95, 0.75, 0.5, 0.5)])
    td3 = learner(algorithm="td3", **OFF_POLICY, optimizer={"schedule": schedule})
    rate = peer_settings(td3, ENVS).keywords["learning_rate"]
    rates = [rate(1.0 - steps / HORIZON) for steps in (0, 60, 62, 80, 1000)]
    assert rates == pytest.approx([3e-4 * f for f in (1.0, 1.0, 0.95, 0.5, 0.5)])
    exploration = {"start": 0.0, "end": 0.0, "steps": 9}
    config: Any = learner(algorithm="td3", **OFF_POLICY, exploration=exploration)
    assert FallingNoise(config.exploration, ENVS)().tolist() == [0.0, 0.0]
    config = learner(algorithm="td3", **OFF_POLICY, exploration=exploration | {"start": 1.0})
    noise = FallingNoise(config.exploration, ENVS)
    deviations = []
    for _ in range(5):
        noise()
        deviations.append(noise._sigma[0])
    assert deviations == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0, 0.0])


def test_target_networks_follow_as_fast_as_ours() -> None:
    soft = learner(algorithm="dqn", **OFF_POLICY, target={"kind": "soft", "tau": 0.1})
    found = peer_settings(soft, 4).keywords  # two updates in a step of four environments
    assert (found["target_update_interval"], found["tau"]) == (4, pytest.approx(1 - 0.9**2))
    hard = learner(algorithm="dqn", **OFF_POLICY, target={"kind": "hard", "updates": 50})
    found = peer_settings(hard, 4).keywords
    assert (found["target_update_interval"], found["tau"]) == (100, 1.0)


def test_an_algorithm_that_it_has_not_is_a_users_mistake() -> None:
    class Other(AlgorithmConfig):
        algorithm: str = "other"

    with pytest.raises(UserError, match="Stable-Baselines3 has no 'other'; allowed: td3, sac"):
        peer_settings(Other(), 1)
