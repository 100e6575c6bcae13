"""The convoy-lock reward, term by term, on world arrays written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import yaml
from small import REPOSITORY

from sim.config import CarConfig, ConvoyLockConfig, EnvConfig
from sim.episodes import Episodes, Outcome
from sim.layout import YAW, V, X, Y
from sim.physics.kernels import make_arrays
from sim.race import Race
from sim.tasks.task import Task
from sim.tracks.factory import make_track

ATTACKER, DEFENDER = 1, 0  # the attacker is car 1 and agent 0: the two indices differ


class Situation:
    """One task over hand-written arrays; its defaults are far apart, moving, nothing happening."""

    def __init__(self, *, num_envs: int = 1, physics_steps: int = 1, **settings: float) -> None:
        config = ConvoyLockConfig(target="defender", **settings)
        scripted = {"kind": "secondary_vicon", "target": "attacker"}
        env = EnvConfig(
            cars=(
                CarConfig(name="defender", driver=scripted),
                CarConfig(name="attacker", task=config),
            ),
            physics_steps_per_action=physics_steps,
        )
        E, C = num_envs, 2
        self.config = config
        self.world = make_arrays(E, C, beams=3, steer_delay=2)
        self.episodes = Episodes(
            observations=np.zeros((E, 1, 1), np.float32),
            rewards=np.zeros((E, 1)),
            returns=np.zeros((E, 1)),
            terminated=np.zeros((E, 1), np.bool_),
            truncated=np.zeros((E, 1), np.bool_),
            outcome=np.zeros((E, 1), np.int8),
            steps=np.zeros(E, np.int64),
            over=np.zeros(E, np.bool_),
        )
        track = make_track(env.track)
        self.task = Task(config, env, ATTACKER, track, self.world, self.episodes)
        self.put(distance=5.0, speed=1.0)

    def put(self, *, distance: float | None = None, speed: float | None = None) -> None:
        """Place the attacker this far ahead of the defender, at this speed."""
        if distance is not None:
            self.world.state[:, ATTACKER, X] = self.world.state[:, DEFENDER, X] + distance
        if speed is not None:
            self.world.state[:, ATTACKER, V] = speed

    def step(self, outcome: Outcome = Outcome.NONE, times: int = 1) -> tuple[float, Outcome]:
        """Judge steps, the last of which the world alone gives this outcome."""
        for k in range(times):
            now = outcome if k == times - 1 else Outcome.NONE
            self.world.crashed[:, ATTACKER] = now == Outcome.CRASH
            self.world.finished[:, ATTACKER] = now == Outcome.FINISHED
            self.episodes.steps[:] = 2500 if now == Outcome.TIME_LIMIT else 2499
            self.task.step(0, len(self.episodes.steps))
        return float(self.episodes.rewards[0, 0]), Outcome(self.episodes.outcome[0, 0])

    def reset(self) -> None:
        self.task.reset(0)
        self.episodes.outcome[0] = 0


def test_nothing_happening_pays_nothing() -> None:
    assert Situation().step(times=300) == (0.0, Outcome.NONE)


def test_defender_crash_under_pressure_is_success() -> None:
    s = Situation()
    s.put(distance=0.74, speed=0.1)
    assert s.step() == (0.0, Outcome.NONE)
    s.world.crashed[0, DEFENDER] = True
    assert s.step() == (60.0, Outcome.SUCCESS)


@pytest.mark.parametrize(
    ("distance", "speed", "outcome"),
    [
        (0.75, 0.1, Outcome.SUCCESS),  # both bounds are inclusive
        (0.7501, 1.0, Outcome.FAILED),
        (0.5, 0.0999, Outcome.FAILED),
        (0.5, -1.0, Outcome.FAILED),  # backing off is no pressure
    ],
)
def test_pressure_needs_nearness_and_speed(distance: float, speed: float, outcome: Outcome) -> None:
    s = Situation()
    s.put(distance=distance, speed=speed)
    s.world.crashed[0, DEFENDER] = True
    reward, found = s.step()
    assert found == outcome
    assert reward == (60.0 if outcome == Outcome.SUCCESS else 0.0)


@pytest.mark.parametrize(("physics_steps", "window"), [(1, 50), (5, 10), (7, 7)])
def test_pressure_counts_for_its_window(physics_steps: int, window: int) -> None:
    for later, outcome in ((window, Outcome.SUCCESS), (window + 1, Outcome.FAILED)):
        s = Situation(physics_steps=physics_steps)
        s.put(distance=0.5)
        s.step()
        s.put(distance=3.0)
        s.step(times=later - 1)
        s.world.crashed[0, DEFENDER] = True
        assert s.step()[1] == outcome


def test_pressure_is_forgotten_at_reset() -> None:
    s = Situation()
    s.put(distance=0.5)
    s.step()
    s.reset()
    s.put(distance=3.0)
    s.world.crashed[0, DEFENDER] = True
    assert s.step() == (0.0, Outcome.FAILED)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_forced_off_the_lane_centre_is_success_without_pressure(side: float) -> None:
    s = Situation()
    s.world.lateral_offset[0, DEFENDER] = side * 1.0999
    assert s.step() == (0.0, Outcome.NONE)
    s.world.lateral_offset[0, DEFENDER] = side * 1.1
    assert s.step() == (60.0, Outcome.SUCCESS)


def test_own_offset_does_not_count() -> None:
    s = Situation()
    s.world.lateral_offset[0, ATTACKER] = 1.2
    assert s.step() == (0.0, Outcome.NONE)


def test_attacker_crash_pays_the_crash_and_no_success() -> None:
    s = Situation()
    s.put(distance=0.4)
    s.world.crashed[0] = True  # they touched: pressure, and the defender has crashed as well
    s.world.lateral_offset[0, DEFENDER] = 1.2
    assert s.step(Outcome.CRASH) == (-10.0, Outcome.CRASH)


def test_success_beats_the_finish_line_and_the_time_limit() -> None:
    for outcome in (Outcome.FINISHED, Outcome.TIME_LIMIT):
        s = Situation()
        s.world.lateral_offset[0, DEFENDER] = 1.2
        assert s.step(outcome) == (60.0, Outcome.SUCCESS)


def test_time_limit_pays_the_truncation() -> None:
    assert Situation().step(Outcome.TIME_LIMIT) == (-25.0, Outcome.TIME_LIMIT)


def test_finish_line_pays_nothing() -> None:
    assert Situation().step(Outcome.FINISHED) == (0.0, Outcome.FINISHED)


def test_idle_steps_pay_after_the_grace_and_truncate_at_the_limit() -> None:
    s = Situation()
    s.put(speed=-0.0199)
    rewards, outcomes = zip(*(s.step() for _ in range(90)), strict=True)
    assert rewards[:18] == (0.0,) * 18
    assert rewards[18:89] == (-0.08,) * 71
    assert rewards[89] == -35.0
    assert set(outcomes[:89]) == {Outcome.NONE}
    assert outcomes[89] == Outcome.IDLE


def test_idle_steps_are_counted_in_a_row() -> None:
    s = Situation()
    s.put(speed=0.0)
    assert s.step(times=18) == (0.0, Outcome.NONE)
    s.put(speed=0.02)  # no longer below idle_speed
    assert s.step() == (0.0, Outcome.NONE)
    s.put(speed=0.0)
    assert s.step(times=18) == (0.0, Outcome.NONE)
    assert s.step() == (-0.08, Outcome.NONE)
    s.reset()
    assert s.step(times=18) == (0.0, Outcome.NONE)


def test_idle_limit_replaces_the_time_limit_and_yields_to_success() -> None:
    s = Situation()
    s.put(speed=0.0)
    s.step(times=89)
    assert s.step(Outcome.TIME_LIMIT) == (-35.0, Outcome.IDLE)
    s.reset()
    s.step(times=89)
    s.world.lateral_offset[0, DEFENDER] = 1.2
    assert s.step() == (pytest.approx(60.0 - 0.08), Outcome.SUCCESS)


def test_settings_are_the_ones_given() -> None:
    s = Situation(success_reward=1.0, forced_offset=0.3, idle_limit=2, idle_limit_reward=-3.0)
    s.put(speed=0.0)
    assert s.step(times=2) == (-3.0, Outcome.IDLE)
    s = Situation(success_reward=1.0, forced_offset=0.3)
    s.world.lateral_offset[0, DEFENDER] = 0.3
    assert s.step() == (1.0, Outcome.SUCCESS)


def test_an_agent_that_is_done_earns_nothing_more() -> None:
    s = Situation()
    s.world.lateral_offset[0, DEFENDER] = 1.2
    assert s.step() == (60.0, Outcome.SUCCESS)
    assert s.step(Outcome.CRASH) == (0.0, Outcome.SUCCESS)


def test_environments_and_ranges_are_independent() -> None:
    s = Situation(num_envs=4)
    s.world.lateral_offset[1:3, DEFENDER] = 1.2
    s.task.step(0, 2)
    assert s.episodes.outcome[:, 0].tolist() == [0, Outcome.SUCCESS, 0, 0]
    assert s.episodes.rewards[:, 0].tolist() == [0.0, 60.0, 0.0, 0.0]


def by_the_book(race: Race, actions: Iterable[np.ndarray]) -> tuple[list, list]:
    """Rewards and outcomes of driving, and the same by the task's description, in plain Python."""
    env, world, paid, expected = race.config, race.world.arrays, [], []
    task, since, idle = env.cars[0].task, math.inf, 0
    for step, action in enumerate(actions, 1):
        found = race.step(action.reshape(1, 1, 2))
        paid.append((found.rewards[0, 0], Outcome(found.outcome[0, 0])))
        (x, y, v), (ox, oy) = world.state[0, 0, [X, Y, V]], world.state[0, 1, [X, Y]]
        near = math.hypot(ox - x, oy - y) <= task.pressure_distance and v >= task.pressure_speed
        since = 0 if near else since + 1
        idle = idle + 1 if abs(v) < task.idle_speed else 0
        pressed = world.crashed[0, 1] and since * 0.01 <= task.pressure_window + 1e-9
        forced = abs(world.lateral_offset[0, 1]) >= task.forced_offset
        if world.crashed[0, 0]:
            end = (task.crash_reward, Outcome.CRASH)
        elif pressed or forced:
            end = (task.success_reward, Outcome.SUCCESS)
        elif world.finished[0, 0]:
            end = (0.0, Outcome.FINISHED)
        elif idle >= task.idle_limit:
            end = (task.idle_limit_reward, Outcome.IDLE)
        elif step >= env.max_steps:
            end = (task.truncation_reward, Outcome.TIME_LIMIT)
        elif world.crashed[0, 1] or world.finished[0, 1]:
            end = (0.0, Outcome.FAILED)
        else:
            end = (0.0, Outcome.NONE)
        waits = idle > task.idle_grace and end[1] != Outcome.IDLE
        expected.append((end[0] + (task.idle_reward if waits else 0.0), end[1]))
        if race.episodes.over[0]:
            break
    return paid, expected


@pytest.mark.parametrize(
    ("side", "seed", "outcome"),
    [
        (-0.4, 1, Outcome.SUCCESS),
        (-0.5, 0, Outcome.CRASH),
        (-0.3, 10, Outcome.IDLE),
        (-0.3, 1, Outcome.TIME_LIMIT),
        (0.25, 0, Outcome.FAILED),
    ],
)
def test_whole_episodes_are_paid_by_the_book(side: float, seed: int, outcome: Outcome) -> None:
    """A shipped scenario, to the last bit; the attacker drives at the defender's side."""
    file = REPOSITORY / "scenarios" / "convoy_lock_td3_original.yaml"
    scenario = yaml.safe_load(file.read_text())
    race = Race(EnvConfig.model_validate(scenario["env"]))
    race.reset(0, seed)
    state, rng = race.world.arrays.state, np.random.default_rng(seed)

    def chase() -> Iterator[np.ndarray]:
        while True:
            dx, dy = state[0, 1, [X, Y]] + [0.05, side] - state[0, 0, [X, Y]]
            yaw = (state[0, 0, YAW] + math.pi) % (2 * math.pi) - math.pi
            steer = 4 * (math.atan2(dy, max(dx, 0.6)) - yaw)
            yield np.clip([steer, 0.6 + 0.8 * dx + rng.normal(0, 0.05)], -1, 1)

    paid, expected = by_the_book(race, chase())
    assert paid == expected
    assert paid[-1][1] == outcome
    assert race.episodes.returns[0, 0] == sum(reward for reward, _ in expected)
