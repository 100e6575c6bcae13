"""The model-predictive driver: its model, what plans cost, and how it races."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import (
    CarConfig,
    CircleTrack,
    EnvConfig,
    LidarConfig,
    Line2Track,
    MppiConfig,
    OvalTrack,
    PurePursuitConfig,
    RandomTrack,
    VehicleConfig,
)
from sim.config.vehicle import TyreConfig
from sim.drivers.factory import make_driver
from sim.drivers.mppi.cost import path_cost, room_beside
from sim.drivers.mppi.driver import Mppi, lead_of_speed, scene_on, shift
from sim.drivers.mppi.model import car_settings, roll
from sim.layout import STEER, TARGET_SPEED, YAW, V
from sim.native import record
from sim.physics.collision import touches_wall
from sim.physics.dynamics import advance
from sim.physics.vehicle import vehicle_vector
from sim.race import Race
from sim.tracks.centerline import point_at
from sim.tracks.factory import make_track

CAR = VehicleConfig(speed_min=-1.0, speed_max=8.0)
LIDAR = LidarConfig(beams=3, noise_std=0.0)
STEP = 0.05  # s, of a plan


def race(track, *cars: CarConfig, num_envs: int = 1, seed: int = 0, **changes) -> Race:
    settings: dict[str, Any] = {
        "track": track,
        "cars": cars,
        "lidar": LIDAR,
        "physics_steps_per_action": 5,
    }
    made = Race(EnvConfig(**settings, **changes), num_envs=num_envs)
    for e in range(num_envs):
        made.reset(e, seed + e)
    return made


def run(made: Race) -> Race:
    nothing = np.zeros((made.num_envs, 0, 2))
    while not made.episodes.over.all():
        made.step(nothing)
    return made


def racing(**changes) -> CarConfig:
    return CarConfig(name="car_0", driver=MppiConfig(**changes), vehicle=CAR)


# The model


@pytest.mark.parametrize("tyre", ["linear", "saturating", None])
@given(speed=st.floats(1.5, 8.0), steer=st.floats(-0.2, 0.2), gained=st.floats(-3.0, 3.0))
@examples(25)
def test_the_model_drives_as_the_simulated_car_does(tyre, speed, steer, gained):
    """Over half a second, in steps of 0.05 s, against the simulator's small ones."""
    kind = {"model": "kinematic"} if tyre is None else {"tyre": TyreConfig(kind=tyre)}
    vehicle = VehicleConfig(control="rates", **kind)
    car, vector = record(**car_settings(vehicle))[0], vehicle_vector(vehicle)
    gained = max(gained, (1.2 - speed) / 0.5)  # slower, tyres that slip are left out
    motion = (0.0, 0.0, 0.0, speed, 0.3, 0.0, 0.0)
    state, buffer, small = np.array(motion), np.zeros(1), 2e-3
    for _ in range(10):
        motion = roll(car, motion, steer, gained, 20.0, STEP)
        for _ in range(round(STEP / small)):
            off = (steer - state[STEER]) / small
            rate = min(max(off, -vehicle.steer_rate_max), vehicle.steer_rate_max)
            advance(state, buffer, vector, rate, gained, small)
    moved = math.hypot(*state[:2])
    assert math.hypot(*(np.array(motion[:2]) - state[:2])) < 0.03 * moved + 0.01
    assert motion[V] == pytest.approx(state[V], abs=1e-6)
    # What tyres lose that saturate is a step late.
    off = abs((motion[YAW] - state[YAW] + math.pi) % math.tau - math.pi)
    assert off < (0.15 if tyre == "saturating" else 0.06)


def test_the_model_keeps_to_the_cars_limits():
    car = record(**car_settings(CAR))[0]
    still = (0.0,) * 7
    assert roll(car, still, 1.0, 99.0, 20.0, STEP)[V] == pytest.approx(CAR.acceleration_max * STEP)
    assert roll(car, still, 1.0, 99.0, 20.0, STEP)[STEER] == pytest.approx(3.2 * STEP)
    assert roll(car, still, 0.0, -99.0, 20.0, STEP)[V] == 0.0
    fast = (0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0)
    power = CAR.acceleration_max * CAR.switch_speed / 10.0
    assert roll(car, fast, 0.0, 99.0, 20.0, STEP)[V] == pytest.approx(10.0 + power * STEP)
    braked = 10.0 - CAR.acceleration_max * STEP
    assert roll(car, fast, 0.0, 0.0, 8.0, STEP)[V] == pytest.approx(braked)


@pytest.mark.parametrize("rate", [1.0, 12.0, 95.0])
def test_the_speed_asked_for_gives_the_acceleration(rate):
    most, period, small = 9.51, 0.05, 1e-5
    for wanted in np.linspace(0.0, most, 12):
        lead = lead_of_speed(wanted, most, rate, period)
        speed = 0.0
        for _ in range(round(period / small)):
            speed += small * min(rate * (lead - speed), most)
        assert speed / period == pytest.approx(wanted, abs=0.01 * most)
    assert lead_of_speed(most, most, rate, period) * rate >= most


# Plans


def test_time_passes_for_a_plan():
    plan = np.column_stack([np.arange(5.0), 10.0 * np.arange(5.0)])
    shift(plan, 1.0)
    assert plan[:, 0].tolist() == [1, 2, 3, 4, 4]
    shift(plan, 0.2)
    assert plan[:, 1] == pytest.approx([12, 22, 32, 40, 40])
    shift(plan, 9.0)
    assert plan[:, 0] == pytest.approx([4.0] * 5)


def driver_and_scene(track, **changes):
    """The settings of a driver, what it knows of the track, and other cars: none."""
    made = race(track, racing(**changes))
    driver = make_driver(made.config.cars[0].driver, made.config, 0, made.track)
    assert isinstance(driver, Mppi)
    return driver.settings[0], scene_on(driver.tables[0], 0), np.zeros((1, 20, 4))


def test_the_cost_of_a_plan_is_its_progress_and_more_in_a_wall():
    settings, scene, others = driver_and_scene(
        OvalTrack(straight=30.0), raceline=None, line_weight=0.0
    )
    # Where the line is straight, in the middle of a straight.
    s = min(np.linspace(0, scene.line.length, 400), key=lambda s: abs(bent(scene.line, s)))
    x, y, yaw = point_at(scene.line, s, 0.0)
    motion = (x, y, 0.0, 2.0, yaw, 0.0, 0.0)
    straight = np.zeros((20, 2))
    assert path_cost(settings, scene, motion, straight, others) == pytest.approx(-2.0, abs=0.02)
    faster = straight + np.array([0.0, 2.0])
    # 1 m more; speed and acceleration are allowed.
    assert path_cost(settings, scene, motion, faster, others) == pytest.approx(-3.0, abs=0.05)
    quick = (x, y, 0.0, 7.0, yaw, 0.0, 0.0)
    into = straight + np.array([0.4, 0.0])
    assert path_cost(settings, scene, quick, into, others) > 0.0


def bent(line, s: float) -> float:
    """Turn of a line over 2 m to either side, rad."""
    turn: float = point_at(line, s + 2.0, 0.0)[2] - point_at(line, s - 2.0, 0.0)[2]
    return (turn + math.pi) % math.tau - math.pi


OVAL = make_track(OvalTrack(straight=5, radius=3, width=2))


@given(s=st.floats(0, 1), d=st.floats(-0.95, 0.95), yaw=st.floats(0, math.tau))
@examples(150)
def test_a_car_with_room_touches_no_wall(s, d, yaw):
    settings = record(length=CAR.length, width=CAR.width, margin=0.15)[0]
    x, y, _ = OVAL.from_frenet(np.array([[s * OVAL.length, d]]))[0]
    room = room_beside(settings, OVAL.field, x, y, yaw)
    if room > 0.0:
        assert not touches_wall(OVAL.field, (x, y, yaw), (CAR.length, CAR.width))
    if room > 0.15:  # nothing is lost of the margin
        size = CAR.length + 0.2, CAR.width + 0.2
        assert not touches_wall(OVAL.field, (x, y, yaw), size)


# Races


@pytest.mark.parametrize(
    "track",
    [
        OvalTrack(straight=5, radius=3, width=2),
        Line2Track(),
        RandomTrack(seed=3, bends="arcs", width=1.6, min_radius=0.9, length=60),
    ],
    ids=lambda track: track.kind,
)
def test_it_completes_a_lap(track):
    made = run(race(track, racing(samples=128), max_steps=900))
    assert made.world.arrays.finished.all()
    assert not made.world.arrays.crashed.any()


def test_it_is_faster_than_pure_pursuit_within_the_same_acceleration():
    track = OvalTrack(straight=8, radius=3, width=2)
    line = PurePursuitConfig(
        speed=8.0, acceleration=8.0, compensate=True, lookahead=0.5, lookahead_time=0.12
    )
    pursuing = CarConfig(name="car_0", driver=line, vehicle=CAR)
    steps = []
    for car in (pursuing, racing(acceleration=8.0)):
        made = run(race(track, car, laps=2, max_steps=900))
        assert made.world.arrays.finished.all()
        steps.append(made.world.arrays.lap_steps[0, 0, 1])
    assert steps[1] < 0.95 * steps[0]


def test_a_car_that_is_to_be_slower_completes_the_lap_as_well():
    made = race(OvalTrack(straight=5, radius=3, width=2), racing(samples=128), max_steps=1500)
    made.set_difficulty(0.5, 0.5)
    made.reset(0, 0)
    fastest = 0.0
    while not made.episodes.over.all():
        made.step(np.zeros((1, 0, 2)))
        fastest = max(fastest, made.world.arrays.state[0, 0, V])
    assert made.world.arrays.finished.all()
    assert 2.0 < fastest <= 4.0 + 1e-6


def test_it_overtakes_a_slow_car():
    slow = CarConfig(name="slow", driver=PurePursuitConfig(speed=1.5), vehicle=CAR)
    track = OvalTrack(straight=20.0, radius=5.0, width=3.0)
    made = race(track, racing(), slow, max_steps=80)
    poses = made.track.from_frenet(np.array([[2.0, 0.0], [7.0, 0.0]]))
    made.world.place(0, poses, 1)
    run(made)
    arrays = made.world.arrays
    assert not arrays.crashed.any()
    lead = arrays.arc_length[0, 0] - arrays.arc_length[0, 1]
    assert (lead + made.track.length / 2) % made.track.length - made.track.length / 2 > 2.0


def test_what_it_decides_depends_on_the_seed():
    made = race(CircleTrack(), racing(), num_envs=2, spawn={"kind": "named"})
    for _ in range(3):
        made.step(np.zeros((2, 0, 2)))
    states = made.world.arrays.state
    assert not np.array_equal(states[0], states[1])
    told = np.zeros((2, 1, 2))
    make_driver(made.config.cars[0].driver, made.config, 0, made.track, num_envs=2).command(
        made.world.arrays, told, 0, 2
    )
    assert (told[:, 0, TARGET_SPEED] <= 8.0).all()
