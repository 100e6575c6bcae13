"""Maps as they are found: layouts, modes, thresholds, unknown space, lines, driving direction."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from properties import examples
from scipy import ndimage

from sim.config import CarConfig, EnvConfig, LidarConfig, MapTrack, PurePursuitConfig
from sim.race import Race
from sim.tracks.factory import make_track
from sim.tracks.gates import make_gates
from sim.tracks.kinds.rosmap import RosMap, _read_image
from sim.tracks.track import Track, TrackError

FREE, UNKNOWN, WALL = 254, 205, 0
COUNT = 90
ANGLE = np.linspace(0, math.tau, COUNT, endpoint=False)
RING = 4 * np.column_stack([np.cos(ANGLE), np.sin(ANGLE)])
AREA = math.pi * (5.0**2 - 3.0**2)


def levels(free: int = FREE, wall: int = WALL, unknown: int = UNKNOWN) -> np.ndarray:
    """An image, 0.1 m a pixel, of a lane 3 to 5 m from the origin; beyond its walls, unknown."""
    middle = np.arange(120) * 0.1 + 0.05 - 6
    radius = np.hypot(middle[:, None], middle[None])
    image = np.full((120, 120), unknown, np.uint8)
    image[np.abs(radius - 4) < 1.2] = wall
    image[np.abs(radius - 4) < 1.0] = free
    return image


def write_map(
    directory: Path, yaml_name: str = "Ring.yaml", pixels: np.ndarray | None = None, **changes: Any
) -> str:
    data = {
        "image": "Ring.png",
        "resolution": 0.1,
        "origin": [-6.0, -6.0, 0.0],
        "negate": 0,
        "occupied_thresh": 0.65,
        "free_thresh": 0.196,
    } | changes
    name = data["image"] if "ship" not in data else data.pop("ship")
    Image.fromarray(levels() if pixels is None else pixels).save(directory / name)
    (directory / yaml_name).write_text(yaml.safe_dump(data))
    return str(directory / yaml_name)


def write_line(directory: Path, name: str, points: np.ndarray = RING) -> str:
    np.savetxt(directory / name, points, delimiter=",", header="x, y")
    return str(directory / name)


def area(track: Track) -> float:
    return float(np.count_nonzero(track.distance) * track.resolution**2)


# Where the lines and images are


@pytest.mark.parametrize(
    ("map_name", "line"),
    [
        ("Ring.yaml", "Ring_centerline.csv"),
        ("Ring_map.yaml", "Ring_centerline.csv"),
        ("Ring_map.yaml", "Ring_map_centerline.csv"),
        ("Ring.yaml", "centerline.csv"),
        ("Ring.yml", "Ring_Centerline.CSV"),
    ],
)
def test_the_centre_line_beside_a_map_is_found(tmp_path, map_name, line):
    file = write_map(tmp_path, map_name)
    write_line(tmp_path, line)
    track = make_track(MapTrack(file=file))
    assert track.closed
    assert len(track.centerline) == COUNT


def test_a_line_that_may_be_another_maps_is_not_taken(tmp_path, caplog):
    file = write_map(tmp_path)
    write_map(tmp_path, "Other.yaml")
    write_line(tmp_path, "centerline.csv")
    with caplog.at_level(logging.INFO, "sim.tracks"):
        assert not len(make_track(MapTrack(file=file)).centerline)
    told = "no centre line: looked for Ring_centerline.csv; CSV files there: centerline.csv"
    assert f"{file}: {told}" in caplog.text


@pytest.mark.parametrize(("named", "shipped"), [("Ring.png", "Ring.pgm"), ("Ring.pgm", "Ring.png")])
def test_an_image_of_the_other_format_is_read(tmp_path, named, shipped, caplog):
    file = write_map(tmp_path, image=named, ship=shipped)
    with caplog.at_level(logging.INFO, "sim.tracks"):
        assert area(make_track(MapTrack(file=file))) == pytest.approx(AREA, rel=0.02)
    assert f"{named} is not there; read {shipped}" in caplog.text


# What pixels mean


@pytest.mark.parametrize(
    ("pixels", "settings"),
    [
        (levels(), {}),
        (levels(), {"mode": "trinary"}),
        (levels(), {"mode": "trinary", "free_thresh": 0.25}),
        (levels(255, 0, 100), {"mode": "scale"}),
        (levels(0, 100, 255), {"mode": "raw"}),
        (levels(0, 100, 255), {"mode": "raw", "free_thresh": 0.25}),
        (levels(0, 100, 255), {"mode": "raw", "negate": 1}),
        (levels(1, 255, 128), {"negate": 1}),
    ],
)
def test_the_lane_is_free_and_nothing_else(tmp_path, pixels, settings):
    track = make_track(MapTrack(file=write_map(tmp_path, pixels=pixels, **settings)))
    assert area(track) == pytest.approx(AREA, rel=0.02)


def test_unknown_space_that_a_threshold_would_free_is_told(tmp_path, caplog):
    file = write_map(tmp_path, free_thresh=0.25)
    with caplog.at_level(logging.INFO, "sim.tracks"):
        make_track(MapTrack(file=file))
    count = np.count_nonzero(levels() == UNKNOWN)
    assert f"{count} pixels of grey 205, unknown space, are walls" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "Trinary"}, "mode: Input should be 'trinary', 'scale' or 'raw', found 'Trinary'"),
        ({"mode": "fancy"}, "mode"),
        ({"free_thresh": 0.7}, "free_thresh 0.7 must be below occupied_thresh 0.65"),
        ({"free_thresh": 0.65}, "free_thresh 0.65 must be below"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings, message):
    with pytest.raises(TrackError, match=message) as error:
        make_track(MapTrack(file=write_map(tmp_path, **settings)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "key", ["resolution: 0.2\n", "annotations: {spawn_points: [], a: 1, a: 2}\n"]
)
def test_keys_that_come_twice_are_refused(tmp_path, key):
    file = Path(write_map(tmp_path))
    file.write_text(file.read_text() + key)
    with pytest.raises(TrackError, match=r"key '(resolution|a)' comes twice"):
        make_track(MapTrack(file=str(file)))


def test_a_byte_order_mark_is_skipped(tmp_path):
    file = Path(write_map(tmp_path))
    file.write_text(file.read_text(), encoding="utf-8-sig")
    make_track(MapTrack(file=str(file)))


# Lines that are named, and the driving direction


def lap(track: MapTrack, **changes: Any) -> Race:
    driver = PurePursuitConfig(speed=3.0, **changes)
    env = EnvConfig(
        track=track,
        cars=(CarConfig(name="car_0", driver=driver),),
        lidar=LidarConfig(beams=3, noise_std=0.0),
        spawn_sets=(("spawn_1",),),
        max_steps=4000,
    )
    race = Race(env)
    race.reset(0, 0)
    while not race.episodes.over.all():
        race.step(np.zeros((1, 0, 2)))
    return race


def test_lines_are_read_from_the_files_that_are_named(tmp_path):
    file = write_map(tmp_path)
    track = MapTrack(
        file=file,
        centerline=write_line(tmp_path, "middle.csv"),
        raceline=write_line(tmp_path, "fast.csv", 0.95 * RING),
    )
    made = make_track(track)
    assert len(made.centerline) == COUNT
    assert np.hypot(*made.raceline.T) == pytest.approx(3.8)
    race = lap(track)
    assert race.world.arrays.finished.all()
    assert race.world.arrays.lateral_offset[0, 0] == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("annotated", [False, True])
def test_a_reversed_track_is_driven_the_other_way(tmp_path, annotated):
    annotations = {
        "finish_line": {"start": [3.0, 0.0], "end": [5.0, 0.0]},
        "spawn_points": [{"name": "spawn_1", "pose": [4.0, 0.5, math.pi / 2]}],
    }
    file = write_map(tmp_path, **({"annotations": annotations} if annotated else {}))
    write_line(tmp_path, "Ring_centerline.csv")
    fast = write_line(tmp_path, "fast.csv", 0.95 * RING)
    forth = make_track(MapTrack(file=file, raceline=fast))
    back = make_track(MapTrack(file=file, raceline=fast, reverse=True))
    assert back.centerline[0].tolist() == forth.centerline[0].tolist()
    for track, sign in ((forth, 1.0), (back, -1.0)):
        x, y, yaw = track.spawns["spawn_1"]
        assert sign * (x * math.sin(yaw) - y * math.cos(yaw)) > 3
        gates = make_gates(track)
        ahead = np.roll(gates.lines.mean(axis=1), -1, axis=0)[0] - gates.lines[0].mean(axis=0)
        assert sign * ahead[1] > 0
        left, right = gates.lines[0]
        assert sign * (np.hypot(*right) - np.hypot(*left)) > 0  # counter-clockwise: left inside
    race = lap(MapTrack(file=file, raceline=fast, reverse=True))
    assert race.world.arrays.finished.all()
    assert race.world.arrays.laps.tolist() == [[1]]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (RING[::-1], "runs against the centre line"),
        (2 * RING, "leaves the free space"),
        (RING[:60], "is open, but the centre line of .* closed"),
    ],
)
def test_a_raceline_that_does_not_belong_to_the_track_is_refused(tmp_path, points, message):
    file = write_map(tmp_path)
    write_line(tmp_path, "Ring_centerline.csv")
    fast = write_line(tmp_path, "fast.csv", points)
    with pytest.raises(TrackError, match=message):
        make_track(MapTrack(file=file, raceline=fast))


@pytest.mark.parametrize("points", [None, RING[:60]])
def test_only_a_closed_centre_line_can_be_reversed(tmp_path, points):
    file = write_map(tmp_path)
    if points is not None:
        write_line(tmp_path, "Ring_centerline.csv", points)
    with pytest.raises(TrackError, match="reverse needs a closed centre line"):
        make_track(MapTrack(file=file, reverse=True))


VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.floats(),
    st.sampled_from(["", "raw", "Ring.png", "..", "/", "a\x00b", "x" * 300, "1e3", "~"]),
    st.lists(st.floats(width=16), max_size=4),
)
KEYS = ["image", "resolution", "origin", "negate", "occupied_thresh", "free_thresh", "mode"]


@examples(120)
@given(
    changes=st.dictionaries(st.sampled_from([*KEYS, "annotations"]), VALUE, max_size=3),
    cut=st.integers(0, 200),
    inserted=st.sampled_from(
        ["", "{", "&a [*a]", "\t", "? ", "!!python/name:os.system ", "image: x"]
    ),
)
def test_whatever_a_map_says_it_is_read_or_refused(tmp_path_factory, changes, cut, inserted):
    directory = tmp_path_factory.mktemp("maps")
    file = Path(write_map(directory))
    text = yaml.safe_dump(yaml.safe_load(file.read_text()) | changes)
    text = text[:cut] + inserted + text[cut:] if inserted else text
    file.write_text(text, encoding="utf-8")
    try:
        make_track(MapTrack(file=str(file)))
    except TrackError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(directory) in str(error)  # noqa: PT017


# What would take forever


def bomb(last: str) -> str:
    """YAML of nine levels, of nine aliases each, and a key that uses the last."""
    levels = [f"x{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(["x0: &l0 [1]", *levels, last, ""])


@pytest.mark.parametrize("last", ["origin: *l8", "annotations: *l8", "other: *l8"])
def test_aliases_of_aliases_are_refused(tmp_path, last):
    (tmp_path / "a.yaml").write_text(f"{bomb(last)}image: a.png\nresolution: 0.1\n")
    with pytest.raises(TrackError, match="more than 10000 values; aliases multiply them") as caught:
        make_track(MapTrack(file=str(tmp_path / "a.yaml")))
    assert len(str(caught.value)) < 500


def test_merged_aliases_are_refused(tmp_path):
    levels = [f"x{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 9)}]}}" for n in range(1, 9)]
    (tmp_path / "a.yaml").write_text("\n".join(["x0: &l0 {a: 1}", *levels, ""]))
    with pytest.raises(TrackError, match="aliases multiply them"):
        make_track(MapTrack(file=str(tmp_path / "a.yaml")))


def test_a_long_file_and_a_long_value_are_refused_in_short(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"image: {'x' * 2_000_000}\n")
    with pytest.raises(TrackError, match="more than 1000000 bytes"):
        make_track(MapTrack(file=str(path)))
    path.write_text(f"image: a.png\nresolution: {'x' * 900_000}\norigin: [0, 0, 0]\n")
    with pytest.raises(TrackError, match="resolution") as caught:
        make_track(MapTrack(file=str(path)))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("size", ["8000 8000", "100000 100000", "36000001 1"])
def test_an_image_is_refused_by_its_header(tmp_path, size):
    file = write_map(tmp_path)
    (tmp_path / "Ring.png").write_bytes(f"P5\n{size}\n255\n".encode())  # and not a pixel
    with pytest.raises(TrackError, match=r"pixels; at most 36000000 are allowed|could be decom"):
        make_track(MapTrack(file=file))


def test_a_pipe_is_no_image(tmp_path):
    file = write_map(tmp_path)
    (tmp_path / "Ring.png").unlink()
    os.mkfifo(tmp_path / "Ring.png")
    with pytest.raises(TrackError, match="not a file; a PNG or PGM image is needed"):
        make_track(MapTrack(file=file))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["L", "RGB", "RGBA", "P", "1", "LA", "I;16"]))
@examples(20)
def test_pixels_are_free_by_map_servers_rule(seed, mode):
    rng = np.random.default_rng(seed)
    grey = rng.choice(np.array([0, 50, 127, 128, 166, 204, 205, 206, 254], np.uint8), (12, 12))
    image = Image.fromarray(grey).convert(mode if mode != "I;16" else "L")
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    settings = RosMap(image="x", resolution=0.1, origin=(0.0, 0.0, 0.0))
    with tempfile.TemporaryDirectory() as folder:
        image.save(Path(folder) / "a.tiff")
        found = _read_image(Path(folder) / "a.tiff", settings)
    level = np.array(image.convert("L") if mode != "I;16" else Image.fromarray(grey)).astype(float)
    occupancy = (255 - level) / 255
    free = (occupancy < 0.196) & (level != UNKNOWN)
    around = ndimage.binary_dilation(free, np.ones((3, 3)))
    around &= ndimage.binary_dilation(occupancy > 0.65, np.ones((3, 3)))
    free |= around & (occupancy < 0.5) & (level != UNKNOWN)
    assert (found == free[::-1]).all()
