"""Several learning cars: the PettingZoo interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from pettingzoo import ParallelEnv  # type: ignore[import-untyped]

from sim.config import EnvConfig, RenderConfig
from sim.envs.common import (
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

_IGNORED_OPTION = "options"  # made up by PettingZoo's API test


class F110ParallelEnv(Rendered, ParallelEnv[str, Observation, Action]):  # type: ignore[misc]
    """Cars on a track as a PettingZoo parallel environment.

    The agents are the cars without a driver, by name. ``help(sim.envs)`` shows the tables of
    their actions, observations and rewards, and of what infos hold: of every car its pose, speed,
    place on the track, laps and contacts; and in an agent's last info how its episode ended.

    Args:
        config: The environment, or a dict of its settings.
        render_mode: "rgb_array", "human" or None; see `render`.
        render_config: Size of the frames, and what they show.
        base_dir: What a map's file is relative to; None: the working directory.

    Attributes:
        race: The race; its world holds the state of all cars.

    Raises:
        ValueError: If the dict is invalid, if every car has a driver, for another render_mode,
            for an unknown car to follow, and as `Race` does.
        DependencyNotInstalled: If render_mode is "human" and pygame is missing.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - as PettingZoo declares it
        "name": "f110_v0",
        "render_modes": list(RENDER_MODES),
        "is_parallelizable": True,
    }

    def __init__(
        self,
        config: EnvConfig | Mapping[str, Any] = EnvConfig(),  # noqa: B008 - frozen
        render_mode: str | None = None,
        render_config: RenderConfig = RenderConfig(),  # noqa: B008 - frozen
        base_dir: Path | None = None,
    ) -> None:
        config = read_config(config)
        self.possible_agents = agent_names(config)
        self._hold(Race(config, base_dir=base_dir), render_mode, render_config)
        self.agents: list[str] = []
        self._index = {name: i for i, name in enumerate(self.possible_agents)}
        # One object an agent, so that each can be seeded by itself.
        agents = {name: agent_spaces(self.race) for name in self.possible_agents}
        self.observation_spaces = {name: own[0] for name, own in agents.items()}
        self.action_spaces = {name: own[1] for name, own in agents.items()}
        self._actions = np.zeros((1, len(self.possible_agents), 2), np.float32)
        self._infos = CarInfos(self.race)

    def observation_space(self, agent: str) -> spaces.Box:
        """Space of an agent's observations, the same object at every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Box:
        """Space of an agent's actions, the same object at every call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode.

        Args:
            seed: Restarts the sequence of episodes; None goes on with it. The first sequence is
                seeded from the operating system's entropy.
            options: ``{"spawn_set": i}`` starts from that spawn set instead of a drawn one,
                ``{"track": i}`` on that track, ``{"poses": p}`` from those poses of all cars,
                (C, 3) x m, y m, yaw rad.

        Returns:
            The observations and the infos, by agent.

        Raises:
            ValueError: If an option is unknown, there is no such spawn set or track, or a car
                would be in a wall or another car; nothing has changed then. An option called
                "options" is ignored: PettingZoo's own API test passes it to every environment.
        """
        known = {k: v for k, v in (options or {}).items() if k != _IGNORED_OPTION}
        chosen = read_options(known, len(self.race.config.cars))
        if "poses" in chosen:
            self.race.check_poses(0, **chosen)
        if seed is not None:
            self.race.seed(0, seed)
        self.race.next_episode(0, **chosen)
        self._display.update()
        self.agents = self.possible_agents[:]
        observations = self.race.episodes.observations[0].copy()
        return dict(zip(self.agents, observations, strict=True)), self._tell(self.agents)

    def step(
        self, actions: dict[str, Action]
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Let every live agent act once.

        Args:
            actions: (2,) in [-1, 1] of every agent in ``agents``, and of no other.

        Returns:
            Observations (copies, the caller's to keep), rewards, terminations, truncations and
            infos of the agents that acted. Those that are done leave ``agents``.

        Raises:
            ValueError: If an agent's action is missing, of the wrong shape or not a number, or an
                agent is unknown or done. Nothing has moved then.
            ResetNeeded: If no episode is running.
        """
        agents = self.agents
        if not agents:
            raise ResetNeeded("no episode is running: call reset() before step()")
        if actions.keys() != set(agents):
            raise ValueError(f"actions must be those of {agents}, found {list(actions)}")
        for name, action in actions.items():
            if np.shape(action) != (2,):
                raise ValueError(f"action of {name!r} must have shape (2,), found {action!r}")
            self._actions[0, self._index[name]] = action
        episodes = self.race.step(self._actions)
        self._display.update()
        copies = episodes.observations[0].copy()
        paid = episodes.rewards[0].tolist()
        ended, cut = episodes.terminated[0].tolist(), episodes.truncated[0].tolist()
        rows = {name: self._index[name] for name in agents}
        self.agents = [name for name, i in rows.items() if not (ended[i] or cut[i])]
        infos = self._tell(agents)
        for name in agents:
            if name not in self.agents:
                infos[name] |= last_info(self.race, 0, rows[name])
        return (
            {name: copies[i] for name, i in rows.items()},
            {name: paid[i] for name, i in rows.items()},
            {name: ended[i] for name, i in rows.items()},
            {name: cut[i] for name, i in rows.items()},
            infos,
        )

    def _tell(self, agents: list[str]) -> dict[str, dict[str, Any]]:
        """Infos of agents; what they tell of the cars are the same arrays."""
        cars, own = self._infos.one(0), self.race.agent_cars
        return {name: {"car": own[self._index[name]], "cars": cars} for name in agents}

    def state(self) -> NDArray[np.float64]:
        """The state of every car, (C, 7), columns of `sim.layout`: a copy."""
        state: NDArray[np.float64] = self.race.world.arrays.state[0].copy()
        return state
