"""Laps on scripted ways, honest ones and others."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from properties import examples

from sim.config import CarConfig, CircleTrack, EnvConfig, LidarConfig, Line2Track
from sim.physics.laps import LAP_START, NEXT_GATE, crosses, first_gate, pass_gates
from sim.race import Race
from sim.tracks.factory import make_track
from sim.tracks.gates import make_gates
from sim.tracks.track import Track

RADIUS = 10.0
CIRCLE = make_track(CircleTrack(radius=RADIUS, width=3.0))
OPEN = make_track(Line2Track())


def hall(finish_half: float = 1.5) -> Track:
    """A lane without walls: the circle's centre line in a hall of 60 m."""
    return Track.from_occupancy(
        "hall",
        np.ones((240, 240), dtype=bool),
        0.25,
        (-30.0, -30.0, 0.0),
        centerline=CIRCLE.centerline,
        closed=True,
        finish_line=((RADIUS - finish_half, 0.0), (RADIUS + finish_half, 0.0)),
    )


HALL = hall()


def on_circle(angle: np.ndarray, radius: float | np.ndarray = RADIUS) -> np.ndarray:
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def way(*angles: float, radius: float = RADIUS, step: float = 0.01) -> np.ndarray:
    """Angles, in turns from the finish line, that a car visits one after the other."""
    parts = [
        np.linspace(a, b, max(2, math.ceil(abs(b - a) / step)), endpoint=False)
        for a, b in pairwise(angles)
    ]
    return on_circle(2 * np.pi * np.append(np.concatenate(parts), angles[-1]), radius)


def straight(*corners: tuple[float, float], step: float = 0.1) -> np.ndarray:
    points = [np.array(corners[:1], dtype=float)]
    for a, b in pairwise(np.array(corners, dtype=float)):
        count = max(1, math.ceil(math.dist(a, b) / step))
        points.append(a + np.linspace(0, 1, count + 1)[1:, None] * (b - a))
    return np.vstack(points)


def drive(track: Track, points: np.ndarray, laps: int = 5) -> tuple[int, list[int]]:
    """Laps counted along a way, and the steps of each."""
    gates = make_gates(track)
    memory, lap_steps = np.array([0, -1]), np.zeros(laps, np.int64)
    along = track.to_frenet(points[:1])[0, 0]
    memory[NEXT_GATE] = first_gate(gates, along, *points[0])
    done = 0
    for now, (before, after) in enumerate(pairwise(points), start=1):
        done = pass_gates(gates, *before, *after, now, memory, lap_steps, done)
    assert memory[LAP_START] <= len(points)
    return done, lap_steps[:done].tolist()


@pytest.mark.parametrize("track", [CIRCLE, HALL], ids=["walls", "open"])
@pytest.mark.parametrize(
    ("angles", "laps"),
    [
        ((-0.02, 0.98), 0),
        ((-0.02, 1.02), 1),
        ((-0.02, 3.02), 3),
        ((-0.02, 0.02), 0),
        # Started past the line: the whole circuit begins at the first crossing.
        ((0.02, 1.02), 0),
        ((0.02, 2.02), 1),
        ((0.5, 1.98), 0),
        ((0.5, 2.02), 1),
        # Back and forth over the line.
        ((-0.02, *[0.02, -0.02] * 20), 0),
        ((-0.02, 1.02, *[0.98, 1.02] * 20), 1),
        # Almost round, all the way back, and over the line again.
        ((-0.02, 0.97, -0.02, 0.02), 0),
        ((-0.02, 0.97, -0.02, 1.02), 1),
        ((-0.02, 0.97, -1.02, 0.97), 0),
        ((-0.02, 0.97, -1.02, 1.02), 1),
        # The wrong way round, also with a jump forwards over the line each time.
        ((-0.02, -3.02), 0),
        ((-0.02, 0.01, -0.99, 0.01, -0.99, 0.01), 0),
        ((0.02, -0.02, 0.02, -0.98, -1.02, -0.98), 0),
        # Laps that are taken back are not counted again.
        ((-0.02, 2.02, 0.5, 2.02), 2),
        ((-0.02, 2.02, 0.5, 3.02), 3),
    ],
)
def test_laps_along_the_lane(track, angles, laps):
    assert drive(track, way(*angles))[0] == laps


def test_a_lap_takes_the_steps_between_two_crossings():
    points = way(-0.02, 2.52, step=0.01)
    done, steps = drive(CIRCLE, points)
    assert done == 2
    crossings = np.flatnonzero((points[:-1, 1] < 0) & (points[1:, 1] >= 0)) + 1
    assert steps == np.diff(crossings).tolist()
    # Going back over the line does not start the clock anew.
    assert drive(CIRCLE, way(-0.005, 0.015, -0.005, 1.02))[1] == [104]
    assert drive(CIRCLE, way(-0.02, 4.02), laps=2)[0] == 4  # the first two are timed


@examples(60)
@given(
    turns=st.lists(st.floats(-1.3, 2.0), min_size=1, max_size=12),
    start=st.floats(-0.9, -0.01),
    seed=st.integers(0, 2**32 - 1),
    step=st.floats(0.003, 0.065),  # longer ones leave the lane, which gates do not reach beyond
)
def test_laps_equal_whole_turns_from_the_first_crossing(turns, start, seed, step):
    angles = start + np.concatenate([[0], np.cumsum(turns)])
    assume(np.abs(angles - np.round(angles)).min() > 1e-6)
    points = way(*angles, step=step)
    # Anywhere in the lane, 8.5 to 11.5 m, without changing the order of what is passed. Between two
    # points the way comes no closer to the centre than 8.7 m cos(0.065 pi), 8.52 m.
    rng = np.random.default_rng(seed)
    points *= rng.uniform(0.87, 1.13, (len(points), 1))
    assert drive(CIRCLE, points)[0] == max(0, math.floor(angles.max()))


@pytest.mark.parametrize(
    "corners",
    [
        # From the finish across the infield and back to it, forwards.
        [(10, -1), (10, 1), (0, 1), (0, -1), (10, -1), (10, 1)],
        [(10, -1), (10, 1), (-10, 0), (10, -1), (10, 1)],
        # Half of the circuit, cutting the other.
        [(10, -1), (10, 1), (7.1, 7.1), (0, 10), (-7.1, 7.1), (-10, 0), (10, -1), (10, 1)],
        # Around the finish line's end, over and over.
        [(10, -1), (10, 1), (13, 1), (13, -1)] * 5,
        [(10, -1), (10, 1), (7, 1), (7, -1)] * 5,
        # A square well inside the lane.
        [(10, -1), (10, 1), (3, 3), (-3, 3), (-3, -3), (3, -3), (10, -1), (10, 1)],
    ],
)
def test_cutting_across_the_infield_gives_no_lap(corners):
    assert drive(HALL, straight(*corners * 3))[0] == 0


def test_circling_in_the_infield_gives_no_lap():
    spin = on_circle(np.linspace(0, 20 * np.pi, 3000), 1.0)
    points = np.vstack([straight((10, -1), (10, 1), (1, 1)), spin, straight((1, -1), (10, -1))])
    assert drive(HALL, np.vstack([points, points]))[0] == 0


def test_a_wide_line_through_the_open_still_counts():
    for radius in (8.6, 11.4):
        assert drive(HALL, way(-0.02, 1.02, radius=radius))[0] == 1
    points = way(0.02, 0.98, radius=7.0)
    ends = way(-0.01, 0.02), way(0.98, 1.02)
    assert drive(HALL, np.vstack([ends[0], points, ends[1]]))[0] == 1


def test_an_open_track_is_finished_at_the_first_crossing():
    assert drive(OPEN, straight((45, 0), (45.6, 0)))[0] == 0
    assert drive(OPEN, straight((46, 0), (45, 0)))[0] == 0
    done, steps = drive(OPEN, straight((46, 0), (45, 0), (46, 0), (45, 0), (46, 0)))
    assert done == 1
    assert steps == [17]


@pytest.mark.parametrize("reverse", [False, True])
def test_direction_is_that_of_the_centre_line(reverse):
    line = CIRCLE.centerline[::-1] if reverse else CIRCLE.centerline
    track = Track.from_occupancy(
        "ring",
        CIRCLE.distance > 0,
        CIRCLE.resolution,
        CIRCLE.origin,
        centerline=line,
        closed=True,
        finish_line=CIRCLE.finish_line,
    )
    counted = drive(track, way(-0.02, 1.02))[0], drive(track, way(0.02, -1.02))[0]
    assert counted == ((0, 1) if reverse else (1, 0))


def test_a_slanted_finish_line_is_the_next_for_cars_behind_it():
    slanted = Track.from_occupancy(
        "ring",
        CIRCLE.distance > 0,
        CIRCLE.resolution,
        CIRCLE.origin,
        centerline=CIRCLE.centerline,
        closed=True,
        finish_line=((8.5, -0.9), (11.5, 0.9)),
    )
    behind = on_circle(np.array([0.02]), 11.2)
    points = np.vstack([behind, way(0.01, 1.05, radius=11.2)])
    assert slanted.to_frenet(behind)[0, 0] > 0.05
    assert drive(slanted, points)[0] == 1


@examples(100)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_way_and_its_reverse_cross_once_forwards(seed):
    rng = np.random.default_rng(seed)
    line, a, b = rng.normal(size=(2, 2)), rng.normal(size=2), rng.normal(size=2)
    there, back = crosses(line, *a, *b), crosses(line, *b, *a)
    assert not (there and back)
    matrix = np.column_stack([b - a, line[0] - line[1]])
    t, u = np.linalg.solve(matrix, line[0] - a)
    if min(abs(t), abs(t - 1), abs(u), abs(u - 1)) > 1e-9:
        assert (there or back) == (0 < t < 1 and 0 < u < 1)


def race(**changes) -> Race:
    return Race(EnvConfig(cars=(CarConfig(name="a"),), lidar=LidarConfig(beams=3), **changes))


def test_a_race_ends_after_its_laps_and_tells_their_times():
    made = race(track=CircleTrack(radius=2.0, width=3.0), laps=2)
    made.reset(0, 1)
    arrays = made.world.arrays
    for _ in range(4000):
        # The radius that a full turn of the wheels drives differs: steer back to the lane.
        error = arrays.lateral_offset[0, 0] / 2 + (
            math.remainder(arrays.state[0, 0, 4] - arrays.arc_length[0, 0] / 2 - np.pi / 2, 6.2832)
        )
        found = made.step(np.array([[[0.45 - 2 * error, -0.6 + 0.36]]]))
        if found.over[0]:
            break
    assert found.terminated.all()
    assert arrays.finished.all()
    assert arrays.laps.tolist() == [[2]]
    first, second = made.lap_times(0, 0)
    assert first + second == pytest.approx(found.steps[0] * 0.01, rel=0.2)
    assert second == pytest.approx(first, rel=0.2)
    made.reset(0, 1)
    assert made.lap_times(0, 0) == []
    assert not arrays.finished.any()


def test_more_laps_than_one_need_a_closed_track():
    with pytest.raises(ValueError, match="laps 2: 1 is needed on an open track"):
        race(laps=2)
