"""Starts: grids, random places, and cars that do not fit."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from properties import examples
from pydantic import ValidationError

from sim.config import (
    CarConfig,
    CircleTrack,
    EnvConfig,
    GridSpawn,
    LidarConfig,
    Line2Track,
    MapTrack,
    OvalTrack,
    RandomSpawn,
    RandomTrack,
    VehicleConfig,
)
from sim.layout import YAW, V, X, Y
from sim.physics.collision import cars_touch, touches_wall
from sim.race import Race

SMALL = VehicleConfig(length=0.32, width=0.225)


def race(track, spawn, cars=2, *, vehicle=SMALL, base_dir=None, num_envs=1, **changes) -> Race:
    made = tuple(CarConfig(name=f"car_{i}", vehicle=vehicle) for i in range(cars))
    env = EnvConfig(track=track, spawn=spawn, cars=made, lidar=LidarConfig(beams=3), **changes)
    return Race(env, base_dir=base_dir, num_envs=num_envs)


def started(made: Race, seed: int, env: int = 0) -> np.ndarray:
    """Poses of the cars after a reset, (C, 3)."""
    made.reset(env, seed)
    return made.world.arrays.state[env][:, [X, Y, YAW]].copy()


def off_course(made: Race, poses: np.ndarray) -> np.ndarray:
    sd = made.track.to_frenet(poses[:, :2])
    turned = poses[:, 2] - made.track.from_frenet(sd)[:, 2]
    return np.abs((turned + np.pi) % (2 * np.pi) - np.pi)


# Grids


@pytest.mark.parametrize("track", [OvalTrack(), RandomTrack(seed=5)], ids=lambda t: t.kind)
def test_a_grid_is_staggered_behind_the_finish_line(track):
    spawn = GridSpawn(row_spacing=1.6, column_spacing=0.9, offset=0.7)
    made = race(track, spawn, 6)
    poses = started(made, 1)
    s, d = made.track.to_frenet(poses[:, :2]).T
    assert made.track.length - s == pytest.approx(0.7 + 0.8 * np.arange(6), abs=1e-6)
    assert d == pytest.approx([0.45, -0.45] * 3, abs=1e-6)
    assert off_course(made, poses).max() < 1e-6
    assert np.array_equal(started(made, 2), poses)
    assert made.spawn_sets == ()


def test_a_grid_on_an_open_track_is_at_its_start():
    made = race(Line2Track(), GridSpawn(offset=1.0, row_spacing=2.0), 4)
    poses = started(made, 0)
    assert poses[:, X] == pytest.approx(-50.9 + 1.0 + SMALL.length / 2 + np.array([3, 2, 1, 0]))
    assert poses[:, Y] == pytest.approx(-0.725 + np.array([0.4, -0.4, 0.4, -0.4]))


def test_all_of_a_grid_have_the_finish_line_before_them():
    made = race(CircleTrack(), GridSpawn(offset=0.5), 8)
    started(made, 0)
    gates = made.world.arrays.lap_memory[0, :, 0]  # 0 is the finish line
    assert gates.tolist() == sorted(gates, reverse=True)
    assert -8 < gates[-1] < gates[0] == 0


def test_a_shuffled_grid_gives_every_car_every_slot():
    made = race(OvalTrack(), GridSpawn(shuffle=True), 3)
    orders = set()
    for seed in range(60):
        s = made.track.to_frenet(started(made, seed)[:, :2])[:, 0]
        orders.add(tuple(np.argsort(-s).tolist()))
        assert made.track.length - np.sort(s)[::-1] == pytest.approx([1.0, 2.0, 3.0])
    assert len(orders) == 6


@pytest.mark.parametrize("track", [OvalTrack(), RandomTrack(seed=5)], ids=lambda t: t.kind)
def test_a_grid_anywhere_keeps_its_order_and_covers_the_track(track):
    made = race(track, GridSpawn(row_spacing=6.0, column_spacing=1.0, anywhere=True), 2)
    fronts = []
    for seed in range(200):
        poses = started(made, seed)
        s, d = made.track.to_frenet(poses[:, :2]).T
        assert (s[0] - s[1]) % made.track.length == pytest.approx(3.0, abs=1e-6)
        assert d == pytest.approx([0.5, -0.5], abs=1e-6)
        assert off_course(made, poses).max() < 1e-6
        fronts.append(s[0])
    counts, _ = np.histogram(fronts, bins=4, range=(0, made.track.length))
    assert counts.min() > 25  # expected 50, standard deviation 6
    again = started(made, 199)
    assert np.array_equal(again, poses)


def test_a_grid_anywhere_on_an_open_track_is_before_the_finish_line():
    made = race(Line2Track(), GridSpawn(anywhere=True), 3)
    x = np.vstack([started(made, seed)[:, X] for seed in range(200)])
    assert x.min() >= -50.9
    assert x.max() < 45.7
    assert x[:, 0].max() - x[:, 0].min() > 80


def test_a_shuffled_grid_anywhere_gives_every_car_every_slot():
    made = race(OvalTrack(), GridSpawn(shuffle=True, anywhere=True), 2)
    ahead = set()
    for seed in range(40):
        s = made.track.to_frenet(started(made, seed)[:, :2])[:, 0]
        ahead.add((s[0] - s[1]) % made.track.length < 10.0)
    assert ahead == {True, False}


@pytest.mark.parametrize(
    ("track", "spawn", "cars", "message"),
    [
        (OvalTrack(), GridSpawn(column_spacing=2.9, anywhere=True), 2, "no room found on oval"),
        (OvalTrack(), GridSpawn(row_spacing=0.2, anywhere=True), 3, "grid of 3 cars anywhere"),
        (CircleTrack(radius=2.0), GridSpawn(), 16, r"grid of 16 cars: 16\.32 m are needed, .* 12"),
        (OvalTrack(), GridSpawn(column_spacing=2.9), 2, "car 0 .* is not in the free space"),
        (OvalTrack(), GridSpawn(row_spacing=0.2), 3, "grid of 3 cars: car 2 .* overlaps car 0"),
        (Line2Track(), GridSpawn(column_spacing=2.6), 2, "is not in the free space"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(track, spawn, cars, message):
    with pytest.raises(ValueError, match=message) as error:
        race(track, spawn, cars)
    assert "\n" not in str(error.value)


# Random starts


@examples(25)
@given(
    seed=st.integers(0, 2**32 - 1),
    cars=st.integers(1, 6),
    gap=st.floats(0, 1.0),
    wall_gap=st.floats(0, 0.4),
    noise=st.floats(0, 0.5),
    which=st.sampled_from([OvalTrack(), CircleTrack(), Line2Track(), RandomTrack(seed=9)]),
)
def test_random_starts_keep_their_distances(seed, cars, gap, wall_gap, noise, which):
    spawn = RandomSpawn(gap=gap, wall_gap=wall_gap, heading_noise=noise)
    made = race(which, spawn, cars)
    poses = started(made, seed)
    field, length, width = made.track.field, SMALL.length, SMALL.width
    for pose in poses:
        assert not touches_wall(field, pose, (length + 2 * wall_gap, width + 2 * wall_gap))
    for one, other in combinations(poses, 2):
        assert not cars_touch(one, (length, width), other, (length, width))
        assert distance(outline(one), outline(other)) >= gap - 1e-9
    assert off_course(made, poses).max() <= noise + 1e-6
    assert made.world.arrays.crashed.sum() == 0


def outline(pose: np.ndarray) -> np.ndarray:
    """(200, 2) points on the edge of a car."""
    t = np.linspace(-0.5, 0.5, 50)
    half = np.full(50, 0.5)
    edge = np.vstack([np.column_stack(c) for c in ((t, half), (t, -half), (half, t), (-half, t))])
    edge *= (SMALL.length, SMALL.width)
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    return edge @ np.array([[cos, sin], [-sin, cos]]) + pose[:2]


def distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.hypot(*(first[:, None] - second[None]).transpose(2, 0, 1)).min())


def test_random_starts_cover_the_lane():
    made = race(OvalTrack(), RandomSpawn(), 1)
    poses = np.vstack([started(made, seed) for seed in range(400)])
    s, d = made.track.to_frenet(poses[:, :2]).T
    counts, _ = np.histogram(s, bins=8, range=(0, made.track.length))
    assert counts.min() > 25  # expected 50, standard deviation 7
    counts, _ = np.histogram(d, bins=4, range=(-1.5, 1.5))
    assert counts.min() > 50
    assert np.abs(off_course(made, poses)).max() > 0.08


def test_random_starts_on_an_open_track_are_before_the_finish_line():
    made = race(Line2Track(), RandomSpawn(), 3)
    for seed in range(100):
        assert started(made, seed)[:, X].max() < 45.7


def test_the_seed_decides_a_random_start_at_any_batch_position():
    made = race(RandomTrack(), RandomSpawn(), 3, num_envs=4)
    first = started(made, 7, env=0)
    assert np.array_equal(started(made, 7, env=3), first)
    assert not np.array_equal(started(made, 8, env=3), first)
    again = race(RandomTrack(), RandomSpawn(), 3)
    assert np.array_equal(started(again, 7), first)


def test_more_cars_than_fit_are_refused_at_construction():
    track = CircleTrack(radius=1.5, width=1.0)
    race(track, RandomSpawn(gap=0.2), 6)
    with pytest.raises(ValueError, match=r"random spawn: no room found on circle for 40 cars"):
        race(track, RandomSpawn(gap=0.2), 40)
    with pytest.raises(ValueError, match=r"for 1 cars with 0.5 m between them and 3 m to walls"):
        race(track, RandomSpawn(wall_gap=3), 1)


# Settings


def test_only_named_starts_have_sets():
    with pytest.raises(ValidationError, match="spawn_sets and spawn of kind 'grid' exclude"):
        race(Line2Track(), GridSpawn(), spawn_sets=(("spawn_1", "spawn_2"),))
    for spawn in (GridSpawn(), RandomSpawn()):
        made = race(OvalTrack(), spawn)
        with pytest.raises(ValueError, match=rf"spawn_set 0: {spawn.kind} spawns have no sets"):
            made.reset(0, 1, spawn_set=0)


def test_grids_and_random_starts_need_a_centre_line(tmp_path: Path):
    Image.fromarray(np.full((40, 40), 254, np.uint8)).save(tmp_path / "room.png")
    (tmp_path / "room.yaml").write_text("image: room.png\nresolution: 0.2\norigin: [0, 0, 0]\n")
    for spawn in (GridSpawn(), RandomSpawn()):
        with pytest.raises(ValueError, match=rf"{spawn.kind} spawn: .* has no centre line"):
            race(MapTrack(file="room.yaml"), spawn, base_dir=tmp_path)


# Speeds


@pytest.mark.parametrize("kind", ["grid", "random", "named"])
def test_cars_start_with_speeds_of_their_own_and_where_they_would_at_rest(kind):
    track = Line2Track() if kind == "named" else CircleTrack()
    settings = {"track": track, "spawn": {"kind": kind}}
    rest, moving = race(**settings), race(track, {"kind": kind, "speed": (1.0, 3.0)})
    speeds = []
    for seed in range(50):
        np.testing.assert_array_equal(started(moving, seed), started(rest, seed))
        assert not rest.world.arrays.state[0, :, V].any()
        speeds.append(moving.world.arrays.state[0, :, V].copy())
    assert 1.0 <= np.min(speeds) < 1.3
    assert 2.7 < np.max(speeds) <= 3.0
    assert abs(np.corrcoef(np.transpose(speeds))[0, 1]) < 0.5
    started(moving, 49)
    np.testing.assert_array_equal(moving.world.arrays.state[0, :, V], speeds[-1])


def test_nobody_starts_faster_than_it_can_drive():
    slow = VehicleConfig(length=0.32, width=0.225, speed_max=1.5)
    made = race(CircleTrack(), RandomSpawn(speed=(2.0, 3.0)), vehicle=slow)
    started(made, 0)
    assert made.world.arrays.state[0, :, V].tolist() == [1.5, 1.5]


def test_speeds_are_asked_for_with_poses():
    made = race(CircleTrack(), RandomSpawn(speed=(2.0, 3.0)))
    poses = started(made, 0)
    made.reset(0, 0, poses=poses)
    assert not made.world.arrays.state[0, :, V].any()
    made.reset(0, 0, poses=poses, speeds=np.array([0.5, 1.0]))
    assert made.world.arrays.state[0, :, V].tolist() == [0.5, 1.0]


def test_a_car_that_rolls_keeps_rolling_whatever_its_model():
    for model in ("single_track", "kinematic", "drift"):
        vehicle = VehicleConfig(model=model, speed_min=-4.0, speed_max=4.0)
        made = race(CircleTrack(), RandomSpawn(), 1, vehicle=vehicle)
        made.reset(0, 0, speeds=np.array([3.0]))
        made.step(np.full((1, 1, 2), (0.0, 0.75), np.float32))
        assert made.world.arrays.state[0, 0, V] == pytest.approx(3.0, abs=0.02), model


def test_speeds_in_the_wrong_order_are_refused():
    with pytest.raises(ValidationError, match="the smallest, 3, is above the largest, 2"):
        GridSpawn(speed=(3.0, 2.0))
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        GridSpawn(speed=(-1.0, 2.0))
