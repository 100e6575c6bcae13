"""Batched episodes: a world, scripted drivers, rewards and observations, stepped together."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from sim.config import EnvConfig
from sim.drivers import Driver, make_driver
from sim.layout import COMMAND_SIZE, TARGET_SPEED, TARGET_STEER
from sim.observation import Observer
from sim.spawning import make_spawner
from sim.tasks import FINISHED, NONE, OTHER_DONE, Episodes, Task, make_task, world_outcome
from sim.tracks import Track, make_track
from sim.world import World

Seed = int | np.random.SeedSequence


# What the kernels below know about a car, one record a car.
_CAR: Final = np.dtype(
    [
        ("agent", np.int64),  # its index among the agents, -1 for a scripted car
        ("steer_max", np.float64),  # rad
        ("speed_middle", np.float64),  # m/s, command of action 0
        ("speed_half", np.float64),  # m/s, command of action 1 less that of action 0
    ]
)


@njit(cache=True, nogil=True, error_model="numpy")
def _begin(
    actions: NDArray[np.float32],
    episodes: Episodes,
    cars: NDArray[np.void],
    commands: NDArray[np.float64],
    first: int,
    last: int,
) -> int:
    """Count the step and turn actions into commands.

    Agents that are done are told to stand, whatever their action. If an action of another is
    not a number nothing is written, and the agent's index e * A + a is returned, else -1.
    """
    A: int = episodes.outcome.shape[1]
    for e in range(first, last):
        for a in range(A):
            bad = np.isnan(actions[e, a, 0]) or np.isnan(actions[e, a, 1])
            if bad and episodes.outcome[e, a] == NONE:
                return e * A + a
    for e in range(first, last):
        if not episodes.over[e]:
            episodes.steps[e] += 1
        for c in range(len(cars)):
            car = cars[c]
            if car.agent < 0:
                continue
            if episodes.outcome[e, car.agent] != NONE:
                commands[e, c, TARGET_STEER] = commands[e, c, TARGET_SPEED] = 0.0
                continue
            steer = min(max(actions[e, car.agent, 0], -1.0), 1.0)
            speed = min(max(actions[e, car.agent, 1], -1.0), 1.0)
            commands[e, c, TARGET_STEER] = car.steer_max * steer
            commands[e, c, TARGET_SPEED] = car.speed_middle + car.speed_half * speed
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def _conclude(
    crashed: NDArray[np.bool_],
    finished: NDArray[np.bool_],
    episodes: Episodes,
    cars: NDArray[np.void],
    max_steps: int,
    end_when_any: bool,
    first: int,
    last: int,
) -> None:
    """Complete the outcomes, end the episodes that are over, and derive the flags."""
    A = episodes.outcome.shape[1]
    S = len(cars) - A
    for e in range(first, last):
        if episodes.over[e]:
            continue
        late = episodes.steps[e] >= max_steps
        agents_done = scripted_done = 0
        for c in range(len(cars)):
            a = cars[c].agent
            if a < 0:
                scripted_done += crashed[e, c] or finished[e, c]
            else:
                if episodes.outcome[e, a] == NONE:
                    episodes.outcome[e, a] = world_outcome(crashed[e, c], finished[e, c], late)
                agents_done += episodes.outcome[e, a] != NONE
        if end_when_any:
            over = late or agents_done + scripted_done > 0
        else:
            over = late or (agents_done == A if A > 0 else scripted_done == S)
        for a in range(A):
            if over and episodes.outcome[e, a] == NONE:
                episodes.outcome[e, a] = OTHER_DONE
            outcome = episodes.outcome[e, a]
            episodes.terminated[e, a] = NONE < outcome <= FINISHED
            episodes.truncated[e, a] = outcome > FINISHED
        episodes.over[e] = over


class Race:
    """E environments of the same cars on the same track: the engine under every environment.

    Cars without a driver are the agents. An agent is terminated when it crashes, crosses the
    finish line or accomplishes its task; it is truncated when its task gives up or at
    ``max_steps``. With ``end_when="any"`` the first car that is done, scripted ones too, ends
    the episode, and agents that are not done themselves are truncated (``OTHER_DONE``). With
    ``"all"`` it ends when every agent is done (every car, if there are no agents); an agent that
    is done earns nothing more and its car is told to stand, where others can run into it.

    Race never resets by itself. An environment whose episode is over keeps its outcome, steps
    and flags and pays 0 until `reset`; it starts out that way.

    Args:
        config: The environment.
        num_envs: Environments in the batch, E.
        base_dir: What a map's file is relative to; none: the working directory.

    Attributes:
        config: The environment.
        num_envs: E.
        agents: Names of the agents, in the order of the cars.
        track: The track.
        world: The physics.
        spawn_sets: Spawn names, one a car, for each set that an episode can start from; none
            for starts that have no names.
        episodes: What `step` returns: the same arrays each time, overwritten in place.
        observation_low: (D,) float32 smallest observation.
        observation_high: (D,) float32 largest observation.

    Raises:
        ValueError: If the cars do not fit: an unknown spawn, more cars than spawns or room, a car
            in a wall or another car; if more than one lap is asked for on an open track; if a car
            has both driver and task; if the observation is empty.
    """

    def __init__(
        self, config: EnvConfig, *, num_envs: int = 1, base_dir: Path | None = None
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, found {num_envs}")
        self.config = config
        self.num_envs = num_envs
        self.agents = tuple(car.name for car in config.cars if car.driver is None)
        self.track: Track = make_track(config.track, base_dir)
        self.world = World(
            self.track,
            [car.vehicle for car in config.cars],
            config.lidar,
            num_envs=num_envs,
            physics_step=config.physics_step,
            laps=config.laps,
        )
        observer = Observer(config, self.track)
        self._observer = observer
        self.observation_low, self.observation_high = observer.low, observer.high
        self._cars = _car_table(config)
        self._agent_cars = [i for i, car in enumerate(config.cars) if car.driver is None]
        self._drivers: list[Driver] = []
        self._tasks: list[Task] = []
        for i, car in enumerate(config.cars):
            if car.driver is not None:
                driver = make_driver(
                    car.driver, config, i, self.track, num_envs=num_envs, base_dir=base_dir
                )
                self._drivers.append(driver)
            if car.task is not None:
                if car.driver is not None:
                    raise ValueError(
                        f"car {car.name!r} has a task, but a driver instead of an agent"
                    )
                self._tasks.append(make_task(car.task, config, i, num_envs))
        A = len(self.agents)
        self._commands = np.zeros((num_envs, len(config.cars), COMMAND_SIZE))
        self.episodes = Episodes(
            observations=np.zeros((num_envs, A, len(observer.low)), np.float32),
            rewards=np.zeros((num_envs, A)),
            terminated=np.zeros((num_envs, A), np.bool_),
            truncated=np.ones((num_envs, A), np.bool_),
            outcome=np.full((num_envs, A), OTHER_DONE, np.int8),
            steps=np.zeros(num_envs, np.int64),
            over=np.ones(num_envs, np.bool_),
        )
        self._spawner = make_spawner(config, self.track)
        self.spawn_sets = self._spawner.sets
        trials = list(self._spawner.trials())
        for what, poses in trials:
            try:
                self.world.place(0, poses, 0)
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from error
        for env in range(num_envs):  # so that stepping before a reset is harmless
            self.world.place(env, trials[0][1], 0)

    def reset(self, env: int, seed: Seed, *, spawn_set: int | None = None) -> None:
        """Start a new episode in one environment and write its observations.

        The seed alone decides where the cars start and the noise, whatever the batch position.

        Args:
            env: Index of the environment.
            seed: Seed of the environment's own random generator.
            spawn_set: Index of the spawn set; none: drawn uniformly.

        Raises:
            ValueError: If there is no such spawn set, or a random start finds no room.
        """
        rng = np.random.default_rng(seed)
        noise_key = int(rng.integers(2**64, dtype=np.uint64))
        self.world.place(env, self._spawner.draw(rng, spawn_set), noise_key)
        episodes = self.episodes
        episodes.rewards[env] = 0.0
        episodes.terminated[env] = episodes.truncated[env] = episodes.over[env] = False
        episodes.outcome[env] = NONE
        episodes.steps[env] = 0
        for driver in self._drivers:
            driver.reset(env)
        for task in self._tasks:
            task.reset(env)
        self._observer.observe(self.world.arrays, episodes.observations, env, env + 1)

    def step(self, actions: ArrayLike) -> Episodes:
        """Advance every environment by one action.

        Args:
            actions: (E, A, 2) in [-1, 1], mapped linearly to the steering angle in [-steer_max,
                steer_max] and the speed in [speed_min, speed_max], or [0, speed_max] for a car
                without reverse. Clipped to that box; ignored for agents that are done.

        Returns:
            `episodes`, whose arrays the next step overwrites.

        Raises:
            ValueError: If the shape is wrong or an action is not a number. Nothing has moved then.
        """
        actions = np.asarray(actions, np.float32)
        shape = (self.num_envs, len(self.agents), COMMAND_SIZE)
        if actions.shape != shape:
            raise ValueError(f"actions must have shape {shape}, found {actions.shape}")
        self._before(actions, 0, self.num_envs)
        self.world.step(self._commands, self.config.physics_steps_per_action)
        self._after(0, self.num_envs)
        return self.episodes

    def lap_times(self, env: int, agent: int) -> list[float]:
        """Time of each lap that an agent has completed in this episode, s.

        On an open track the time from the start to the finish line is its only one. Of more
        laps than the configuration asks for, the first are told.
        """
        steps = self.world.arrays.lap_steps[env, self._agent_cars[agent]]
        return [float(n) * self.config.physics_step for n in steps if n > 0]

    def _before(self, actions: NDArray[np.float32], first: int, last: int) -> None:
        """Write the commands of the environments ``first`` to ``last - 1``."""
        bad = _begin(actions, self.episodes, self._cars, self._commands, first, last)
        if bad >= 0:
            env, agent = divmod(bad, len(self.agents))
            raise ValueError(
                f"action of {self.agents[agent]!r} in environment {env} is not a number: "
                f"{actions[env, agent].tolist()}"
            )
        for driver in self._drivers:
            driver.command(self.world.arrays, self._commands, first, last)

    def _after(self, first: int, last: int) -> None:
        """Judge and observe the environments ``first`` to ``last - 1``."""
        world, episodes = self.world.arrays, self.episodes
        for task in self._tasks:
            task.step(world, episodes, first, last)
        _conclude(
            world.crashed,
            world.finished,
            episodes,
            self._cars,
            self.config.max_steps,
            self.config.end_when == "any",
            first,
            last,
        )
        self._observer.observe(world, episodes.observations, first, last)


def _car_table(config: EnvConfig) -> NDArray[np.void]:
    rows, agent = [], 0
    for car in config.cars:
        vehicle = car.vehicle
        slowest = vehicle.speed_min if car.reverse else 0.0
        middle, half = (vehicle.speed_max + slowest) / 2, (vehicle.speed_max - slowest) / 2
        rows.append((-1 if car.driver else agent, vehicle.steer_max, middle, half))
        agent += car.driver is None
    return np.array(rows, _CAR)
