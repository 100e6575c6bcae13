"""Animations and sheets of an episode, read back from the files that are written."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from programs import call
from recorded import ENV, record
from scipy.ndimage import label
from small import REPOSITORY, SMALL
from watching import TIMEOUT

from f110_fl.reporting.pages.recording import EpisodeReplay, Recording
from f110_fl.reporting.pictures import VIDEO_SUFFIXES
from f110_fl.reporting.pictures.scene import SCREEN, speed_colors, top_speed
from f110_fl.reporting.pictures.still import COLUMN, MOMENTS, WIDTH, write_still
from f110_fl.reporting.pictures.video import HOLD, MAX_FRAMES, STRIP, WRITERS, Film, write_video
from run import main
from sim.layout import V, X, Y
from sim.rendering.canvas import CARS, CRASHED

Frame = np.ndarray


def lap(**changes: Any) -> tuple[Recording, EpisodeReplay]:
    """A car that drives once around a circle."""
    settings: dict[str, Any] = {
        "track": {"kind": "circle", "radius": 3.0},
        "max_steps": 600,
        "cars": [{"name": "car_0", "driver": {"kind": "pure_pursuit", "speed": 3.0}}],
    }
    recording, _ = record(episodes=1, **settings | changes)
    return recording, recording.episodes[0]


def read(path: Path) -> tuple[list[Frame], list[int]]:
    """Returns an animation's frames, RGB, and how long each is shown, ms."""
    frames, durations = [], []
    with Image.open(path) as image:
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            frames.append(np.array(image.convert("RGB")))
            durations.append(image.info["duration"])
    return frames, durations


def near(frame: Frame, color: tuple[int, int, int], tolerance: int = 0) -> np.ndarray:
    """Whether each of a picture's pixels has a colour."""
    found: np.ndarray = (np.abs(frame.astype(int) - color) <= tolerance).all(axis=-1)
    return found


def scene_of(frame: Frame) -> Frame:
    """A frame without what is written above and below."""
    return frame[STRIP:-STRIP]


def centroid(frame: Frame, car: int, tolerance: int) -> np.ndarray:
    """The middle of a car's pixels, right and down."""
    rows, columns = np.nonzero(near(scene_of(frame), CARS[car], tolerance))
    assert len(rows) > 30
    return np.array([columns.mean(), rows.mean()])


# ---------------------------------------------------------------------- animations


def test_every_format_has_its_writer() -> None:
    assert tuple(WRITERS) == VIDEO_SUFFIXES


@pytest.mark.parametrize(("suffix", "unit", "tolerance"), [(".webp", 1, 0), (".gif", 10, 24)])
def test_an_animation_shows_where_the_car_is(
    tmp_path: Path, suffix: str, unit: int, tolerance: int
) -> None:
    recording, episode = lap()
    path = tmp_path / f"lap{suffix}"
    write_video(path, recording, episode)
    assert list(tmp_path.iterdir()) == [path]
    frames, durations = read(path)
    film = Film(recording, episode)
    assert len(frames) == len(film) == len(episode.states)
    assert {frame.shape for frame in frames} == {(film.size[1], film.size[0], 3)}
    assert {each % unit for each in durations} == {0}
    assert sum(durations) == pytest.approx(1000 * (HOLD + 0.05 * (len(frames) - 1)), abs=unit)
    assert durations[-1] == 1000 * HOLD
    # Pixels are metres, turned over, enlarged and moved: the same for all frames.
    places = episode.states[film.indices, 0][:, [X, Y]] * (1, -1)
    pixels = np.array([centroid(frame, 0, tolerance) for frame in frames])
    scale = np.ptp(pixels[:, 0]) / np.ptp(places[:, 0])
    away = pixels - scale * places
    assert np.abs(away - away.mean(axis=0)).max() < 5  # the nose is not of the car's colour
    assert np.abs(np.diff(pixels, axis=0)).max() > 1


def test_a_trail_has_the_colours_of_speed() -> None:
    recording, episode = lap()
    film, colors = Film(recording, episode), speed_colors()
    last = np.array(film.frame(len(film) - 1))
    first = np.array(film.frame(0))
    speeds, middle = episode.states[:, 0, V], len(episode.states) // 2
    shade = colors[int(speeds[middle] / top_speed(episode) * len(colors))]
    assert top_speed(episode) >= speeds.max()
    # The legend has all shades, the trail only those of its speeds.
    assert not near(scene_of(first), shade).any()
    assert near(scene_of(last), shade).sum() > 500
    assert near(last[-STRIP:], shade).any()


def test_time_and_outcome_are_written() -> None:
    recording, episode = lap()
    film = Film(recording, episode)
    frames = [np.array(film.frame(k))[:STRIP] for k in (3, 4, len(film) - 1)]
    assert not np.array_equal(frames[0], frames[1])
    green = [near(frame, (46, 160, 90)).sum() for frame in frames]
    assert green[:2] == [0, 0]
    assert green[2] > 500


def test_a_crash_is_outlined() -> None:
    recording, _ = record(end_when="any")
    hit = recording.episodes[2]
    assert hit.ends[0].touched == 1
    film = Film(recording, hit)
    assert not near(np.array(film.frame(0)), CRASHED).any()
    assert near(scene_of(np.array(film.frame(len(film) - 1))), CRASHED).sum() > 20


def test_both_cars_lie_where_they_are() -> None:
    recording, _ = record(end_when="any")
    episode = recording.episodes[1]
    film, places = Film(recording, episode), episode.states[:, :, [X, Y]] * (1, -1)
    first = np.array(film.frame(0))
    ends = np.array([centroid(first, car, 0) for car in (0, 1)])
    scale = np.linalg.norm(np.diff(ends, axis=0)) / np.linalg.norm(np.diff(places[0], axis=0))
    away = (ends - scale * places[0]).mean(axis=0)
    for number in range(0, len(film), 5):
        frame = scene_of(np.array(film.frame(number)))
        for car, (column, row) in enumerate(scale * places[film.indices[number]] + away):
            assert near(frame[round(row), round(column)], CARS[car])


@pytest.mark.parametrize(("period", "stride"), [(0.01, 4), (0.03, 2), (0.04, 1), (0.1, 1)])
def test_at_most_25_frames_a_second_at_the_speed_of_the_race(period: float, stride: int) -> None:
    recording, episode = lap()
    film = Film(replace(recording, period=period), episode)
    steps = len(episode.states) - 1
    assert film.indices.tolist() == sorted({*range(0, steps, stride), steps})
    assert film.seconds.sum() == pytest.approx(steps * period + HOLD)
    assert film.rate == pytest.approx(1 / (stride * period))


def test_a_long_episode_has_no_more_frames() -> None:
    recording, episode = lap()
    states = np.concatenate([episode.states] * 40)
    film = Film(recording, replace(episode, states=states))
    assert len(states) > 2 * MAX_FRAMES
    assert len(film) <= MAX_FRAMES + 1
    assert film.seconds.sum() == pytest.approx((len(states) - 1) * 0.05 + HOLD)


def test_where_the_track_is_too_large_the_car_is_followed() -> None:
    recording, _ = record(
        episodes=1,
        track={"kind": "line2"},
        max_steps=500,
        spawn={"kind": "named"},
        spawn_sets=[["spawn_1"]],
        cars=[{"name": "car_0", "driver": {"kind": "pure_pursuit", "speed": 8.0}}],
    )
    (episode,) = recording.episodes
    assert np.ptp(episode.states[:, 0, X]) > 60
    film = Film(recording, episode)
    dots = []
    for number in (0, len(film) // 2, len(film) - 1):
        frame = scene_of(np.array(film.frame(number)))
        height, width, _ = frame.shape
        assert near(frame[height // 2, width // 2], CARS[0])
        found = near(frame[: height // 4], CARS[0])  # the overview, in the upper right corner
        dots.append(np.nonzero(found)[1].mean())
    assert width / 2 < dots[0] < dots[1] < dots[2]


def test_mp4(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs pip install 'f110-fl[video]'")
    recording, episode = lap()
    path = tmp_path / "lap.mp4"
    write_video(path, recording, episode)
    assert list(tmp_path.iterdir()) == [path]
    reader = ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    film = Film(recording, episode)
    assert (width, height) == film.size
    assert meta["fps"] == pytest.approx(20)
    frames = [np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader]
    assert len(frames) == len(film) - 1 + 20
    for number in (0, len(film) - 1, len(frames) - 1):
        expected = np.array(film.frame(min(number, len(film) - 1))).astype(int)
        assert np.abs(frames[number] - expected).mean() < 3


# ---------------------------------------------------------------------- sheets


def test_a_sheet_of_a_lap(tmp_path: Path) -> None:
    recording, episode = lap()
    path = tmp_path / "lap.png"
    write_still(path, recording, episode)
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.width == WIDTH
        assert image.info["dpi"][0] == pytest.approx(WIDTH / COLUMN, abs=0.1)
        sheet = np.array(image.convert("RGB"))
    assert (sheet[0] == 255).all()
    assert not near(sheet, SCREEN.ground).any()
    parts, _ = label(near(sheet, CARS[0]))
    shown = (np.bincount(parts.ravel())[1:] > 300).sum()
    # The start and the end of a lap may be the same place; one more is in the legend.
    assert shown - 1 in (MOMENTS - 1, MOMENTS)


def test_a_sheet_of_two_cars_is_a_grid(tmp_path: Path) -> None:
    recording, _ = record(end_when="any")
    episode = recording.episodes[0]
    write_still(tmp_path / "two.png", recording, episode)
    with Image.open(tmp_path / "two.png") as image:
        sheet = np.array(image.convert("RGB"))
    rows = np.flatnonzero((sheet == 255).all(axis=(1, 2)))
    assert (np.diff(rows) > 10).sum() >= 3  # white between the panels
    high = sheet.shape[0] * 6 // 7
    for car in (0, 1):
        panels = [
            near(part, CARS[car]).sum()
            for half in np.array_split(sheet[:high], 2, axis=1)
            for part in np.array_split(half, 3, axis=0)
        ]
        assert min(panels) > 300


# ---------------------------------------------------------------------- the command line


def run(directory: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return call(main, directory, *flags, FED_ROOT="run")


def scripted(directory: Path) -> list[str]:
    """Writes a scenario of a scripted car, and returns the flags that evaluate it."""
    cars = [{"name": "car_0", "driver": {"kind": "pure_pursuit", "speed": 3.0}}]
    circle = {"kind": "circle", "radius": 3.0}
    env = ENV | {"track": circle, "max_steps": 200, "cars": cars}
    scenario = {"name": "circling", "env": env, "evaluation": {"episodes": 2}}
    (directory / "s.yaml").write_text(yaml.safe_dump(scenario))
    return ["--scenario", "s.yaml", "--mode", "eval"]


REFUSALS: dict[str, tuple[list[str], str]] = {
    "format": (["--video", "a.avi"], "--video='a.avi': allowed: a file .webp or .gif or .mp4"),
    "no format": (["--video", ""], "--video='': allowed: a file .webp or .gif or .mp4"),
    "still": (["--still", "a.jpg"], "--still='a.jpg': allowed: a file .png"),
    "directory": (["--still", "no/a.png"], "--still='no/a.png': no such directory: no"),
    "there already": (
        ["--still", "old.png"],
        "--still='old.png': is there already; remove it, or choose another name",
    ),
    "a directory": (["--video", "d.gif"], "--video='d.gif': is a directory; allowed: a file"),
    "alone": (["--video-episode", "1"], "--video-episode='1': needs --video FILE or --still FILE"),
    "episode": (
        ["--video", "a.gif", "--video-episode", "2"],
        "--video-episode='2': allowed: a whole number from 0 to 1, as there are 2 episodes",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_wrong_input_is_one_line_before_anything_runs(tmp_path: Path, name: str) -> None:
    flags, line = REFUSALS[name]
    (tmp_path / "d.gif").mkdir()
    (tmp_path / "old.png").write_text("")
    process = run(tmp_path, *scripted(tmp_path), *flags)
    assert (process.returncode, process.stderr) == (2, f"run.py: {line}\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", [("--video", "a.gif"), ("--still", "a.png")])
def test_not_in_training(tmp_path: Path, flags: tuple[str, str]) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SMALL))
    process = run(tmp_path, "--scenario", "s.yaml", *flags)
    line = f"run.py: {flags[0]}={flags[1]!r}: needs --mode eval\n"
    assert (process.returncode, process.stderr) == (2, line)


def test_a_missing_encoder_is_named(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "imageio_ffmpeg.py").write_text("raise ImportError('not installed')")
    flags = scripted(tmp_path)
    process = subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), *flags, "--video", "a.mp4"],
        cwd=tmp_path,
        env=os.environ | {"FED_ROOT": "run", "PYTHONPATH": str(tmp_path / "without")},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert process.returncode == 2
    assert process.stderr == (
        "run.py: --video='a.mp4': needs imageio-ffmpeg: pip install 'f110-fl[video]'; "
        "WebP and GIF need nothing more\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_evaluation_draws_what_it_is_asked_for(tmp_path: Path) -> None:
    flags = scripted(tmp_path)
    flags += ["--video", "a.webp", "--still", "a.png", "--replay", "0", "--video-episode", "1"]
    process = run(tmp_path, *flags)
    assert process.returncode == 0, process.stderr
    assert "Video           a.webp  (episode 1)\n" in process.stderr
    assert "Still           a.png  (episode 1)\n" in process.stderr
    assert not list(tmp_path.glob("run/*.html"))
    with np.load(tmp_path / "run" / "trajectories.npz") as data:
        first, states = data["first"], data["states"]
    frames, _ = read(tmp_path / "a.webp")
    assert len(frames) == first[2] - first[1]
    # The circle around the origin lies in the middle of the frame.
    x, y = centroid(frames[0], 0, 0) - np.array(scene_of(frames[0]).shape[1::-1]) / 2
    start = states[first[1], 0]
    assert np.arctan2(-y, x) == pytest.approx(np.arctan2(start[Y], start[X]), abs=0.05)
    with Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())) as image:
        assert image.format == "PNG"
