"""A task over world arrays that a test writes by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from sim.config import CarConfig, EnvConfig, TaskConfig, TrackConfig, VehicleConfig
from sim.episodes import Episodes, Outcome
from sim.layout import YAW, V, X, Y
from sim.physics.kernels import make_arrays
from sim.tasks.task import Task
from sim.tracks.factory import make_track

OWN, OTHER = 1, 0  # the agent is car 1 and agent 0: the two indices differ
STEP = 0.05  # s
OVAL = {"kind": "oval", "straight": 20.0, "radius": 6.0}


class Situation:
    """One agent, `own`, and a scripted car, `other`, on a track; far apart, standing, at first.

    Args:
        task: Its settings; targets are filled in.
        track: Settings of the track.
        num_envs: Environments.
        steps: Physics steps of 0.01 s an action.
        laps: Laps of an episode.
    """

    def __init__(
        self,
        task: dict[str, Any],
        *,
        track: dict[str, Any] | None = None,
        num_envs: int = 1,
        steps: int = 5,
        laps: int = 1,
    ) -> None:
        if task["kind"] not in ("solo_lap", "race"):
            task = {"target": "other", **task}
        config = TypeAdapter(TaskConfig).validate_python(task)
        self.env = EnvConfig(
            track=TypeAdapter(TrackConfig).validate_python(track or OVAL),
            cars=(
                CarConfig(name="other", driver={"kind": "secondary_vicon", "target": "own"}),
                CarConfig(name="own", task=config, vehicle=VehicleConfig(speed_max=8.0)),
            ),
            physics_steps_per_action=steps,
            max_steps=1000,
            laps=laps,
        )
        self.config = self.env.cars[OWN].task
        E = num_envs
        self.track = make_track(self.env.track)
        self.world = make_arrays(E, 2, beams=3, steer_delay=2, laps=laps)
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
        self.put(OWN, 5.0)
        self.put(OTHER, 30.0)
        self.task = Task(self.config, self.env, OWN, self.track, self.world, self.episodes)

    def put(self, car: int, s: float, d: float = 0.0, *, turn: float = 0.0, v: float = 0.0) -> None:
        """Place a car along and across the lane, m, turned off it, rad, at a speed, m/s."""
        length = self.track.length
        s = s % length if self.track.closed else s
        x, y, yaw = self.track.from_frenet(np.array([[s, d]]))[0]
        self.world.arc_length[:, car] = s
        self.world.lateral_offset[:, car] = d
        state = self.world.state[:, car]
        state[:, X], state[:, Y], state[:, YAW], state[:, V] = x, y, yaw + turn, v

    def place(self, car: int, x: float, y: float, yaw: float = 0.0, v: float = 0.0) -> None:
        """Place a car at a pose, whatever the lane."""
        state = self.world.state[:, car]
        state[:, X], state[:, Y], state[:, YAW], state[:, V] = x, y, yaw, v

    def step(self, outcome: Outcome = Outcome.NONE) -> tuple[float, Outcome]:
        """Judge a step to which the world alone gives this outcome."""
        self.world.crashed[:, OWN] = outcome == Outcome.CRASH
        self.world.finished[:, OWN] = outcome == Outcome.FINISHED
        self.episodes.steps[:] = 1000 if outcome == Outcome.TIME_LIMIT else 1
        self.task.step(0, len(self.episodes.steps))
        return float(self.episodes.rewards[0, 0]), Outcome(self.episodes.outcome[0, 0])

    def pay(self) -> float:
        """Judge an uneventful step, and return its reward."""
        reward, outcome = self.step()
        assert outcome == Outcome.NONE
        return reward

    def reset(self) -> None:
        """Begin another episode where the cars are now."""
        self.episodes.outcome[:] = 0
        for env in range(len(self.episodes.steps)):
            self.task.reset(env)


def shaped(*terms: dict[str, Any], **settings: Any) -> Situation:
    """An agent that is paid for these terms alone, as long as its episode runs."""
    return Situation({"kind": "solo_lap", "shaping": list(terms)}, **settings)


def total(situation: Situation, places: Sequence[float]) -> float:
    """Sum of the rewards of driving along the lane through these arc lengths, m."""
    situation.put(OWN, places[0])
    situation.reset()
    rewards = 0.0
    for s in places[1:]:
        situation.put(OWN, s)
        rewards += situation.pay()
    return rewards
