"""Several tracks in one batch: each race is as on its track alone; draws; what is refused."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from PIL import Image
from properties import examples
from pydantic import ValidationError

from sim.config import (
    CarConfig,
    CircleTrack,
    EnvConfig,
    HeterogeneityConfig,
    LidarConfig,
    Line2Track,
    MapTrack,
    OvalTrack,
    RandomSpawn,
    RandomTrack,
    RenderConfig,
    SeveralTracks,
    VehicleConfig,
)
from sim.envs import F110Env, F110ParallelEnv, F110VectorEnv
from sim.physics.world import World
from sim.race import Race
from sim.rendering.renderer import Renderer
from sim.tasks.task import Task
from sim.tracks.factory import make_track, make_tracks
from sim.tracks.gates import make_gates
from sim.tracks.stack import field_of, gates_of, line_of, stack_tracks
from sim.tracks.track import TrackError

CIRCLE = CircleTrack(radius=6.0, resolution=0.1)
OVAL = OvalTrack(straight=8.0, radius=4.0, resolution=0.08)
RANDOM = RandomTrack(seed=7, length=50.0, count=2, resolution=0.1)
SEVERAL = SeveralTracks(tracks=(CIRCLE, RANDOM, OVAL))
SINGLES = (CIRCLE, *(RandomTrack(seed=s, length=50.0, resolution=0.1) for s in (7, 8)), OVAL)
SMALL = VehicleConfig(length=0.32, width=0.225)
TASK = {
    "kind": "race",
    "shaping": [
        {"term": "progress"},
        {"term": "wall_clearance"},
        {"term": "lap_time"},
        {"term": "heading", "toward": "lane"},
    ],
}


def config(track, *, drivers=(None, None), task=None, **changes) -> EnvConfig:
    cars = tuple(
        CarConfig(name=f"car_{i}", vehicle=SMALL, driver=driver, task=None if driver else task)
        for i, driver in enumerate(drivers)
    )
    return EnvConfig(track=track, cars=cars, **{"lidar": LidarConfig(beams=9), **changes})


FULL = config(
    SEVERAL,
    drivers=(
        None,
        {"kind": "pure_pursuit"},
        {"kind": "stanley", "speed": 3.0},
        {"kind": "blocker", "target": "car_0"},
        None,
    ),
    task=TASK,
    spawn=RandomSpawn(gap=0.2),
    observation=("pose", "lidar", "motion", "others"),
    heterogeneity=HeterogeneityConfig(mass=(3.0, 4.5), lidar_dropout=(0.0, 0.1)),
    end_when="all",
    laps=2,
)


@functools.cache
def several(num_envs: int, threads: int) -> Race:
    return Race(FULL, num_envs=num_envs, num_threads=threads)


@functools.cache
def alone(track: int) -> Race:
    return Race(FULL.model_copy(update={"track": SINGLES[track]}))


def shown(race: Race, env: int) -> dict[str, np.ndarray]:
    """Everything that a race tells of one environment, but for its track."""
    both = race.world.arrays._asdict() | race.episodes._asdict()
    return {name: array[env].copy() for name, array in both.items() if name != "track"}


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), name


# As on one track alone


@examples(12)
@given(
    st.lists(st.integers(0, 2**32), min_size=5, max_size=5),
    st.integers(1, 3),
    st.integers(0, 2**32),
)
def test_each_race_is_as_on_its_track_alone(seeds, threads, seed):
    race = several(len(seeds), threads)
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1.0, 1.0, (25, len(seeds), 2, 2)).astype(np.float32)
    for env, own in enumerate(seeds):
        race.reset(env, own)
    found = []
    for step in actions:
        race.step(step)
        found.append([shown(race, env) for env in range(len(seeds))])
    for env, own in enumerate(seeds):
        single = alone(race.episode_track[env])
        single.reset(0, own)
        for k, step in enumerate(actions):
            single.step(step[env : env + 1])
            same(found[k][env], shown(single, 0))


def test_laps_are_counted_on_each_track_by_its_own_gates():
    drivers = ({"kind": "pure_pursuit"},)
    race = Race(config(SEVERAL, drivers=drivers, spawn={"kind": "grid"}), num_envs=4)
    for env in range(4):
        race.reset(env, 0, track=3 - env)
    nothing = np.zeros((4, 0, 2))
    while not race.episodes.over.all():
        race.step(nothing)
    arrays = race.world.arrays
    assert arrays.finished.all()
    for env, track in enumerate(SINGLES[::-1]):
        single = Race(config(track, drivers=drivers, spawn={"kind": "grid"}))
        single.reset(0, 0)
        while not single.episodes.over.all():
            single.step(nothing[:1])
        assert arrays.lap_steps[env].tolist() == single.world.arrays.lap_steps[0].tolist()


def test_parts_of_a_stack_are_those_of_the_tracks():
    tracks = (*make_tracks(SEVERAL), make_track(Line2Track()))
    parts = [(t.field, t.line, make_gates(t)) for t in tracks]
    stack = stack_tracks(*zip(*parts, strict=True))

    @njit
    def take(stack, t):
        return field_of(stack, t), line_of(stack.lines, t), gates_of(stack, t)

    for t, expected in enumerate(parts):
        for part, own in zip(take(stack, t), expected, strict=True):
            for value, needed in zip(part, own, strict=True):
                assert np.array_equal(value, needed)


def test_frames_show_the_track_of_the_episode():
    env = config(SEVERAL, spawn={"kind": "grid"})
    race = Race(env, num_envs=3)
    picture = RenderConfig(width=120, height=90)
    renderer = Renderer(race, picture)
    for tracks in ((3, 0, 3), (1, 1, 2)):
        for number, track in enumerate(tracks):
            race.reset(number, 5, track=track)
        for number, track in enumerate(tracks):
            single = Race(config(SINGLES[track], spawn={"kind": "grid"}))
            single.reset(0, 5)
            assert np.array_equal(renderer.frame(number), Renderer(single, picture).frame(0))


# Draws


def test_tracks_are_drawn_uniformly_by_the_seed_alone():
    race = Race(config(SEVERAL, spawn=RandomSpawn()), num_envs=3)
    drawn = []
    for seed in range(400):
        race.reset(seed % 3, seed)
        drawn.append(int(race.episode_track[seed % 3]))
    assert min(np.bincount(drawn, minlength=4)) > 70  # expected 100, standard deviation 9
    for seed in range(20):
        race.reset(0, seed)
        race.reset(2, np.random.SeedSequence(seed))
        assert race.episode_track[[0, 2]].tolist() == [drawn[seed]] * 2
        same(shown(race, 0), shown(race, 2))


def test_a_track_that_is_asked_for_changes_nothing_else():
    race = Race(config(SEVERAL, spawn=RandomSpawn()), num_envs=2)
    for seed in range(12):
        sequence = np.random.SeedSequence(seed)
        race.reset(0, sequence)
        assert sequence.n_children_spawned == 0
        race.reset(1, sequence, track=int(race.episode_track[0]))
        same(shown(race, 0), shown(race, 1))


def test_streams_of_episodes_draw_their_tracks():
    races = [Race(config(SEVERAL, max_steps=2), num_envs=n) for n in (1, 3)]
    drawn = []
    for race in races:
        env = race.num_envs - 1
        for other in range(race.num_envs):
            race.seed(other, 11 if other == env else other)
            race.next_episode(other)
        tracks = []
        for _ in range(24):
            tracks.append(int(race.episode_track[env]))
            while not race.episodes.over.all():
                race.step(np.zeros((race.num_envs, 2, 2)))
            race.autoreset()
        drawn.append(tracks)
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {0, 1, 2, 3}


def test_circuits_have_the_seeds_that_follow():
    circuits = make_tracks(RandomTrack(seed=7, count=3, length=50.0, resolution=0.2))
    for seed, track in enumerate(circuits, 7):
        single = make_track(RandomTrack(seed=seed, length=50.0, resolution=0.2))
        assert np.array_equal(track.centerline, single.centerline)
        assert np.array_equal(track.distance, single.distance)


# Environments


def test_environments_take_and_tell_the_track():
    env = F110ParallelEnv(config(SEVERAL, max_steps=1))
    for track in (2, 0, 3):
        env.reset(seed=1, options={"track": track, "spawn_set": 0})
        assert env.race.episode_track.tolist() == [track]
        infos = env.step({name: np.zeros(2, np.float32) for name in env.agents})[-1]
        assert [infos[name]["track"] for name in infos] == [track, track]
    solo = F110Env(config(SEVERAL, drivers=(None,)))
    solo.reset(seed=1, options={"track": 3})
    assert solo.race.episode_track.tolist() == [3]
    vector = F110VectorEnv(config(SEVERAL, drivers=(None,), max_steps=1), num_envs=4)
    vector.reset(seed=1, options={"track": 1})
    told = vector.step(np.zeros((4, 2), np.float32))[-1]["final_info"]["track"]
    assert told.tolist() == [1, 1, 1, 1]
    for options, words in (
        ({"track": 4}, r"track must be in 0 ... 3, found 4"),
        ({"track": -1}, r"track must be in 0 ... 3, found -1"),
        ({"track": "oval"}, r"track must be an integer, found 'oval'"),
        (
            {"circuit": 1},
            r"unknown reset option 'circuit'; known: \['spawn_set', 'track', ",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            env.reset(options=options)


# What is refused


def refused(env: EnvConfig, base_dir: Path | None = None) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        Race(env, base_dir=base_dir)
    message = str(error.value)
    assert "\n" not in message
    return message


def hall(directory: Path, spawns: list[str]) -> MapTrack:
    """A bare room as a ROS map, 12 m x 6 m, with poses of these names."""
    Image.new("L", (120, 60), 255).save(directory / "hall.png")
    poses = "".join(f"    - {{name: {n}, pose: [{2 + i}, 3, 0]}}\n" for i, n in enumerate(spawns))
    (directory / "hall.yaml").write_text(
        "image: hall.png\nresolution: 0.1\norigin: [0, 0, 0]\nnegate: 0\n"
        "occupied_thresh: 0.65\nfree_thresh: 0.196\n"
        f"annotations:\n  spawn_points:\n{poses}"
    )
    return MapTrack(file="hall.yaml")


def test_tracks_are_all_closed_or_all_open():
    mixed = SeveralTracks(tracks=(CIRCLE, OVAL, Line2Track()))
    message = refused(config(mixed))
    assert message == (
        "track 2, line2, is open, but track 0, circle, is closed: all must be closed, or all open"
    )
    with pytest.raises(TrackError):
        make_tracks(mixed)


def test_names_of_starts_are_those_of_every_track(tmp_path):
    both = SeveralTracks(tracks=(Line2Track(), hall(tmp_path, ["door", "spawn_2"])))
    message = refused(config(both), tmp_path)
    assert re.match(r"track 1, .*hall.*: cars would start at \['door', 'spawn_2'\]", message)
    assert "['spawn_1', 'spawn_2'] on track 0, line2" in message
    sets = (("spawn_2", "spawn_1"),)
    message = refused(config(both, spawn_sets=sets), tmp_path)
    assert re.match(r"track 1, .*hall.*: spawn 'spawn_1' of 'car_1' does not exist", message)
    hall(tmp_path, ["spawn_1", "spawn_2"])
    race = Race(config(both, spawn_sets=sets), base_dir=tmp_path)
    assert race.spawn_sets == sets
    race.reset(0, 1, track=1)
    assert race.world.arrays.state[0, :, 0].tolist() == [3.0, 2.0]


def test_starts_are_tried_on_every_track(tmp_path):
    both = SeveralTracks(tracks=(Line2Track(), hall(tmp_path, ["spawn_1", "spawn_2"])))
    wide = VehicleConfig(length=1.2, width=0.2)  # 1 m apart in the hall
    env = config(both, spawn_sets=(("spawn_1", "spawn_2"),))
    cars = tuple(car.model_copy(update={"vehicle": wide}) for car in env.cars)
    message = refused(env.model_copy(update={"cars": cars}), tmp_path)
    assert re.match(r"track 1, .*hall.*: spawn set 0 .*car 1 at .* overlaps car 0", message)


def test_what_needs_a_line_needs_one_on_every_track(tmp_path):
    both = SeveralTracks(tracks=(Line2Track(), hall(tmp_path, ["spawn_1", "spawn_2"])))
    for changes, words in (
        ({"spawn": {"kind": "grid"}}, "track 1, .*: grid spawn: .* has no centre line"),
        ({"drivers": (None, {"kind": "pure_pursuit"})}, "pure_pursuit of 'car_1' needs a raceline"),
        ({"drivers": (None,), "task": {"kind": "race"}}, "'car_0' needs a finish line: .*hall"),
    ):
        assert re.search(words, refused(config(both, **changes), tmp_path))


def test_a_raceline_is_that_of_one_track():
    driver = {"kind": "stanley", "raceline": "line.csv"}
    message = refused(config(RANDOM, drivers=(None, driver)))
    assert message.startswith("stanley of 'car_1' has a raceline, which is that of one track")


def test_a_task_on_several_tracks_needs_their_stack():
    race, env = several(5, 1), FULL.cars[0]
    with pytest.raises(ValueError, match="stack: needed for 4 tracks"):
        Task(env.task, FULL, 0, race.tracks, race.world.arrays, race.episodes)


def test_several_tracks_are_not_one():
    for track in (SEVERAL, RANDOM):
        with pytest.raises(ValueError, match=rf"{track.kind}: several tracks, where one is needed"):
            make_track(track)
    with pytest.raises(ValueError, match="there are 4 tracks"):
        _ = several(5, 1).track


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "several"},
        {"kind": "several", "tracks": []},
        {"kind": "several", "tracks": [{"kind": "several", "tracks": [{"kind": "oval"}]}]},
        {"kind": "random", "count": 0},
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValidationError):
        EnvConfig(track=bad)


def test_a_world_needs_tracks_and_room_for_its_beams():
    track, car, lidar = make_track(CIRCLE), VehicleConfig(), LidarConfig(beams=1080)
    with pytest.raises(ValueError, match="at least one is needed"):
        World((), [car], lidar)
    with pytest.raises(ValueError, match=r"below 2\^31 beams"):
        World(track, [car], lidar, num_envs=2_000_000)
    world = World((track, track), [car], LidarConfig(beams=1))
    with pytest.raises(ValueError, match=r"track must be in 0 ... 1, found 2"):
        world.place(0, np.array([[6.0, 0.0, 1.5]]), 0, track=2)
