"""Racing lines: least curvature within the walls, and the quadratic programmes behind them."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy import sparse

from sim.config import CircleTrack, Line2Track, OvalTrack, RandomTrack
from sim.tracks.centerline import curvature
from sim.tracks.factory import make_track
from sim.tracks.quadratic import minimise
from sim.tracks.raceline import clearance, minimum_curvature, resample
from sim.tracks.track import TrackError

HAIRPINS = RandomTrack(seed=1003, bends="arcs", width=1.6, min_radius=0.9, length=90, corners=16)


def best_by_force(matrix, vector, low, high):
    """Tries all ways in which each variable is at its lower bound, at its upper, or free."""
    best, least = None, math.inf
    for fixed in product((-1, 0, 1), repeat=len(vector)):
        at = np.array(fixed)
        x = np.where(at < 0, low, high)
        free = at == 0
        if free.any():
            known = vector + matrix @ np.where(free, 0.0, x)
            x[free] = np.linalg.solve(matrix[np.ix_(free, free)], -known[free])
        value = x @ matrix @ x / 2 + vector @ x
        if (x >= low - 1e-12).all() and (x <= high + 1e-12).all() and value < least:
            best, least = x, value
    return best


@given(seed=st.integers(0, 10**6), size=st.integers(1, 5))
@examples(40)
def test_quadratic_programmes_are_solved_as_by_trying_all_bounds(seed: int, size: int) -> None:
    draw = np.random.default_rng(seed)
    root = draw.normal(size=(size, size))
    matrix = root @ root.T + 0.1 * np.eye(size)
    vector, low = 3 * draw.normal(size=size), -draw.uniform(0.0, 1.0, size)
    high = low + draw.uniform(0.0, 2.0, size)
    found = minimise(sparse.csc_matrix(matrix), vector, low, high)
    assert found == pytest.approx(best_by_force(matrix, vector, low, high), abs=1e-5)


def test_clearance_is_the_distance_to_the_wall() -> None:
    track = make_track(CircleTrack(radius=10, width=3, resolution=0.02))
    radius = np.array([8.6, 9.0, 10.2, 11.3])
    angle = np.array([0.3, 1.0, 2.0, 4.0])
    points = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    expected = np.minimum(radius - 8.5, 11.5 - radius)
    assert clearance(track, points) == pytest.approx(expected, abs=0.02)


def test_points_are_evenly_spaced_on_a_smooth_line() -> None:
    angle = np.sort(np.random.default_rng(0).uniform(0, math.tau, 90))
    points = resample(5 * np.column_stack([np.cos(angle), np.sin(angle)]), 0.3)
    steps = np.hypot(*(np.roll(points, -1, axis=0) - points).T)
    assert steps == pytest.approx(0.3, abs=0.01)
    assert np.hypot(*points.T) == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize(
    "config",
    [OvalTrack(), RandomTrack(seed=3), RandomTrack(seed=1), HAIRPINS],
    ids=lambda c: c.kind,
)
def test_the_line_keeps_its_distance_and_bends_less_than_the_centre_line(config) -> None:
    track = make_track(config)
    line = minimum_curvature(track, 0.4)
    assert clearance(track, resample(line, 0.01)).min() > 0.397
    centre = resample(track.centerline, 0.25)
    assert (curvature(line, True) ** 2).sum() < 0.8 * (curvature(centre, True) ** 2).sum()
    around = np.diff(np.unwrap(track.to_frenet(line)[:, 0], period=track.length))
    assert (around > 0).all()  # in driving direction, once round
    assert 0.9 < len(line) * 0.25 / track.length < 1.02


def test_the_line_of_an_oval_uses_the_whole_width() -> None:
    """From the outside on the straights to the inside in the middle of the bends."""
    track = make_track(OvalTrack(straight=10, radius=5, width=3, resolution=0.02))
    line = minimum_curvature(track, 0.3)
    offsets = track.to_frenet(line)[:, 1]
    apex = offsets[np.argmax(line[:, 0])]
    assert apex == pytest.approx(1.5 - 0.3, abs=0.05)
    assert offsets.min() < 0.3
    turned = -line  # the track is the same seen from the other side
    near = np.hypot(*(line[:, None] - turned[None]).transpose(2, 0, 1)).min(axis=1)
    assert near.max() < 0.15


def test_tracks_without_room_or_end_are_refused() -> None:
    with pytest.raises(TrackError, match="line2: an open track; a racing line needs a closed one"):
        minimum_curvature(make_track(Line2Track()), 0.3)
    with pytest.raises(TrackError, match=r"no line is found that is 1.60 m from the walls"):
        minimum_curvature(make_track(OvalTrack(width=3)), 1.6)
