"""What holds for every scripted driver."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from policies import save_policy

from sim.config import (
    BlockerConfig,
    CarConfig,
    DriverConfig,
    EnvConfig,
    FollowTheGapConfig,
    FrozenPolicyConfig,
    GapPreviewConfig,
    LidarConfig,
    MppiConfig,
    OvalTrack,
    PurePursuitConfig,
    RandomDriverConfig,
    RandomSpawn,
    SecondaryViconConfig,
    StanleyConfig,
)
from sim.drivers.base import Driver
from sim.drivers.factory import make_driver
from sim.policy import PolicyFormat, make_policy
from sim.race import Race

DRIVERS = [
    SecondaryViconConfig(target="other", speed=2.0),
    PurePursuitConfig(),
    StanleyConfig(),
    BlockerConfig(target="other"),
    MppiConfig(samples=16),
    FollowTheGapConfig(),
    GapPreviewConfig(),
    RandomDriverConfig(),
    FrozenPolicyConfig(checkpoint="policy.safetensors", agent="a"),
]
every_driver = pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.kind)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds a policy of random weights for the races below."""
    rng = np.random.default_rng(0)
    form = PolicyFormat(
        layers=(("w0", "b0"), ("w1", "b1")), activation="relu", output="tanh", actions=()
    )
    sizes = {"w0": (16, 20 + 8), "b0": (16,), "w1": (2, 16), "b1": (2,)}
    tensors = {name: rng.normal(size=shape) / 4 for name, shape in sizes.items()}
    save_policy(tmp_path / "policy.safetensors", {"a": make_policy(form, tensors)})
    return tmp_path


def race(driver, folder, num_envs, num_threads=1) -> Race:
    cars = (CarConfig(name="car", driver=driver), CarConfig(name="other"))
    env = EnvConfig(
        track=OvalTrack(),
        cars=cars,
        lidar=LidarConfig(beams=20),
        spawn=RandomSpawn(heading_noise=0.3),
        end_when="all",
    )
    return Race(env, num_envs=num_envs, num_threads=num_threads, base_dir=folder)


def test_every_kind_is_here():
    kinds = {model.model_fields["kind"].default for model in get_args(get_args(DriverConfig)[0])}
    assert {driver.kind for driver in DRIVERS} == kinds


@every_driver
def test_an_episode_depends_on_its_seed_alone(driver, folder):
    """Neither on the batch position, nor on threads, nor on what was driven before."""
    seeds = [5, 3, 8, 3, 1]
    action = np.array([0.1, 0.2], np.float32)
    batch = race(driver, folder, len(seeds), num_threads=2)
    for e in range(len(seeds)):
        batch.reset(e, 99 + e)
    for _ in range(20):
        batch.step(np.tile(action, (len(seeds), 1, 1)))
    for e, seed in enumerate(seeds):
        batch.reset(e, seed)
    single = race(driver, folder, 1)
    single.reset(0, 3)
    for _ in range(150):
        batch.step(np.tile(action, (len(seeds), 1, 1)))
        single.step(action[None, None])
    states = batch.world.arrays.state
    assert np.array_equal(states[1], single.world.arrays.state[0])
    assert np.array_equal(states[1], states[3])
    assert not np.array_equal(states[0], states[1])


@every_driver
def test_difficulty_is_a_factor_of_the_speed_in_one_environment(driver, folder):
    made = race(driver, folder, 3)
    for e in range(3):
        made.reset(e, 7)
    scripted = make_driver(driver, made.config, 0, made.track, num_envs=3, base_dir=folder)
    assert isinstance(scripted, Driver)
    assert scripted.difficulty.dtype == np.float64
    assert scripted.difficulty.tolist() == [1.0] * 3
    scripted.difficulty[1] = 0.5
    scripted.difficulty[2] = 1.7
    commands = np.zeros((3, 2, 2))
    scripted.command(made.world.arrays, commands, 0, 3)
    assert (commands[:, 0, 0] == commands[0, 0, 0]).all()
    assert commands[0, 0, 1] != 0.0
    np.testing.assert_allclose(commands[:, 0, 1] / commands[0, 0, 1], [1.0, 0.5, 1.7])


@every_driver
def test_only_the_range_and_the_car_are_written(driver, folder):
    made = race(driver, folder, 4)
    for e in range(4):
        made.reset(e, e)
    scripted = make_driver(driver, made.config, 0, made.track, num_envs=4, base_dir=folder)
    commands = np.full((4, 2, 2), 77.0)
    scripted.command(made.world.arrays, commands, 1, 3)
    assert (commands[1:3, 0] != 77.0).all()
    commands[1:3, 0] = 77.0
    assert (commands == 77.0).all()


@every_driver
def test_commands_stay_within_the_steering_limit(driver, folder):
    made = race(driver, folder, 6)
    for e in range(6):
        made.reset(e, e)
    scripted = make_driver(driver, made.config, 0, made.track, num_envs=6, base_dir=folder)
    limit = made.config.cars[0].vehicle.steer_max
    commands = np.zeros((6, 2, 2))
    rng = np.random.default_rng(0)
    for _ in range(30):
        made.step(rng.uniform(-1, 1, (6, 1, 2)))
        scripted.command(made.world.arrays, commands, 0, 6)
        assert np.isfinite(commands).all()
        assert np.abs(commands[:, 0, 0]).max() <= limit
