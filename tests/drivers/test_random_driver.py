"""The driver that steers at random."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from sim.config import CarConfig, EnvConfig, RandomDriverConfig, VehicleConfig
from sim.drivers.factory import make_driver
from sim.race import Race

STEPS = 4000
LIMIT = VehicleConfig().steer_max


def commands(seed: int, car: int = 0, step: float = 0.01, **changes) -> np.ndarray:
    """Commands (STEPS, 2) of one of two random cars over an episode."""
    driver = RandomDriverConfig(**changes)
    cars = (CarConfig(name="a", driver=driver), CarConfig(name="b", driver=driver))
    env = EnvConfig(cars=cars, physics_step=step)
    made = Race(env)
    made.reset(0, seed)
    scripted = make_driver(driver, env, car, made.track)
    written, found = np.zeros((1, 2, 2)), np.empty((STEPS, 2))
    for i in range(STEPS):
        made.world.arrays.steps[0] = i
        scripted.command(made.world.arrays, written, 0, 1)
        found[i] = written[0, car]
    return found


def test_commands_fill_their_range_and_stay_in_it():
    found = commands(1, steer=0.6, speed_min=0.5, speed=2.5, interval=0.1)
    low, high = found.min(axis=0), found.max(axis=0)
    assert -0.6 * LIMIT <= low[0] < -0.55 * LIMIT
    assert 0.55 * LIMIT < high[0] <= 0.6 * LIMIT
    assert 0.5 <= low[1] < 0.55
    assert 2.45 < high[1] <= 2.5


def test_values_between_are_smooth_and_drawn_uniformly_each_interval():
    found = commands(2, steer=1.0, interval=0.2)
    knots = found[::20, 0] / LIMIT
    assert abs(knots.mean()) < 0.15
    assert np.mean(np.abs(knots) < 0.5) == pytest.approx(0.5, abs=0.12)
    assert abs(np.corrcoef(knots[1:], knots[:-1])[0, 1]) < 0.2
    # Half way between two draws is their mean; the cubic's steepest slope is 1.5.
    np.testing.assert_allclose(found[10:-20:20, 0] / LIMIT, (knots[1:] + knots[:-1]) / 2, atol=1e-9)
    assert np.abs(np.diff(found[:, 0])).max() <= 1.5 * 2 * LIMIT * 0.01 / 0.2 + 1e-9
    assert abs(np.corrcoef(found[::20].T)[0, 1]) < 0.2  # steering and speed are independent


def test_the_seed_decides_and_cars_differ():
    first = commands(3)
    assert np.array_equal(first, commands(3))
    assert not np.array_equal(first, commands(4))
    assert abs(np.corrcoef(first[::50, 0], commands(3, car=1)[::50, 0])[0, 1]) < 0.4


def test_time_counts_not_steps():
    coarse, fine = commands(5, step=0.02), commands(5, step=0.01)
    np.testing.assert_allclose(coarse[:1000], fine[:2000:2], atol=1e-9)


def test_speeds_are_in_order():
    with pytest.raises(ValidationError, match=r"speed_min 3 is above speed 2"):
        RandomDriverConfig(speed_min=3.0, speed=2.0)
