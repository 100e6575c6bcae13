"""Cars that drive through each other, and episodes that start from given poses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sim.config import CarConfig, EnvConfig, LidarConfig, OvalTrack, SeveralTracks, VehicleConfig
from sim.envs import F110Env, F110ParallelEnv, F110VectorEnv

CARS = tuple(CarConfig(name=name) for name in ("front", "rear"))
CONFIG = EnvConfig(
    cars=CARS, lidar=LidarConfig(beams=1, noise_std=0.0), physics_steps_per_action=5, max_steps=60
)
GHOSTS = CONFIG.model_copy(update={"car_contacts": False})
START = np.array([[-40.0, 0.0, 0.0], [-42.0, 0.0, 0.0]])
DRIVE = {"front": np.array([0.0, -0.6]), "rear": np.array([0.0, -0.2])}  # 0 and 5 m/s
HALF = VehicleConfig().length / 2


def drive(config: EnvConfig) -> tuple[F110ParallelEnv, list[float], dict[str, Any]]:
    """Drives the rear car into the front one; returns its readings ahead, and the last infos."""
    env = F110ParallelEnv(config)
    env.reset(seed=1, options={"poses": START})
    readings = []
    infos: dict[str, Any] = {}
    while env.agents:
        readings.append(float(env.race.world.arrays.scan[0, 1, 0]))
        *_, infos = env.step(DRIVE)
    return env, readings, infos


def test_ghosts_drive_through_each_other() -> None:
    env, _, infos = drive(CONFIG)
    assert infos["rear"]["outcome"] == infos["front"]["outcome"] == "crash"
    assert env.race.world.arrays.car_contact[0].tolist() == [1, 0]
    env, _, infos = drive(GHOSTS)
    assert infos["rear"]["outcome"] == "time_limit"
    front, rear = infos["rear"]["cars"]["pose"]
    assert rear[0] > front[0] + 1.0
    assert not env.race.world.arrays.crashed.any()
    assert not env.race.world.arrays.contact_parts.any()


def test_a_ghost_is_seen_until_the_sensor_is_within_it() -> None:
    _, readings, _ = drive(GHOSTS)
    assert readings[0] == pytest.approx(2.0 - HALF, abs=1e-5)
    last = readings.index(max(readings))
    assert (np.diff(readings[:last]) <= 0).all()  # nearer and nearer
    assert 0.0 < readings[last - 1] < 0.5
    assert min(readings[last:]) > 20.0  # through it, and on: the far end of the sensor's range


def test_walls_stop_ghosts() -> None:
    env = F110Env(EnvConfig(cars=CARS[:1], lidar=CONFIG.lidar, car_contacts=False))
    env.reset(seed=1, options={"poses": [[0.0, 0.0, math.pi / 2]]})
    over, info = False, {}
    while not over:
        _, _, over, _, info = env.step(np.array([0.0, 1.0], np.float32))
    assert info["outcome"] == "crash"
    assert info["cars"]["wall_contact"].tolist() == [True]


def test_ghosts_may_start_in_the_same_place() -> None:
    same = START[[0, 0]]
    with pytest.raises(ValueError, match=r"car 1 at \(-40 m, 0 m, 0 rad\) overlaps car 0"):
        F110ParallelEnv(CONFIG).reset(options={"poses": same})
    env = F110ParallelEnv(GHOSTS)
    _, infos = env.reset(seed=1, options={"poses": same})
    np.testing.assert_array_equal(infos["rear"]["cars"]["pose"], same)


def test_an_episode_starts_from_given_poses() -> None:
    scripted = CarConfig(name="rear", driver={"kind": "random"})
    solo = CONFIG.model_copy(update={"cars": (CARS[0], scripted)})
    turned = START + np.array([0.0, 0.0, 7.0])
    single, parallel = F110Env(solo), F110ParallelEnv(CONFIG)
    batch = F110VectorEnv(solo, 2)
    starts = np.stack([turned, START])
    for poses in (
        single.reset(seed=1, options={"poses": turned.tolist()})[1]["cars"]["pose"],
        parallel.reset(seed=1, options={"poses": turned})[1]["front"]["cars"]["pose"],
        batch.reset(seed=1, options={"poses": starts})[1]["cars"]["pose"][0],
    ):
        np.testing.assert_allclose(poses, turned - [0, 0, 2 * math.pi], atol=1e-12)
    np.testing.assert_array_equal(batch.race.world.arrays.poses[1, 1], START)
    np.testing.assert_array_equal(  # the rest is the seed's
        single.reset(seed=1, options={"poses": START})[0],
        batch.reset(seed=1, options={"poses": starts[::-1]})[0][0],
    )
    spawn = single.reset()[1]["cars"]["pose"]
    assert not np.array_equal(spawn, START)  # the next are drawn again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poses": START[:1]}, r"shape \(2, 3\), x m, y m, yaw rad .* found shape \(1, 3\)"),
        ({"poses": "here"}, r"numbers of shape \(2, 3\).*found 'here'"),
        ({"poses": [[0, 0, 0], [1, 1]]}, "numbers of shape"),
        ({"poses": START * [1, 1, math.nan]}, r"found nan at \[0, 2\]"),
        (
            {"poses": START + np.array([0, 5, 0])},
            r"car 0 at \(-40 m, 5 m, 0 rad\) is not in the free space",
        ),
        ({"poses": START, "spawn_set": 0}, "poses and spawn_set exclude each other"),
        ({"poses": START, "track": 1}, r"track must be in 0 ... 0, found 1"),
    ],
)
def test_poses_that_cannot_be_are_refused_before_anything_changes(
    options: dict[str, Any], message: str
) -> None:
    env, batch = F110ParallelEnv(CONFIG), F110VectorEnv(CONFIG, 4)
    env.reset(seed=1)
    batch.reset(seed=1)
    before = env.race.world.arrays.state.copy(), batch.race.world.arrays.state.copy()
    with pytest.raises(ValueError, match=message) as error:
        env.reset(seed=2, options=options)
    assert "\n" not in str(error.value)
    good = np.stack([START, START])
    if isinstance(options["poses"], np.ndarray) and options["poses"].shape == START.shape:
        options = options | {"poses": np.stack([START, options["poses"]])}
        message = message.replace("[0, 2]", "[1, 0, 2]").replace(r"\[0, 2\]", r"\[1, 0, 2\]")
    with pytest.raises(ValueError, match=message.replace(r"\(2, 3\)", r"\(2, 2, 3\)")):
        batch.reset(seed=2, options=options)
    np.testing.assert_array_equal(env.race.world.arrays.state, before[0])
    np.testing.assert_array_equal(batch.race.world.arrays.state, before[1])
    twin = F110VectorEnv(CONFIG, 4)
    twin.reset(seed=1)
    np.testing.assert_array_equal(batch.reset()[0], twin.reset()[0])  # the seeds go on, too
    batch.reset(options={"poses": good})


def test_where_there_are_several_tracks_poses_need_one() -> None:
    ovals = SeveralTracks(tracks=(OvalTrack(), OvalTrack(radius=8.0)))
    env = F110ParallelEnv(EnvConfig(track=ovals, cars=CARS, spawn={"kind": "grid"}))
    poses = np.array([[-3.0, -8.0, 0.0], [-6.0, -8.0, 0.0]])
    with pytest.raises(ValueError, match=r"poses need a track: one of 0 ... 1"):
        env.reset(options={"poses": poses})
    with pytest.raises(ValueError, match="not in the free space"):
        env.reset(options={"poses": poses, "track": 0})
    _, infos = env.reset(options={"poses": poses, "track": 1})
    np.testing.assert_array_equal(infos["rear"]["cars"]["pose"], poses)
    assert env.race.episode_track.tolist() == [1]
