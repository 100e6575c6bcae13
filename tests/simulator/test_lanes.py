"""Tracks drawn from settings and from centre lines in CSV files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from pydantic import ValidationError
from scipy.ndimage import label, maximum_filter1d

from sim.config import (
    CenterlineTrack,
    LidarConfig,
    Line2Track,
    OvalTrack,
    RandomTrack,
    VehicleConfig,
)
from sim.physics.world import World
from sim.tracks.factory import make_track
from sim.tracks.gates import GATES, make_gates
from sim.tracks.kinds.circuit import WALL
from sim.tracks.lanefile import read_lane
from sim.tracks.track import Track, TrackError

SQUARE = "0,0,1,1\n5,0,1,1\n10,0,1,1\n10,5,1,1\n10,10,1,1\n5,10,1,1\n0,10,1,1\n0,5,1,1\n"


def hairpin(gap: float) -> str:
    """Two lanes 2 m wide, their middles this far apart."""
    rows = [(x / 4, 0.0) for x in range(80)] + [(x / 4, gap) for x in range(79, -1, -1)]
    return "".join(f"{x},{y},1,1\n" for x, y in rows)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "lane.csv").write_text(text)
        return tmp_path

    return write


def load(directory: Path, **changes) -> Track:
    return make_track(CenterlineTrack(file="lane.csv", **changes), directory)


def free_area(track: Track) -> float:
    return float(np.count_nonzero(track.distance) * track.resolution**2)


def check_circuit(track: Track) -> None:
    """What holds on every closed lane."""
    assert track.closed
    # One lane around one infield: nothing touches, nothing is cut off.
    free = track.distance > 0
    assert label(free, np.ones((3, 3)))[1] == 1
    assert label(~free)[1] == 2
    width = track.widths.sum(axis=1).mean()
    assert free_area(track) == pytest.approx(track.length * width, rel=0.03)
    # Where the inner wall is a point, a line across leads past it into another part of the lane.
    pointed = np.abs(track.curvature) > 1 / (width / 2 + 0.1)
    step = track.length / len(track.centerline)
    pointed = maximum_filter1d(pointed, 2 * int(2 * width / step) + 1, mode="wrap")
    found, stated = track.measured_widths, track.stated_widths
    assert found[~pointed] == pytest.approx(stated[~pointed], abs=2 * track.resolution)
    assert (found > stated - 2 * track.resolution).all()
    # The finish line and every gate reach from wall to wall.
    gates = make_gates(track)
    assert gates.lines.shape == (GATES, 2, 2)
    assert track.wall_distance(gates.lines[1:].reshape(-1, 2)).max() == 0
    assert track.wall_distance(gates.lines[1:].mean(axis=1)).min() > 0
    start = track.to_frenet(np.mean(track.finish_line, axis=0)[None])[0, 0]
    assert min(start, track.length - start) == pytest.approx(0, abs=1e-9)  # on the seam
    # A car fits at every spawn, heading along the lane, spawn_1 nearest behind the finish.
    world = World(track, [VehicleConfig()], LidarConfig(beams=1))
    poses = np.array(list(track.spawns.values()))
    for pose in poses:
        world.place(0, pose[None], 0)
    s = track.to_frenet(poses[:, :2])[:, 0]
    assert (np.diff(s) < 0).all()
    assert s[0] > track.length * 0.85


def turned(track: Track) -> float:
    """Turns that the centre line makes, counter-clockwise."""
    steps = np.diff(track.centerline, axis=0, append=track.centerline[:1])
    yaw = np.arctan2(steps[:, 1], steps[:, 0])
    around = np.diff(yaw, append=yaw[:1])
    return float(((around + np.pi) % (2 * np.pi) - np.pi).sum() / (2 * np.pi))


@pytest.mark.parametrize(
    ("straight", "radius", "width"), [(20, 6, 3), (4, 2, 2), (50, 10, 8), (0.5, 5, 2)]
)
def test_an_oval_is_two_straights_and_two_half_circles(straight, radius, width):
    config = OvalTrack(straight=straight, radius=radius, width=width)
    track = make_track(config)
    check_circuit(track)
    assert turned(track) == pytest.approx(1)
    assert track.length == pytest.approx(2 * straight + 2 * math.pi * radius, rel=2e-3)
    outline = math.pi * ((radius + width / 2) ** 2 - (radius - width / 2) ** 2)
    assert free_area(track) == pytest.approx(2 * straight * width + outline, rel=0.02)
    # Distance from the axis between the half circles' centres.
    points = track.centerline
    beyond = np.clip(points[:, 0], -straight / 2, straight / 2)
    assert np.hypot(points[:, 0] - beyond, points[:, 1]) == pytest.approx(radius)
    assert track.finish_line[0] == pytest.approx((0, -radius + width / 2), abs=0.2)
    assert np.abs(track.curvature).max() == pytest.approx(1 / radius, rel=0.01)


@examples(12)
@given(
    seed=st.integers(0, 10_000),
    length=st.floats(40, 150),
    width=st.floats(1.0, 4.0),
    radius=st.floats(0, 1),
    corners=st.integers(3, 24),
    bends=st.sampled_from(["smooth", "arcs"]),
)
def test_random_circuits_keep_to_their_bounds(seed, length, width, radius, corners, bends):
    smallest = width / 2 + (0.3 if bends == "smooth" else 0.1)
    if bends == "arcs" and length >= 40 * width:
        smallest = max(0.36 * width, 0.51)
    config = RandomTrack(
        seed=seed,
        length=length,
        width=width,
        bends=bends,
        min_radius=smallest + radius * max(0, length / 8 - smallest) * 0.99,
        corners=corners,
        resolution=0.1,
    )
    track = make_track(config)
    check_circuit(track)
    assert abs(turned(track)) == pytest.approx(1)
    assert track.length == pytest.approx(length)
    assert np.abs(track.curvature).max() <= 1 / config.min_radius
    # Brute force: no two places are nearer than lane and wall, unless along the lane.
    line, count = track.centerline, len(track.centerline)
    distances = np.hypot(*(line[:, None] - line[None]).transpose(2, 0, 1))
    index = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    along = length / count * np.minimum(index, count - index)
    apart = min(width + WALL, 1.98 * config.min_radius)
    assert distances[along > math.pi * config.min_radius].min(initial=99) > apart


def test_circuits_of_arcs_have_straights_chicanes_and_hairpins():
    """On straights the line does not bend; in a hairpin it turns by more than 120 degrees."""
    tracks = [
        make_track(
            RandomTrack(seed=seed, bends="arcs", length=100, width=1.6, min_radius=0.9, corners=12)
        )
        for seed in range(12)
    ]
    hairpins, sharpest = 0, []
    for track in tracks:
        bend = track.curvature
        straight = np.abs(bend) < 0.02
        assert straight.mean() > 0.3
        sharpest.append(np.abs(bend).max())
        step = track.length / len(bend)
        for corner in np.split(bend, np.flatnonzero(np.diff(straight))):
            hairpins += abs(corner.sum() * step) > np.radians(120)
        assert (bend > 0.3).any()
        assert (bend < -0.3).any()
    assert hairpins >= 6
    assert max(sharpest) > 1 / 1.1


def test_random_circuits_differ_by_seed_and_repeat():
    first, again, other = (make_track(RandomTrack(seed=s)) for s in (3, 3, 4))
    assert first.distance.tobytes() == again.distance.tobytes()
    assert first.centerline.tobytes() == again.centerline.tobytes()
    assert first.spawns == again.spawns
    assert first.centerline.tobytes() != other.centerline.tobytes()


def test_random_circuits_run_both_ways_and_bend_both_ways():
    tracks = [make_track(RandomTrack(seed=seed, resolution=0.2)) for seed in range(16)]
    assert {round(turned(track)) for track in tracks} == {-1, 1}
    signs = [np.sign(track.curvature[np.abs(track.curvature) > 0.05]) for track in tracks]
    assert sum(len(set(sign)) == 2 for sign in signs) > 12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OvalTrack(radius=1, width=2), "width must be at most 1.6 m"),
        (lambda: OvalTrack(straight=0), "straight"),
        (lambda: RandomTrack(width=6), "min_radius must be at least 3.3 m"),
        (lambda: RandomTrack(width=6, bends="arcs"), "min_radius must be at least 3.1 m"),
        (lambda: RandomTrack(length=20), "length must be at least 8 min_radius, 24 m"),
        (lambda: RandomTrack(seed=-1), "seed"),
        (lambda: CenterlineTrack(file="x", scale=0), "scale"),
    ],
)
def test_impossible_measures_are_refused(make, message):
    with pytest.raises(ValidationError, match=message):
        make()


def test_too_many_cells_name_the_resolution():
    with pytest.raises(TrackError, match=r"oval: .* choose resolution >= 0\.164 m") as error:
        make_track(OvalTrack(straight=1000, radius=300, resolution=0.01))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        SQUARE,
        "# x_m,y_m,w_tr_right_m,w_tr_left_m\n" + SQUARE + "0,0,1,1\n",
        "# made by hand\nx; y; w_right; w_left\n" + SQUARE.replace(",", "; "),
        "y,x,w_left,w_right,speed\n"
        + "".join(
            ",".join([f[1], f[0], f[3], f[2], "9"]) + "\n"
            for f in (row.split(",") for row in SQUARE.split())
        ),
    ],
)
def test_files_of_many_kinds_give_the_same_lane(write, text):
    track = load(write(text))
    assert track.closed
    assert track.length == pytest.approx(40)
    assert track.centerline.tolist()[:3] == [[0, 0], [5, 0], [10, 0]]
    assert free_area(track) == pytest.approx(12 * 12 - 8 * 8, rel=0.03)
    assert (track.widths[:, 0] == 1).all()


def test_left_and_right_and_scale(write):
    rows = [(x, 0.0, 0.5, 1.5) for x in range(0, 41, 2)]
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    for scale in (1.0, 0.5):
        track = load(write(text), scale=scale)
        assert not track.closed
        assert track.length == pytest.approx(40 * scale)
        probe = scale * np.array([[20.0, 1.4], [20.0, 1.6], [20.0, -0.4], [20.0, -0.6]])
        assert (track.wall_distance(probe) > 0).tolist() == [True, False, True, False]
        assert track.finish_line[0][0] == pytest.approx(40 * scale - 2)
        assert track.spawns["spawn_1"][0] == pytest.approx(12)


def test_widths_vary_along_the_lane(write):
    text = "".join(f"{x},0,{0.5 + x / 20},{1.5 - x / 20}\n" for x in range(21))
    track = load(write(text), resolution=0.02)
    s = np.array([5.0, 10.0, 15.5])
    assert track.at(track.measured_widths[:, 0], s) == pytest.approx(1.5 - s / 20, abs=0.03)
    assert track.at(track.measured_widths[:, 1], s) == pytest.approx(0.5 + s / 20, abs=0.03)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 different points; at least 3"),
        ("0,0,1,1\n1,0,1,1\n0,0,1,1\n", "2 different points; at least 3"),
        ("0,0\n5,0\n9,0\n", "no widths; columns x, y, w_right, w_left are needed"),
        ("0,0,1,1\n5,0,1,0\n9,0,1,1\n", r"line 2: '5,0,1,0'; widths must be above 0 m"),
        ("0,0,1,1\n5,0,-1,1\n9,0,1,1\n", "line 2: .*widths must be above 0 m"),
        ("0,0,1,1\n5,0,1\n9,0,1,1\n", "line 2: .*'x, y, w_right, w_left' in metres"),
        ("0,0,1,1\n5,nan,1,1\n9,0,1,1\n", "line 2: .*in metres is needed"),
        ("0,0,1,1\nend\n9,0,1,1\n", "line 2: 'end'"),
        (
            "0,0,1,1\n4,0,1,1\n8,0,1,1\n8,4,1,1\n6,4,1,1\n6,-4,1,1\n",
            r"crosses itself near \(4, 0\)",
        ),
        ("0,0,1,1\n4,0,1,1\n0.5,0.1,1,1\n-9,0,1,1\n", r"turns by 178 degrees at \(4, 0\) m"),
        (hairpin(1.5), "the lane touches itself near"),
        (hairpin(2.0), "the lane touches itself near"),
    ],
)
def test_a_wrong_file_is_explained_in_one_line(write, text, message):
    directory = write(text)
    with pytest.raises(TrackError, match=message) as error:
        load(directory)
    assert "\n" not in str(error.value)
    assert str(directory / "lane.csv") in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TrackError, match=r"lane\.csv: .*No such file"):
        load(tmp_path)


def test_lanes_a_wall_apart_do_not_touch(write):
    track = load(write(hairpin(2.2)))
    assert not track.closed
    assert free_area(track) == pytest.approx(2 * track.length, rel=0.03)
    figure = "".join(
        f"{6 * math.sin(t)},{6 * math.sin(2 * t)},1,1\n" for t in np.linspace(0.1, 6.3, 60)
    )
    with pytest.raises(TrackError, match="crosses itself"):
        load(write(figure))


@examples(40)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(4, 60))
def test_crossings_are_found(tmp_path_factory, seed, count):
    points = np.cumsum(np.random.default_rng(seed).normal((1.0, 0.0), size=(count, 2)), axis=0)
    path = tmp_path_factory.mktemp("lanes") / "lane.csv"
    path.write_text("".join(f"{float(x)!r},{float(y)!r}\n" for x, y in points))
    try:
        lane = read_lane(path)
    except TrackError as error:
        found = str(error)
        if "crosses" not in found:
            return
        crossing = True
        lane_points = points
    else:
        crossing, lane_points = False, lane.points
    ring = np.vstack([points, points[:1]]) if not crossing and lane.closed else lane_points
    segments = np.stack([ring[:-1], ring[1:]], axis=1)
    meets = any(
        _meet(segments[i], segments[j])
        for i in range(len(segments))
        for j in range(i + 2, len(segments))
        if not (len(ring) > len(points) and i == 0 and j == len(segments) - 1)
    )
    if not crossing:
        assert not meets


def _meet(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two segments cross: each one's ends lie on different sides of the other."""

    def side(line: np.ndarray, point: np.ndarray) -> float:
        u, v = line[1] - line[0], point - line[0]
        return float(u[0] * v[1] - u[1] * v[0])

    return side(a, b[0]) * side(a, b[1]) < 0 and side(b, a[0]) * side(b, a[1]) < 0


def test_every_track_has_a_finish_line_and_spawns():
    for config in (Line2Track(), OvalTrack(), RandomTrack()):
        track = make_track(config)
        assert track.finish_line
        assert len(track.spawns) >= 6
