"""One learning car: the Gymnasium interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from sim.config import EnvConfig, RenderConfig
from sim.envs.common import (
    CONVOY,
    Action,
    Observation,
    agent_names,
    agent_spaces,
    last_info,
    read_config,
    read_options,
)
from sim.envs.display import RENDER_MODES, Rendered
from sim.envs.infos import CarInfos
from sim.race import Race


class F110Env(Rendered, gymnasium.Env[Observation, Action]):
    """A race with one learning car as a Gymnasium environment; every other car is scripted.

    ``help(sim.envs)`` shows the tables of its actions, observations and rewards, and of what
    infos hold: of every car its pose, speed, place on the track, laps and contacts; and in the
    episode's last info how it ended.

    Args:
        config: The environment, or a dict of its settings; exactly one car has no driver. By
            default car_0 attacks car_1, and sees a scan of 54 beams, its motion and the other car.
        render_mode: "rgb_array", "human" or None; see `render`.
        render_config: Size of the frames, and what they show.
        base_dir: What a map's file is relative to; None: the working directory.

    Attributes:
        race: The race; its world holds the state of all cars.

    Raises:
        ValueError: If the dict is invalid, if not exactly one car is without a driver, for
            another render_mode, for an unknown car to follow, and as `Race` does.
        DependencyNotInstalled: If render_mode is "human" and pygame is missing.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES)}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        config: EnvConfig | Mapping[str, Any] = CONVOY,
        render_mode: str | None = None,
        render_config: RenderConfig = RenderConfig(),  # noqa: B008 - frozen
        base_dir: Path | None = None,
    ) -> None:
        config = read_config(config)
        names = agent_names(config)
        if len(names) > 1:
            raise ValueError(
                f"cars without a driver: {names}; F110Env has one agent: "
                "give the others a driver, or use F110ParallelEnv"
            )
        self._hold(Race(config, base_dir=base_dir), render_mode, render_config)
        self.observation_space: spaces.Box  # type: ignore[assignment]
        self.action_space: spaces.Box  # type: ignore[assignment]
        self.observation_space, self.action_space = agent_spaces(self.race)
        self._actions = np.zeros((1, 1, 2), np.float32)
        self._infos = CarInfos(self.race)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Restarts the sequence of episodes; None goes on with it. The first sequence is
                seeded from the operating system's entropy; ``np_random_seed`` is that seed.
            options: ``{"spawn_set": i}`` starts from that spawn set instead of a drawn one,
                ``{"track": i}`` on that track, ``{"poses": p}`` from those poses of all cars,
                (C, 3) x m, y m, yaw rad.

        Returns:
            The observation, (D,), and the info.

        Raises:
            ValueError: If an option is unknown, there is no such spawn set or track, or a car
                would be in a wall or another car. Nothing has changed then.
        """
        chosen = read_options(options, len(self.race.config.cars))
        if "poses" in chosen:
            self.race.check_poses(0, **chosen)
        if seed is None and self._np_random_seed is None:
            seed = self.np_random_seed  # drawn by Gymnasium at this first look
        super().reset(seed=seed)
        if seed is not None:
            self.race.seed(0, seed)
        self.race.next_episode(0, **chosen)
        self._display.update()
        return self.race.episodes.observations[0, 0].copy(), self._info()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Let the car act once.

        Args:
            action: (2,) in [-1, 1].

        Returns:
            Observation (a copy), reward, terminated, truncated and info.

        Raises:
            ValueError: If the action is of the wrong shape or not a number. Nothing has moved
                then.
            ResetNeeded: If no episode is running.
        """
        episodes = self.race.episodes
        if episodes.over[0]:
            raise ResetNeeded("no episode is running: call reset() before step()")
        if np.shape(action) != (2,):
            raise ValueError(f"action must have shape (2,), found {action!r}")
        self._actions[0, 0] = action
        self.race.step(self._actions)
        self._display.update()
        return (
            episodes.observations[0, 0].copy(),
            float(episodes.rewards[0, 0]),
            bool(episodes.terminated[0, 0]),
            bool(episodes.truncated[0, 0]),
            self._info() | (last_info(self.race, 0, 0) if episodes.over[0] else {}),
        )

    def _info(self) -> dict[str, Any]:
        return {"car": self.race.agent_cars[0], "cars": self._infos.one(0)}
