"""Mirrored experience: whole episodes of the task, batches, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learner_cases import DQN, MIRROR, TD3, A, D, make, observe
from small import REPOSITORY, SMALL

from f110_fl.config.learners import TD3Config
from f110_fl.errors import UserError
from f110_fl.learners.base import LearnerSetup
from f110_fl.learners.factory import make_learner
from f110_fl.loading.scenarios import load_scenario
from f110_fl.runs.preflight import check_mirrors
from sim.layout import COMMAND_SIGNS, YAW
from sim.observation import observation_mirror
from sim.race import Race


@pytest.mark.parametrize("name", ["gaplock_td3", "convoy_lock_td3"])
def test_mirrored_actions_lead_through_the_mirrored_episode_to_equal_rewards(name, monkeypatch):
    """The task, its defender and its track are symmetric, as `mirror` takes them to be."""
    env = load_scenario(REPOSITORY / "scenarios" / f"{name}.yaml").env
    env = env.model_copy(update={"lidar": env.lidar.model_copy(update={"noise_std": 0.0})})
    races = Race(env), Race(env)
    mirror, rng = observation_mirror(env), np.random.default_rng(2)
    draw = races[1]._starts.draw

    def drawn(*args: Any) -> Any:
        poses = np.array(draw(*args))
        poses[:, 1] = 2 * -0.725 - poses[:, 1]
        poses[:, 2] *= -1
        return poses

    monkeypatch.setattr(races[1]._starts, "draw", drawn)
    turned = False
    for episode in range(8):
        for race in races:
            race.reset(0, episode)
        while not races[0].episodes.over[0]:
            action = rng.uniform(-0.3, 1.0, (1, 1, 2)).astype(np.float32)
            races[0].step(action)
            races[1].step(action * np.array(COMMAND_SIGNS, np.float32))
            one, other = (race.episodes for race in races)
            np.testing.assert_allclose(
                other.observations, mirror(one.observations), atol=2e-3, rtol=0
            )
            np.testing.assert_allclose(other.rewards, one.rewards, atol=1e-6)
            assert (other.terminated, other.truncated) == (one.terminated, one.truncated)
            assert (other.outcome == one.outcome).all()
            turned |= abs(np.sin(races[0].world.arrays.state[0, 1, YAW])) > 0.3
    assert turned  # the defender


def normalised(learner: Any, rows: np.ndarray) -> np.ndarray:
    return learner.normaliser.observations(rows)


@pytest.mark.parametrize("settings", [TD3, DQN], ids=["td3", "dqn"])
def test_half_of_a_batch_is_mirrored_before_it_is_normalised(settings):
    on = {"mirror": True, "normalise_observations": True, "replay": {"capacity": 400}}
    learner, rng = make(settings | on, num_envs=200, warmup_steps=10**6), np.random.default_rng(0)
    first, following = rng.normal(2.0, 3.0, (2, 200, D)).astype(np.float32)
    actions, rewards = learner.act(first, np.arange(200)), rng.standard_normal(200)
    observe(learner, first, actions, rewards, following, np.zeros(200, bool))
    signs = np.array(COMMAND_SIGNS, np.float32)
    flips, batch = 0, learner._sample()
    for seen, taken, reward, then, row in zip(
        batch.observation, batch.action, batch.reward, batch.next_observation, batch.indices,
        strict=True,
    ):  # fmt: skip
        flipped = not np.allclose(seen, normalised(learner, first[row]))
        expected = (first[row], following[row], actions[row])
        if flipped:
            expected = (MIRROR(first[row]), MIRROR(following[row]), actions[row] * signs)
        action = taken.numpy() if settings is TD3 else learner.actions[int(taken[0])]
        np.testing.assert_allclose(seen, normalised(learner, expected[0]), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(then, normalised(learner, expected[1]), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(action, expected[2])
        assert float(reward) == pytest.approx(rewards[row], abs=1e-6)
        flips += flipped
    assert 4 < flips < 28  # of 32
    assert torch.equal(batch.observation_action[:, :D], batch.observation)


def test_a_learner_that_is_not_told_the_mirror_refuses():
    config = TD3Config(mirror=True)
    with pytest.raises(ValueError, match="mirror: it is not known how"):
        make_learner(config, LearnerSetup(D, A, np.random.SeedSequence(0)))


MIRRORED = {"learners": {"car_0": {"mirror": True}}}


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({}, ""),
        ({"track": {"kind": "circle"}, "observation": ["lidar", "others"], "spawn_sets": []}, ""),
        (
            {"track": {"kind": "circle"}, "spawn_sets": []},
            "learners.car_0.mirror: with pose in the observation, track circle must be its own "
            "image in a mirror along x in the middle of its box; allowed: an observation without "
            "pose, or a straight track along x, such as line2",
        ),
    ],
)
def test_a_track_that_is_not_its_own_image_is_refused_in_one_line(
    write_scenario: Callable[..., Path], env: dict[str, Any], line: str
) -> None:
    scenario = load_scenario(write_scenario(**MIRRORED, env=env))
    if not line:
        check_mirrors(scenario)
        return
    with pytest.raises(UserError) as caught:
        check_mirrors(scenario)
    assert str(caught.value) == line


def test_actions_that_are_not_symmetric_are_refused_in_one_line(
    write_scenario: Callable[..., Path],
) -> None:
    learner = {"algorithm": "dqn", "mirror": True, "actions": {"steering": [-1.0, 0.0, 0.5]}}
    path = write_scenario()
    path.write_text(json.dumps(SMALL | {"learners": {"car_0": learner}}))
    with pytest.raises(UserError, match=r"mirror: actions.steering .* lacks the opposite"):
        load_scenario(path)
