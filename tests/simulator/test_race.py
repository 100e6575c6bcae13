"""Batched episodes: actions, outcomes, seeds, observations and what is refused."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

from sim.config import CarConfig, CircleTrack, EnvConfig, LidarConfig, VehicleConfig
from sim.episodes import Outcome
from sim.layout import YAW, V, X, Y
from sim.race import Race

NONE, CRASH, FINISHED = int(Outcome.NONE), int(Outcome.CRASH), int(Outcome.FINISHED)
TIME_LIMIT, OTHER_DONE = int(Outcome.TIME_LIMIT), int(Outcome.OTHER_DONE)

VEHICLE = VehicleConfig(length=0.32, width=0.225, speed_min=-1.0, speed_max=2.0, steer_max=0.4)
DRIVER = {"kind": "secondary_vicon", "target": "car_0"}
TASK = {"kind": "convoy_lock", "target": "car_1"}
SETS = (("spawn_3", "spawn_1"), ("spawn_5", "spawn_1"), ("spawn_2", "spawn_4"))


def config(*drivers: dict | None, task: dict | None = None, **changes: object) -> EnvConfig:
    cars = tuple(
        CarConfig(name=f"car_{i}", vehicle=VEHICLE, driver=driver, task=task if i == 0 else None)
        for i, driver in enumerate(drivers or (None, None))
    )
    return EnvConfig(cars=cars, **{"lidar": LidarConfig(beams=9), "spawn_sets": SETS, **changes})


def started(env: EnvConfig, num_envs: int = 1) -> Race:
    race = Race(env, num_envs=num_envs)
    for e in range(num_envs):
        race.reset(e, e)
    return race


def still(race: Race) -> np.ndarray:
    return np.zeros((race.num_envs, len(race.agents), 2), np.float32)


def flags(race: Race, env: int = 0) -> tuple[list[bool], list[bool], list[int], bool]:
    found = race.episodes
    return (
        found.terminated[env].tolist(),
        found.truncated[env].tolist(),
        found.outcome[env].tolist(),
        bool(found.over[env]),
    )


# Actions


@pytest.mark.parametrize("reverse", [True, False])
def test_actions_map_linearly_and_are_clipped(
    monkeypatch: pytest.MonkeyPatch, reverse: bool
) -> None:
    env = config()
    first = env.cars[0].model_copy(update={"reverse": reverse})
    race = started(env.model_copy(update={"cars": (first, env.cars[1])}))
    seen, told = [], race.world.commands
    monkeypatch.setattr(race.world, "step_range", lambda *_: seen.append(told.copy()))
    slowest = -1.0 if reverse else 0.0
    for action, expected in (
        ((-1, -1), (-0.4, slowest)),
        ((0, 0), (0.0, (slowest + 2.0) / 2)),
        ((1, 1), (0.4, 2.0)),
        ((0.5, -0.5), (0.2, slowest + (2.0 - slowest) / 4)),
        ((-7, np.inf), (-0.4, 2.0)),
    ):
        actions = still(race)
        actions[0, 0] = action
        race.step(actions)
        assert seen[-1][0, 0] == pytest.approx(expected)
        assert seen[-1][0, 1] == pytest.approx((0.0, 0.5))  # the other car reverses


def test_physics_steps_per_action_reach_the_world() -> None:
    race = started(config(physics_steps_per_action=5))
    race.step(still(race))
    assert race.world.arrays.steps.tolist() == [5]
    assert race.episodes.steps.tolist() == [1]


def test_nan_names_the_agent_and_moves_nothing() -> None:
    race = started(config(), num_envs=3)
    before = race.world.arrays.state.copy()
    actions = still(race)
    actions[2, 1, 0] = np.nan
    with pytest.raises(ValueError, match=r"action of 'car_1' in environment 2 is not a number"):
        race.step(actions)
    assert np.array_equal(race.world.arrays.state, before)
    assert race.episodes.steps.tolist() == [0, 0, 0]


def test_wrong_shape_is_refused() -> None:
    race = started(config())
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2\), found \(2, 2\)"):
        race.step(np.zeros((2, 2)))


def test_a_driver_commands_the_cars_without_an_agent() -> None:
    race = started(config(None, DRIVER))
    assert race.agents == ("car_0",)
    for _ in range(60):
        race.step(still(race))
    assert race.world.arrays.state[0, 1, V] == pytest.approx(0.8, abs=0.05)


# Outcomes


def test_an_episode_runs_until_the_time_limit() -> None:
    race = started(config(max_steps=3))
    for _ in range(2):
        race.step(still(race))
        assert flags(race) == ([False, False], [False, False], [NONE, NONE], False)
    race.step(still(race))
    assert flags(race) == ([False, False], [True, True], [TIME_LIMIT, TIME_LIMIT], True)


@pytest.mark.parametrize(
    ("field", "outcome"), [("crashed", CRASH), ("finished", FINISHED)], ids=["crash", "finish"]
)
def test_any_car_that_is_done_ends_the_episode(field: str, outcome: int) -> None:
    race = started(config())
    getattr(race.world.arrays, field)[0, 1] = True
    race.step(still(race))
    assert flags(race) == ([False, True], [True, False], [OTHER_DONE, outcome], True)


@pytest.mark.parametrize("field", ["crashed", "finished"])
def test_a_scripted_car_that_is_done_ends_the_episode(field: str) -> None:
    race = started(config(None, DRIVER))
    getattr(race.world.arrays, field)[0, 1] = True
    race.step(still(race))
    assert flags(race) == ([False], [True], [OTHER_DONE], True)


def test_a_crash_beats_the_finish_line_and_termination_the_time_limit() -> None:
    race = started(config(max_steps=1))
    race.world.arrays.crashed[0, 0] = True
    race.world.arrays.finished[0, 0] = True
    race.step(still(race))
    assert flags(race) == ([True, False], [False, True], [CRASH, TIME_LIMIT], True)


def test_end_when_all_waits_for_every_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    race = started(config(None, None, DRIVER, end_when="all", spawn_sets=()))
    race.world.arrays.crashed[0, 2] = True  # scripted cars do not count
    race.step(still(race))
    assert flags(race) == ([False, False], [False, False], [NONE, NONE], False)
    race.world.arrays.crashed[0, 0] = True
    race.step(still(race))
    assert flags(race) == ([True, False], [False, False], [CRASH, NONE], False)
    with monkeypatch.context() as patch:
        seen, told = [], race.world.commands
        patch.setattr(race.world, "step_range", lambda *_: seen.append(told.copy()))
        race.step(np.ones((1, 2, 2)))
    assert seen[0][0, 0].tolist() == [0.0, 0.0]  # done: told to stand
    assert seen[0][0, 1] == pytest.approx((0.4, 2.0))
    race.world.arrays.finished[0, 1] = True
    race.step(still(race))
    assert flags(race) == ([True, True], [False, False], [CRASH, FINISHED], True)
    assert race.episodes.steps.tolist() == [4]


def test_without_agents_all_scripted_cars_decide() -> None:
    chase = {"kind": "secondary_vicon", "target": "car_1"}
    race = started(config(chase, DRIVER, end_when="all"))
    race.world.arrays.crashed[0, 0] = True
    race.step(still(race))
    assert not race.episodes.over[0]
    race.world.arrays.crashed[0, 1] = True
    race.step(still(race))
    assert race.episodes.over[0]


def test_a_finished_episode_stands_still_until_reset() -> None:
    race = started(config(None, DRIVER, task=TASK, max_steps=2), num_envs=2)
    race.step(still(race))
    race.reset(1, 5)
    race.step(still(race))
    assert race.episodes.over.tolist() == [True, False]
    assert race.episodes.rewards[0, 0] == -25.0
    held = flags(race)
    for _ in range(2):
        actions = still(race)
        actions[0] = np.nan  # ignored: the agent is done
        race.step(actions)
        assert flags(race) == held
        assert race.episodes.rewards[0, 0] == 0.0
        assert race.episodes.steps[0] == 2
        race.reset(1, 6)
    race.reset(0, 7)
    assert flags(race) == ([False], [False], [NONE], False)
    assert race.episodes.steps[0] == 0


def test_every_environment_starts_out_over() -> None:
    race = Race(config(), num_envs=2)
    assert race.episodes.over.all()
    race.step(still(race))
    assert race.episodes.steps.tolist() == [0, 0]


def test_the_task_judges_real_steps() -> None:
    race = started(config(None, DRIVER, task=TASK))
    state = race.world.arrays.state
    state[0, 1, Y] = -1.275 / 2 - 0.0875 - 1.105  # car_1 close to the right wall, not in it
    race.step(still(race))
    assert race.world.arrays.lateral_offset[0, 1] == pytest.approx(-1.105, abs=1e-3)
    assert race.episodes.rewards[0, 0] == 60.0
    assert flags(race) == ([True], [False], [int(Outcome.SUCCESS)], True)


# Seeds


def rollout(race: Race, actions: np.ndarray) -> list[bytes]:
    """Everything each environment shows, step by step."""
    out: list[list[bytes]] = [[] for _ in range(race.num_envs)]
    for action in actions:
        found = race.step(np.repeat(action[None], race.num_envs, axis=0))
        for e in range(race.num_envs):
            parts = (race.world.arrays.state, race.world.arrays.scan, *found)
            out[e].append(b"".join(part[e].tobytes() for part in parts))
    return [b"".join(steps) for steps in out]


def test_a_seed_decides_the_episode_at_any_batch_position() -> None:
    env = config(None, DRIVER, task=TASK)
    actions = np.random.default_rng(0).uniform(-1, 1, (80, 1, 2)).astype(np.float32)
    alone = Race(env)
    alone.reset(0, 11)
    reference = alone.episodes.observations[0].copy()
    (expected,) = rollout(alone, actions)
    batch = Race(env, num_envs=4)
    for e, seed in enumerate((3, 11, 4, 11)):
        batch.reset(e, np.random.SeedSequence(seed))
    assert np.array_equal(batch.episodes.observations[3], reference)
    found = rollout(batch, actions)
    assert found[1] == found[3] == expected
    assert found[0] != expected
    alone.reset(0, 11)  # a second episode, the same again
    assert rollout(alone, actions) == [expected]


def test_resetting_one_environment_leaves_the_others() -> None:
    race = started(config(), num_envs=3)
    race.step(still(race))
    before = race.world.arrays.state.copy(), race.episodes.observations.copy()
    race.reset(1, 9)
    for e in (0, 2):
        assert np.array_equal(race.world.arrays.state[e], before[0][e])
        assert np.array_equal(race.episodes.observations[e], before[1][e])
    assert race.episodes.steps.tolist() == [1, 0, 1]


def test_spawn_sets_are_drawn_uniformly() -> None:
    race = Race(config())
    poses = [[race.track.spawns[name] for name in names] for names in SETS]
    counts = [0, 0, 0]
    for seed in range(300):
        race.reset(0, seed)
        placed = race.world.arrays.state[0][:, [X, Y, YAW]]
        counts[[np.allclose(placed, pose) for pose in poses].index(True)] += 1
    assert min(counts) > 70  # expected 100, standard deviation 8


def test_a_chosen_spawn_set_keeps_the_seeds_noise() -> None:
    race = Race(config())
    race.reset(0, 1)
    key = race.world.arrays.noise_key[0]
    for chosen in range(3):
        race.reset(0, 1, spawn_set=chosen)
        assert race.world.arrays.noise_key[0] == key
        assert race.world.arrays.state[0, 0, X] == race.track.spawns[SETS[chosen][0]][0]
    with pytest.raises(ValueError, match=r"spawn_set must be in 0 ... 2, found 3"):
        race.reset(0, 1, spawn_set=3)


def test_without_spawn_sets_cars_take_the_spawns_in_order() -> None:
    race = started(config(None, None, None, spawn_sets=()))
    spawns = list(race.track.spawns.values())[:3]
    assert np.allclose(race.world.arrays.state[0][:, [X, Y, YAW]], spawns)


# What is refused


def refused(env: EnvConfig) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        Race(env)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_an_unknown_spawn_is_named() -> None:
    message = refused(config(spawn_sets=(*SETS, ("spawn_1", "grid_9"))))
    assert "'grid_9' of 'car_1'" in message
    assert "spawn_6" in message  # what exists


def test_too_many_cars_are_refused() -> None:
    assert re.search(r"7 cars.*6 spawns", refused(config(*[None] * 7, spawn_sets=())))


def test_every_spawn_set_is_tried() -> None:
    message = refused(config(spawn_sets=(*SETS, ("spawn_1", "spawn_1"))))
    assert "spawn set 3 (car_0 at spawn_1, car_1 at spawn_1)" in message
    assert "overlaps" in message


def test_a_spawn_in_a_wall_is_named() -> None:
    wide = VehicleConfig(width=1.5)
    cars = tuple(CarConfig(name=f"car_{i}", vehicle=wide) for i in range(2))
    message = refused(
        config(spawn_sets=(("spawn_1", "spawn_5"),)).model_copy(update={"cars": cars})
    )
    assert "car_1 at spawn_5" in message
    assert "-45.5" in message  # the pose


def test_a_task_needs_an_agent() -> None:
    chase = {"kind": "secondary_vicon", "target": "car_1"}
    assert "'car_0' has a task" in refused(config(chase, None, task=TASK))


def test_an_empty_observation_is_refused() -> None:
    assert "empty" in refused(config(None, observation=("others",), spawn_sets=()))


def test_at_least_one_environment() -> None:
    with pytest.raises(ValueError, match="num_envs must be at least 1"):
        Race(config(), num_envs=0)


def test_other_tracks_work_too() -> None:
    race = started(config(spawn_sets=(), track=CircleTrack(radius=5.0)), num_envs=2)
    step = functools.partial(race.step, still(race))
    for _ in range(5):
        found = step()
    assert np.isfinite(found.observations).all()
    assert not found.over.any()
