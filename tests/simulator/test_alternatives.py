"""Several drivers of one car: each environment's episode is that of its own driver alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from small import SMALL

from sim.config import EnvConfig
from sim.config.drivers import FollowTheGapConfig, SecondaryViconConfig
from sim.race import Race

ENV = EnvConfig.model_validate(
    SMALL["env"] | {"lidar": {"beams": 32}, "max_steps": 300, "physics_steps_per_action": 5}
)
OTHERS = [SecondaryViconConfig(target="car_0", speed=0.3), FollowTheGapConfig(speed=2.0)]


def driven(race: Race, steps: int = 25) -> np.ndarray:
    """The cars' states (E, C, 7) after so many steps with the same actions."""
    for step in range(steps):
        race.step(np.full((race.num_envs, 1, 2), [np.sin(step), 0.1], np.float32))
    return race.world.arrays.state.copy()


def test_each_environment_has_its_own_driver() -> None:
    race = Race(ENV, num_envs=6, num_threads=2, alternatives={"car_1": OTHERS})
    chosen = [None, 1, 1, 0, None, 0]
    for env, index in enumerate(chosen):
        race.reset(env, env)
        race.choose_driver(env, "car_1", index)
    copy = pickle.loads(pickle.dumps(race))  # noqa: S301
    found = driven(race)
    np.testing.assert_array_equal(driven(copy), found)
    for env, index in enumerate(chosen):
        driver = ENV.cars[1].driver if index is None else OTHERS[index]
        cars = ENV.cars[0], ENV.cars[1].model_copy(update={"driver": driver})
        alone = Race(ENV.model_copy(update={"cars": cars}))
        alone.reset(0, env)
        np.testing.assert_array_equal(driven(alone)[0], found[env])


def test_who_cannot_be_chosen() -> None:
    race = Race(ENV, alternatives={"car_1": OTHERS})
    for car in ("car_0", "nobody"):
        with pytest.raises(ValueError, match=f"'{car}' has no alternative drivers"):
            race.choose_driver(0, car, 0)
    with pytest.raises(ValueError, match="there are 3"):
        race.choose_driver(0, "car_1", 2)
