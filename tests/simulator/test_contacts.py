"""Contacts over a step: parts, who drove into whom, and brute-force sweeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import LidarConfig, Line2Track, VehicleConfig
from sim.layout import FRONT, LEFT, REAR, RIGHT, STEER, YAW, V, X, Y
from sim.physics.collision import (
    cars_touch,
    sides_facing,
    sweep_cars,
    sweep_wall,
    touches_wall,
    wall_parts,
)
from sim.physics.world import World
from sim.tracks.factory import make_track
from sim.tracks.track import Track

LENGTH, WIDTH = SIZE = 0.58, 0.31
LINE2 = make_track(Line2Track())
QUIET = LidarConfig(beams=31, noise_std=0.0)


def hall(posts, resolution=0.05, size=200):
    free = np.ones((size, size), dtype=bool)
    for row, column in posts:
        free[row, column] = False
    return Track.from_occupancy("hall", free, resolution, (0.0, 0.0, 0.0))


def between(before, after, count):
    before, after = np.array(before), np.array(after)
    turn = (after[2] - before[2] + np.pi) % (2 * np.pi) - np.pi
    way = np.array([*(after - before)[:2], turn])
    return before + np.linspace(0, 1, count)[:, None] * way


@pytest.mark.parametrize(
    ("pose", "parts"),
    [
        ((5.0 - 0.28, 5.02, 0.0), FRONT),
        ((5.05 + 0.28, 5.02, 0.0), REAR),
        ((5.02, 5.0 - 0.14, 0.0), LEFT),
        ((5.02, 5.05 + 0.14, 0.0), RIGHT),
        ((5.02, 5.0 - 0.28, math.pi / 2), FRONT),
        ((5.02, 5.02, 0.3), FRONT | REAR | LEFT | RIGHT),
        ((7.0, 7.0, 0.0), 0),
    ],
)
def test_the_part_at_a_post_is_named(pose, parts):
    assert wall_parts(hall([(100, 100)]).field, pose, SIZE) == parts


@pytest.mark.parametrize(
    ("pose", "parts"),
    [
        ((0.0, 0.55 - 0.29 + 0.01, math.pi / 2), FRONT),
        ((0.0, 0.55 - 0.155 + 0.01, 0.0), LEFT),
        ((0.0, -2.0 + 0.155 - 0.01, 0.0), RIGHT),
        ((0.0, -2.0 + 0.29 - 0.01, math.pi / 2), REAR),
        ((0.0, 0.25, 0.8), FRONT | LEFT),
    ],
)
def test_the_part_at_a_straight_wall_is_named(pose, parts):
    assert wall_parts(LINE2.field, pose, SIZE) == parts


@pytest.mark.parametrize(
    ("turn", "parts"),
    [(0, FRONT), (25, FRONT), (45, FRONT | LEFT), (90, LEFT), (180, REAR), (270, RIGHT)],
)
def test_sides_face_a_direction(turn, parts):
    angle = 0.7 + math.radians(turn)
    assert sides_facing(0.7, math.cos(angle), math.sin(angle)) == parts


# Up to half a car's length a step, in any direction, turning.
moves = st.tuples(st.floats(-0.29, 0.29), st.floats(-0.29, 0.29), st.floats(-0.3, 0.3))


@examples(300)
@given(
    place=st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7), st.floats(0, 6.28)),
    yaw=st.floats(0, 6.28),
    move=moves,
    other_move=moves,
)
def test_swept_cars_agree_with_dense_sampling(place, yaw, move, other_move):
    before, other = np.array([0.0, 0.0, yaw]), np.array(place)
    after, other_after = before + move, other + other_move
    t = sweep_cars(before, after, SIZE, other, other_after, SIZE)

    def touched(grow, count=400):
        ways = between(before, after, count), between(other, other_after, count)
        size = LENGTH + grow, WIDTH + grow
        return [cars_touch(a, size, b, size) for a, b in zip(*ways, strict=True)]

    # Between the first touch of slightly larger and of slightly smaller cars.
    smaller, larger = touched(-0.004), touched(0.004)
    if any(smaller):  # none is missed, and none is late
        assert 0.0 <= t <= smaller.index(True) / 399 + 1e-9
    if t >= 0.0:  # none is made up, and none is early
        assert any(larger)
        assert t >= (larger.index(True) - 1) / 399


@examples(200)
@given(
    start=st.tuples(st.floats(4.2, 5.8), st.floats(4.2, 5.8), st.floats(0, 6.28)),
    move=moves,
    seed=st.integers(0, 50),
)
def test_swept_walls_agree_with_dense_sampling(start, move, seed):
    posts = np.random.default_rng(seed).integers(80, 120, (12, 2))
    field = hall(posts).field
    before, after = np.array(start), np.array(start) + move
    sizes = np.linspace(0.05, 1, 20)[:, None] * (LENGTH, WIDTH)
    if any(touches_wall(field, before, size) for size in sizes):
        return  # it stands on a post already
    found = sweep_wall(field, before, after, SIZE)
    way = between(before, after, 200)
    # A graze of less than half a cell may be missed, and nothing else.
    if any(touches_wall(field, pose, (LENGTH - 0.05, WIDTH - 0.05)) for pose in way):
        assert found
    if found:
        assert any(touches_wall(field, pose, (LENGTH + 0.002, WIDTH + 0.002)) for pose in way)


def world(cars=2, track=LINE2, lidar=QUIET) -> World:
    return World(track, [VehicleConfig()] * cars, lidar)


def run(made, poses, speeds, steps=300, steer=0.0):
    made.place(0, np.array(poses, dtype=float), 0)
    made.arrays.state[0, :, V] = speeds
    command = np.zeros((1, len(poses), 2))
    command[0, :, 0], command[0, :, 1] = steer, speeds
    for _ in range(steps):
        made.step(command)
        if (made.arrays.car_contact >= 0).any():
            break
    arrays = made.arrays
    return arrays.contact_parts[0].tolist(), arrays.drove_into[0].tolist()


def test_a_follower_drives_into_its_leader():
    parts, into = run(world(), [(0, -0.7, 0), (2, -0.7, 0)], [3.0, 1.0])
    assert parts == [FRONT, REAR]
    assert into == [1, -1]


def test_head_on_both_drive_into_each_other():
    parts, into = run(world(), [(0, -0.7, 0), (3, -0.7, math.pi)], [3.0, 3.0])
    assert parts == [FRONT, FRONT]
    assert into == [1, 0]


def test_a_standing_car_is_never_to_blame():
    parts, into = run(world(), [(0, -0.7, 0), (2, -0.7, math.pi / 2)], [3.0, 0.0])
    assert parts == [FRONT, LEFT]
    assert into == [1, -1]


def test_reversing_into_a_car_is_driving_into_it():
    parts, into = run(world(), [(2, -0.7, 0), (0, -0.7, 0)], [-2.0, 0.0])
    assert parts == [REAR, FRONT]
    assert into == [1, -1]


def test_turning_into_a_neighbour_is_driving_into_it():
    parts, into = run(world(), [(0, -0.3, 0), (0.1, -1.0, 0)], [3.0, 3.0], steer=[-0.2, 0.0])
    assert parts[0] & (RIGHT | FRONT)
    assert parts[1] & LEFT
    assert into == [1, -1]


def test_contacts_are_forgotten_when_placed_anew():
    made = world()
    run(made, [(0, -0.7, 0), (2, -0.7, 0)], [3.0, 1.0])
    made.place(0, np.array([(0, -0.7, 0), (2, -0.7, 0)], dtype=float), 0)
    assert made.arrays.contact_parts.tolist() == [[0, 0]]
    assert made.arrays.drove_into.tolist() == [[-1, -1]]


def test_a_car_passing_a_corner_within_a_step_is_found():
    # The cars do not overlap at either end of the step, in which each moves 0.3 m.
    before, after = np.array([4.0, 4.8, 0.0]), np.array([4.3, 4.8, 0.0])
    other, other_after = np.array([4.66, 4.9, 0.0]), np.array([4.66, 5.2, 0.0])
    assert not cars_touch(after, SIZE, other_after, SIZE)
    assert sweep_cars(before, after, SIZE, other, other_after, SIZE) > 0.0


@examples(30)
@given(
    yaw=st.floats(0, 6.28),
    shift=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    steer=st.floats(-0.3, 0.3),
    speed=st.floats(1, 4),
)
def test_a_turned_and_shifted_world_is_the_same_world(yaw, shift, steer, speed):
    rng = np.random.default_rng(1)
    free = rng.random((120, 120)) < 0.995
    free[40:80, 20:60] = True
    cos, sin = math.cos(yaw), math.sin(yaw)
    worlds = []
    for origin in ((0.0, 0.0, 0.0), (*shift, yaw)):
        track = Track.from_occupancy("hall", free, 0.1, origin)
        made = world(track=track)
        poses = np.array([(3.0, 5.0, 0.1), (5.0, 6.0, 2.0)])
        if origin[2] or origin[0] or origin[1]:
            x, y = poses[:, 0].copy(), poses[:, 1].copy()
            poses[:, 0] = shift[0] + cos * x - sin * y
            poses[:, 1] = shift[1] + sin * x + cos * y
            poses[:, 2] += yaw
        made.place(0, poses, 0)
        command = np.array([[[steer, speed], [-steer, speed]]])
        for _ in range(20):
            made.step(command)
        worlds.append(made.arrays)
    first, second = worlds
    x, y = first.state[0, :, X], first.state[0, :, Y]
    assert second.state[0, :, X] == pytest.approx(shift[0] + cos * x - sin * y, abs=1e-6)
    assert second.state[0, :, Y] == pytest.approx(shift[1] + sin * x + cos * y, abs=1e-6)
    turned = np.remainder(second.state[0, :, YAW] - first.state[0, :, YAW] - yaw + 1, 2 * np.pi)
    assert turned == pytest.approx(1.0, abs=1e-6)
    assert second.state[0][:, [STEER, V]] == pytest.approx(first.state[0][:, [STEER, V]])
    assert np.array_equal(first.car_contact, second.car_contact)
    # Rounding may choose another cell for a beam that grazes a corner.
    assert np.mean(np.abs(first.scan - second.scan) > 0.01) < 0.1


@examples(60)
@given(
    other=st.tuples(st.floats(-3, 3), st.floats(-1.0, 1.0), st.floats(0, 6.28)),
    yaw=st.floats(0, 6.28),
    fov=st.floats(0.5, 2 * math.pi),
    mount=st.floats(-0.2, 0.25),
)
def test_no_reading_passes_through_a_car(other, yaw, fov, mount):
    lidar = LidarConfig(beams=64, field_of_view=fov, noise_std=0.0, mount_x=mount)
    track = hall([])
    if cars_touch((5, 5, yaw), SIZE, (5 + other[0], 5 + other[1], other[2]), SIZE):
        return
    made = world(track=track, lidar=lidar)
    poses = np.array([(5, 5, yaw), (5 + other[0], 5 + other[1], other[2])])
    made.place(0, poses, 0)
    angles = yaw + np.linspace(-fov / 2, fov / 2, 64)
    sensor = poses[0, :2] + mount * np.array([math.cos(yaw), math.sin(yaw)])
    cos, sin = math.cos(other[2]), math.sin(other[2])
    for angle, reading in zip(angles, made.arrays.scan[0, 0], strict=True):
        along = np.linspace(0, max(reading - 0.002, 0), 200)[:, None]
        points = sensor + along * (math.cos(angle), math.sin(angle)) - poses[1, :2]
        inside = (np.abs(points @ (cos, sin)) < LENGTH / 2 - 1e-3) & (
            np.abs(points @ (-sin, cos)) < WIDTH / 2 - 1e-3
        )
        assert not inside.any()


def test_dropped_beams_read_the_range_at_the_asked_rate():
    lidar = LidarConfig(beams=20_000, noise_std=0.0, dropout=0.1, max_range=12.0)
    made, whole = (
        World(hall([]), [VehicleConfig()], config)
        for config in (lidar, lidar.model_copy(update={"dropout": 0.0}))
    )
    for each in (made, whole):
        each.place(0, np.array([(5.0, 5.0, 0.0)]), 3)
    dropped = made.arrays.scan[0, 0] != whole.arrays.scan[0, 0]
    assert np.all(made.arrays.scan[0, 0][dropped] == 12.0)
    assert np.mean(dropped) == pytest.approx(0.1, abs=0.01)
    before = dropped.copy()
    made.step(np.zeros((1, 1, 2)))
    again = made.arrays.scan[0, 0] == 12.0
    assert np.mean(before & again) == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("beams", [1, 2, 3, 31, 32, 33, 54, 361, 1025])
def test_a_full_circle_of_any_number_of_beams(beams):
    lidar = LidarConfig(beams=beams, field_of_view=2 * math.pi, noise_std=0.0)
    made = World(hall([]), [VehicleConfig()], lidar, num_envs=3)
    for env in range(3):
        made.place(env, np.array([(4.0 + env, 5.0, 0.5 * env)]), 0)
    for env in range(3):
        angles = 0.5 * env + (np.linspace(-math.pi, math.pi, beams) if beams > 1 else np.zeros(1))
        with np.errstate(divide="ignore"):
            x = np.where(np.cos(angles) > 0, 6.0 - env, 4.0 + env) / np.abs(np.cos(angles))
            y = 5.0 / np.abs(np.sin(angles))
        excess = made.arrays.scan[env, 0] - np.minimum(x, y)
        assert excess.min() > -1e-3
        assert excess.max() < 0.08
