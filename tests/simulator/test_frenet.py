"""Positions along and across centre lines, and what is measured there."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import CircleTrack, Line2Track
from sim.tracks.centerline import polyline, project, project_all
from sim.tracks.factory import make_track
from sim.tracks.track import Track, TrackError

CIRCLE = make_track(CircleTrack(radius=10.0))


def track_of(points: np.ndarray, closed: bool, side: int = 60) -> Track:
    """A hall, ``side`` m to a side around the origin, with this centre line."""
    free = np.ones((side * 2, side * 2), dtype=bool)
    corner = (-side / 2, -side / 2, 0.0)
    return Track.from_occupancy("hall", free, 0.5, corner, centerline=points, closed=closed)


def blob(seed: int, count: int = 120, amplitude: float = 0.12) -> np.ndarray:
    """A smooth loop around the origin, counter-clockwise, radius about 10 m."""
    rng = np.random.default_rng(seed)
    angle = (np.arange(count) + rng.uniform(0, 0.5, count)) * (2 * np.pi / count)
    radius = 10 * (1 + amplitude * np.cos(2 * angle + rng.uniform(0, 6)))
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def apart(first: np.ndarray, second: np.ndarray, length: float) -> np.ndarray:
    """Distance of arc lengths on a closed line."""
    return np.abs((first - second + length / 2) % length - length / 2)


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(30, 400),
    closed=st.booleans(),
    reverse=st.booleans(),
)
def test_frenet_coordinates_come_back(seed, count, closed, reverse):
    rng = np.random.default_rng(seed)
    points = blob(seed, count)[:: -1 if reverse else 1]
    track = track_of(points if closed else points[: count * 3 // 4], closed)
    s, d = rng.uniform(0, track.length, 300), rng.uniform(-2.0, 2.0, 300)
    s[:2] = 0.0, np.nextafter(track.length, 0)
    poses = track.from_frenet(np.column_stack([s, d]))
    found = track.to_frenet(poses[:, :2])
    assert found[:, 1] == pytest.approx(d, abs=1e-6)
    difference = apart(found[:, 0], s, track.length) if closed else np.abs(found[:, 0] - s)
    assert difference.max() < 1e-6
    assert (found[:, 0] >= 0).all()
    assert (found[:, 0] < track.length).all() if closed else (found[:, 0] <= track.length).all()
    # And points come back too, inside and outside of corners alike.
    points = np.column_stack([poses[:, 0], poses[:, 1]]) + rng.uniform(-0.3, 0.3, (300, 2))
    again = track.to_frenet(points)
    inner = slice(None) if closed else (again[:, 0] > 0) & (again[:, 0] < track.length)
    assert track.from_frenet(again)[inner, :2] == pytest.approx(points[inner], abs=1e-6)


def test_the_seam_is_nowhere_special():
    track = track_of(blob(3), closed=True)
    length, across = track.length, np.full(5, 0.7)
    s = np.array([0.0, length, -length, 3 * length, 1e-12])
    poses = track.from_frenet(np.column_stack([s, across]))
    assert poses == pytest.approx(np.tile(poses[0], (5, 1)), abs=1e-9)
    found = track.to_frenet(poses[:, :2])
    assert (found[:, 0] >= 0).all()
    assert (found[:, 0] < length).all()
    assert apart(found[:, 0], 0.0, length).max() < 1e-9
    rolled = track_of(np.roll(blob(3), -40, axis=0), closed=True)
    points = np.random.default_rng(0).uniform(-11, 11, (500, 2))
    points = points[np.hypot(*points.T) > 7]
    expected = track.to_frenet(points)
    moved = rolled.to_frenet(points)
    assert moved[:, 1] == pytest.approx(expected[:, 1], abs=1e-9)
    assert apart(moved[:, 0] + track.arc_length[40], expected[:, 0], length).max() < 1e-9


@examples(60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 80), closed=st.booleans())
def test_projection_finds_the_nearest_segment(seed, count, closed):
    rng = np.random.default_rng(seed)
    points = np.cumsum(rng.normal(size=(count, 2)), axis=0)
    line = polyline(points, closed)
    ring = np.vstack([points, points[:1]]) if closed else points
    fractions = np.linspace(0, 1, 201)[:, None]
    dense = np.vstack([a + fractions * (b - a) for a, b in pairwise(ring)])
    for query in rng.normal(scale=5, size=(10, 2)) + points[rng.integers(count)]:
        distance = np.hypot(*(dense - query).T).min()
        arc, offset = project(line, *query)
        assert 0 <= arc <= line.length
        # Equal but outside corners, where d is measured across a segment.
        assert abs(offset) <= distance + 0.03 or arc in (0.0, line.length)
        segment = np.searchsorted(line.segments[:, 5], arc, side="right") - 1
        x0, y0, ux, uy, length = line.segments[segment, :5]
        along = (query - (x0, y0)) @ (ux, uy)
        if 0 < along < length:
            assert abs(offset) == pytest.approx(distance, abs=0.03)


@examples(30)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(26, 300), closed=st.booleans())
def test_buckets_give_what_a_full_search_gives(seed, count, closed):
    rng = np.random.default_rng(seed)
    points = np.cumsum(rng.normal(scale=rng.uniform(0.05, 2), size=(count, 2)), axis=0)
    line = polyline(points, closed, reach=rng.uniform(0.5, 6))
    assert len(line.members)
    queries = points[rng.integers(count, size=400)] + rng.normal(scale=4, size=(400, 2))
    queries[0] = 1e9, -1e9
    expected = project_all(line._replace(columns=0), queries)
    assert np.array_equal(project_all(line, queries), expected)


def test_lateral_offset_is_positive_to_the_left():
    line = polyline(np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]), closed=False)
    assert project(line, 1.0, 0.0) == pytest.approx((1.0, 0.0))
    assert project(line, 0.0, 0.25) == pytest.approx((0.0, 0.25))
    # The line of constant s half way to the corner leans by half of the corner's.
    assert project(line, 0.75, 0.5) == pytest.approx((1.0, 0.5))
    assert project(line, 2.5, 1.0)[1] == pytest.approx(-0.5)
    assert project(line, 2.5, -0.5) == pytest.approx((2.0, -0.5))  # on the bisector
    # Past the ends the line counts as extended.
    assert project(line, -3.0, 0.25) == pytest.approx((0.0, 0.25))
    assert project(line, 1.5, 7.0) == pytest.approx((4.0, 0.5))


def test_a_straight_line_gives_plain_coordinates():
    track = make_track(Line2Track())
    found = track.to_frenet(np.array([[0.0, 0.0], [-50.9, -1.0], [60.0, 0.5]]))
    assert found == pytest.approx(np.array([[50.9, 0.725], [0.0, -0.275], [97.9, 1.225]]))
    assert track.widths[:, 0] == pytest.approx([1.275, 1.275], abs=1e-6)
    assert track.curvature.tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"s must be in \[0, 97.9\] m on line2"):
        track.from_frenet(np.array([[98.0, 0.0]]))


def test_a_circle_gives_polar_coordinates():
    angle = np.linspace(0.01, 6.27, 50)
    ring = 9.5 * np.column_stack([np.cos(angle), np.sin(angle)])
    found = CIRCLE.to_frenet(ring)
    assert found[:, 0] == pytest.approx(10 * angle, abs=0.01)
    assert found[:, 1] == pytest.approx(0.5, abs=0.001)
    poses = CIRCLE.from_frenet(found)
    assert np.cos(poses[:, 2] - angle - math.pi / 2) == pytest.approx(1.0, abs=1e-5)
    assert CIRCLE.curvature == pytest.approx(0.1)
    assert CIRCLE.at(CIRCLE.curvature, np.array([-5.0, 99.0])) == pytest.approx(0.1)
    assert CIRCLE.length == pytest.approx(20 * math.pi, rel=1e-4)
    assert CIRCLE.arc_length[1] == pytest.approx(CIRCLE.length / len(CIRCLE.centerline))


def test_widths_are_measured_where_the_source_states_none():
    track = CIRCLE
    measured = track.measured_widths
    assert measured.shape == (len(track.centerline), 2)
    assert np.abs(measured - 1.5).max() < 1.5 * track.resolution
    hall = track_of(np.array([[-20.0, 10.0], [0.0, 10.0], [20.0, 10.0]]), closed=False)
    assert hall.widths[:, 0] == pytest.approx(20.0, abs=1e-6)
    assert hall.widths[:, 1] == pytest.approx(40.0, abs=1e-6)
    stated = np.array([[1.0, 2.0]] * 3)
    line = hall.centerline
    free = hall.distance > 0
    narrow = Track.from_occupancy(
        "narrow", free, 0.5, hall.origin, centerline=line, stated_widths=stated
    )
    assert narrow.widths[:, 0].tolist() == [1, 1, 1]
    assert narrow.widths[:, 1].tolist() == [2, 2, 2]


def test_widths_lead_to_the_wall():
    track = track_of(blob(1, 60), closed=True)
    grown = np.column_stack([track.arc_length, track.widths[:, 0] - 0.01])
    assert (track.wall_distance(track.from_frenet(grown)[:, :2]) > 0).all()
    grown[:, 1] = -track.widths[:, 1] - 0.01
    assert (track.wall_distance(track.from_frenet(grown)[:, :2]) == 0).all()


def test_without_a_centre_line_there_are_no_frenet_coordinates():
    hall = Track.from_occupancy("hall", np.ones((9, 9), bool), 1.0, (0.0, 0.0, 0.0))
    assert hall.length == 0
    assert hall.widths.shape == (0, 2)
    assert all(map(math.isnan, project(hall.line, 1.0, 1.0)))
    for convert in (hall.to_frenet, hall.from_frenet):
        with pytest.raises(TrackError, match="hall: it has no centre line"):
            convert(np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"shape \(N, 2\) is needed, found \(2,\)"):
        CIRCLE.to_frenet(np.zeros(2))


def test_coordinates_that_are_not_numbers_give_none():
    assert all(map(math.isnan, project(CIRCLE.line, math.nan, 0.0)))
