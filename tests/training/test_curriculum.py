"""Stages of training: when they change, what they change, and that they resume exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from f110_fl.config.curriculum import CurriculumConfig
from f110_fl.config.scenario import Scenario
from f110_fl.training.curriculum import Curriculum
from sim.config import EnvConfig
from sim.layout import V, X
from sim.race import Race

SETS = [["spawn_3", "spawn_1"], ["spawn_5", "spawn_1"], ["spawn_2", "spawn_4"]]
STAGES = [
    {"spawn_sets": [0], "difficulty": 0.5},
    {"spawn_sets": [["spawn_2", "spawn_4"], 1], "difficulty": 0.75},
    {},
]
ENV = EnvConfig.model_validate(
    {
        "cars": [
            {"name": "car_0", "task": {"kind": "convoy_lock"}},
            {"name": "car_1", "driver": {"kind": "secondary_vicon"}},
        ],
        "lidar": {"beams": 3},
        "spawn_sets": SETS,
    }
)


def curriculum(**changes: object) -> Curriculum:
    config = {"agent": "car_0", "window": 4, "patience": 3, "stages": STAGES, **changes}
    return Curriculum(CurriculumConfig.model_validate(config), ENV)


def observe(found: Curriculum, outcomes: str) -> list[int]:
    """Stage after each episode; s for a success, anything else for a crash."""
    stages = []
    for letter in outcomes:
        before = found.number
        changed = found.observe("success" if letter == "s" else "crash")
        assert changed == (found.number != before)
        stages.append(found.number)
    return stages


def test_an_episode_that_the_learner_did_not_drive_does_not_count() -> None:
    found = curriculum(window=2, patience=1)
    observe(found, "s")
    assert not found.observe(None)
    assert found.success_rate is None
    assert found.observe("success")


def test_it_rises_once_the_rate_has_been_high_with_patience() -> None:
    found = curriculum()
    assert found.success_rate is None
    # The window is full at the 4th episode; the 4th to 6th find the rate above 0.7.
    assert observe(found, "sssss") == [0] * 5
    assert found.success_rate == 1.0
    assert observe(found, "s") == [1]
    assert found.success_rate is None  # a stage begins with an empty window
    assert observe(found, "ssssss") == [1] * 5 + [2]
    assert observe(found, "s" * 30) == [2] * 30  # there is no harder one


def test_it_falls_once_the_rate_has_been_low_with_patience() -> None:
    found = curriculum()
    observe(found, "s" * 12)
    assert found.number == 2
    assert observe(found, "......") == [2] * 5 + [1]
    assert observe(found, "......") == [1] * 5 + [0]
    assert observe(found, "." * 30) == [0] * 30  # there is no easier one


def test_a_break_starts_the_patience_anew() -> None:
    found = curriculum(raise_above=0.8)  # the 6th to 9th find a rate of 0.75
    assert observe(found, "sssss.sssssss") == [0] * 11 + [1, 1]


def test_between_the_bounds_nothing_changes() -> None:
    found = curriculum()
    observe(found, "s" * 6)
    assert observe(found, "s.s." * 20) == [1] * 80


def test_bounds_are_strict() -> None:
    found = curriculum(raise_above=0.5, lower_below=0.5, patience=1)
    observe(found, "ssss")
    assert found.number == 1
    assert observe(found, "s.s.s.s.") == [1] * 8
    assert curriculum(lower_below=0.0).config.lower_below == 0.0


@examples(50)
@given(st.lists(st.booleans(), max_size=80), st.integers(0, 80))
def test_it_resumes_exactly(successes: list[bool], cut: int) -> None:
    outcomes = "".join("s" if success else "." for success in successes)
    whole, first, second = curriculum(), curriculum(), curriculum()
    expected = observe(whole, outcomes)
    found = observe(first, outcomes[:cut])
    second.load_state(json.loads(json.dumps(first.state())))
    assert found + observe(second, outcomes[cut:]) == expected
    assert second.state() == whole.state()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"stage": 3, "outcomes": [], "high": 0, "low": 0},
        {"stage": 0, "outcomes": [1] * 5, "high": 0, "low": 0},
        {"stage": 0, "outcomes": 7, "high": 0, "low": 0},
    ],
)
def test_the_state_of_another_curriculum_is_refused(state: dict) -> None:
    found = curriculum()
    observe(found, "s" * 8)
    before = found.state()
    with pytest.raises(ValueError, match="state of a"):
        found.load_state(state)
    assert found.state() == before


# What a stage changes


def starts(race: Race, seeds: range) -> set[float]:
    found = set()
    for seed in seeds:
        race.reset(0, seed)
        found.add(float(race.world.arrays.state[0, 0, X]))
    return found


def test_a_stage_restricts_starts_and_slows_the_others() -> None:
    race, found = Race(ENV), curriculum()
    at = [race.track.spawns[names[0]][0] for names in SETS]
    speeds = []
    for allowed in ({0}, {1, 2}, {0, 1, 2}):
        found.apply(race)
        assert starts(race, range(30)) == {at[i] for i in allowed}
        race.reset(0, 1)
        for _ in range(60):
            race.step(np.zeros((1, 1, 2)))
        speeds.append(race.world.arrays.state[0, 1, V])
        race.episodes.over[0] = True
        observe(found, "s" * 6)
    assert speeds == pytest.approx(0.755 * np.array([0.5, 0.75, 1.0]), rel=0.01)  # in 0.6 s


def test_an_episode_depends_on_its_seed_and_stage_alone() -> None:
    def states(race: Race, env: int, steps: int = 40) -> bytes:
        return b"".join(
            race.step(np.zeros((race.num_envs, 1, 2)))[0][env].tobytes()
            + race.world.arrays.state[env].tobytes()
            for _ in range(steps)
        )

    race, found = Race(ENV), curriculum()
    found.apply(race)
    race.reset(0, 5)
    easy = states(race, 0)
    batch = Race(ENV, num_envs=2)
    found.apply(batch)
    batch.reset(1, 5)
    observe(found, "s" * 6)
    found.apply(batch)  # while the episode runs, and another begins
    batch.reset(0, 5)
    assert states(batch, 1) == easy
    batch.reset(0, 5)
    harder = states(batch, 0)
    assert harder != easy
    found.apply(race)
    race.reset(0, 5)
    assert states(race, 0) == harder


def test_without_a_curriculum_starts_are_as_ever() -> None:
    race = Race(ENV)
    for seed in range(20):
        race.reset(0, seed)
        rng = np.random.default_rng(seed)
        rng.integers(2**64, dtype=np.uint64)  # the key of the noise
        spawn = SETS[int(rng.integers(3))][0]
        assert race.world.arrays.state[0, 0, X] == race.track.spawns[spawn][0]


def test_episodes_begun_at_another_stage_do_not_count() -> None:
    race, found = Race(ENV, num_envs=3), curriculum(window=1, patience=1)
    found.apply(race)
    for env in range(3):
        race.reset(env, env)
    race.episodes.over[1] = True  # it ended,
    assert found.observe("success", 1)  # with a success, while the others go on
    found.apply(race)
    assert not found.observe("crash", 2)
    assert not found.observe("crash", 0)
    assert found.number == 1
    assert found.observe("crash", 2)  # begun since
    assert found.number == 0


def test_a_race_refuses_what_it_cannot_do() -> None:
    race = Race(ENV)
    for bad in ([3], [-1], []):
        with pytest.raises(ValueError, match=r"spawn sets must be in 0 ... 2, found \["):
            race.allow_spawn_sets(bad)
    for worse in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"difficulty must be positive, finite .* found"):
            race.set_difficulty(worse)
    with pytest.raises(ValueError, match=r"rising, found 0\.5 to 0\.4"):
        race.set_difficulty(0.5, 0.4)


def test_each_scripted_car_draws_its_difficulty_from_a_range() -> None:
    driven = [{"name": name, "driver": {"kind": "pure_pursuit"}} for name in "ab"]
    cars = [{"name": "car_0", "reverse": False}, *driven]
    track, grid = {"kind": "oval"}, {"kind": "grid", "row_spacing": 40.0}
    env = EnvConfig.model_validate(
        {"cars": cars, "lidar": {"beams": 3}, "track": track, "spawn": grid}
    )
    stages = [{"difficulty": [0.4, 0.8]}, {}]
    config = {"agent": "car_0", "window": 1, "patience": 1, "stages": stages}
    found, race = Curriculum(CurriculumConfig.model_validate(config), env), Race(env, num_envs=2)
    found.apply(race)

    def factors(row: int, seed: int) -> list[float]:
        race.reset(row, seed)
        for _ in range(200):
            race.step(np.full((2, 1, 2), -1.0))
        speeds: list[float] = (race.world.arrays.state[row, 1:, V] / 4.0).tolist()
        return speeds

    drawn = [factors(0, seed) for seed in range(12)]
    assert 0.4 < np.min(drawn) < 0.5
    assert 0.7 < np.max(drawn) < 0.8
    assert all(abs(a - b) > 1e-3 for a, b in drawn)
    assert factors(1, 3) == drawn[3]  # the seed decides, at any position in the batch
    assert found.observe("success")
    found.apply(race)
    assert factors(0, 3) == pytest.approx([1.0, 1.0], abs=1e-3)


# Settings


def scenario(**curriculum: object) -> Scenario:
    given = {"agent": "car_0", "stages": [{}], **curriculum}
    env = ENV.model_dump(mode="json")
    return Scenario.model_validate(
        {"name": "a", "env": env, "learners": {"car_0": {"algorithm": "td3"}}, "curriculum": given}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "car_1"}, "curriculum.agent is 'car_1'"),
        ({"stages": [{"spawn_sets": [3]}]}, "spawn set 3 is not in env.spawn_sets: 0 to 2"),
        ({"stages": [{"spawn_sets": [["spawn_1", "spawn_3"]]}]}, "spawn_1', 'spawn_3'"),
        ({"stages": [{"difficulty": [0.9, 0.3]}]}, "the least, 0.9, is above the largest, 0.3"),
        ({"stages": [{"difficulty": [0.0, 0.3]}]}, "greater than 0"),
        ({"raise_above": 0.2, "lower_below": 0.3}, "lower_below, 0.3, is above raise_above, 0.2"),
        ({"stages": []}, "stages"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenario(**changes)


def test_settings_survive_their_file() -> None:
    found = scenario(stages=STAGES)
    assert Scenario.model_validate_json(found.model_dump_json()) == found
    assert [stage.indices(ENV) for stage in found.curriculum.stages] == [(0,), (2, 1), None]
