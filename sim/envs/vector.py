"""A batch of races: Gymnasium's vector interface."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

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
from sim.envs.display import RENDER_MODES, Display, frame_rate
from sim.envs.infos import CarInfos
from sim.layout import COMMAND_SIZE
from sim.race import Race


class F110VectorEnv(VectorEnv[Observation, Action, NDArray[Any]]):
    """Many races of the same cars on the same tracks, stepped by one compiled call.

    ``help(sim.envs)`` shows the tables of an agent's actions, observations and rewards, and of
    what infos hold. A row of the batch is an agent: with A agents a race, row i is agent
    ``i % A`` of race ``i // A``, so that one policy can drive them all. With one agent (the other
    cars scripted), rows are races, and the batch is what `gymnasium.vector.SyncVectorEnv` makes of
    as many `F110Env`, byte for byte.

    Episodes follow one another by Gymnasium's ``AutoresetMode.SAME_STEP``: a step that ends a
    race's episode returns its rewards and flags with the first observations of the next one,
    while ``infos["final_obs"]`` and ``infos["final_info"]`` hold the last of the old one (with
    masks ``_final_obs`` and ``_final_info``). No step is lost, every returned transition is
    real, and learners bootstrap from the last observation as Stable-Baselines3 and CleanRL do.
    At every step ``infos["cars"]`` tells of every car its pose, speed, place on the track, laps
    and contacts: arrays (N, C) or (N, C, 3).

    Args:
        config: The environment, or a dict of its settings. Several agents need
            ``end_when="any"``: their rows begin and end episodes together. The default is that
            of `F110Env`.
        num_envs: Rows, N; a multiple of the number of agents.
        copy: Whether observations and ``infos["cars"]`` are copies, the caller's to keep, or
            may be always the same arrays, which the next step overwrites; those of infos are
            read-only then. All else that is returned is new at each step.
        render_mode: "rgb_array", "human" or None; see `render`.
        render_config: Size of the frames, and what they show.
        base_dir: What a map's file is relative to; None: the working directory.
        num_threads: Threads that share the races of a step; results do not depend on it.
        max_episode_steps: Steps after which an episode is truncated, if fewer than the
            configuration's ``max_steps``; `gymnasium.make_vec` passes it on, and as in
            `gymnasium.make` -1 is as none.

    Attributes:
        race: The batch of races.
        copies: As given by ``copy``.

    Raises:
        ValueError: If the dict is invalid, every car has a driver, several agents end apart,
            num_envs is not such a multiple, max_episode_steps is not positive, for another
            render_mode, for an unknown car to follow, and as `Race` does.
        DependencyNotInstalled: If render_mode is "human" and pygame is missing.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - as Gymnasium declares it
        "render_modes": list(RENDER_MODES),
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        config: EnvConfig | Mapping[str, Any] = CONVOY,
        num_envs: int = 1,
        *,
        copy: bool = True,
        render_mode: str | None = None,
        render_config: RenderConfig = RenderConfig(),  # noqa: B008 - frozen
        base_dir: Path | None = None,
        num_threads: int = 1,
        max_episode_steps: int | None = None,
    ) -> None:
        config = read_config(config)
        if max_episode_steps not in (None, -1):
            if max_episode_steps < 1:
                raise ValueError(f"max_episode_steps must be at least 1, found {max_episode_steps}")
            fewest = min(config.max_steps, max_episode_steps)
            config = config.model_copy(update={"max_steps": fewest})
        agents = len(agent_names(config))
        if agents > 1 and config.end_when == "all":
            raise ValueError(
                f"{agents} agents and end_when 'all': rows of a vector environment must begin "
                "and end together; use end_when 'any', or F110ParallelEnv"
            )
        if num_envs < 1 or num_envs % agents:
            raise ValueError(
                f"num_envs must be a positive multiple of the {agents} agents, found {num_envs}"
            )
        self.render_mode = render_mode
        self.num_envs = num_envs
        races = num_envs // agents
        self.race = Race(config, num_envs=races, base_dir=base_dir, num_threads=num_threads)
        self.metadata = self.metadata | {"render_fps": frame_rate(config)}
        self._display = Display(self.race, render_mode, render_config)
        self.single_observation_space, self.single_action_space = agent_spaces(self.race)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.copies = copy
        self._infos = CarInfos(self.race, copy)
        self._running = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every race.

        Args:
            seed: Restarts the races' sequences of episodes: one seed a race, None going on with
                the race's; a single s stands for s, s + 1, s + 2, ... None goes on with all. The
                first sequences are seeded from the operating system's entropy; ``np_random_seed``
                is that of race 0.
            options: ``{"spawn_set": i}`` starts all from that spawn set instead of drawn ones,
                ``{"track": i}`` on that track, ``{"poses": p}`` from those poses of all cars of
                each of the E races, (E, C, 3) x m, y m, yaw rad. Later episodes are drawn.

        Returns:
            The observations, (N, D), and infos.

        Raises:
            ValueError: If there are not as many seeds as races, one is negative, an option is
                unknown, there is no such spawn set or track, or a car would be in a wall or
                another car.
            TypeError: If a seed is not an integer.
        """
        chosen = read_options(options, self.race.num_envs, len(self.race.config.cars))
        poses = chosen.pop("poses", None)
        if seed is None and not self._running:
            seed = self.np_random_seed  # drawn by Gymnasium at this first look
        races = range(self.race.num_envs)
        if seed is None:
            seeds: list[int | None] = [None for _ in races]
        elif isinstance(seed, int | np.integer):
            seeds = [int(seed) + e for e in races]
        else:
            seeds = [None if own is None else operator.index(own) for own in seed]
        if len(seeds) != len(races):
            raise ValueError(f"{len(seeds)} seeds for {len(races)} races: one a race is needed")
        for e in races if poses is not None else ():
            try:
                self.race.check_poses(e, poses[e], **chosen)
            except ValueError as error:
                raise ValueError(f"race {e}: {error}") from None
        sequences = [None if own is None else np.random.SeedSequence(own) for own in seeds]
        super().reset(seed=seeds[0])
        for e, sequence in enumerate(sequences):
            if sequence is not None:
                self.race.seed(e, sequence)
        for e in races:
            self.race.next_episode(e, **chosen, poses=None if poses is None else poses[e])
        self._running = True
        self._display.update()
        return self._observations(), self._infos.batch()

    def step(
        self, actions: Action
    ) -> tuple[
        Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
    ]:
        """Let every agent act once, and start new episodes where the old ones end.

        Args:
            actions: (N, 2) in [-1, 1].

        Returns:
            Observations (N, D), rewards (N,), terminations (N,), truncations (N,) and infos.

        Raises:
            ValueError: If the actions are of the wrong shape or one is not a number. Nothing has
                moved then, in any race.
            ResetNeeded: If reset() has not been called.
        """
        if not self._running:
            raise ResetNeeded("no episode is running: call reset() before step()")
        actions = np.asarray(actions, np.float32)
        if actions.shape != (self.num_envs, COMMAND_SIZE):
            raise ValueError(
                f"actions must have shape {(self.num_envs, COMMAND_SIZE)}, found {actions.shape}"
            )
        episodes = self.race.step(actions.reshape(self.race.num_envs, -1, COMMAND_SIZE))
        rewards = episodes.rewards.flatten()
        terminated, truncated = episodes.terminated.flatten(), episodes.truncated.flatten()
        infos = self._final_infos()
        self.race.autoreset()
        self._display.update()
        infos |= self._infos.batch()
        return self._observations(), rewards, terminated, truncated, infos

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Show the races.

        Returns:
            In mode "rgb_array" a frame a row, (height, width, 3) uint8; agents of one race share
            theirs. In mode "human" None: every reset and step shows race 0 in a window, in real
            time.

        Raises:
            ResetNeeded: If the environment has not been reset.
        """
        frames = self._display.render()
        if frames is None:
            return None
        agents = len(self.race.agents)
        return tuple(frames[row // agents] for row in range(self.num_envs))

    def close_extras(self, **_: Any) -> None:
        """Close the window, if there is one."""
        display = getattr(self, "_display", None)  # older Gymnasiums close half-built ones too
        if display is not None:
            display.close()

    def _observations(self) -> Observation:
        rows = self.race.episodes.observations.reshape(self.num_envs, -1)
        return rows.copy() if self.copies else rows

    def _final_infos(self) -> dict[str, Any]:
        """Last observations and infos of the episodes that are over, by Gymnasium's convention."""
        infos: dict[str, Any] = {}
        episodes = self.race.episodes
        agents = len(self.race.agents)
        for env in np.flatnonzero(episodes.over).tolist():
            cars = self._infos.one(env)
            for agent, car in enumerate(self.race.agent_cars):
                own = {"car": car, "cars": cars}
                last = {
                    "final_obs": episodes.observations[env, agent].copy(),
                    "final_info": own | last_info(self.race, env, agent),
                }
                infos = self._add_info(infos, last, env * agents + agent)
        return infos
