"""The single-agent environment: Gymnasium's checks, registration, errors."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence

from sim.config import EnvConfig, LidarConfig
from sim.envs import F110Env, F110ParallelEnv
from sim.envs.common import CONVOY

SMALL = CONVOY.model_copy(update={"lidar": LidarConfig(beams=7), "max_steps": 40})


@pytest.mark.parametrize("config", [CONVOY, SMALL], ids=["default", "small"])
@pytest.mark.usefixtures("pygame")
def test_passes_gymnasiums_checker_without_warnings(config: EnvConfig) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("F110-v0", config=config)
        check_env(env.unwrapped)
        env.close()


def test_without_a_configuration_the_scan_is_a_short_one() -> None:
    env = gymnasium.make("F110-v0")
    assert env.observation_space.shape == (54 + 4 + 4,)
    assert env.unwrapped.race.config.observation == ("lidar", "motion", "others")
    assert gymnasium.make_vec("F110-v0", num_envs=2).observation_space.shape == (2, 62)
    assert EnvConfig().lidar.beams == 1080  # of settings that do not say


def test_is_the_parallel_environment_with_one_agent() -> None:
    env, parallel = F110Env(SMALL), F110ParallelEnv(SMALL)
    assert env.observation_space == parallel.observation_space("car_0")
    assert env.action_space == parallel.action_space("car_0")
    rng = np.random.default_rng(0)
    for episode in range(3):
        seed = 6 if episode == 0 else None
        found = env.reset(seed=seed)
        expected = [part["car_0"] for part in parallel.reset(seed=seed)]
        while True:
            assert np.array_equal(found[0], expected[0])
            assert data_equivalence(list(found[1:]), expected[1:], exact=True)
            if not parallel.agents:
                break
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            found = env.step(action)
            expected = [part["car_0"] for part in parallel.step({"car_0": action})]
        last = {"outcome", "steps", "return", "laps", "lap_times", "track"}
        assert set(found[-1]) == last | {"car", "cars"}


def test_an_unseeded_start_tells_its_seed() -> None:
    env = F110Env(SMALL)
    first, second = env.reset()[0], env.reset()[0]
    assert not np.array_equal(first, second)
    twin = F110Env(SMALL)
    assert np.array_equal(twin.reset(seed=env.np_random_seed)[0], first)
    assert np.array_equal(twin.reset()[0], second)


def test_registration_imports_no_renderer() -> None:
    code = (
        "import sys, sim.envs, gymnasium\n"
        "assert 'F110-v0' in gymnasium.registry\n"
        "gymnasium.make('F110-v0').reset(seed=1)\n"
        "print(*[m for m in sys.modules if m.startswith(('sim.rendering', 'PIL.ImageDraw', "
        "'PIL.ImageFont', 'pygame', 'torch'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""


def test_stepping_needs_a_running_episode() -> None:
    env = F110Env(SMALL.model_copy(update={"max_steps": 1}))
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before step\(\)"):
        env.step(np.zeros(2))
    env.reset(seed=1)
    assert env.step(np.zeros(2))[3] is True
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([0.0, float("nan")], "action of 'car_0' in environment 0 is not a number"),
        ([0.0], r"action must have shape \(2,\)"),
        (np.zeros((1, 2)), r"action must have shape \(2,\)"),
    ],
)
def test_bad_actions_are_refused(action: object, message: str) -> None:
    env = F110Env(SMALL)
    env.reset(seed=1)
    before = env.race.world.arrays.state.copy()
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert np.array_equal(env.race.world.arrays.state, before)
    assert env.race.episodes.steps[0] == 0


def test_options_choose_the_spawn_set() -> None:
    env = F110Env(SMALL)
    env.reset(seed=1, options={"spawn_set": 0})
    with pytest.raises(ValueError, match=r"unknown reset option 'spawn'"):
        env.reset(options={"spawn": 0})
    with pytest.raises(ValueError, match=r"spawn_set must be in 0 ... 0, found 1"):
        env.reset(options={"spawn_set": 1})


def test_two_free_cars_are_one_too_many() -> None:
    with pytest.raises(ValueError, match=r"\['car_0', 'car_1'\]; F110Env has one agent"):
        F110Env(EnvConfig())


def test_settings_may_be_a_dict() -> None:
    env = gymnasium.make("F110-v0", config=SMALL.model_dump(mode="json"))
    assert env.unwrapped.race.config == SMALL
    wrong = {"lidar": {"beams": 0}, "laps": 0}
    with pytest.raises(ValueError, match=r"^config.lidar.beams: .* found 0 \(and 1 more\)$"):
        F110Env(wrong)
    with pytest.raises(TypeError, match=r"or a dict of its settings, found str; for files"):
        F110Env("a.yaml")
