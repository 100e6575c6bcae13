"""Drivers that compensate: what they foresee, ask for, and how near the line they stay."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.config import (
    CarConfig,
    CircleTrack,
    EnvConfig,
    LidarConfig,
    PurePursuitConfig,
    StanleyConfig,
)
from sim.config.vehicle import VehicleConfig
from sim.drivers.base import Seat
from sim.drivers.racing import asked_speeds, compensation, foreseen, reaches, slip_behind
from sim.layout import SLIP, YAW, YAW_RATE, V, X, Y
from sim.physics.dynamics import speed_control
from sim.physics.vehicle import vehicle_vector
from sim.race import Race
from sim.tracks.centerline import polyline

CAR = VehicleConfig()


def circle(radius: float):
    angle = np.arange(400) * math.tau / 400
    return polyline(radius * np.column_stack([np.cos(angle), np.sin(angle)]), closed=True)


def test_a_turning_car_is_foreseen_on_its_circle() -> None:
    own = np.zeros(7)
    own[V], own[YAW_RATE], own[SLIP], own[YAW] = 4.0, 0.8, -0.1, math.pi / 2 + 0.1
    own[X] = 4.0 / 0.8  # the centre is at the origin
    x, y, yaw = foreseen(own, 0.3)
    assert (x, y) == pytest.approx((5 * math.cos(0.24), 5 * math.sin(0.24)), abs=0.005)
    assert yaw == pytest.approx(own[YAW] + 0.24)
    assert foreseen(own, 0.0) == (own[X], own[Y], own[YAW])


def test_the_rear_axle_of_a_car_that_rolls_moves_as_the_car_points() -> None:
    own = np.zeros(7)
    reach = math.tan(0.3) * CAR.rear_axle / (CAR.front_axle + CAR.rear_axle)
    own[V], own[SLIP] = 2.0, math.atan(reach)
    own[YAW_RATE] = 2.0 * math.cos(own[SLIP]) * reach / CAR.rear_axle
    assert slip_behind(own, CAR.rear_axle) == pytest.approx(0.0, abs=1e-12)
    own[SLIP] -= 0.1
    assert slip_behind(own, CAR.rear_axle) == pytest.approx(-0.1, abs=0.01)
    own[V] = 0.0
    assert slip_behind(own, CAR.rear_axle) == 0.0


def test_the_straight_way_is_cut_short_where_it_would_leave_the_line() -> None:
    """A chord c of a circle leaves it by r - sqrt(r^2 - c^2 / 4)."""
    found = reaches(circle(3.0), 20, 0.12)
    half = math.sqrt(2 * 3.0 * 0.12 - 0.12**2)
    assert found == pytest.approx(2 * 3.0 * math.asin(half / 3.0), abs=0.15)
    straight = polyline(np.array([[0.0, 0.0], [20.0, 0.0], [60.0, 0.0]]), closed=False)
    assert reaches(straight, 20, 0.12).tolist() == [10.0] * 20


def test_the_speed_asked_for_makes_the_controller_accelerate_as_the_speeds_do() -> None:
    line = circle(10.0)
    step = line.length / 4
    speeds = np.sqrt(np.array([20.0, 20.0 + 2 * 3.0 * step, 20.0 + 2 * 1.0 * step, 20.0]))
    vector = vehicle_vector(CAR)
    asked = asked_speeds(line, speeds, CAR)
    found = [speed_control(v, w, vector) for v, w in zip(speeds, asked, strict=True)]
    assert found == pytest.approx([3.0, -2.0, -1.0, 0.0])


def widest(driver: PurePursuitConfig | StanleyConfig, steps: int) -> float:
    """Largest distance from a circle of 4 m, m, from 3 s after the start."""
    vehicle = VehicleConfig(speed_max=8.0)
    cars = (CarConfig(name="car_0", driver=driver, vehicle=vehicle),)
    track = CircleTrack(radius=4.0, width=6.0)
    lidar = LidarConfig(beams=3, noise_std=0.0)
    env = EnvConfig(track=track, cars=cars, lidar=lidar, physics_steps_per_action=steps, laps=2)
    race = Race(env)
    race.reset(0, 0)
    offsets = []
    for _ in range(800 // steps):
        race.step(np.zeros((1, 0, 2)))
        offsets.append(abs(race.world.arrays.lateral_offset[0, 0]))
    assert race.world.arrays.state[0, 0, V] == pytest.approx(driver.speed, abs=0.2)
    return max(offsets[300 // steps :])


@pytest.mark.parametrize("steps", [1, 5])
def test_at_the_limit_the_car_stays_near_the_line(steps: int) -> None:
    usual = {"speed": 6.0, "acceleration": 9.0, "lookahead": 0.5, "lookahead_time": 0.12}
    assert widest(PurePursuitConfig(compensate=True, **usual), steps) < 0.12
    assert widest(PurePursuitConfig(**usual), steps) > 0.18


@pytest.mark.parametrize("steps", [1, 5])
def test_at_the_limit_stanley_stays_near_the_line(steps: int) -> None:
    usual = {"speed": 6.0, "acceleration": 9.0}
    assert widest(StanleyConfig(compensate=True, **usual), steps) < 0.12
    assert widest(StanleyConfig(**usual), steps) > 0.18


@pytest.mark.parametrize(("model", "slip"), [("kinematic", 0.0), ("single_track", 0.029)])
def test_only_tyres_that_slip_are_allowed_for(model: str, slip: float) -> None:
    """The axles' slip angles differ by 1 / C_Sf - 1 / C_Sr at mu g sideways."""
    driver = PurePursuitConfig(compensate=True)
    vehicle = VehicleConfig(model=model)
    env = EnvConfig(cars=(CarConfig(name="car_0", driver=driver, vehicle=vehicle),))
    found = compensation(driver, Seat(env, 0, ()))
    assert found["understeer"] * vehicle.friction * 9.81 == pytest.approx(slip, abs=5e-4)
    assert found["lead"] == pytest.approx(0.005 + 0.02 + 0.055)
