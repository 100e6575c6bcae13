"""Episodes side by side: what each sees does not depend on the others."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import SMALL

from f110_fl.learners.base import Transitions
from f110_fl.training.collector import Collector, EndedEpisode, Explorer
from f110_fl.training.trajectories import Recorder
from sim.config import EnvConfig
from sim.race import Race

DUEL = {
    "end_when": "all",
    "max_steps": 60,
    "lidar": {"beams": 4},
    "spawn": {"kind": "random"},
    "track": {"kind": "oval"},
    "cars": [{"name": "car_0"}, {"name": "car_1"}],
}


def seeds(count: int) -> list[np.random.SeedSequence]:
    return [np.random.SeedSequence(7, spawn_key=(k,)) for k in range(count)]


class Steady:
    """Acts by the observation alone, and writes down what it is told."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain
        self.began: list[int] = []
        self.seen: list[Transitions] = []

    def begin(self, envs: np.ndarray) -> None:
        self.began += envs.tolist()

    def act(self, observations: np.ndarray, envs: np.ndarray) -> np.ndarray:
        assert len(observations) == len(envs)
        steer = self.gain * (observations[:, 0] - observations[:, -1])
        return np.stack([np.clip(steer, -1, 1), np.full(len(envs), 0.2)], 1).astype(np.float32)

    def learn(self, transitions: Transitions) -> None:
        self.seen.append(Transitions(*(np.array(part) for part in transitions)))


def run(
    env: dict[str, Any], envs: int, count: int, in_flight: int | None = None
) -> tuple[list[EndedEpisode], dict[str, Steady]]:
    race = Race(EnvConfig.model_validate(env), num_envs=envs)
    players = {agent: Steady(1 + k) for k, agent in enumerate(race.agents)}
    return list(Collector(race, in_flight).run(seeds(count), players)), players


def facts(found: list[EndedEpisode]) -> list[tuple[Any, ...]]:
    """Return all but the times."""
    return [
        (number, e.steps, e.returns, e.outcomes, e.lap_times)
        for number, _, e in sorted(found, key=itemgetter(0))
    ]


@pytest.mark.parametrize("env", [SMALL["env"], DUEL], ids=["convoy", "duel"])
@pytest.mark.parametrize(("envs", "in_flight"), [(3, None), (5, 2), (16, None)])
def test_every_seed_is_run_once_whatever_the_batch(
    env: dict[str, Any], envs: int, in_flight: int | None
) -> None:
    alone, _ = run(env, 1, 9)
    together, players = run(env, envs, 9, in_flight)
    assert facts(together) == facts(alone)
    for player in players.values():
        assert len(player.began) == 9
        assert max(player.began) < (in_flight or envs)


def test_transitions_are_complete_and_in_order() -> None:
    found, players = run(DUEL, 4, 10)
    for agent, player in players.items():
        last: dict[int, np.ndarray] = {}
        rewards = 0.0
        ends = 0
        for seen in player.seen:
            assert seen.envs.tolist() == sorted(set(seen.envs.tolist()))
            for i, env in enumerate(seen.envs.tolist()):
                if env in last:  # what followed is where the next begins
                    np.testing.assert_array_equal(seen.observation[i], last[env])
                last[env] = seen.next_observation[i]
                assert not (seen.terminated[i] and seen.truncated[i])
                if seen.terminated[i] or seen.truncated[i]:
                    del last[env]
                    ends += 1
                rewards += seen.reward[i]
        assert ends == 10
        assert not last
        assert rewards == pytest.approx(sum(episode.result.returns[agent] for episode in found))


def test_an_agent_that_is_done_is_left_alone_while_the_other_drives_on() -> None:
    _, players = run(DUEL, 2, 8)
    counts = [sum(len(seen.envs) for seen in player.seen) for player in players.values()]
    assert counts[0] != counts[1]


def test_idle_environments_and_times_are_told() -> None:
    found, _ = run(SMALL["env"], 4, 2)  # two of the four have nothing to do
    collect = found[0].result.collect
    assert collect["idle"] == 0.5
    assert all(collect[name] > 0 for name in ("act", "step", "learn"))


def test_what_the_caller_does_between_episodes_changes_nothing() -> None:
    race = Race(EnvConfig.model_validate(SMALL["env"]), num_envs=2)
    other = Race(EnvConfig.model_validate(SMALL["env"]), num_envs=2)

    def interrupted() -> Iterator[EndedEpisode]:
        for episode in Collector(race).run(seeds(4), {"car_0": Steady()}):
            yield episode
            list(Collector(other).run(seeds(1), {"car_0": Steady(3.0)}))

    assert facts(list(interrupted())) == facts(run(SMALL["env"], 2, 4)[0])


def test_a_recorder_sees_every_step(tmp_path: Path) -> None:
    race, recorder = Race(EnvConfig.model_validate(SMALL["env"]), num_envs=3), Recorder()
    found = list(Collector(race).run(seeds(5), {"car_0": Steady()}, recorder))
    recorder.save(tmp_path / "trajectories.npz", race)
    with np.load(tmp_path / "trajectories.npz") as data:
        lengths = np.diff(data["first"]).tolist()
    assert {e.number: e.result.steps + 1 for e in found} == dict(enumerate(lengths))


class _Learner:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def act(self, _: np.ndarray, envs: np.ndarray) -> np.ndarray:
        self.calls.append("act")
        return np.zeros((len(envs), 2), np.float32)

    def observe(self, _: Transitions) -> None:
        self.calls.append("observe")

    def update(self) -> None:
        self.calls.append("update")


def test_a_learner_acts_observes_and_updates_once_a_step() -> None:
    race = Race(EnvConfig.model_validate(SMALL["env"]), num_envs=2)
    learner = _Learner()
    list(Collector(race).run(seeds(2), {"car_0": Explorer("car_0", learner)}))  # type: ignore[arg-type]
    assert learner.calls[:6] == ["act", "observe", "update"] * 2
    assert len(learner.calls) % 3 == 0
