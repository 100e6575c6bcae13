"""Tracks: distance fields, maps, centre lines, spawns, and messages for wrong files."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from properties import examples
from scipy.ndimage import distance_transform_edt

from sim.config import CircleTrack, Line2Track, MapTrack, VehicleConfig
from sim.tracks.centerline import project
from sim.tracks.distance_field import wall_distances
from sim.tracks.factory import make_track
from sim.tracks.track import Track, TrackError

FREE, UNKNOWN, WALL = 254, 205, 0


def room(rows: int = 8, columns: int = 12) -> np.ndarray:
    """An image of a room: free cells inside a wall one pixel thick."""
    image = np.full((rows, columns), FREE, dtype=np.uint8)
    image[[0, -1]] = WALL
    image[:, [0, -1]] = WALL
    return image


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda n: arrays(bool, n)))
@examples(60)
def test_distances_are_those_of_scipy_to_the_bit(free: np.ndarray) -> None:
    free = np.pad(free, 2)
    expected = (distance_transform_edt(free) * 0.0625).astype(np.float32)
    assert np.array_equal(wall_distances(free, 0.0625), expected)


def test_what_is_known_of_a_lane_stays_known(tmp_path: Path) -> None:
    track = make_track(CircleTrack(kind="circle"), tmp_path)
    widths = track.measured_widths
    other = track.starting(spawns={"here": (0.0, 0.0, 0.0)})
    assert other.measured_widths is widths
    assert (other.finish_line, dict(other.spawns)) == (
        track.finish_line,
        {"here": (0.0, 0.0, 0.0)},
    )


@pytest.fixture
def write_map(tmp_path: Path) -> Callable[..., Path]:
    def write(
        pixels: np.ndarray | None = None,
        suffix: str = "png",
        centerline: str | None = None,
        **changes: Any,
    ) -> Path:
        Image.fromarray(room() if pixels is None else pixels).save(tmp_path / f"hall.{suffix}")
        data = {
            "image": f"hall.{suffix}",
            "resolution": 0.5,
            "origin": [0.0, 0.0, 0.0],
            "negate": 0,
            "occupied_thresh": 0.65,
            "free_thresh": 0.196,
        } | changes
        data = {key: value for key, value in data.items() if value is not None}
        (tmp_path / "hall.yaml").write_text(yaml.safe_dump(data))
        if centerline is not None:
            (tmp_path / "hall_centerline.csv").write_text(centerline)
        return tmp_path

    return write


def load(directory: Path, file: str = "hall.yaml") -> Track:
    return make_track(MapTrack(file=file), directory)


def free_area(track: Track) -> float:
    return float(np.count_nonzero(track.distance) * track.resolution**2)


def is_free(track: Track, x: float, y: float) -> bool:
    return bool(track.wall_distance(np.array([[x, y]]))[0] > 0)


@examples(50)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 12), columns=st.integers(1, 12))
def test_the_field_is_the_distance_to_the_nearest_wall_cell(seed, rows, columns):
    rng = np.random.default_rng(seed)
    free = rng.random((rows, columns)) < 0.8
    free[rng.integers(rows), rng.integers(columns)] = True
    track = Track.from_occupancy("random", free, 0.25, (0.0, 0.0, 0.0))
    walls = np.argwhere(track.distance == 0)
    for cell in np.argwhere(track.distance > 0):
        nearest = np.sqrt(((walls - cell) ** 2).sum(axis=1).min())
        assert track.distance[tuple(cell)] == pytest.approx(0.25 * nearest, rel=1e-6)


def test_a_diagonal_wall_is_closed_and_other_cells_keep_their_kind():
    free = np.ones((9, 9), dtype=bool)
    free[np.arange(9), np.arange(9)] = False
    track = Track.from_occupancy("diagonal", free, 1.0, (3.0, -2.0, 0.0))
    found = np.array([[is_free(track, 3.5 + x, -1.5 + y) for x in range(9)] for y in range(9)])
    assert not found[~free].any()
    apart = np.abs(np.subtract.outer(np.arange(9), np.arange(9))) > 1
    assert found[apart].all()
    assert np.count_nonzero(free & ~found) == 8  # one for each corner where two cells meet


@examples(50)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_two_walls_meet_only_at_a_corner(seed):
    free = np.random.default_rng(seed).random((10, 14)) < 0.7
    free[:2, :2] = True
    solid = Track.from_occupancy("random", free, 1.0, (0.0, 0.0, 0.0)).distance > 0
    assert not np.any(~solid[:-1, :-1] & ~solid[1:, 1:] & solid[1:, :-1] & solid[:-1, 1:])
    assert not np.any(solid[:-1, :-1] & solid[1:, 1:] & ~solid[1:, :-1] & ~solid[:-1, 1:])


def test_a_track_without_free_cells_is_an_error():
    with pytest.raises(TrackError, match="no cell is free"):
        Track.from_occupancy("solid", np.zeros((3, 3), dtype=bool), 1.0, (0.0, 0.0, 0.0))


def test_line2_has_the_documented_walls():
    track = make_track(Line2Track())
    assert free_area(track) == pytest.approx(97.9 * 2.55)
    for x, y, free in [
        (-50.89, 0, True),
        (-50.91, 0, False),
        (46.99, 0, True),
        (47.01, 0, False),
        (0, 0.54, True),
        (0, 0.56, False),
        (0, -1.99, True),
        (0, -2.01, False),
        (1e6, 0, False),
        (0, -1e300, False),
        (math.nan, 0, False),
    ]:
        assert is_free(track, x, y) == free, (x, y)
    assert list(track.spawns) == [f"spawn_{i}" for i in range(1, 7)]
    assert all(is_free(track, x, y) for x, y, _ in track.spawns.values())
    assert not track.closed


@pytest.mark.parametrize(("radius", "width"), [(10.0, 3.0), (3.0, 1.2), (1.1, 1.0), (25.0, 6.0)])
def test_circle_clearance_is_that_of_the_annulus(radius, width):
    config = CircleTrack(radius=radius, width=width)
    track = make_track(config)
    rng = np.random.default_rng(1)
    r = radius + width * rng.uniform(-0.45, 0.45, 500)
    angle = rng.uniform(0, 2 * np.pi, 500)
    points = np.column_stack([r * np.cos(angle), r * np.sin(angle)])
    expected = width / 2 - np.abs(r - radius)
    assert np.abs(track.wall_distance(points) - expected).max() < 1.5 * config.resolution
    assert track.closed
    assert np.hypot(*track.centerline.T) == pytest.approx(radius)
    assert free_area(track) == pytest.approx(2 * np.pi * radius * width, rel=0.02)


@pytest.mark.parametrize("radius", [1.2, 4.0, 10.0, 60.0])
def test_circle_spawns_stand_apart_and_head_counter_clockwise(radius):
    track = make_track(CircleTrack(radius=radius, width=1.5))
    poses = np.array(list(track.spawns.values()))
    assert len(poses) >= 8
    assert next(iter(track.spawns)) == "spawn_1"
    car = VehicleConfig()
    for first, second in pairwise(poses):
        assert math.dist(first[:2], second[:2]) > car.length
    angles = np.arctan2(poses[:, 1], poses[:, 0])
    headings = np.cos(poses[:, 2] - angles - np.pi / 2)
    assert headings.min() > 0.98
    # All start behind the finish line, which lies at angle 0; the first leads.
    progress = np.mod(angles, 2 * np.pi)
    assert np.all(np.diff(progress) < 0)
    assert track.finish_line == ((radius - 0.75, 0.0), (radius + 0.75, 0.0))


def test_a_circle_with_too_many_cells_is_an_error():
    with pytest.raises(TrackError, match="choose resolution") as error:
        make_track(CircleTrack(radius=500, width=3, resolution=0.01))
    assert "\n" not in str(error.value)


def test_map_rows_run_upwards(write_map):
    image = room()
    image[1, 1] = WALL  # upper left
    track = load(write_map(image))
    assert not is_free(track, 0.75, 3.25)
    assert is_free(track, 0.75, 0.75)
    assert is_free(track, 5.25, 3.25)
    assert free_area(track) == pytest.approx((6 * 10 - 1) * 0.25)


@pytest.mark.parametrize("suffix", ["png", "pgm"])
@pytest.mark.parametrize("negate", [0, 1])
def test_map_formats_and_negation(write_map, suffix, negate):
    image = 255 - room() if negate else room()
    track = load(write_map(image, suffix, negate=negate))
    assert free_area(track) == pytest.approx(6 * 10 * 0.25)


@pytest.mark.parametrize("negate", [0, 1])
def test_an_occupancy_of_free_thresh_is_not_free(write_map, negate):
    """To the last bit, as in map_server: 51 of 255 is 0.2."""
    image = room()
    image[3, 3:5] = 204, 206  # occupancies of 0.2 and less
    pixels = 255 - image if negate else image
    track = load(write_map(pixels, negate=negate, free_thresh=0.2))
    assert free_area(track) == pytest.approx((6 * 10 - 1) * 0.25)


def test_colour_maps_and_16_bit_maps_load_like_grey_ones(write_map):
    colour = np.repeat(room()[..., None], 3, axis=2)
    assert free_area(load(write_map(colour))) == pytest.approx(15)
    assert free_area(load(write_map(room().astype(np.uint16) * 257))) == pytest.approx(15)


def test_transparent_pixels_are_not_free(write_map):
    image = np.repeat(room()[..., None], 4, axis=2)
    image[..., 3] = 255
    image[3, 5, 3] = 0
    track = load(write_map(image))
    assert free_area(track) == pytest.approx(15 - 0.25)
    assert not is_free(track, 2.75, 2.25)


def test_unknown_space_is_not_free(write_map):
    image = room()
    image[:, 6:] = UNKNOWN
    assert free_area(load(write_map(image))) == pytest.approx(6 * 5 * 0.25)
    image[:, 6:] = 180  # unknown by the thresholds too: no wall next to it
    image[[0, -1]] = FREE
    track = load(write_map(image))
    assert not is_free(track, 3.75, 2.0)


@pytest.mark.parametrize("occupied", [0.65, 0.45])  # the latter in most of the field's maps
def test_a_blurred_wall_is_split_at_half(write_map, occupied):
    image = room()
    image[1, 1:-1] = 135  # mostly free (p = 0.47), between wall and free space
    image[-2, 1:-1] = 120  # mostly wall
    track = load(write_map(image, occupied_thresh=occupied))
    assert is_free(track, 3.0, 3.25)
    assert not is_free(track, 3.0, 0.75)


def test_origin_may_be_turned(write_map):
    track = load(write_map(origin=[10.0, 20.0, math.pi / 2]))
    # The image's x axis points along world y, its y axis along world -x.
    assert is_free(track, 10 - 0.75, 20 + 5.25)
    assert not is_free(track, 10 - 0.25, 20 + 3)
    assert not is_free(track, 10 + 0.75, 20 + 3)
    assert not is_free(track, 10 - 0.75, 20 + 5.75)


@pytest.mark.parametrize(
    "text",
    [
        "x,y\n1,1\n2,1\n3,1\n",
        "# x_m, y_m, w_right, w_left\n1, 1, .5, .5\n\n2, 1, .5, .5\n2,1,.5,.5\n3, 1, .5, .5\n",
        "# s_m; x_m\n1; 1\n2; 1\n3; 1",
    ],
)
def test_centerline_formats(write_map, text):
    track = load(write_map(centerline=text))
    assert track.centerline.tolist() == [[1, 1], [2, 1], [3, 1]]
    assert not track.closed
    assert track.spawns
    assert all(is_free(track, x, y) for x, y, _ in track.spawns.values())


def test_a_centerline_that_comes_back_is_closed(write_map):
    square = [(1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (2, 3), (1, 3), (1, 2)]
    for points in (square, [*square, square[0]]):
        text = "\n".join(f"{x},{y}" for x, y in points)
        track = load(write_map(centerline=text))
        assert track.closed
        assert len(track.centerline) == 8
        assert track.line.segments[:, 4].sum() == pytest.approx(8)


def test_a_map_without_a_centerline_has_none(write_map):
    track = load(write_map())
    assert track.centerline.shape == (0, 2)
    assert dict(track.spawns) == {}
    assert all(map(math.isnan, project(track.line, 1.0, 1.0)))


def test_an_open_centerline_may_overshoot_the_free_space(write_map):
    track = load(write_map(centerline="-1,1\n1,1\n2,1\n3,1\n9,1\n"))
    assert track.centerline.tolist() == [[1, 1], [2, 1], [3, 1]]


def test_annotations_give_spawns_and_the_finish_line(write_map):
    annotations = {
        "finish_line": {"start": [3, 0.5], "end": [3, 3.5]},
        "spawn_points": [{"name": "grid", "pose": [1, 1, 0.5]}],
    }
    directory = write_map(mode="trinary", annotations=annotations)
    track = load(directory)
    assert dict(track.spawns) == {"grid": (1, 1, 0.5)}
    assert track.finish_line == ((3, 0.5), (3, 3.5))
    # With a centre line towards +x, the left end is the upper one.
    (directory / "hall_centerline.csv").write_text("1,2\n2,2\n3,2\n4,2\n")
    assert load(directory).finish_line == ((3, 3.5), (3, 0.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 0}, "resolution"),
        ({"resolution": "fine"}, "resolution"),
        ({"resolution": None}, "resolution: Field required"),
        ({"image": None}, "image: Field required"),
        ({"origin": [0, 0]}, "origin"),
        ({"origin": [0, 0, math.nan]}, "origin"),
        ({"negate": 2}, "negate"),
        ({"free_thresh": 0}, "no free space"),
        ({"image": "other.png"}, "other.png"),
        ({"image": "hall.yaml"}, "hall.yaml"),
        ({"annotations": {"spawns": []}}, "annotations.spawns"),
        ({"centerline": "1,1\n2\n"}, "line 2"),
        ({"centerline": "1,1\n2,two\n"}, "line 2"),
        ({"centerline": "1,1\n2,inf\n"}, "line 2"),
        ({"centerline": "1,1\n1,1\n2,1\n"}, "2 different points; at least 3"),
        ({"centerline": "1,1\n2,9\n9,1\n"}, r"leaves the free space at \(2, 9\)"),
        ({"centerline": "1,9\n2,9\n3,9\n"}, "leaves the free space"),
        ({"pixels": np.zeros((4, 4), dtype=np.uint8)}, "no free space"),
    ],
)
def test_a_wrong_map_is_explained_in_one_line(write_map, changes, message):
    directory = write_map(**changes)
    with pytest.raises(TrackError, match=message) as error:
        load(directory)
    assert "\n" not in str(error.value)
    assert str(directory) in str(error.value)


@pytest.mark.parametrize("content", [None, "", "- 1", "a: [", "image: \x00"])
def test_a_file_that_is_no_map_is_explained_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(TrackError, match=r"bad\.yaml") as error:
        load(tmp_path, "bad.yaml")
    assert "\n" not in str(error.value)
