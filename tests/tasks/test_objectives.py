"""Objectives other than convoy_lock: their outcomes and what these pay."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from task_situations import OTHER, OWN, STEP, Situation

import sim.race
from sim.config import EnvConfig
from sim.episodes import Outcome
from sim.layout import V, X, Y
from sim.race import Race
from sim.tracks.factory import make_track

NONE, SUCCESS, CRASH = Outcome.NONE, Outcome.SUCCESS, Outcome.CRASH
FINISHED, IDLE = Outcome.FINISHED, Outcome.IDLE
TIME_LIMIT, FAILED = Outcome.TIME_LIMIT, Outcome.FAILED
OTHER_DONE = Outcome.OTHER_DONE


def objective(kind: str, **settings: object) -> Situation:
    """Without shaping: what is paid is the objective's."""
    return Situation({"kind": kind, "shaping": [], **settings})


# Laps


def test_the_laps_driven_alone_are_a_success() -> None:
    s = objective("solo_lap", success_reward=4.0)
    s.world.finished[0, OTHER] = True  # does not count
    assert s.step() == (0.0, NONE)
    assert s.step(FINISHED) == (4.0, SUCCESS)


@pytest.mark.parametrize("kind", ["solo_lap", "race", "overtake", "pursuit"])
def test_crash_and_time_limit_pay_their_own(kind: str) -> None:
    s = objective(kind, crash_reward=-3.0, truncation_reward=-2.0)
    assert s.step(CRASH) == (-3.0, CRASH)
    s.reset()
    assert s.step(TIME_LIMIT) == (-2.0, TIME_LIMIT)


def test_a_race_is_won_by_the_first() -> None:
    s = objective("race", success_reward=4.0, loss_reward=-5.0)
    assert s.step(FINISHED) == (4.0, SUCCESS)
    s.reset()
    s.world.finished[0, OTHER] = True
    assert s.step(FINISHED) == (4.0, SUCCESS)  # in the same step
    s.reset()
    assert s.step() == (-5.0, NONE)
    assert s.step() == (0.0, NONE)  # lost once
    assert s.step(FINISHED) == (0.0, FINISHED)
    s.reset()
    assert s.step(TIME_LIMIT) == (-5.0, TIME_LIMIT)
    s.reset()
    assert s.step(CRASH) == (-10.0, CRASH)


def test_two_learning_cars_race_for_nothing_in_sum() -> None:
    cars = [{"name": name, "task": {"kind": "race", "shaping": []}} for name in "ab"]
    race = Race(EnvConfig.model_validate({"cars": cars, "lidar": {"beams": 3}}))
    race.reset(0, 1)
    race.world.arrays.finished[0, 1] = True
    found = race.step(np.zeros((1, 2, 2)))
    assert found.rewards.tolist() == [[-10.0, 10.0]]
    assert found.outcome.tolist() == [[OTHER_DONE, SUCCESS]]
    assert found.terminated.tolist() == [[False, True]]
    assert found.truncated.tolist() == [[True, False]]


# Overtake


def behind(**settings: object) -> Situation:
    s = objective("overtake", success_reward=4.0, **settings)
    s.put(OWN, 5.0)
    s.put(OTHER, 7.0)
    s.reset()
    return s


def test_overtaking_needs_its_margin() -> None:
    s = behind(margin=1.5)
    s.put(OWN, 8.49)
    assert s.step() == (0.0, NONE)
    s.put(OWN, 8.51)
    assert s.step() == (4.0, SUCCESS)


def test_overtaking_until_the_end_counts_at_the_time_limit() -> None:
    s = behind(margin=1.5, until_end=True)
    s.put(OWN, 9.0)
    assert s.step() == (0.0, NONE)
    s.put(OWN, 8.4)
    assert s.step(TIME_LIMIT) == (0.0, TIME_LIMIT)  # passed again
    s = behind(margin=1.5, until_end=True)
    s.put(OWN, 9.0)
    assert s.step(TIME_LIMIT) == (4.0, SUCCESS)


def test_overtaking_over_the_seam() -> None:
    s = behind()
    s.put(OWN, s.track.length - 1.0)
    s.put(OTHER, s.track.length - 0.5)
    s.reset()
    s.put(OWN, 0.2)
    assert s.step() == (0.0, NONE)  # 0.7 m ahead
    s.put(OWN, 0.6)
    assert s.step() == (4.0, SUCCESS)


def test_who_starts_ahead_has_not_overtaken() -> None:
    s = behind()
    s.put(OWN, 9.0)
    s.reset()
    assert s.step() == (0.0, NONE)
    s.put(OWN, 6.9)
    assert s.step() == (0.0, NONE)
    s.put(OWN, 8.1)
    assert s.step() == (4.0, SUCCESS)


def test_lapping_the_target_overtakes_it() -> None:
    s = behind(margin=1.5)
    s.put(OWN, 9.0)
    s.reset()
    lead, length = 2.0, s.track.length
    while lead < length - 4.0:
        lead += 4.0
        s.put(OWN, 7.0 + lead)
        assert s.step() == (0.0, NONE), lead
    s.put(OWN, 8.4)
    assert s.step() == (0.0, NONE)  # a lap and 1.4 m ahead
    s.put(OWN, 8.6)
    assert s.step() == (4.0, SUCCESS)


def test_who_leads_on_an_open_track_has_nothing_to_pass() -> None:
    task = {"kind": "overtake", "shaping": []}
    s = Situation(task, track={"kind": "line2"})
    s.put(OTHER, 7.0)
    s.put(OWN, 9.0)
    s.reset()
    s.put(OWN, 40.0)
    assert s.step() == (0.0, NONE)


def test_contact_while_passing_is_a_crash_and_a_wreck_cannot_be_passed() -> None:
    s = behind()
    s.put(OWN, 8.5)
    s.world.crashed[0, OTHER] = True
    assert s.step(CRASH) == (-10.0, CRASH)
    s = behind()
    s.put(OWN, 8.5)
    s.world.crashed[0, OTHER] = True
    assert s.step() == (0.0, FAILED)


@pytest.mark.parametrize("end", [FINISHED, TIME_LIMIT])
def test_overtaking_beats_the_finish_line_and_the_time_limit(end: Outcome) -> None:
    s = behind()
    s.put(OWN, 8.5)
    assert s.step(end) == (4.0, SUCCESS)


# Pursuit


def test_pursuit_holds_its_window_without_a_break() -> None:
    s = objective("pursuit", near=1.0, far=2.0, hold_time=4 * STEP, success_reward=4.0)
    s.put(OTHER, 0.5)
    for gap in (1.0, 1.5, 2.0, 2.01, 1.2, 1.2, 0.99, 1.5, 1.5, 1.5):
        s.put(OWN, 0.5 - gap)  # over the seam
        assert s.step() == (0.0, NONE), gap
    assert s.step() == (4.0, SUCCESS)


def test_ahead_is_not_behind() -> None:
    s = objective("pursuit", near=1.0, far=2.0, hold_time=STEP)
    s.put(OWN, 31.5)
    assert s.step() == (0.0, NONE)
    s.put(OWN, 28.5)
    assert s.step() == (10.0, SUCCESS)


def test_contact_in_pursuit_is_a_crash_and_a_wreck_is_not_pursued() -> None:
    s = objective("pursuit", hold_time=STEP)
    s.put(OWN, 28.5)
    s.world.crashed[0, OTHER] = True
    assert s.step() == (0.0, FAILED)
    s.reset()
    assert s.step(CRASH) == (-10.0, CRASH)


# Evade


def test_surviving_is_a_success() -> None:
    for end in (TIME_LIMIT, FINISHED):
        s = objective("evade")
        assert s.step() == (0.0, NONE)
        assert s.step(end) == (25.0, SUCCESS)


@pytest.mark.parametrize("side", [-1, 1])
def test_forced_off_is_a_crash(side: int) -> None:
    s = objective("evade")
    s.put(OWN, 5.0, 1.0999 * side)
    assert s.step() == (0.0, NONE)
    s.put(OWN, 5.0, 1.1 * side)
    assert s.step(TIME_LIMIT) == (-60.0, CRASH)


def test_the_attackers_crash_saves_the_defender_and_a_contact_does_not() -> None:
    s = objective("evade")
    s.world.crashed[0, OTHER] = True
    s.put(OWN, 5.0, 1.2)
    assert s.step(TIME_LIMIT) == (10.0, SUCCESS)
    s.reset()
    assert s.step(CRASH) == (-60.0, CRASH)


@pytest.mark.parametrize(
    ("event", "rewards", "outcomes"),
    [
        ("pressed", (60, -60), (SUCCESS, CRASH)),
        ("forced", (60, -60), (SUCCESS, CRASH)),
        ("late", (-25, 25), (TIME_LIMIT, SUCCESS)),
        ("attacker", (-10, 10), (CRASH, SUCCESS)),
        ("contact", (-10, -60), (CRASH, CRASH)),  # both have failed
    ],
)
def test_attack_and_defence_are_mirrored(event: str, rewards: tuple, outcomes: tuple) -> None:
    config = EnvConfig.model_validate(
        {
            "lidar": {"beams": 3},
            "max_steps": 1 if event == "late" else 9,
            "cars": [
                {"name": "car_0", "task": {"kind": "convoy_lock", "target": "car_1"}},
                {"name": "car_1", "task": {"kind": "evade", "target": "car_0"}},
            ],
            "spawn_sets": [["spawn_1", "spawn_6"]],
        }
    )
    race = Race(config)
    race.reset(0, 1)
    world = race.world.arrays
    if event == "pressed":
        world.state[0, 0, [X, Y]] = world.state[0, 1, [X, Y]] - [0.7, 0.0]
        world.state[0, 0, V] = 1.0
    if event == "forced":
        world.state[0, 1, Y] += 0.01 + 1.1 - abs(world.lateral_offset[0, 1])
        race.world.vehicles[0, 1, 15] = 0.1  # width: not in the wall yet
    world.crashed[0, 0] = event in ("attacker", "contact")
    world.crashed[0, 1] = event in ("pressed", "contact")
    found = race.step(np.zeros((1, 2, 2)))
    assert tuple(found.rewards[0]) == rewards
    assert tuple(found.outcome[0]) == outcomes


# Gap lock


def test_gap_lock_ends_like_convoy_lock() -> None:
    s = objective("gap_lock")
    s.put(OTHER, 30.0, 1.1)
    assert s.step() == (60.0, SUCCESS)
    s.reset()
    s.put(OTHER, 30.0)
    s.world.crashed[0, OTHER] = True
    assert s.step()[1] == FAILED


@pytest.mark.parametrize("steps", [1, 5, 10])
def test_gap_lock_measures_idleness_in_seconds(steps: int) -> None:
    s = Situation({"kind": "gap_lock", "shaping": []}, steps=steps)
    second = 100 // steps
    rewards, outcomes = zip(*(s.step() for _ in range(5 * second)), strict=True)
    assert rewards[:second] == (0.0,) * second
    assert rewards[second:-1] == pytest.approx([-1.0 / second] * (4 * second - 1))
    assert (rewards[-1], outcomes[-1]) == (-35.0, IDLE)
    assert set(outcomes[:-1]) == {NONE}


def test_gap_lock_is_shaped_by_default() -> None:
    s = Situation({"kind": "gap_lock"})
    s.put(OTHER, 2.0)  # both are on a straight
    s.put(OWN, 1.0, v=4.0)  # half of the fastest
    s.reset()
    s.put(OTHER, 2.5)
    s.put(OWN, 1.9, v=4.0)
    pressure, closing, heading, speed, streak = 0.5, 0.5, 0.1, 0.1 / 2, 0.5 / 40
    assert s.pay() == pytest.approx((pressure + heading + speed + streak) * STEP + closing * 0.4)
    s.put(OTHER, 8.0)
    s.put(OWN, 3.0, v=4.0)
    assert s.pay() == pytest.approx((heading + speed - 1.0) * STEP - closing * 4.4)


# What is refused


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kind": "pursuit", "near": 2.0, "far": 1.0}, "near, 2 m, is above far, 1 m"),
        ({"kind": "overtake", "target": "car_9"}, "overtake of 'a' targets 'car_9'"),
        ({"kind": "win"}, "solo_lap"),
    ],
)
def test_settings_that_do_not_fit_are_refused(task: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnvConfig.model_validate({"cars": [{"name": "a", "task": task}, {"name": "car_1"}]})


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kind": "solo_lap", "shaping": []}, "task solo_lap of 'a' needs a finish line"),
        ({"kind": "overtake", "target": "b"}, "task overtake of 'a' needs a centre line"),
        ({"kind": "evade", "target": "b", "shaping": [{"term": "progress"}]}, "term progress"),
    ],
)
def test_tracks_without_a_line_are_named(
    task: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = make_track(EnvConfig().track)
    bare = dataclasses.replace(bare, centerline=np.empty((0, 2)), finish_line=None)
    monkeypatch.setattr(sim.race, "make_tracks", lambda *_: (bare,))
    cars = [{"name": "a", "task": task}, {"name": "b"}]
    with pytest.raises(ValueError, match=message):
        Race(EnvConfig.model_validate({"cars": cars, "lidar": {"beams": 3}}))


def test_a_car_drives_its_lap_in_a_race() -> None:
    """End to end: the outcome of a lap is a success, and its time is the one rewarded."""
    circle = {"kind": "circle", "radius": 4.0}
    task = {"kind": "solo_lap", "shaping": [{"term": "lap_time", "weight": 1.0, "par_speed": 0.5}]}
    config = EnvConfig.model_validate(
        {
            "track": circle,
            "lidar": {"beams": 3},
            "physics_steps_per_action": 5,
            "cars": [{"name": "a", "task": task, "vehicle": {"speed_max": 4.0, "speed_min": -4.0}}],
        }
    )
    race = Race(config)
    race.reset(0, 1)
    world = race.world.arrays
    while not race.episodes.over[0]:
        steer = 0.083 - 0.3 * world.lateral_offset[0, 0]  # a radius of 4 m
        yaw = np.angle(np.exp(1j * (world.state[0, 0, 4] - np.arctan2(*world.state[0, 0, 1::-1]))))
        race.step(np.array([[[(steer - 0.5 * (yaw - np.pi / 2)) / 0.4189, 0.5]]]))
    assert Outcome(race.episodes.outcome[0, 0]) == SUCCESS
    (lap,) = race.lap_times(0, 0)
    assert 2 * np.pi * 4.0 / 2.0 == pytest.approx(lap, rel=0.1)
    assert race.episodes.rewards[0, 0] == pytest.approx(10.0 + race.track.length / 0.5 - lap)
