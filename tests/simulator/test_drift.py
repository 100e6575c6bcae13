"""The drift model: CommonRoad's own package as reference, energy, and what wheels do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.integrate import solve_ivp
from vehiclemodels.init_std import init_std
from vehiclemodels.vehicle_dynamics_std import vehicle_dynamics_std
from vehiclemodels.vehicle_parameters import setup_vehicle_parameters

from sim.config import CarConfig, CircleTrack, EnvConfig, LidarConfig, VehicleConfig
from sim.layout import SLIP, STATE_SIZE, STEER, YAW, YAW_RATE, V
from sim.physics.drift import WHEELS, drift_derivative, integrate_drift
from sim.physics.dynamics import advance, controls
from sim.physics.vehicle import vehicle_vector
from sim.race import Race

DRIFT = VehicleConfig(model="drift")
RADIUS = DRIFT.drift.wheel_radius
TYRE = DRIFT.drift.tyre
DT = 0.01


def as_ours(number: int):
    """CommonRoad's parameters of a vehicle, and the same car as settings."""
    car = setup_vehicle_parameters(number)
    along, steering = car.longitudinal, car.steering
    tyre = {name: getattr(car.tire, name) for name in type(TYRE).model_fields}
    settings = {
        "model": "drift",
        "friction": car.tire.p_dy1,
        "front_axle": car.a,
        "rear_axle": car.b,
        "cg_height": car.h_s,
        "mass": car.m,
        "yaw_inertia": car.I_z,
        "steer_max": steering.max,
        "steer_rate_max": steering.v_max,
        "switch_speed": along.v_switch,
        "acceleration_max": along.a_max,
        "speed_min": along.v_min,
        "speed_max": along.v_max,
        "drift": {
            "wheel_radius": car.R_w,
            "wheel_inertia": car.I_y_w,
            "drive_front": car.T_se,
            "brake_front": car.T_sb,
            "tyre": tyre,
        },
    }
    return car, VehicleConfig.model_validate(settings)


def test_the_defaults_of_the_tyre_are_the_packages():
    assert as_ours(3)[1].drift.tyre == TYRE


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_derivative_is_that_of_the_package(number):
    car, config = as_ours(number)
    vector, rng = vehicle_vector(config), np.random.default_rng(number)
    for _ in range(500):
        speed = rng.uniform(*((-3.0, 0.6), (0.0, 25.0))[rng.integers(2)])
        body = [
            *rng.uniform((-0.9, 0.0, -2.0, -1.5), (0.9, 6.3, 2.0, 1.5)),
            *rng.uniform(-5, 80, 2),
        ]
        steer, yaw, yaw_rate, slip, *wheels = body
        rate, acceleration = rng.uniform(-0.6, 0.6), rng.uniform(-13.0, 13.0)
        state = [0.0, 0.0, steer, speed, yaw, yaw_rate, slip, *wheels]
        theirs = np.array(vehicle_dynamics_std(list(state), [rate, acceleration], car))
        ours = drift_derivative(*state[2:7], tuple(wheels), rate, acceleration, vector)
        assert np.abs(ours - theirs).max() <= 1e-9 * np.abs(theirs).max()


SWERVES = [(0.3, 0), (0.3, 3), (-0.4, 3), (-0.4, -5), (0.2, -5), (0, 5), (0.3, 8), (-0.2, -6)]


@pytest.mark.parametrize(("number", "speed"), [(3, 15.0), (3, 0.0), (2, 12.0)])
def test_whole_trajectories_are_those_of_the_package(number, speed):
    """Steering rates and accelerations, 0.2 s each, against the package in LSODA."""
    car, config = as_ours(number)
    vector, hold, step = vehicle_vector(config), 0.2, 5e-4
    there = np.array(init_std([0.0, 0.0, 0.0, speed, 0.3, 0.0, 0.0], car))
    state, wheels = there[:STATE_SIZE].copy(), there[STATE_SIZE:].copy()
    for command in [*SWERVES, (0.0, -6.0), (0.0, -6.0)]:

        def slope(_, x, command=command):
            return vehicle_dynamics_std(x.tolist(), list(command), car)

        solved = solve_ivp(slope, (0, hold), there, method="LSODA", rtol=1e-10, atol=1e-11)
        there = solved.y[:, -1]
        for _ in range(round(hold / step)):
            integrate_drift(state, wheels, vector, *map(float, command), step)
        error = np.abs(np.concatenate([state, wheels]) - there)
        error[YAW] = abs(math.remainder(state[YAW] - there[YAW], 2 * math.pi))
        assert np.all(error <= 1e-6 * (1.0 + np.abs(there)))


def drive(config, commands, *, speed=0.0, dt=DT):
    """States (T, 7) and turning of the wheels (T, 2), from rolling straight on."""
    vector = vehicle_vector(config)
    state, buffer = np.zeros(STATE_SIZE), np.zeros(max(1, config.steer_delay))
    state[V], wheels = speed, np.full(WHEELS, speed / config.drift.wheel_radius)
    states, turning = [], []
    for command in commands:
        rate, acceleration = controls(state, buffer, vector, *command, dt)
        integrate_drift(state, wheels, vector, rate, acceleration, dt)
        states.append(state.copy())
        turning.append(wheels.copy())
    return np.array(states), np.array(turning)


def changed(friction=DRIFT.friction, **drift):
    return VehicleConfig.model_validate({"model": "drift", "friction": friction, "drift": drift})


def test_gentle_driving_is_as_in_the_single_track_model_with_the_same_stiffness():
    stiff = -TYRE.p_ky1 / DRIFT.friction
    linear = VehicleConfig(stiffness_front=stiff, stiffness_rear=stiff)
    commands = [(0.032, 4.0)] * 400
    state, buffer = np.zeros(STATE_SIZE), np.zeros(2)
    for command in commands:
        advance(state, buffer, vehicle_vector(linear), *command, DT)
    states, wheels = drive(DRIFT, commands)
    assert states[-1, YAW_RATE] == pytest.approx(state[YAW_RATE], rel=0.04)
    assert states[-1, V] == pytest.approx(4.0, abs=0.1)
    assert wheels[-1] * RADIUS == pytest.approx(states[-1, V], rel=0.01)


def test_the_brakes_lock_the_axle_that_they_act_on():
    commands = [(0.0, 0.0)] * 60
    for front, locked in ((1.0, 0), (0.0, 1)):
        _, wheels = drive(changed(0.6, brake_front=front), commands, speed=8.0)
        assert wheels[:, locked].min() == 0.0
        assert wheels[20, 1 - locked] > 50.0


def test_full_throttle_on_the_rear_wheels_lets_the_car_slide():
    """On half the friction it stays steady with all wheels driven, and comes round with two."""
    commands = [(0.2, 2.0)] * 150 + [(0.2, 20.0)] * 60
    slips = [
        np.abs(drive(changed(0.6, drive_front=share), commands, speed=2.0)[0][-60:, SLIP]).max()
        for share in (0.5, 0.0)
    ]
    assert slips[0] < 0.2
    assert slips[1] > 0.5


UNSHIFTED = dict.fromkeys(("p_hx1", "p_vx1", "r_hx1", "r_hy1", "r_vy1", "r_by3"), 0.0)


@examples(30)
@given(
    slip=st.floats(-math.pi, math.pi),
    speed=st.floats(1.0, 8.0),
    turning=st.floats(-6.0, 6.0),
    steer=st.floats(-0.4, 0.4),
    brake=st.sampled_from([0.0, -4.0, -9.0]),
    rolling=st.booleans(),
)
def test_without_throttle_no_slide_gains_energy(slip, speed, turning, steer, brake, rolling):
    """With tyres without shifts, in any direction, beyond 90 degrees, too."""
    config = changed(tyre=UNSHIFTED)
    vector, state = vehicle_vector(config), np.zeros(STATE_SIZE)
    state[[STEER, V, YAW_RATE, SLIP]] = steer, speed, turning, slip
    wheels = np.full(WHEELS, rolling * max(0.0, speed * math.cos(slip)) / RADIUS)
    inertia = np.array([config.mass, config.yaw_inertia, config.drift.wheel_inertia])

    def energy():
        return inertia @ [state[V] ** 2, state[YAW_RATE] ** 2, (wheels**2).sum()] / 2

    before = energy()
    for _ in range(300):
        integrate_drift(state, wheels, vector, 0.0, brake, DT)
        if state[V] < 0.4:  # the kinematic model
            break
        assert energy() <= before + 1e-6
        assert abs(state[SLIP]) <= math.pi
        before = energy()
    assert brake == 0.0 or state[V] < 0.4


def test_a_spin_that_ends_backwards_can_be_driven_out_of():
    vector, state, wheels = vehicle_vector(DRIFT), np.zeros(STATE_SIZE), np.zeros(WHEELS)
    state[V], state[SLIP], buffer = 2.0, 3.0, np.zeros(2)
    for target in [0.0] * 150 + [2.0] * 300:
        rate, acceleration = controls(state, buffer, vector, 0.0, target, DT)
        integrate_drift(state, wheels, vector, rate, acceleration, DT)
    assert state[V] == pytest.approx(2.0, abs=0.2)
    assert abs(state[SLIP]) < 0.02


def test_the_physics_step_hardly_matters():
    def end(dt):
        turns = np.linspace(0.0, 1.0, round(2.0 / dt), endpoint=False)
        commands = [(0.0, 3.0 + 3.0 * turn) for turn in turns]
        return drive(DRIFT, commands, speed=2.0, dt=dt)[0][-1]

    assert np.abs(end(0.01) - end(0.0005))[[V, YAW_RATE, SLIP]].max() < 0.02


def test_races_of_random_drivers_stay_finite_and_begin_at_rest():
    cars = (CarConfig(name="car", vehicle=DRIFT, reverse=True),)
    config = EnvConfig(track=CircleTrack(), cars=cars, lidar=LidarConfig(beams=8))
    race, rng = Race(config, num_envs=8), np.random.default_rng(0)
    for env in range(8):
        race.reset(env, env)
    turned = 0.0
    for i in range(300):
        race.step(rng.uniform(-1, 1, (8, 1, 2)) if i % 40 < 10 else np.full((8, 1, 2), 0.3))
        turned = max(turned, race.world.arrays.wheels.max())
        race.autoreset()
    assert turned > 20.0
    assert np.isfinite(race.world.arrays.state).all()
    race.reset(0, 1)
    assert not race.world.arrays.wheels[0].any()
