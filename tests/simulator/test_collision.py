"""Contacts, against dense sampling of the rectangles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import Line2Track
from sim.physics.collision import cars_touch, segment_hits_wall, touches_wall
from sim.tracks.factory import make_track
from sim.tracks.track import Track

RESOLUTION = 0.1
SIZE = 0.58, 0.31


def rectangle_points(pose, length, width, grow, count=60):
    """Points that fill a rectangle, (N, 2) m, its boundary included."""
    x, y, yaw = pose
    along, across = np.meshgrid(
        np.linspace(-0.5, 0.5, count) * (length + grow),
        np.linspace(-0.5, 0.5, count) * (width + grow),
    )
    cos, sin = math.cos(yaw), math.sin(yaw)
    return np.column_stack(
        [
            (x + along * cos - across * sin).ravel(),
            (y + along * sin + across * cos).ravel(),
        ]
    )


def inside(points, pose, length, width):
    x, y, yaw = pose
    cos, sin = math.cos(yaw), math.sin(yaw)
    offset = points - (x, y)
    return (np.abs(offset @ (cos, sin)) <= length / 2) & (np.abs(offset @ (-sin, cos)) <= width / 2)


def hall(seed, share=0.985):
    """A hall with scattered single-cell posts."""
    free = np.random.default_rng(seed).random((50, 50)) < share
    free[20:30, 20:30] = True
    return Track.from_occupancy("hall", free, RESOLUTION, (-2.5, -2.5, 0.0))


poses = st.tuples(st.floats(-2.6, 2.6), st.floats(-2.6, 2.6), st.floats(-7, 7))
sizes = st.tuples(st.floats(0.2, 0.8), st.floats(0.15, 0.5))


@examples(300)
@given(seed=st.integers(0, 20), pose=poses, size=sizes)
def test_wall_contact_agrees_with_dense_sampling(seed, pose, size):
    track = hall(seed)
    found = touches_wall(track.field, pose, size)
    larger = track.wall_distance(rectangle_points(pose, *size, grow=0.03))
    if not np.any(larger == 0):
        assert not found
    # A post that lies wholly inside the outline counts once it reaches the axis' circles; the
    # outline itself is exact.
    points = rectangle_points(pose, *size, grow=0.0, count=200).reshape(200, 200, 2)
    outline = np.vstack([points[0], points[-1], points[:, 0], points[:, -1]])
    if np.any(track.wall_distance(outline) == 0):
        assert found


@examples(300)
@given(
    seed=st.integers(0, 20),
    start=st.tuples(st.floats(-2.6, 2.6), st.floats(-2.6, 2.6)),
    step=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
)
def test_segments_find_every_cell_they_pass(seed, start, step):
    track = hall(seed, share=0.9)
    a, b = np.array(start), np.array(start) + step
    points = a + np.linspace(0, 1, 2000)[:, None] * (b - a)
    clear = track.wall_distance(points)
    found = segment_hits_wall(track.field, *a, *b)
    if np.any(clear == 0):
        assert found
    else:
        # Sampling may miss the corner of a cell by less than its spacing, and one that is touched.
        along = 0.003 * (b - a) / max(np.hypot(*(b - a)), 1e-9)
        points = np.vstack([a - along, points, b + along])
        normal = np.array([-along[1], along[0]])
        wide = np.vstack([points + normal, points - normal])
        assert not found or np.any(track.wall_distance(wide) == 0)


def test_a_large_obstacle_inside_the_outline_is_found():
    free = np.ones((60, 60), dtype=bool)
    free[30, 30] = False
    field = Track.from_occupancy("post", free, 0.02, (0.0, 0.0, 0.0)).field
    assert touches_wall(field, (0.61, 0.61, 0.3), (0.58, 0.31))
    assert touches_wall(field, (0.45, 0.60, 0.0), (0.58, 0.31))
    assert not touches_wall(field, (0.31, 0.31, 0.0), (0.58, 0.31))


@pytest.mark.parametrize("yaw", [0.0, math.pi / 2, math.pi, 0.4, 2.0])
def test_a_corridors_wall_is_where_it_is(yaw):
    field = make_track(Line2Track()).field
    length, width = 0.58, 0.31
    reach = (length * abs(math.sin(yaw)) + width * abs(math.cos(yaw))) / 2
    assert not touches_wall(field, (0.0, 0.55 - reach - 1e-6, yaw), (length, width))
    assert touches_wall(field, (0.0, 0.55 - reach + 1e-6, yaw), (length, width))
    assert not touches_wall(field, (0.0, -2.0 + reach + 1e-6, yaw), (length, width))
    assert touches_wall(field, (0.0, -2.0 + reach - 1e-6, yaw), (length, width))


@pytest.mark.parametrize("x", [1e3, -1e300, math.nan])
def test_everywhere_outside_the_grid_is_wall(x):
    field = make_track(Line2Track()).field
    assert touches_wall(field, (x, 0.0, 0.0), (0.58, 0.31))
    assert segment_hits_wall(field, x, 0.0, 0.0, 0.0)


@examples(400)
@given(
    pose=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(-7, 7)),
    other=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(-7, 7)),
    size=sizes,
    other_size=sizes,
)
def test_car_contact_agrees_with_dense_sampling(pose, other, size, other_size):
    found = cars_touch(pose, size, other, other_size)
    assert found == cars_touch(other, other_size, pose, size)

    def overlap(grow):
        first = rectangle_points(pose, *size, grow)
        second = rectangle_points(other, *other_size, grow)
        return bool(
            inside(first, other, other_size[0] + grow, other_size[1] + grow).any()
            or inside(second, pose, size[0] + grow, size[1] + grow).any()
        )

    # Sampled points are up to 7 mm apart.
    if overlap(0.0):
        assert found
    if not overlap(0.04):
        assert not found


def test_cars_side_by_side_touch_at_their_width():
    assert not cars_touch((0, 0, 0), SIZE, (0, 0.3101, 0), SIZE)
    assert cars_touch((0, 0, 0), SIZE, (0, 0.3099, 0), SIZE)
    # A corner just reaches a side.
    reach = math.hypot(0.29, 0.155) + 0.155
    tilt = math.pi / 2 - math.atan2(0.155, 0.29)
    assert not cars_touch((0, 0, 0), SIZE, (0, reach + 1e-4, tilt), SIZE)
    assert cars_touch((0, 0, 0), SIZE, (0, reach - 1e-4, tilt), SIZE)
