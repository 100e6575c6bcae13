"""A short recording of two cars, one of which may steer into the wall."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from f110_fl.evaluation.watching import Watcher
from f110_fl.learners.base import Transitions
from f110_fl.reporting.pages.recording import (
    EpisodeReplay,
    Recording,
    ReplayRecorder,
    Watchers,
)
from f110_fl.training.collector import Collector
from sim.config import EnvConfig
from sim.race import Race

ENV: dict[str, Any] = {
    "track": {"kind": "oval"},
    "max_steps": 60,
    "physics_steps_per_action": 5,
    "lidar": {"beams": 9, "max_range": 10.0},
    "spawn": {"kind": "random"},
    "cars": [
        {
            "name": "car_0",
            "vehicle": {"speed_min": -3.0, "speed_max": 3.0},
            "task": {"kind": "pursuit", "target": "car_1"},
        },
        {"name": "car_1", "driver": {"kind": "pure_pursuit", "speed": 2.0}},
    ],
}


class Fixed:
    """Creeps straight on in even environments, and drives fast to the left in odd ones."""

    def __init__(self, speed: float) -> None:
        self._speed = speed

    def begin(self, envs: np.ndarray) -> None:
        pass

    def act(self, observations: np.ndarray, envs: np.ndarray) -> np.ndarray:
        assert len(observations) == len(envs)
        turned = envs % 2
        return np.stack([turned, np.maximum(turned, self._speed)], 1).astype(np.float32)

    def learn(self, transitions: Transitions) -> None:
        pass


def record(
    episodes: int = 4,
    name: str = "policy",
    speed: float = 0.1,
    max_beams: int = 108,
    max_episodes: int = 100,
    only: int | None = None,
    also: tuple[Watcher, ...] = (),
    **changes: Any,
) -> tuple[Recording, Race]:
    """Records an episode in each of as many environments; others may watch."""
    race = Race(EnvConfig.model_validate(ENV | changes), num_envs=episodes)
    recorder = ReplayRecorder(max_beams, max_episodes, only)
    seeds = [np.random.SeedSequence(11, spawn_key=(k,)) for k in range(episodes)]
    players = {agent: Fixed(speed) for agent in race.agents}
    for _ in Collector(race).run(seeds, players, Watchers(recorder, *also)):
        pass
    return recorder.recording(name, "a scenario", 11), race


def named(recording: Recording, text: str) -> Recording:
    """The same recording, with a text in every name."""

    def renamed(episode: EpisodeReplay) -> EpisodeReplay:
        ends = tuple(replace(end, outcome=text, parts=(text,), wall=True) for end in episode.ends)
        return replace(episode, ends=ends, terms={text: episode.rewards})

    return replace(
        recording,
        name=text,
        scenario=text,
        cars=tuple(replace(car, name=text, role=text) for car in recording.cars),
        tracks=tuple(replace(track, name=text) for track in recording.tracks),
        episodes=tuple(map(renamed, recording.episodes)),
    )
