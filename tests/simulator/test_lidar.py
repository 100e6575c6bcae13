"""Range finder: analytic rooms, exact cars, noise, and recorded scans."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import LidarConfig, Line2Track, MapTrack
from sim.physics.lidar import (
    Rays,
    cut_car,
    make_beams,
    make_scratch,
    move_rays,
    pack_rays,
    trace_walls,
)
from sim.physics.noise import add_noise, normal_pair, stream
from sim.tracks.factory import make_track
from sim.tracks.track import Track
from sim.vectors import CAN_PACK

LINE2 = make_track(Line2Track())
REFERENCE = os.environ.get("F110_REFERENCE")


def walls(track, pose, config):
    scan = np.full(config.beams, np.nan, dtype=np.float32)
    scratch = make_scratch(config.beams)
    trace_walls(track.field, make_beams(config), tuple(map(float, pose)), scratch, scan)
    return scan


def directions(yaw, config):
    angles = yaw + np.linspace(-config.field_of_view / 2, config.field_of_view / 2, config.beams)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def box_ranges(pose, config, lower, upper):
    """Distances from inside an axis-aligned box to its sides."""
    steps = directions(pose[2], config)
    with np.errstate(divide="ignore", over="ignore"):
        ahead = np.where(steps > 0, upper - pose[:2], pose[:2] - lower) / np.abs(steps)
    return np.minimum(ahead.min(axis=1), config.max_range)


def segment_ranges(pose, config, corners):
    """Distances to a polygon's sides, by ray-segment intersection; inf where none is hit."""
    nearest = np.full(config.beams, np.inf)
    steps = directions(pose[2], config)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        side, to_a = b - a, a - pose[:2]
        cross = steps[:, 0] * side[1] - steps[:, 1] * side[0]
        with np.errstate(all="ignore"):
            t = (to_a[0] * side[1] - to_a[1] * side[0]) / cross
            u = (to_a[0] * steps[:, 1] - to_a[1] * steps[:, 0]) / cross
        hit = (t >= 0) & (u >= 0) & (u <= 1)
        nearest[hit] = np.minimum(nearest[hit], t[hit])
    return nearest


def corners_of(car, length, width, grow=0.0):
    x, y, yaw = car
    half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (
        (length + grow) / 2,
        (width + grow) / 2,
    )
    turn = np.array([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]])
    return half @ turn + (x, y)


@examples(60)
@given(
    x=st.floats(-50.5, 46.5),
    y=st.floats(-1.9, 0.45),
    yaw=st.floats(0, 6.28),
    beams=st.integers(2, 200),
    fov=st.floats(0.1, 6.28),
)
def test_readings_in_a_corridor_end_in_the_wall_cell_that_is_hit(x, y, yaw, beams, fov):
    config = LidarConfig(beams=beams, field_of_view=fov)
    pose = np.array([x, y, yaw])
    truth = box_ranges(pose, config, np.array([-50.9, -2.0]), np.array([47.0, 0.55]))
    excess = walls(LINE2, pose, config) - truth
    assert excess.min() > -1e-4
    assert excess.max() < 1.5 * LINE2.resolution + 1e-4


def test_the_first_beam_looks_right_and_the_last_left():
    config = LidarConfig(beams=3, field_of_view=math.pi)
    right, ahead, left = walls(LINE2, (0.0, 0.3, 0.0), config)
    assert right == pytest.approx(2.3, abs=0.06)
    assert left == pytest.approx(0.25, abs=0.06)
    assert ahead == 30.0


def test_a_single_beam_looks_ahead():
    config = LidarConfig(beams=1)
    assert walls(LINE2, (0.0, 0.0, math.pi / 2), config) == pytest.approx(0.55, abs=0.06)


@pytest.mark.parametrize("pose", [(0.0, 0.6, 0.0), (1e9, 0.0, 0.0), (math.nan, 0.0, 0.0)])
def test_a_sensor_outside_the_free_space_reads_0(pose):
    assert walls(LINE2, pose, LidarConfig(beams=20)).tolist() == [0.0] * 20


@pytest.mark.parametrize("drop", [move_rays, pack_rays] if CAN_PACK else [move_rays])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 63, 64, 300])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_rays_that_have_ended_are_read_and_the_others_close_up(drop, count, share):
    rng = np.random.default_rng(count)
    room = 320
    numbers = rng.uniform(0.1, 40, (6, room)).astype(np.float32)
    numbers[5] *= rng.random(room) < share  # steps; beyond the rays there is rubbish
    order = rng.permutation(room).astype(np.int32)
    rays = Rays(*numbers.copy(), order.copy(), np.zeros(room, np.int32))
    readings = np.full(room, -1, np.float32)
    going = numbers[5, :count] > 0
    assert drop(rays, np.float32(30), count, readings) == going.sum()
    for before, after in zip([*numbers[:5], order], [*rays[:5], rays.readings], strict=True):
        np.testing.assert_array_equal(after[: going.sum()], before[:count][going])
    ended = order[:count][~going]
    np.testing.assert_array_equal(readings[ended], numbers[4, :count][~going].clip(max=30))
    assert np.all(readings[order[count:]] == -1)


@pytest.mark.parametrize("turn", [0.0, 0.3, math.pi / 4, 1.2, 2.9])
def test_rays_do_not_leak_through_thin_walls(turn):
    # A square room drawn turned, its walls a line of cells, with free space all around.
    resolution, half, size = 0.1, 4.0, 200
    free = np.ones((size, size), dtype=bool)
    square = corners_of((10.0, 10.0, turn), 2 * half, 2 * half)
    for a, b in zip(square, np.roll(square, -1, axis=0), strict=True):
        points = a + np.linspace(0, 1, 5000)[:, None] * (b - a)
        cells = (points / resolution).astype(int)
        free[cells[:, 1], cells[:, 0]] = False
    track = Track.from_occupancy("room", free, resolution, (0.0, 0.0, 0.0))
    config = LidarConfig(beams=2000, field_of_view=6.28)
    rng = np.random.default_rng(0)
    for offset in rng.uniform(-2.5, 2.5, (20, 2)):
        pose = np.array([*(10.0 + offset), rng.uniform(0, 6.28)])
        truth = segment_ranges(pose, config, square)
        # Beams along a wall meet its cells early; none gets past it.
        assert (walls(track, pose, config) - truth).max() < 3 * resolution


def test_scans_turn_with_the_maps_origin():
    rng = np.random.default_rng(4)
    free = rng.random((60, 80)) < 0.97
    free[25:35, 35:45] = True
    config = LidarConfig(beams=100, field_of_view=6.2)
    straight = Track.from_occupancy("a", free, 0.1, (0.0, 0.0, 0.0))
    turned = Track.from_occupancy("b", free, 0.1, (5.0, -3.0, 0.7))
    cos, sin = math.cos(0.7), math.sin(0.7)
    x, y, yaw = 4.03, 3.04, 1.1
    pose = (5 + cos * x - sin * y, -3 + sin * x + cos * y, yaw + 0.7)
    difference = np.abs(walls(straight, (x, y, yaw), config) - walls(turned, pose, config))
    assert np.median(difference) < 1e-4
    assert np.mean(difference > 0.01) < 0.05  # rounding may choose another cell


@examples(200)
@given(
    bearing=st.floats(-math.pi, math.pi),
    away=st.floats(0.0, 8.0),
    car_yaw=st.floats(0, 6.28),
    yaw=st.floats(0, 6.28),
    fov=st.floats(0.1, 2 * math.pi),
    beams=st.integers(2, 400),
    length=st.floats(0.2, 1.0),
    width=st.floats(0.1, 0.6),
)
def test_cars_cut_beams_exactly(bearing, away, car_yaw, yaw, fov, beams, length, width):
    config = LidarConfig(beams=beams, field_of_view=fov, max_range=7.0)
    pose = np.array([3.0, -2.0, yaw])
    car = (3 + away * math.cos(bearing), -2 + away * math.sin(bearing), car_yaw)
    scan = np.full(beams, 7.0, dtype=np.float32)
    cut_car(make_beams(config), pose, car, (length, width), scan)

    def expected(grow):
        corners = corners_of(car, length, width, grow)
        sides = np.roll(corners, -1, axis=0) - corners
        to_pose = pose[:2] - corners
        inside = (sides[:, 0] * to_pose[:, 1] - sides[:, 1] * to_pose[:, 0]).min() >= 0
        ranges = np.minimum(segment_ranges(pose, config, corners), 7.0)
        return np.zeros(beams) if inside else ranges

    # Between a slightly larger and a slightly smaller car, whatever beams graze a corner.
    assert np.all(scan >= expected(2e-4) - 2e-4)
    assert np.all(scan <= expected(-2e-4) + 2e-4)


def test_a_car_behind_a_wall_stays_hidden():
    scan = np.full(5, 1.0, dtype=np.float32)
    config = LidarConfig(beams=5, field_of_view=0.1)
    cut_car(make_beams(config), (0.0, 0.0, 0.0), (3.0, 0.0, 0.0), (0.5, 0.5), scan)
    assert scan.tolist() == [1.0] * 5


def noise(key, step, car, beams=1000):
    scan = np.full(beams, 10.0, dtype=np.float32)
    add_noise(scan, np.uint64(stream(np.uint64(key), step, car)), 0.1, 30.0)
    return scan - np.float32(10.0)


def test_noise_is_standard_normal():
    pairs = np.array([normal_pair(np.uint64(5), i) for i in range(100_000)])
    for sample in (pairs[:, 0], pairs[:, 1]):
        assert abs(sample.mean()) < 0.015
        assert abs(sample.std() - 1) < 0.01
        assert abs((sample**3).mean()) < 0.05
        assert abs((sample**4).mean() - 3) < 0.1
        # Share within one, two and three standard deviations.
        for bound in (1, 2, 3):
            share = np.mean(np.abs(sample) < bound)
            assert abs(share - math.erf(bound / math.sqrt(2))) < 0.006
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.015
    assert abs(np.corrcoef(pairs[1:, 0], pairs[:-1, 0])[0, 1]) < 0.015


def test_noise_depends_on_key_step_car_and_beam_alone():
    base = noise(1, 2, 0)
    assert np.array_equal(base, noise(1, 2, 0))
    assert np.unique(noise(1, 2, 0, beams=7)).size == 7  # every beam has its own
    for other in (noise(2, 2, 0), noise(1, 3, 0), noise(1, 2, 1), noise(3, 0, 0), noise(0, 2, 1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.12
        assert not np.any(base == other) or np.mean(base == other) < 0.01


def test_noise_keeps_readings_in_range():
    scan = np.array([0.0, 30.0] * 500, dtype=np.float32)
    add_noise(scan, np.uint64(9), 1.0, 30.0)
    assert scan.min() == 0.0
    assert scan.max() == 30.0
    assert 0.4 < np.mean(scan[::2] > 0) < 0.6


def test_no_noise_leaves_the_scan():
    scan = np.linspace(0, 30, 50, dtype=np.float32)
    expected = scan.copy()
    add_noise(scan, np.uint64(9), 0.0, 30.0)
    assert np.array_equal(scan, expected)


@pytest.mark.skipif(not REFERENCE, reason="F110_REFERENCE names no folder of recordings")
def test_recorded_scans():
    folder = Path(str(REFERENCE))
    track = make_track(MapTrack(file="Spielberg.yaml"), folder.parent / "maps" / "Spielberg")
    with np.load(folder / "scans_f1tenth_gym_spielberg.npz") as data:
        poses, recorded = data["poses"], data["scans"]
        config = LidarConfig(
            beams=recorded.shape[1],
            field_of_view=float(data["fov"]),
            max_range=float(data["max_range"]),
        )
    scans = np.array([walls(track, pose, config) for pose in poses])
    error = np.abs(scans - recorded)
    assert np.median(error) <= 0.02
    assert np.percentile(error, 95) <= 0.08
