"""Batched episodes: a world, scripted drivers, rewards and observations, stepped together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from sim.config import EnvConfig
from sim.drivers import Driver, make_driver
from sim.layout import COMMAND_SIZE, STEER, TARGET_SPEED, TARGET_STEER, V
from sim.observation import Observer
from sim.spawning import Starts
from sim.tasks import FINISHED, NONE, OTHER_DONE, Episodes, Task, make_task, world_outcome
from sim.tracks import Track, make_tracks
from sim.vehicle import DRAWN, V_MIN
from sim.world import World, compiled

Seed = int | np.random.SeedSequence


# What the kernels below know about a car, one record a car.
_CAR: Final = np.dtype(
    [
        ("agent", np.int64),  # its index among the agents, -1 for a scripted car
        ("rates", np.bool_),  # its commands are rates: rad/s and m/s^2, not rad and m/s
        ("steer_max", np.float64),  # first command of action 1
        ("speed_middle", np.float64),  # second command of action 0
        ("speed_half", np.float64),  # second command of action 1 less that of action 0
    ]
)


@njit(cache=True, nogil=True, error_model="numpy")
def _begin(
    actions: NDArray[np.float32],
    episodes: Episodes,
    cars: NDArray[np.void],
    state: NDArray[np.float64],
    duration: float,
    commands: NDArray[np.float64],
    first: int,
    last: int,
) -> int:
    """Count the step and turn actions into commands, to be held for ``duration`` seconds.

    Agents that are done are told to stand, wheels straight, whatever their action. If an action
    of another is not a number nothing is written, and its index e * A + a is returned, else -1.
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
                if car.rates:
                    commands[e, c, TARGET_STEER] = -state[e, c, STEER] / duration
                    commands[e, c, TARGET_SPEED] = -state[e, c, V] / duration
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
    """Add up the rewards, complete the outcomes, end episodes, and derive the flags."""
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
            episodes.returns[e, a] += episodes.rewards[e, a]
            if over and episodes.outcome[e, a] == NONE:
                episodes.outcome[e, a] = OTHER_DONE
            outcome = episodes.outcome[e, a]
            episodes.terminated[e, a] = NONE < outcome <= FINISHED
            episodes.truncated[e, a] = outcome > FINISHED
        episodes.over[e] = over


class Race:
    """E environments of the same cars on the same tracks: the engine under every environment.

    Cars without a driver are the agents. An agent is terminated when it crashes, finishes
    (see `sim.laps`) or accomplishes its task; it is truncated when its task gives up or at
    ``max_steps``. With ``end_when="any"`` the first car that is done, scripted ones too, ends
    the episode, and agents that are not done themselves are truncated (``OTHER_DONE``). With
    ``"all"`` it ends when every agent is done (every car, if there are no agents); an agent that
    is done earns nothing more and its car is told to stand, where others can run into it.

    `step` never resets. An environment whose episode is over keeps its outcome, steps and flags
    and pays 0 until it is reset; it starts out that way. `reset` starts an episode of a given
    seed, `next_episode` the next of the environment's own stream (see `seed`), and `autoreset`
    the next one wherever an episode is over.

    Args:
        config: The environment.
        num_envs: Environments in the batch, E.
        base_dir: What a map's file is relative to; none: the working directory.
        num_threads: Threads that share the environments of a step; results do not depend on it.

    Attributes:
        config: The environment.
        num_envs: E.
        agents: Names of the agents, in the order of the cars.
        tracks: The tracks; each episode is on one.
        episode_track: (E,) index of the track that each environment's episode is on.
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
        self,
        config: EnvConfig,
        *,
        num_envs: int = 1,
        base_dir: Path | None = None,
        num_threads: int = 1,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, found {num_envs}")
        self.config = config
        self.num_envs = num_envs
        self.agents = tuple(car.name for car in config.cars if car.driver is None)
        self._seeds = np.random.SeedSequence().spawn(num_envs)
        self._started = [0] * num_envs  # episodes of the stream, by environment
        self.tracks: tuple[Track, ...] = make_tracks(config.track, base_dir)
        self.world = World(
            self.tracks,
            [car.vehicle for car in config.cars],
            config.lidar,
            num_envs=num_envs,
            physics_step=config.physics_step,
            num_threads=num_threads,
            steer_delay_max=(config.heterogeneity.steer_delay or (0, 0))[1],
            laps=config.laps,
        )
        for i, car in enumerate(config.cars):
            if car.vehicle.control == "rates" and not car.reverse:
                self.world.vehicles[:, i, V_MIN] = 0.0
        self.episode_track = self.world.arrays.track
        observer = Observer(config, self.tracks)
        self._observer = observer
        self.observation_low, self.observation_high = observer.low, observer.high
        self._cars = _car_table(config)
        self._agent_cars = [i for i, car in enumerate(config.cars) if car.driver is None]
        self._drivers: list[Driver] = []
        self._tasks: list[Task] = []
        for i, car in enumerate(config.cars):
            if car.driver is not None:
                driver = make_driver(
                    car.driver, config, i, self.tracks, num_envs=num_envs, base_dir=base_dir
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
            returns=np.zeros((num_envs, A)),
            terminated=np.zeros((num_envs, A), np.bool_),
            truncated=np.ones((num_envs, A), np.bool_),
            outcome=np.full((num_envs, A), OTHER_DONE, np.int8),
            steps=np.zeros(num_envs, np.int64),
            over=np.ones(num_envs, np.bool_),
        )
        self._actions = np.zeros((num_envs, A, COMMAND_SIZE), np.float32)
        self._begin = compiled(_begin, *self._begin_arguments(), 0, 1)
        self._conclude = compiled(_conclude, *self._conclude_arguments(), 0, 1)
        self._starts = Starts(config, self.tracks)
        self.spawn_sets = self._starts.sets
        self._check_starts()

    @property
    def track(self) -> Track:
        """The track, if there is only one; else see `tracks` and `episode_track`."""
        if len(self.tracks) > 1:
            raise ValueError(f"there are {len(self.tracks)} tracks: see tracks and episode_track")
        return self.tracks[0]

    def _begin_arguments(self) -> tuple[Any, ...]:
        config = self.config
        duration = config.physics_step * config.physics_steps_per_action
        state = self.world.arrays.state
        return self._actions, self.episodes, self._cars, state, duration, self._commands

    def _conclude_arguments(self) -> tuple[Any, ...]:
        world, config = self.world.arrays, self.config
        any_ends = config.end_when == "any"
        return world.crashed, world.finished, self.episodes, self._cars, config.max_steps, any_ends

    def _check_starts(self) -> None:
        trials = list(self._starts.trials())
        for what, track, poses in trials:
            try:
                self.world.place(0, poses, 0, track)
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from error
        for env in range(self.num_envs):  # so that stepping before a reset is harmless
            self.world.place(env, trials[0][2], 0)

    def reset(
        self, env: int, seed: Seed, *, spawn_set: int | None = None, track: int | None = None
    ) -> None:
        """Start a new episode in one environment and write its observations.

        The seed alone decides the track, where the cars start, the noise and what differs between
        cars (`HeterogeneityConfig`), whatever the batch position. A track that is asked for
        changes nothing else, nor does the number of tracks.

        Args:
            env: Index of the environment.
            seed: Seed of the environment's own random generator.
            spawn_set: Index of the spawn set; none: drawn uniformly.
            track: Index of the track; none: drawn uniformly.

        Raises:
            ValueError: If there is no such spawn set or track, or a random start finds no room.
        """
        rng = np.random.default_rng(seed)
        noise_key = int(rng.integers(2**64, dtype=np.uint64))
        track, poses = self._starts.draw(seed, rng, track, spawn_set)
        self._draw_vehicles(env, rng)
        self.world.place(env, poses, noise_key, track)
        episodes = self.episodes
        episodes.rewards[env] = episodes.returns[env] = 0.0
        episodes.terminated[env] = episodes.truncated[env] = episodes.over[env] = False
        episodes.outcome[env] = NONE
        episodes.steps[env] = 0
        for driver in self._drivers:
            driver.reset(env)
        for task in self._tasks:
            task.reset(env)
        self._observer.observe(self.world.arrays, episodes.observations, env, env + 1)

    def _draw_vehicles(self, env: int, rng: np.random.Generator) -> None:
        """Let the cars of one environment draw what differs between cars."""
        vehicles = self.world.vehicles[env]
        for name, bounds in self.config.heterogeneity:
            if bounds is not None:
                low, high = bounds
                draws = rng.uniform(low, high + (name == "steer_delay"), len(vehicles))
                vehicles[:, DRAWN[name]] = np.floor(draws) if name == "steer_delay" else draws

    def seed(self, env: int, seed: Seed) -> None:
        """Start an environment's stream of episode seeds anew; before, it is the system's entropy.

        Its n-th episode (from 0) is ``SeedSequence(seed).spawn(n + 1)[n]``'s, whatever the batch
        size, the batch position and the other environments.

        Args:
            env: Index of the environment.
            seed: Seed of the stream; a sequence is left as it is.
        """
        sequence = np.random.SeedSequence
        self._seeds[env] = seed if isinstance(seed, sequence) else sequence(seed)
        self._started[env] = 0

    def next_episode(
        self, env: int, *, spawn_set: int | None = None, track: int | None = None
    ) -> None:
        """Start the next episode of an environment's stream; see `reset`."""
        stream = self._seeds[env]
        # The n-th child that `SeedSequence.spawn` would make, without counting inside it.
        key = (*stream.spawn_key, self._started[env])
        episode = np.random.SeedSequence(stream.entropy, spawn_key=key)
        self.reset(env, episode, spawn_set=spawn_set, track=track)
        self._started[env] += 1

    def autoreset(self) -> NDArray[np.int64]:
        """Start the next episode of every environment whose episode is over.

        Until then `episodes` holds the last observations, rewards, returns, flags, outcomes and
        steps of the episodes that ended; from then on, the first of the new ones.

        Returns:
            (N,) the environments that were reset, ascending; often none.
        """
        envs = np.flatnonzero(self.episodes.over)
        for env in envs.tolist():
            self.next_episode(env)
        return envs

    def step(self, actions: ArrayLike) -> Episodes:
        """Advance every environment by one action.

        Args:
            actions: (E, A, 2) in [-1, 1], mapped linearly to the steering angle in [-steer_max,
                steer_max] and the speed in [speed_min, speed_max], or [0, speed_max] for a car
                without reverse; for a car with ``control: rates`` to the steering rate in
                [-steer_rate_max, steer_rate_max] and the acceleration in [-acceleration_max,
                acceleration_max]. Clipped to that box; ignored for agents that are done.

        Returns:
            `episodes`, whose arrays the next step overwrites.

        Raises:
            ValueError: If the shape is wrong or an action is not a number. Nothing has moved then.
            FloatingPointError: If the dynamics diverge, for too long a physics step.
        """
        actions = np.asarray(actions, np.float32)
        if actions.shape != self._actions.shape:
            raise ValueError(
                f"actions must have shape {self._actions.shape}, found {actions.shape}"
            )
        self._actions[...] = actions
        bad = self._begin(*self._begin_arguments(), 0, self.num_envs)
        if bad >= 0:
            env, agent = divmod(bad, len(self.agents))
            raise ValueError(
                f"action of {self.agents[agent]!r} in environment {env} is not a number: "
                f"{actions[env, agent].tolist()}"
            )
        self.world.pool.run(self._step_range, self.num_envs)
        return self.episodes

    def lap_times(self, env: int, agent: int) -> list[float]:
        """Time of each lap that an agent has completed in this episode, s.

        On an open track the time from the start to the finish line is its only one. Of more
        laps than the configuration asks for, the first are told.
        """
        steps = self.world.arrays.lap_steps[env, self._agent_cars[agent]]
        return [float(n) * self.config.physics_step for n in steps if n > 0]

    def _step_range(self, first: int, last: int, thread: int) -> None:
        """Step the environments ``first`` to ``last - 1``, whose agents' commands are written."""
        for driver in self._drivers:
            driver.command(self.world.arrays, self._commands, first, last)
        steps = self.config.physics_steps_per_action
        self.world.step_range(self._commands, steps, first, last, thread)
        self._after(first, last)

    def _after(self, first: int, last: int) -> None:
        """Judge and observe the environments ``first`` to ``last - 1``."""
        world, episodes = self.world.arrays, self.episodes
        for task in self._tasks:
            task.step(world, episodes, first, last)
        self._conclude(*self._conclude_arguments(), first, last)
        self._observer.observe(world, episodes.observations, first, last)


def _car_table(config: EnvConfig) -> NDArray[np.void]:
    rows, agent = [], 0
    for car in config.cars:
        vehicle = car.vehicle
        slowest = vehicle.speed_min if car.reverse else 0.0
        rates = vehicle.control == "rates"
        if rates:
            steer, middle, half = vehicle.steer_rate_max, 0.0, vehicle.acceleration_max
        else:
            steer = vehicle.steer_max
            middle, half = (vehicle.speed_max + slowest) / 2, (vehicle.speed_max - slowest) / 2
        rows.append((-1 if car.driver else agent, rates, steer, middle, half))
        agent += car.driver is None
    return np.array(rows, _CAR)
