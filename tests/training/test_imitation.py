"""Policies that imitate drivers: they come to drive, the same with any number of threads."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import imitate as tool
import numpy as np
import pytest
import yaml
from programs import call
from small import merge

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.training.imitation import Plan, Progress, imitate
from sim.config import MppiConfig, PurePursuitConfig, RandomDriverConfig
from sim.policy import load_policy
from sim.race import Race

OVAL: dict[str, Any] = {
    "name": "oval",
    "episodes": 2,
    "env": {
        "track": {"kind": "oval", "radius": 3.0, "straight": 6.0},
        "physics_steps_per_action": 5,
        "max_steps": 120,
        "lidar": {"beams": 24, "max_range": 10.0},
        "spawn": {"kind": "random"},
        "observation": ["lidar", "motion"],
        "cars": [
            {
                "name": "car_0",
                "reverse": False,
                "vehicle": {"speed_max": 4.0},
                "task": {"kind": "solo_lap"},
            }
        ],
    },
    "learners": {"car_0": {"algorithm": "ppo", "actor_hidden": [32, 32], "rollout_steps": 16}},
    "federated": {"enabled": False, "clients": 1},
}
SHORT = Plan(rounds=4, steps=60, num_envs=16, least=150, batch=128)
TEACHER = PurePursuitConfig(speed=3.0)


def scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate(merge(OVAL, changes))


def driven(chosen: Scenario, act: Any) -> float:
    """Metres that a policy drives in an episode, in the mean of eight."""
    race = Race(chosen.env, num_envs=8)
    for env in range(8):
        race.reset(env, env)
    travelled = np.zeros(8)
    at = race.world.arrays.arc_length[:, 0].copy()
    while not race.episodes.over.all():
        race.step(act(race.episodes.observations[:, 0])[:, None])
        now, length = race.world.arrays.arc_length[:, 0], race.track.length
        travelled += (now - at + length / 2) % length - length / 2
        at = now.copy()
    return float(travelled.mean())


@pytest.mark.parametrize(
    "learner",
    [
        {},
        {"algorithm": "td3", "hidden": [32, 32]},
        {"algorithm": "sac", "hidden": [32, 32]},
    ],
    ids=["ppo", "td3", "sac"],
)
def test_a_policy_comes_to_drive_as_its_teacher_does(learner: dict[str, Any]) -> None:
    kept = learner or OVAL["learners"]["car_0"]
    chosen = Scenario.model_validate({**OVAL, "learners": {"car_0": kept}})
    heard: list[Progress] = []
    made = imitate(chosen, "car_0", TEACHER, SHORT, told=heard.append)["car_0"]
    assert [progress.samples for progress in heard] == [960, 1920, 2880, 3840]
    assert heard[-1].error < 0.5 * heard[0].error
    policy = made.policy(8)
    policy.reset(np.arange(8))
    assert driven(chosen, lambda seen: policy.act(seen, np.arange(8))) > 10.0  # of 6 s


def test_threads_change_nothing_and_the_seed_does() -> None:
    plan = Plan(rounds=2, steps=20, num_envs=4, least=10, batch=32)
    found = [
        imitate(scenario(), "car_0", TEACHER, plan, seed=seed, threads=threads)["car_0"].tensors()
        for seed, threads in ((0, 1), (0, 2), (1, 1))
    ]
    name = "model/actor/weights.0"
    assert found[0][name].numpy().tobytes() == found[1][name].numpy().tobytes()
    assert found[0][name].numpy().tobytes() != found[2][name].numpy().tobytes()


@pytest.mark.parametrize(
    ("changes", "agent", "told"),
    [
        ({}, "car_1", "agent 'car_1': allowed: an agent that learns: car_0"),
        ({"learners": {"car_0": {"lstm": {"units": 8}}}}, "car_0", "its policy cannot imitate"),
        (
            {
                "env": {
                    "cars": [
                        OVAL["env"]["cars"][0] | {"reverse": True, "vehicle": {"control": "rates"}}
                    ]
                }
            },
            "car_0",
            "has control: rates; allowed: targets",
        ),
    ],
)
def test_what_cannot_imitate_is_refused(changes: dict[str, Any], agent: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        imitate(scenario(**changes), agent, TEACHER, SHORT)


def test_a_teacher_that_cannot_drive_here_is_refused() -> None:
    several = OVAL["env"] | {"track": {"kind": "random", "count": 2, "length": 40.0}}
    chosen = Scenario.model_validate(OVAL | {"env": several})
    teacher = MppiConfig(raceline="line.csv")
    with pytest.raises(UserError, match="car_0 cannot be taught by mppi"):
        imitate(chosen, "car_0", teacher, SHORT)


def test_nothing_is_learned_of_a_car_that_has_crashed_while_another_drives_on() -> None:
    own, learner = OVAL["env"]["cars"][0], OVAL["learners"]["car_0"]
    env = OVAL["env"] | {"cars": [own, own | {"name": "rival"}], "end_when": "all"}
    learners = {"car_0": learner, "rival": learner}
    chosen, heard = Scenario.model_validate(OVAL | {"env": env, "learners": learners}), []
    wild = RandomDriverConfig(steer=1.0, speed_min=3.0, speed=4.0)
    plan = Plan(rounds=1, steps=100, num_envs=4, least=1)
    imitate(chosen, "car_0", wild, plan, told=heard.append)
    assert 40 < heard[0].samples < 350  # of 400


def test_the_tool_writes_a_policy_to_drive_with_and_to_start_from(tmp_path: Path) -> None:
    (tmp_path / "oval.yaml").write_text(yaml.safe_dump(OVAL))
    run = partial(call, tool.main, tmp_path)
    done = run("oval.yaml", "--out", "taught.safetensors", "--rounds", "1", "--teacher", "stanley")
    assert done.returncode == 0, done.stderr
    assert "16,000" in done.stdout
    policy = load_policy(tmp_path / "taught.safetensors", "car_0")
    chosen = scenario(learners={"car_0": {"initial": str(tmp_path / "taught.safetensors")}})
    assert driven(chosen, policy.act) > 5.0
    for words, told in (
        (["--teacher", "{kind: stanley, sped: 3}"], "did you mean 'speed'"),
        (["--out", "no/file"], "allowed: a file in a folder that exists"),
        (["--agent", "car_1"], "--agent='car_1': allowed: car_0"),
    ):
        wrong = run("oval.yaml", "--out", "x.safetensors", "--rounds", "1", *words)
        assert wrong.returncode == 2
        assert told in wrong.stderr
        assert wrong.stderr.count("\n") == 1
