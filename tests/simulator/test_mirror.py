"""Left and right exchanged: in observations, and in tracks."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from properties import examples

from sim.config import (
    CarConfig,
    CircleTrack,
    EnvConfig,
    LidarConfig,
    Line2Track,
    MapTrack,
    RandomTrack,
    VehicleConfig,
)
from sim.layout import SLIP, STATE_SIZE, STEER, YAW, YAW_RATE, V, X, Y
from sim.observation import (
    PARTS,
    Observer,
    check_mirrored,
    free_box,
    is_symmetric,
    observation_mirror,
)
from sim.physics.world import World
from sim.tracks.factory import make_track, make_tracks
from sim.tracks.track import Track

SMALL = VehicleConfig(length=0.32, width=0.225, speed_min=-1.0, speed_max=1.0)
EXACT = LidarConfig(beams=21, noise_std=0.0)


def cars(count: int) -> tuple[CarConfig, ...]:
    return tuple(CarConfig(name=f"car_{i}", vehicle=SMALL) for i in range(count))


def mirrored(state: np.ndarray, track: Track) -> np.ndarray:
    """States of cars in the mirrored world."""
    low, high = free_box(track)
    found = state.copy()
    found[..., Y] = low[1] + high[1] - state[..., Y]
    found[..., YAW] = -state[..., YAW] % (2 * np.pi)
    found[..., [STEER, YAW_RATE, SLIP]] *= -1
    return found


@examples(30)
@given(
    st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=6),
    st.integers(1, 9),
    st.integers(2, 4),
)
def test_the_mirror_of_a_mirror_changes_nothing(parts, beams, count):
    config = EnvConfig(cars=cars(count), lidar=LidarConfig(beams=beams), observation=tuple(parts))
    mirror = observation_mirror(config)
    assert sorted(mirror.order) == list(range(len(mirror.signs)))
    seen = np.random.default_rng(0).uniform(-1, 1, (3, len(mirror.order))).astype(np.float32)
    np.testing.assert_array_equal(mirror(mirror(seen)), seen)


@pytest.fixture
def halls(tmp_path: Path) -> tuple[Track, Track]:
    """A hall with pillars that is not symmetric, and its image."""
    pixels = np.full((60, 90), 255, np.uint8)
    for row, column in ((10, 20), (14, 50), (25, 76), (33, 9), (40, 34), (52, 62)):
        pixels[row - 2 : row + 2, column - 2 : column + 2] = 0
    tracks = []
    for name, image in (("hall", pixels), ("image", pixels[::-1])):
        Image.fromarray(np.pad(image, 3)).save(tmp_path / f"{name}.png")
        content = {"image": f"{name}.png", "resolution": 0.1, "origin": [-4.0, -2.0, 0.0]}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        tracks.append(make_track(MapTrack(file=str(tmp_path / f"{name}.yaml"))))
    return tracks[0], tracks[1]


def test_a_mirrored_world_is_observed_as_the_mirror_says(halls):
    parts = ("lidar", "pose", "motion", "others", "others_velocity")
    config = EnvConfig(cars=cars(3), lidar=EXACT, observation=parts)
    mirror, rng = observation_mirror(config), np.random.default_rng(1)
    worlds = [World(track, [SMALL] * 3, EXACT) for track in halls]
    observers = [Observer(config, [track]) for track in halls]
    seen = np.zeros((2, 1, 3, len(mirror.order)), np.float32)
    low, high = free_box(halls[0])
    np.testing.assert_array_equal(halls[1].distance, halls[0].distance[::-1])
    placed = 0
    while placed < 20:
        poses = rng.uniform((*low, 0.0), (*high, 6.28), (3, 3))
        states = np.zeros((3, STATE_SIZE))
        states[:, [X, Y, YAW]] = poses
        try:
            worlds[0].place(0, poses, 0)
        except ValueError:
            continue  # in a pillar
        worlds[1].place(0, mirrored(states, halls[0])[:, [X, Y, YAW]], 0)
        placed += 1
        moving = [STEER, V, YAW_RATE, SLIP]
        states[:, moving] = rng.uniform(-1.0, 1.0, (3, 4)) * (0.5, 1.2, 7.0, 0.9)
        for world, state in zip(worlds, (states, mirrored(states, halls[0])), strict=True):
            world.arrays.state[0][:, moving] = state[:, moving]
        for observer, world, own in zip(observers, worlds, seen, strict=True):
            observer.observe(world.arrays, own, 0, 1)
        np.testing.assert_allclose(seen[1], mirror(seen[0]), atol=1e-4)
        assert np.abs(seen[1] - seen[0]).max() > 0.1


@pytest.mark.parametrize(
    ("track", "parts", "fits"),
    [
        (Line2Track(), ("lidar", "pose"), True),
        (CircleTrack(), ("lidar", "pose"), False),  # its image is driven clockwise
        (RandomTrack(seed=1), ("lidar", "pose", "motion"), False),
        (RandomTrack(seed=1), ("lidar", "motion", "others"), True),
    ],
)
def test_a_pose_needs_a_symmetric_track(track, parts, fits):
    config = EnvConfig(track=track, observation=parts)
    tracks = make_tracks(config.track)
    if fits:
        check_mirrored(config, tracks)
        return
    with pytest.raises(ValueError, match=f"track {tracks[0].name} must be its own image"):
        check_mirrored(config, tracks)


def test_symmetry_is_of_walls_and_of_the_centre_line():
    free = np.ones((20, 60), np.bool_)
    middle, side = (np.array([[0.0, y], [6.0, y]]) for y in (1.0, 0.5))
    for yaw, line, pillar, expected in (
        (0.0, middle, False, True),
        (0.0, None, False, True),
        (0.0, side, False, False),
        (0.0, middle, True, False),
        (0.5, middle, False, False),
    ):
        walls = free.copy()
        walls[12:15, 20:23] = not pillar
        track = Track.from_occupancy("hall", walls, 0.1, (0.0, 0.0, yaw), centerline=line)
        assert is_symmetric(track) is expected
