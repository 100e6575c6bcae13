"""Environments over `sim.race.Race`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv  # type: ignore[import-untyped]

from sim.config import EnvConfig
from sim.race import Race
from sim.tasks import Outcome

Observation = NDArray[np.float32]
Action = NDArray[np.float32]

_OPTIONS = ("spawn_set",)
_IGNORED_OPTION = "options"  # made up by PettingZoo's API test


class F110ParallelEnv(ParallelEnv[str, Observation, Action]):  # type: ignore[misc]
    """Cars on a track as a PettingZoo parallel environment.

    The agents are the cars without a driver, by name.

    **Actions**: ``Box(-1, 1, (2,), float32)``; values outside are clipped, NaN is an error.

    | index | meaning | -1 | 1 | unit |
    |---|---|---|---|---|
    | 0 | steering angle, left positive | -steer_max | steer_max | rad |
    | 1 | speed | speed_min, or 0 if ``reverse`` is off | speed_max | m/s |

    **Observations**: ``Box(low, high, (D,), float32)``, the parts that ``observation`` lists, in
    that order; each starts where the one before ends. B beams, C cars.

    | part | index | meaning | bounds | 1 stands for |
    |---|---|---|---|---|
    | lidar | 0 ... B-1 | distance along each beam, right to left | [0, 1] | max_range m |
    | pose | 0 | x from the centre of the track's free bounding box | [-1, 1] | half its length, m |
    | pose | 1 | y from the centre of the track's free bounding box | [-1, 1] | half its width, m |
    | pose | 2 | sine of yaw | [-1, 1] | - |
    | pose | 3 | cosine of yaw | [-1, 1] | - |
    | motion | 0 | speed along the body | [-1, 1] | speed_max m/s |
    | motion | 1 | steering angle | [-1, 1] | steer_max rad |
    | motion | 2 | yaw rate | [-1, 1] | 2 pi rad/s |
    | motion | 3 | slip angle | [-1, 1] | pi/4 rad |
    | others | 4k | f / (abs(f) + 2), f m ahead of the own car | [-1, 1] | infinity; 2 m read 0.5 |
    | others | 4k+1 | l / (abs(l) + 2), l m left of the own car | [-1, 1] | infinity |
    | others | 4k+2 | sine of the other's yaw less the own | [-1, 1] | - |
    | others | 4k+3 | cosine of the other's yaw less the own | [-1, 1] | - |

    k = 0 ... C-2 counts the other cars from the own one: the next in the order of the
    configuration first, the first after the last. Values of ``pose`` and ``motion`` beyond the
    bounds are clipped. The two-car scenario with 54 beams gives D = 54 + 4 + 4 = 62.

    **Rewards** are those of each car's task (`sim.tasks`); without a task, 0.

    **Episode end**: an agent is terminated when it crashes, finishes (see `sim.laps`) or
    accomplishes its task, and truncated when its task gives up on it, at ``max_steps`` or, with
    ``end_when="any"``, when any other car is done. Its last info holds ``outcome``, the
    `sim.tasks.Outcome` in lower case ("success", "crash", "finished", "idle", "time_limit",
    "other_done"), ``steps``, the actions taken, ``laps``, those completed, and ``lap_times``, how
    long each took in s; before that, infos are empty.

    Args:
        config: The environment.
        render_mode: Only None: this version does not render.
        base_dir: What a map's file is relative to; none: the working directory.

    Raises:
        ValueError: If every car has a driver, for another render_mode, and as `Race` does.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "f110_v0",
        "render_modes": [],
        "is_parallelizable": True,
    }

    def __init__(
        self,
        config: EnvConfig = EnvConfig(),  # noqa: B008 - frozen
        render_mode: str | None = None,
        base_dir: Path | None = None,
    ) -> None:
        if render_mode is not None:
            raise ValueError(
                f"render_mode {render_mode!r}: rendering is not available in this version"
            )
        self.render_mode = render_mode
        self.race = Race(config, base_dir=base_dir)
        if not self.race.agents:
            raise ValueError("every car has a driver: an environment needs an agent")
        self.possible_agents = list(self.race.agents)
        self.agents: list[str] = []
        self._index = {name: i for i, name in enumerate(self.possible_agents)}
        low, high = self.race.observation_low, self.race.observation_high
        self.observation_spaces = {n: spaces.Box(low, high) for n in self.possible_agents}
        self.action_spaces = {
            n: spaces.Box(-1.0, 1.0, (2,), np.float32) for n in self.possible_agents
        }
        self._actions = np.zeros((1, len(self.possible_agents), 2), np.float32)
        self._seeds = np.random.SeedSequence()

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
            seed: Restarts the sequence of episodes; none goes on with it. The first sequence is
                seeded from the operating system's entropy.
            options: ``{"spawn_set": i}`` starts from that spawn set instead of a drawn one.

        Returns:
            The observations and the (empty) infos, by agent.

        Raises:
            ValueError: If an option is unknown or there is no such spawn set. An option called
                "options" is ignored: PettingZoo's own API test passes it to every environment.
        """
        spawn_set = None
        for key, value in (options or {}).items():
            if key not in (*_OPTIONS, _IGNORED_OPTION):
                raise ValueError(f"unknown reset option {key!r}; known: {list(_OPTIONS)}")
            if key == "spawn_set":
                if not isinstance(value, int):
                    raise ValueError(f"spawn_set must be an integer, found {value!r}")
                spawn_set = value
        if seed is not None:
            self._seeds = np.random.SeedSequence(seed)
        self.race.reset(0, self._seeds.spawn(1)[0], spawn_set=spawn_set)
        self.agents = self.possible_agents[:]
        observations = self.race.episodes.observations[0].copy()
        return dict(zip(self.agents, observations, strict=True)), {n: {} for n in self.agents}

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
            ValueError: If the episode is over, an agent's action is missing, of the wrong shape
                or not a number, or an agent is unknown or done.
        """
        agents = self.agents
        if not agents:
            raise ValueError("the episode is over: call reset()")
        if actions.keys() != set(agents):
            raise ValueError(f"actions must be those of {agents}, found {list(actions)}")
        for name, action in actions.items():
            if np.shape(action) != (2,):
                raise ValueError(f"action of {name!r} must have shape (2,), found {action!r}")
            self._actions[0, self._index[name]] = action
        episodes = self.race.step(self._actions)
        all_observations = episodes.observations[0].copy()
        all_rewards = episodes.rewards[0].tolist()
        all_terminated = episodes.terminated[0].tolist()
        all_truncated = episodes.truncated[0].tolist()
        observations, rewards, terminated, truncated, infos = {}, {}, {}, {}, {}
        live = []
        for name in agents:
            i = self._index[name]
            observations[name] = all_observations[i]
            rewards[name] = all_rewards[i]
            terminated[name] = all_terminated[i]
            truncated[name] = all_truncated[i]
            if all_terminated[i] or all_truncated[i]:
                outcome = Outcome(episodes.outcome[0, i]).name.lower()
                times = self.race.lap_times(0, i)
                infos[name] = {
                    "outcome": outcome,
                    "steps": int(episodes.steps[0]),
                    "laps": len(times),
                    "lap_times": times,
                }
            else:
                infos[name] = {}
                live.append(name)
        self.agents = live
        return observations, rewards, terminated, truncated, infos

    def state(self) -> NDArray[np.float64]:
        """The state of every car, (C, 7), columns of `sim.layout`: a copy."""
        state: NDArray[np.float64] = self.race.world.arrays.state[0].copy()
        return state

    def close(self) -> None:
        """Release nothing: there is nothing to release."""
