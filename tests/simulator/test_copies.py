"""Copies of races and environments, in this process and others, go on with the same bytes."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
import pytest

from sim.config import EnvConfig
from sim.envs import F110Env, F110ParallelEnv, F110VectorEnv
from sim.race import Race

WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda each: pickle.loads(pickle.dumps(each)),  # noqa: S301 - our own
    "cloudpickle": lambda each: cloudpickle.loads(cloudpickle.dumps(each)),
    "deepcopy": copy.deepcopy,
}
every_way = pytest.mark.parametrize("way", WAYS)

# All that is remembered from one step to the next: laps, streaks, courses, delays, draws.
CROWD = EnvConfig.model_validate(
    {
        "track": {
            "kind": "several",
            "tracks": [
                {"kind": "oval", "resolution": 0.1},
                {"kind": "random", "seed": 3, "count": 2, "resolution": 0.1},
            ],
        },
        "physics_steps_per_action": 5,
        "max_steps": 60,
        "lidar": {"beams": 54, "noise_std": 0.1},
        "heterogeneity": {"mass": [3.0, 4.0], "steer_delay": [0, 3]},
        "spawn": {"kind": "random"},
        "observation": ["lidar", "motion", "others"],
        "cars": [
            {
                "name": "car_0",
                "task": {
                    "kind": "gap_lock",
                    "shaping": [{"term": "streak"}, {"term": "overtake", "bonus": 3.0}],
                },
            },
            {"name": "car_1", "driver": {"kind": "gap_preview", "speed": 2.0}},
            {"name": "car_2", "driver": {"kind": "random"}},
            {"name": "car_3", "driver": {"kind": "blocker"}},
        ],
    }
)


def drive(race: Race, rng: np.random.Generator, steps: int) -> list[bytes]:
    seen = []
    for _ in range(steps):
        race.autoreset()
        episodes = race.step(rng.uniform(-1, 1, (race.num_envs, len(race.agents), 2)))
        seen += [array.tobytes() for array in (*episodes, *race.world.arrays)]
    return seen


@every_way
@pytest.mark.parametrize("before", [0, 100])
def test_a_copied_race_goes_on_with_the_same_bytes(way: str, before: int) -> None:
    race = Race(CROWD, num_envs=6, num_threads=2)
    for env in range(6):
        race.seed(env, env)
    race.set_difficulty(0.5, 1.5)
    drive(race, np.random.default_rng(0), before)
    other = WAYS[way](race)
    assert drive(other, np.random.default_rng(1), 150) == drive(race, np.random.default_rng(1), 150)
    assert other.difficulties == (0.5, 1.5)
    assert not np.shares_memory(other.world.arrays.state, race.world.arrays.state)


@every_way
@pytest.mark.parametrize(
    "make",
    [
        F110ParallelEnv,
        F110Env,
        lambda: F110VectorEnv(num_envs=3),
        lambda: gymnasium.make("F110-v0"),
        lambda: gymnasium.make_vec("F110-v0", num_envs=2),
        lambda: F110Env(render_mode="rgb_array"),
    ],
    ids=["parallel", "single", "vector", "made", "made_vector", "drawn"],
)
def test_a_copied_environment_goes_on_with_the_same_bytes(
    way: str, make: Callable[[], Any]
) -> None:
    env = make()
    env.reset(seed=5)
    space = env.action_space
    rng = np.random.default_rng(2)

    def act() -> Any:
        if isinstance(env, F110ParallelEnv):
            return {name: rng.uniform(-1, 1, 2).astype(np.float32) for name in env.agents}
        return rng.uniform(-1, 1, space.shape).astype(np.float32)

    for _ in range(5):
        env.step(act())
    other = WAYS[way](env)
    for _ in range(20):
        actions = act()
        one, two = env.step(actions), other.step(actions)
        assert pickle.dumps(one) == pickle.dumps(two)
    if env.render_mode is not None:
        np.testing.assert_array_equal(env.render(), other.render())
    env.close()
    other.close()


def test_a_copy_is_unpacked_in_another_process_and_folder(tmp_path: Path) -> None:
    """As vector environments with processes do."""
    race = Race(CROWD, num_envs=2)
    for env in range(2):
        race.seed(env, env)
    drive(race, np.random.default_rng(0), 30)
    (tmp_path / "race.pkl").write_bytes(pickle.dumps(race))
    program = (
        "import pickle; import numpy as np; race = pickle.load(open('race.pkl', 'rb'));"
        "race.step(np.full((2, 1, 2), 0.5)); print(race.world.arrays.state.tobytes().hex())"
    )
    words = [sys.executable, "-c", program]
    path = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    found = subprocess.run(
        words, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=True
    )
    race.step(np.full((2, 1, 2), 0.5))
    assert found.stdout.strip() == race.world.arrays.state.tobytes().hex()


@every_way
def test_what_a_copy_needs_is_named_when_it_is_gone(way: str, tmp_path: Path) -> None:
    """A centre line's file; relative names are looked up where they were at first."""
    file = tmp_path / "lane.csv"
    ring = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    points = np.column_stack([8 * np.cos(ring), 8 * np.sin(ring), np.ones(60), np.ones(60)])
    np.savetxt(file, points, delimiter=",", header="x_m,y_m,w_tr_right_m,w_tr_left_m")
    config = EnvConfig.model_validate(
        {
            "track": {"kind": "centerline", "file": "lane.csv", "resolution": 0.1},
            "cars": [{"name": "car_0"}],
            "spawn": {"kind": "random"},
            "observation": ["lidar"],
        }
    )
    race = Race(config, base_dir=tmp_path)
    race.seed(0, 0)
    other = WAYS[way](race)
    assert drive(other, np.random.default_rng(1), 20) == drive(race, np.random.default_rng(1), 20)
    file.unlink()
    with pytest.raises(ValueError, match=r"lane\.csv"):
        WAYS[way](race)
