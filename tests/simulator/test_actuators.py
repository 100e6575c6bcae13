"""Actuators and sensors that are not as commanded or read: latency, calibration, lag, battery."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.config import CarConfig, EnvConfig, HeterogeneityConfig, LidarConfig, Line2Track
from sim.config import VehicleConfig as Vehicle
from sim.layout import STEER, YAW_RATE, V, X
from sim.observation import YAW_RATE_SCALE, free_box
from sim.physics.vehicle import COLUMNS
from sim.physics.world import World
from sim.race import Race
from sim.tracks.factory import make_track

LINE2 = make_track(Line2Track())
QUIET = LidarConfig(beams=360, field_of_view=math.radians(359), noise_std=0.0)
DT = 0.01


def drive(commands, key=0, **settings):
    """States (T, 7) of a car in a corridor, a row after each of the commands (T, 2)."""
    world = World(LINE2, [Vehicle(**settings)], LidarConfig(beams=1, noise_std=0.0))
    world.place(0, np.array([[-45.0, -0.7, 0.0]]), key)
    states = []
    for command in commands:
        world.step(np.array([[command]]))
        states.append(world.arrays.state[0, 0].copy())
    assert not world.arrays.crashed.any()
    return np.array(states)


@pytest.mark.parametrize(("gain", "trim"), [(1.0, 0.03), (0.9, 0.0), (1.2, -0.05)])
def test_the_servo_stands_at_gain_times_target_plus_trim(gain, trim):
    def stands(target, **settings):
        return drive([(target, 0.0)] * 450, steer_rate_max=0.1, **settings)[-1, STEER]

    step = 0.1 * DT + 1e-4  # the servo turns at full rate or not at all
    for target in (0.0, 0.2):
        steer = stands(target, steer_gain=gain, steer_trim=trim)
        assert steer == pytest.approx(gain * target + trim, abs=step)
    assert stands(0.4189, steer_gain=2.0) == pytest.approx(0.4189, abs=step)


def test_changes_within_the_deadband_do_not_move_the_servo():
    # 0.032 rad are a step's turn: the servo reaches its multiples exactly.
    commands = [target for target in (0.064, 0.08, 0.05, 0.128, 0.1) for _ in range(20)]
    steer = drive([(target, 0.0) for target in commands], steer_deadband=0.03)[19::20, STEER]
    assert steer == pytest.approx([0.064, 0.064, 0.064, 0.128, 0.128])
    assert not drive([(0.02, 0.0)] * 20, steer_deadband=0.03)[:, STEER].any()


@pytest.mark.parametrize("gain", [0.8, 1.1])
def test_the_car_settles_at_gain_times_the_speed_commanded(gain):
    assert drive([(0.0, 3.0)] * 300, speed_gain=gain)[-1, V] == pytest.approx(3.0 * gain, rel=1e-6)


@pytest.mark.parametrize("lag", [0.05, 0.3])
def test_the_speed_pursued_is_that_of_a_first_order_lag(lag):
    """A filter's step response, 63 % after one time constant, into the plain car's controller."""
    filtered = 2.0 * (1.0 - np.exp(-DT * np.arange(1, 101) / lag))
    assert filtered[round(lag / DT) - 1] == pytest.approx(2.0 * 0.632, abs=1e-3)
    lagged = drive([(0.0, 2.0)] * 100, speed_lag=lag)
    assert lagged == pytest.approx(drive([(0.0, speed) for speed in filtered]), abs=1e-9)
    # With a controller of nearly no lag of its own, 63 % are the car's speed, too.
    quick = drive([(0.0, 2.0)] * 100, speed_lag=lag, acceleration_max=100.0)
    assert quick[round(lag / DT), V] == pytest.approx(2.0 * 0.632, abs=0.1)


SWERVE = [(0.1 * math.sin(i / 9), 3.0 + math.sin(i / 5)) for i in range(120)]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_latency_shifts_a_trajectory_by_that_many_steps(steps):
    prompt, late = drive(SWERVE), drive(SWERVE, command_delay=steps)
    assert not late[:steps, [STEER, V]].any()
    assert late[steps:].tobytes() == prompt[:-steps].tobytes()
    assert drive(SWERVE, command_delay=steps, command_jitter=1.0).tobytes() == (
        drive(SWERVE, command_delay=steps + 1).tobytes()
    )


def test_jitter_makes_a_share_of_new_commands_a_step_late():
    """At each step the car accelerates by this command or by the one before, as often as told."""
    commands = [(0.0, 4.0 + 2.0 * (i % 2)) for i in range(3000)]
    world = World(LINE2, [Vehicle(command_jitter=0.3)], LidarConfig(beams=1, noise_std=0.0))

    def lateness(key):
        world.place(0, np.array([[-45.0, -0.7, 0.0]]), key)
        late = []
        for command in commands:
            world.arrays.state[0, 0, :] = (-45.0, -0.7, 0.0, 5.0, 0.0, 0.0, 0.0)
            world.step(np.array([[command]]))
            faster = world.arrays.state[0, 0, V] > 5.0
            late.append(faster != (command[1] > 5.0))
        return np.array(late)

    late = lateness(1)
    assert late.mean() == pytest.approx(0.3, abs=0.03)
    assert abs(np.corrcoef(late[1:], late[:-1])[0, 1]) < 0.06
    assert np.array_equal(late, lateness(1))
    assert not np.array_equal(late, lateness(2))


@pytest.mark.parametrize("control", ["targets", "rates"])
def test_an_empty_battery_bounds_top_speed_and_acceleration_but_not_brakes(control):
    car = Vehicle(battery=0.6, speed_max=5.0, control=control)
    speeds = drive([(0.0, 9.51)] * 150 + [(0.0, -5.0)] * 10, **car.model_dump())[:, V]
    assert np.diff(speeds[:20]).max() == pytest.approx(0.6 * 9.51 * DT)
    assert speeds.max() == pytest.approx(0.6 * 5.0, abs=0.6 * 9.51 * DT)
    braked = -np.diff(speeds[149:]).min()
    assert braked == pytest.approx(DT * (9.51 if control == "targets" else 5.0))


def scan(pose, *, cars=(), **settings):
    lidar = QUIET.model_copy(update=settings)
    world = World(LINE2, [Vehicle()] * (1 + len(cars)), lidar)
    world.place(0, np.array([pose, *cars]), 0)
    return world.arrays.scan[0, 0].copy()


def test_a_sensor_that_is_turned_sees_what_a_turned_car_would():
    beam = math.radians(1.0)
    ahead = [(2.0, -0.7, 0.3)]  # another car
    straight = scan((0.0, -0.7, 0.0), cars=ahead)
    turned = scan((0.0, -0.7, 0.0), cars=ahead, mount_yaw_error=5 * beam)
    # Each beam, 5 further left, reads what the fifth after it did.
    assert np.median(np.abs(turned[:-5] - straight[5:])) < 1e-4
    assert np.mean(np.abs(turned[:-5] - straight[5:]) > 0.1) < 0.05  # rounding picks other cells
    # The mount itself stays ahead on the car's own axis.
    moved = scan((0.27, -0.7, 0.0), mount_yaw_error=0.1)
    assert np.array_equal(scan((0.0, -0.7, 0.0), mount_yaw_error=0.1, mount_x=0.27), moved)


def test_ranges_are_scaled_and_beams_without_a_hit_are_not():
    true = scan((0.0, -0.7, 0.0))
    assert (true == 30.0).any()
    for scale in (0.97, 1.02):
        read = scan((0.0, -0.7, 0.0), range_scale=scale)
        expected = np.where(true < 30.0, np.minimum(true * np.float32(scale), 30.0), 30.0)
        assert read == pytest.approx(expected, rel=1e-6)


def test_only_what_motion_observes_has_the_odometrys_errors():
    def run(**settings):
        car = CarConfig(name="car", vehicle=Vehicle(**settings))
        race = Race(EnvConfig(cars=(car,), lidar=QUIET, observation=("motion",)))
        race.reset(0, 3)
        for _ in range(40):
            race.step([[[0.2, -0.2]]])
        return race.world.arrays.state[0, 0].copy(), race.episodes.observations[0, 0].copy()

    (state, true), (same, read) = (
        run(),
        run(odometry_speed_scale=0.9, odometry_yaw_rate_bias=-0.05),
    )
    assert state.tobytes() == same.tobytes()
    assert state[V] > 1.0
    assert read[0] == pytest.approx(0.9 * true[0])
    assert read[2] == pytest.approx((state[YAW_RATE] - 0.05) / YAW_RATE_SCALE)
    assert read[[1, 3]].tobytes() == true[[1, 3]].tobytes()


def walks(dt=DT, **settings):
    """A race of 400 cars that drive straight on for 4 s, and what they observe."""
    car = CarConfig(name="car", vehicle=Vehicle(speed_max=4.0, **settings))
    config = EnvConfig(
        cars=(car,),
        lidar=LidarConfig(beams=1),
        observation=("pose", "motion"),
        physics_step=dt,
        physics_steps_per_action=round(0.1 / dt),
    )
    race = Race(config, num_envs=400)
    for env in range(400):
        race.reset(env, env, poses=np.array([[-45.0, -0.7, 0.0]]))
    seen = [race.episodes.observations[:, 0].copy()]
    for _ in range(40):
        race.step(np.tile([0.0, 1.0], (400, 1, 1)))
        seen.append(race.episodes.observations[:, 0].copy())
    assert not race.world.arrays.crashed.any()
    return race, np.array(seen)


@pytest.mark.parametrize("dt", [0.01, 0.05])
def test_odometry_drifts_as_random_walks_of_way_and_time(dt):
    settings = {
        "odometry_position_drift": 0.05,
        "odometry_yaw_drift": 0.02,
        "odometry_yaw_rate_drift": 0.03,
    }
    (race, seen), (plain, true) = walks(dt=dt, **settings), walks(dt=dt)
    # Nothing but what is observed changes, and at the start nothing at all.
    assert race.world.arrays.state.tobytes() == plain.world.arrays.state.tobytes()
    assert seen[0].tobytes() == true[0].tobytes()
    way = plain.world.arrays.state[0, 0, X] + 45.0
    box = np.array(free_box(race.track))
    metres = (box[1] - box[0]) / 2
    position = (seen - true)[:, :, :2].astype(float) * metres
    yaw = np.arctan2(seen[:, :, 2], seen[:, :, 3]).astype(float)
    bias = (seen - true)[:, :, 6].astype(float) * YAW_RATE_SCALE
    error = 3.0 / math.sqrt(2 * 400)  # three standard deviations of a standard deviation
    for axis in range(2):
        assert position[-1, :, axis].std() == pytest.approx(0.05 * math.sqrt(way), rel=error)
        assert abs(position[-1, :, axis].mean()) < 3.0 * 0.05 * math.sqrt(way / 400)
    assert yaw[-1].std() == pytest.approx(0.02 * math.sqrt(4.0), rel=error)
    assert bias[-1].std() == pytest.approx(0.03 * math.sqrt(4.0), rel=error)
    # Steps are independent: halfway the variance is half of that.
    assert yaw[20].std() == pytest.approx(0.02 * math.sqrt(2.0), rel=error)
    assert abs(np.corrcoef(yaw[20], yaw[-1] - yaw[20])[0, 1]) < 0.15


def test_a_noisy_servo_turns_unevenly_and_stays_within_its_stops():
    def turns(key, target, **settings):
        return drive([(target, 0.0)] * 150, key, steer_rate_noise=0.5, **settings)[:, STEER]

    still = World(LINE2, [Vehicle(steer_rate_noise=0.5)], LidarConfig(beams=1), num_envs=300)
    for env in range(300):
        still.place(env, np.array([[-45.0, -0.7, 0.0]]), env)
    still.step(np.zeros((300, 1, 2)))
    assert still.arrays.state[:, 0, STEER].std() == pytest.approx(0.5 * DT, rel=0.13)
    assert np.array_equal(turns(1, 0.2), turns(1, 0.2))
    assert not np.array_equal(turns(1, 0.2), turns(2, 0.2))
    # It goes on about its target, and no further than the stop.
    assert turns(1, 0.2)[50:].mean() == pytest.approx(0.2, abs=0.02)
    assert turns(1, 0.4189, steer_rate_max=1.0).max() <= 0.4189 + 1e-12


RANGES = {
    "steer_rate_noise": (0.0, 0.5),
    "odometry_yaw_rate_drift": (0.0, 0.02),
    "odometry_position_drift": (0.0, 0.05),
    "odometry_yaw_drift": (0.0, 0.02),
    "steer_gain": (0.9, 1.1),
    "steer_trim": (-0.03, 0.03),
    "steer_deadband": (0.0, 0.02),
    "speed_gain": (0.9, 1.1),
    "speed_lag": (0.0, 0.2),
    "command_delay": (0, 4),
    "command_jitter": (0.0, 0.5),
    "battery": (0.7, 1.0),
    "odometry_speed_scale": (0.9, 1.1),
    "odometry_yaw_rate_bias": (-0.05, 0.05),
    "lidar_mount_yaw_error": (-0.03, 0.03),
    "lidar_range_scale": (0.98, 1.02),
}


def test_cars_draw_them_by_seed_and_threads_change_nothing():
    def race(threads):
        cars = tuple(CarConfig(name=f"car_{i}") for i in range(2))
        config = EnvConfig(
            cars=cars,
            lidar=LidarConfig(beams=20),
            observation=("lidar", "pose", "motion"),
            heterogeneity=HeterogeneityConfig(**RANGES),
        )
        made = Race(config, num_envs=12, num_threads=threads)
        for env in range(12):
            made.reset(env, env)
        return made

    alone, shared = race(1), race(3)
    for name, (low, high) in RANGES.items():
        drawn = alone.world.vehicles[:, :, COLUMNS[name]]
        assert low <= drawn.min() <= drawn.max() <= high
        assert np.ptp(drawn) > 0.6 * (high - low)
    assert set(alone.world.vehicles[:, :, COLUMNS["command_delay"]].ravel()) <= set(range(5))
    rng = np.random.default_rng(0)
    for i in range(80):
        actions = rng.uniform(-1, 1, (12, 2, 2)) * (0.2, 0.4)
        for made in (alone, shared):
            for env in np.flatnonzero(made.episodes.over):
                made.reset(int(env), 100 * i + int(env))
            made.step(actions)
        parts = [(*made.world.arrays, *made.episodes) for made in (alone, shared)]
        for a, b in zip(*parts, strict=True):
            assert a.tobytes() == b.tobytes()
