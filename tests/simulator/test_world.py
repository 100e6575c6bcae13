"""The batched world: placing, contacts, progress, finish, determinism and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import CircleTrack, LidarConfig, Line2Track, VehicleConfig
from sim.layout import SLIP, STEER, YAW, YAW_RATE, V, X, Y
from sim.physics.world import World
from sim.tracks.factory import make_track
from sim.tracks.track import Track

LINE2 = make_track(Line2Track())
CIRCLE = make_track(CircleTrack())
CAR = VehicleConfig()
LIDAR = LidarConfig(beams=19)
QUIET = LidarConfig(beams=19, noise_std=0.0)
MIDDLE = -0.725


def world(track=LINE2, cars=1, lidar=QUIET, **options) -> World:
    return World(track, [CAR] * cars, lidar, **options)


def place(made: World, *poses, env: int = 0, noise_key: int = 0) -> World:
    made.place(env, np.array(poses, dtype=float), noise_key)
    return made


def commands(made: World, steer: float = 0.0, speed: float = 0.0) -> np.ndarray:
    command = np.zeros((*made.arrays.crashed.shape, 2))
    command[...] = steer, speed
    return command


def test_placing_puts_cars_at_rest_and_senses():
    made = place(world(cars=2), (0.0, MIDDLE, -0.1), (3.0, -1.0, 7.0), noise_key=2**70 + 5)
    arrays = made.arrays
    state = arrays.state[0]
    assert state[:, [X, Y]].tolist() == [[0.0, MIDDLE], [3.0, -1.0]]
    assert state[:, YAW] == pytest.approx([2 * math.pi - 0.1, 7.0 - 2 * math.pi])
    assert not state[:, [STEER, V, YAW_RATE, SLIP]].any()
    assert arrays.scan.dtype == np.float32
    assert arrays.scan.shape == (1, 2, 19)
    assert arrays.scan.min() > 0
    assert arrays.scan[0, 0, 9] < 3.0  # the other car is ahead
    assert arrays.car_contact.tolist() == [[-1, -1]]
    assert arrays.arc_length[0] == pytest.approx([50.9, 53.9])
    assert arrays.lateral_offset[0] == pytest.approx([0, -0.275])
    assert arrays.steps[0] == 0
    assert arrays.noise_key[0] == 5


def test_the_order_of_the_poses_memory_does_not_matter():
    poses = np.array([(0.0, MIDDLE, -0.1), (3.0, -1.0, 0.2)])
    one, other = world(cars=2), world(cars=2)
    one.place(0, poses, 0)
    other.place(0, np.asfortranarray(poses), 0)
    assert np.array_equal(other.arrays.state, one.arrays.state)


def test_placing_again_forgets_everything():
    made = place(world(), (0.0, MIDDLE, 0.0))
    before = [array.copy() for array in made.arrays]
    for _ in range(300):
        made.step(commands(made, 0.3, 8.0))
    assert made.arrays.crashed.all()
    place(made, (0.0, MIDDLE, 0.0))
    for old, new in zip(before, made.arrays, strict=True):
        assert np.array_equal(old, new)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        ([(0, 0, 0), (3, 0.5, 0)], r"car 1 at \(3 m, 0.5 m, 0 rad\) is not in the free space"),
        ([(0, 9, 0), (3, 0, 0)], "car 0 .* is not in the free space"),
        ([(0, 0, 0), (0.3, 0, 0)], r"car 1 at \(0.3 m, 0 m, 0 rad\) overlaps car 0"),
        ([(0, 0, 0), (math.nan, 0, 0)], "car 1 at .* is not in the free space"),
        ([(0, 0, math.inf), (3, 0, 0)], "car 0 at .* is not in the free space"),
        ([(0, 0, 0)], r"poses have shape \(1, 3\)"),
    ],
)
def test_impossible_poses_are_named_and_change_nothing(poses, message):
    made = place(world(cars=2), (1.0, MIDDLE, 0.0), (4.0, MIDDLE, 0.0))
    before = made.arrays.state.copy()
    with pytest.raises(ValueError, match=message) as error:
        place(made, *poses)
    assert "\n" not in str(error.value)
    assert np.array_equal(made.arrays.state, before)


def test_an_unknown_environment_is_an_error():
    with pytest.raises(ValueError, match="env 1: must be 0 to 0"):
        place(world(), (0, 0, 0), env=1)


def test_commands_that_are_not_numbers_are_named_and_move_nothing():
    made = world(cars=2, num_envs=3)
    for env in range(3):
        place(made, (0, MIDDLE, 0), (3, MIDDLE, 0), env=env)
    before = made.arrays.state.copy()
    bad = commands(made, 0.0, 1.0)
    bad[2, 1, 0] = math.nan
    with pytest.raises(ValueError, match="env 2, car 1"):
        made.step(bad)
    with pytest.raises(ValueError, match="shape"):
        made.step(bad[0])
    assert np.array_equal(made.arrays.state, before)


def test_commands_are_clipped_to_the_cars_limits():
    first, second = place(world(), (0, MIDDLE, 0)), place(world(), (0, MIDDLE, 0))
    for _ in range(30):
        first.step(commands(first, 9.0, math.inf))
        second.step(commands(second, CAR.steer_max, CAR.speed_max))
    assert np.array_equal(first.arrays.state, second.arrays.state)


def test_diverging_dynamics_are_an_error():
    made = place(world(CIRCLE, physics_step=0.1), CIRCLE.spawns["spawn_1"])
    made.arrays.state[0, 0, [V, SLIP, YAW_RATE]] = 5.0, 1e308, 1e308
    with pytest.raises(FloatingPointError, match="env 0, car 0 diverged"):
        made.step(commands(made, 0.0, 5.0))


@pytest.mark.parametrize("options", [{"num_envs": 0}, {"physics_step": 0.0}, {"cars": 0}])
def test_impossible_worlds_are_errors(options):
    with pytest.raises(ValueError, match="must be positive"):
        world(**options)


def test_a_car_that_meets_a_wall_stands_still_at_it():
    made = place(world(), (0.0, MIDDLE, 0.3))
    steps = 0
    while not made.arrays.crashed[0, 0]:
        made.step(commands(made, 0.0, 10.0))
        steps += 1
        assert steps < 500
    assert made.arrays.wall_contact[0, 0]
    assert made.arrays.car_contact[0, 0] == -1
    state = made.arrays.state[0, 0].copy()
    assert state[[V, YAW_RATE, SLIP]].tolist() == [0, 0, 0]
    for _ in range(20):
        made.step(commands(made, 0.4, 10.0))
    assert np.array_equal(made.arrays.state[0, 0], state)
    assert made.arrays.crashed[0, 0]
    assert made.arrays.steps[0] == steps + 20


@pytest.mark.parametrize("physics_steps", [1, 100])
def test_fast_cars_do_not_pass_through_walls_or_cars(physics_steps):
    # A wall 0.1 m thick across a hall 40 m long, and a car before it in the other lane.
    free = np.ones((60, 400), dtype=bool)
    free[:30, 300] = False
    hall = Track.from_occupancy("hall", free, 0.1, (0.0, 0.0, 0.0))
    made = place(
        world(hall, cars=3, physics_step=0.02), (2, 1.5, 0), (2, 4.5, 0), (25.0, 4.5, math.pi)
    )
    driven = commands(made)
    driven[0, :2, 1] = 20.0
    for _ in range(400 // physics_steps):
        made.step(driven, physics_steps)
    arrays = made.arrays
    assert arrays.wall_contact.tolist() == [[True, False, False]]
    assert arrays.car_contact.tolist() == [[-1, 2, 1]]
    assert arrays.crashed.all()
    assert 29.0 < arrays.state[0, 0, X] + CAR.length / 2 < 30.5
    assert 24.0 < arrays.state[0, 1, X] + CAR.length / 2 < 25.2
    assert arrays.state[0, 2, X] == 25.0


def test_a_crashed_car_remains_an_obstacle():
    made = place(world(cars=2), (5.0, MIDDLE, math.pi / 2), (0.0, MIDDLE, 0.0))
    driven = commands(made)
    driven[0, 0, 1] = 5.0
    for _ in range(100):
        made.step(driven)
    assert made.arrays.crashed.tolist() == [[True, False]]
    wreck = made.arrays.state[0, 0].copy()
    driven[0, 1] = 0.02, 3.0
    for _ in range(400):
        made.step(driven)
    assert made.arrays.crashed.all()
    assert made.arrays.state[0, 1, X] < 6.0
    assert np.array_equal(made.arrays.state[0, 0], wreck)


def test_the_finish_counts_forwards_only():
    made = place(world(cars=2), (44.9, -0.2, 0.0), (46.3, -1.3, 0.0))
    driven = commands(made)
    driven[0, 0, 1], driven[0, 1, 1] = 1.5, -1.5
    for _ in range(90):
        made.step(driven)
    state = made.arrays.state[0]
    assert state[0, X] > 45.7 > state[1, X]
    assert not made.arrays.crashed.any()
    assert made.arrays.finished.tolist() == [[True, False]]
    driven[0, :, 1] = -1.5, 1.5
    for _ in range(160):
        made.step(driven)
    assert made.arrays.finished.tolist() == [[True, True]]


def test_a_lap_of_the_circle_finishes_and_counts_its_length():
    made = place(world(CIRCLE), (10 * math.cos(0.1), -10 * math.sin(0.1), math.pi / 2 - 0.1))
    travelled, before = 0.0, made.arrays.arc_length[0, 0]
    lap = 2 * math.pi * 10
    for _ in range(3000):
        course = made.arrays.arc_length[0, 0] / 10 + math.pi / 2
        turned = math.remainder(made.arrays.state[0, 0, YAW] - course, 2 * math.pi)
        steer = 0.033 - 0.5 * made.arrays.lateral_offset[0, 0] - turned
        made.step(commands(made, steer, 3.0))
        now = made.arrays.arc_length[0, 0]
        assert 0 <= now < lap
        travelled += (now - before + lap / 2) % lap - lap / 2
        before = now
        if made.arrays.finished[0, 0]:
            break
    assert made.arrays.finished[0, 0]
    assert not made.arrays.crashed[0, 0]
    assert travelled == pytest.approx(lap + 1.0, abs=0.2)
    assert min(now, lap - now) < 0.1


def test_the_sensor_may_sit_ahead_of_the_centre():
    poses = (0.0, MIDDLE, 0.4)
    ahead = World(LINE2, [CAR], QUIET.model_copy(update={"mount_x": 0.2}))
    place(ahead, poses)
    moved = place(world(), (0.2 * math.cos(0.4), MIDDLE + 0.2 * math.sin(0.4), 0.4))
    assert np.array_equal(ahead.arrays.scan, moved.arrays.scan)


def test_several_physics_steps_equal_single_ones():
    once, often = (place(world(lidar=LIDAR), (0, MIDDLE, 0), noise_key=3) for _ in range(2))
    once.step(commands(once, 0.1, 2.0), 7)
    for _ in range(7):
        often.step(commands(often, 0.1, 2.0))
    for a, b in zip(once.arrays, often.arrays, strict=True):
        assert np.array_equal(a, b)


@examples(10)
@given(seed=st.integers(0, 2**32 - 1), key=st.integers(0, 2**64 - 1))
def test_an_environment_does_not_depend_on_its_place_in_the_batch(seed, key):
    rng = np.random.default_rng(seed)
    alone, batch = (
        World(LINE2, [CAR, CAR], LIDAR, num_envs=1),
        World(LINE2, [CAR, CAR], LIDAR, num_envs=5),
    )
    poses = [(rng.uniform(-40, 0), MIDDLE, 0), (rng.uniform(1, 40), MIDDLE, 3)]
    for env in (4, 0, 2, 1):
        place(batch, (0, MIDDLE, 0), (env + 2, MIDDLE, 1), env=env, noise_key=env)
    place(batch, *poses, env=3, noise_key=key)
    place(alone, *poses, noise_key=key)
    for _ in range(60):
        driven = rng.uniform(-1, 8, (5, 2, 2)) * (0.1, 1.0)
        batch.step(driven)
        alone.step(driven[3:4])
    for a, b in zip(alone.arrays, batch.arrays, strict=True):
        assert a[0].tobytes() == b[3].tobytes()


def test_the_noise_key_alone_changes_only_the_scan():
    first = place(world(lidar=LIDAR), (0, MIDDLE, 0), noise_key=1)
    second = place(world(lidar=LIDAR), (0, MIDDLE, 0), noise_key=2)
    assert not np.array_equal(first.arrays.scan, second.arrays.scan)
    assert np.array_equal(first.arrays.state, second.arrays.state)
    before = first.arrays.scan.copy()
    first.step(commands(first))
    assert not np.array_equal(first.arrays.scan, before)  # fresh noise at every step


def test_cars_of_an_environment_may_differ():
    made = World(LINE2, [CAR, VehicleConfig(speed_max=1.0)], QUIET)
    place(made, (0, 0.0, 0), (0, -1.4, 0))
    for _ in range(200):
        made.step(commands(made, 0.0, 4.0))
    assert made.arrays.state[0, :, V] == pytest.approx([4.0, 1.0], abs=1e-3)


def test_tracks_without_a_centerline_have_no_progress():
    hall = Track.from_occupancy("hall", np.ones((50, 50), dtype=bool), 0.1, (0.0, 0.0, 0.0))
    made = place(world(hall), (2.5, 2.5, 1.0))
    made.step(commands(made, 0.0, 1.0))
    assert np.isnan(made.arrays.arc_length).all()
    assert np.isnan(made.arrays.lateral_offset).all()
    assert not made.arrays.finished.any()


def test_all_spawns_are_drivable():
    for track in (LINE2, CIRCLE):
        made = world(track)
        for pose in track.spawns.values():
            place(made, pose)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_change_nothing(threads):
    rng = np.random.default_rng(threads)
    one, many = (
        World(LINE2, [CAR, CAR], LIDAR, num_envs=5, num_threads=count) for count in (1, threads)
    )
    for env in range(5):
        for made in (one, many):
            place(made, (0, MIDDLE, 0), (env + 2, MIDDLE, 1), env=env, noise_key=env)
    for _ in range(60):
        driven = rng.uniform(-1, 8, (5, 2, 2)) * (0.1, 1.0)
        one.step(driven)
        many.step(driven)
    for a, b in zip(one.arrays, many.arrays, strict=True):
        assert a.tobytes() == b.tobytes()


def test_an_error_in_a_thread_reaches_the_caller():
    made = World(CIRCLE, [CAR], QUIET, num_envs=4, num_threads=2)
    for env in range(4):
        place(made, CIRCLE.spawns["spawn_1"], env=env)
    made.arrays.state[3, 0, [V, SLIP, YAW_RATE]] = 5.0, 1e308, 1e308
    with pytest.raises(FloatingPointError, match="env 3, car 0 diverged"):
        made.step(commands(made, 0.0, 5.0))
    made.arrays.state[3, 0] = made.arrays.state[2, 0]
    made.step(commands(made))  # the threads are still there
