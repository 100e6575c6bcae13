"""Batched episodes: a world, scripted drivers, rewards and observations, stepped together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.config import EnvConfig
from sim.config.drivers import DriverConfig
from sim.drivers.alternatives import Alternatives
from sim.drivers.base import Driver, Seat
from sim.drivers.factory import make_driver
from sim.episodes import (
    NONE,
    OTHER_DONE,
    Episodes,
    Outcome,
    begin,
    car_table,
    conclude,
    world_outcome,
)
from sim.layout import COMMAND_SIZE
from sim.native import bound
from sim.observation import Observer
from sim.physics.vehicle import COLUMNS, V_MIN, WHOLE
from sim.physics.world import World
from sim.spawning import Starts
from sim.tasks.task import Task
from sim.tracks.factory import make_tracks
from sim.tracks.track import Track

Seed = int | np.random.SeedSequence
Float = NDArray[np.float64]


class Race:
    """E environments of the same cars on the same tracks: the engine under every environment.

    Cars without a driver are the agents. An agent is terminated when it crashes, finishes
    (see `sim.physics.laps`) or accomplishes its task; it is truncated when its task gives up or at
    ``max_steps``. With ``end_when="any"`` the first car that is done, scripted ones too, ends
    the episode, and agents that are not done themselves are truncated (``OTHER_DONE``). With
    ``"all"`` it ends when every agent is done (every car, if there are no agents); an agent that
    is done earns nothing more, and its car is told to stand where it is, an obstacle to others.

    A race can be copied and pickled, and a copy goes on with the same bytes; it needs the files
    that its tracks and drivers came from.

    `step` never resets. An environment whose episode is over keeps its outcome, steps and flags
    and pays 0 until it is reset; it starts out that way. `reset` starts an episode of a given
    seed, `next_episode` the next of the environment's own stream (see `seed`), and `autoreset`
    the next one wherever an episode is over.

    Args:
        config: The environment.
        num_envs: Environments in the batch, E.
        base_dir: What a map's file is relative to; None: the working directory.
        num_threads: Threads that share the environments of a step; results do not depend on it.
        tracks: The tracks, if another race has built the same ones; None: they are built.
        alternatives: By car with a driver, other drivers, one of which may be chosen for it in
            each episode; see `choose_driver`.

    Attributes:
        config: The environment.
        num_envs: E.
        agents: Names of the agents, in the order of the cars.
        agent_cars: Index of each agent among the cars.
        tracks: The tracks; each episode is on one.
        episode_track: (E,) index of the track that each environment's episode is on.
        world: The physics.
        spawn_sets: Spawn names, one for each car, of each set that an episode can start from;
            empty for starts that have no names.
        allowed_spawn_sets: Indices of those that are drawn; see `allow_spawn_sets`.
        difficulties: Least and largest factor of the scripted cars' speed; see `set_difficulty`.
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
        tracks: tuple[Track, ...] | None = None,
        alternatives: Mapping[str, Sequence[DriverConfig]] | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, found {num_envs}")
        self.config = config
        self.num_envs = num_envs
        self._base_dir, self._num_threads = base_dir, num_threads
        self._alternatives = dict(alternatives or {})
        self.agent_cars = config.agent_cars
        self.agents = tuple(config.cars[i].name for i in self.agent_cars)
        # What differs between cars, drawn at each start.
        self._differing = [(n, bounds) for n, bounds in config.heterogeneity if bounds is not None]
        self._seeds = np.random.SeedSequence().spawn(num_envs)
        self._started = [0] * num_envs  # episodes of the stream, by environment
        self.tracks = make_tracks(config.track, base_dir) if tracks is None else tracks
        self.world = World(
            self.tracks,
            [car.vehicle for car in config.cars],
            config.lidar,
            num_envs=num_envs,
            physics_step=config.physics_step,
            num_threads=num_threads,
            steer_delay_max=(config.heterogeneity.steer_delay or (0, 0))[1],
            command_delay_max=(config.heterogeneity.command_delay or (0, 0))[1],
            laps=config.laps,
            car_contacts=config.car_contacts,
        )
        for i, car in enumerate(config.cars):
            if car.vehicle.control == "rates" and not car.reverse:
                self.world.vehicles[:, i, V_MIN] = 0.0
        self.episode_track = self.world.arrays.track
        observer = Observer(config, self.tracks)
        self._observer = observer
        self.observation_low, self.observation_high = observer.low, observer.high
        self._drivers: list[Driver] = []
        for i, car in enumerate(config.cars):
            if car.driver is not None:
                self._drivers.append(self._make_driver(i, car.driver))
                if car.task is not None:
                    raise ValueError(
                        f"car {car.name!r} has a task, but a driver instead of an agent"
                    )
        A = len(self.agents)
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
        world = self.world
        self._tasks = [
            Task(car.task, config, i, self.tracks, world.arrays, self.episodes, stack=world.stack)
            for i, car in enumerate(config.cars)
            if car.task is not None
        ]
        self._actions = np.zeros((num_envs, A, COMMAND_SIZE), np.float32)
        arrays, episodes, cars = world.arrays, self.episodes, car_table(config)
        duration = config.physics_step * config.physics_steps_per_action
        started = self._actions, episodes, cars, arrays.state, duration, world.commands
        self._begin = bound(begin, started)
        any_ends = config.end_when == "any"
        ended = arrays.crashed, arrays.finished, episodes, cars, config.max_steps, any_ends
        self._conclude = bound(conclude, ended)
        self._starts = Starts(config, self.tracks)
        self._fastest = np.array([car.vehicle.speed_max for car in config.cars])  # (C,) m/s
        self.spawn_sets = self._starts.sets
        self.allowed_spawn_sets = tuple(range(len(self.spawn_sets)))
        self.difficulties = 1.0, 1.0
        self._check_starts()

    def _make_driver(self, car: int, config: DriverConfig) -> Driver:
        """Build a car's driver, with the alternatives to it if there are any."""
        env, others = self.config, self._alternatives.get(self.config.cars[car].name, ())
        drivers = [
            make_driver(own, env, car, self.tracks, num_envs=self.num_envs, base_dir=self._base_dir)
            for own in (config, *others)
        ]
        if not others:
            return drivers[0]
        seat = Seat(env, car, self.tracks, self.num_envs, self._base_dir or Path())
        return Alternatives(seat, drivers)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: compiled functions and threads are made anew."""
        return {
            "config": self.config,
            "num_envs": self.num_envs,
            # Where a copy may be unpacked, the working directory is another one.
            "base_dir": (self._base_dir or Path()).absolute(),
            "num_threads": self._num_threads,
            "alternatives": self._alternatives,
            "seeds": self._seeds,
            "started": self._started,
            "spawn_sets": self.allowed_spawn_sets,
            "difficulties": self.difficulties,
            "memory": [array.copy() for array in self._memory()],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a race that goes on with the same bytes; see ``__getstate__``."""
        names = "num_envs", "base_dir", "num_threads", "alternatives"
        Race.__init__(self, state["config"], **{name: state[name] for name in names})
        self._seeds, self._started = list(state["seeds"]), list(state["started"])
        self.allowed_spawn_sets, self.difficulties = state["spawn_sets"], state["difficulties"]
        for own, copied in zip(self._memory(), state["memory"], strict=True):
            own[...] = copied

    def _memory(self) -> list[NDArray[Any]]:
        """All arrays that a step or a reset leaves something in, always in the same order."""
        return [
            self.world.vehicles,
            *self.world.arrays,
            *self.episodes,
            self._actions,
            self.world.commands,
            *(array for driver in self._drivers for array in driver.memory()),
            *(task.memory for task in self._tasks),
        ]

    @property
    def track(self) -> Track:
        """The only track; a ValueError if there are several: see `tracks`, `episode_track`."""
        if len(self.tracks) > 1:
            raise ValueError(f"there are {len(self.tracks)} tracks: see tracks, episode_track")
        return self.tracks[0]

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
        self,
        env: int,
        seed: Seed,
        *,
        spawn_set: int | None = None,
        track: int | None = None,
        poses: Float | None = None,
        speeds: Float | None = None,
    ) -> None:
        """Start a new episode in one environment and write its observations.

        The seed alone decides the track, where the cars start, the noise and what differs between
        cars (`HeterogeneityConfig`), whatever the batch position, given the difficulty and the
        spawn sets that are allowed. The episode is the same whether its track was drawn, asked
        for, or is the only one.

        Args:
            env: Index of the environment.
            seed: Seed of the environment's own random generator.
            spawn_set: Index of the spawn set; None: drawn uniformly from those allowed.
            track: Index of the track; None: drawn uniformly.
            poses: (C, 3) x m, y m, yaw rad to start from; None: drawn.
            speeds: (C,) m/s to start with; None: drawn with poses that are drawn, otherwise 0.
                A car is not faster than its speed_max.

        Raises:
            ValueError: If there is no such spawn set or track, a random start finds no room, or
                the poses are refused by `check_poses`.
        """
        if poses is not None:
            self.check_poses(env, poses, spawn_set=spawn_set, track=track)
            track = track or 0
        rng = np.random.default_rng(seed)
        noise_key = int(rng.integers(2**64, dtype=np.uint64))
        if track is None:
            track = self._starts.draw_track(seed)
        if poses is None:
            if spawn_set is None and self.allowed_spawn_sets:
                spawn_set = self.allowed_spawn_sets[rng.integers(len(self.allowed_spawn_sets))]
            poses = self._starts.draw(rng, track, spawn_set)
            if speeds is None and self.config.spawn.speed is not None:
                speeds = rng.uniform(*self.config.spawn.speed, len(poses))
        self._draw_vehicles(env, rng)
        self.world.place(env, poses, noise_key, track)
        if speeds is not None:
            self.world.roll(env, np.minimum(speeds, self._fastest))
        episodes = self.episodes
        episodes.rewards[env] = episodes.returns[env] = 0.0
        episodes.terminated[env] = episodes.truncated[env] = episodes.over[env] = False
        episodes.outcome[env] = NONE
        episodes.steps[env] = 0
        low, high = self.difficulties
        for driver in self._drivers:
            driver.difficulty[env] = low if low == high else rng.uniform(low, high)
            driver.reset(env)
        for task in self._tasks:
            task.reset(env)
        self._observer.observe(self.world.arrays, episodes.observations, env, env + 1)

    def check_poses(
        self, env: int, poses: Float, *, spawn_set: int | None = None, track: int | None = None
    ) -> None:
        """Check that an episode can start from given poses; arguments as those of `reset`.

        Raises:
            ValueError: If they are not (C, 3), a car would not be in the free space, or overlap
                another; if there are several tracks and none is asked for, or there is no such
                track; if a spawn set is asked for, too.
        """
        if spawn_set is not None:
            raise ValueError("poses and spawn_set exclude each other")
        if track is None and len(self.tracks) > 1:
            raise ValueError(f"poses need a track: one of 0 ... {len(self.tracks) - 1}")
        self.world.check(env, poses, track or 0)

    def _draw_vehicles(self, env: int, rng: np.random.Generator) -> None:
        """Let the cars of one environment draw what differs between cars."""
        vehicles = self.world.vehicles[env]
        for name, (low, high) in self._differing:
            draws = rng.uniform(low, high + (name in WHOLE), len(vehicles))
            vehicles[:, COLUMNS[name]] = np.floor(draws) if name in WHOLE else draws

    def choose_driver(self, env: int, car: str, index: int | None) -> None:
        """Choose who drives a car in the episode that has just begun in an environment.

        The choice holds for the episodes after it, too, until there is another.

        Args:
            env: The environment.
            car: The car, which has alternatives.
            index: Index of one of the alternatives; None: the scenario's own driver.

        Raises:
            ValueError: If the car has no alternatives, or there is no such one.
        """
        scripted = [own.name for own in self.config.cars if own.driver is not None]
        driver = self._drivers[scripted.index(car)] if car in scripted else None
        if isinstance(driver, Alternatives):
            driver.choose(env, 0 if index is None else index + 1)
            return
        raise ValueError(f"car {car!r} has no alternative drivers")

    def set_difficulty(self, low: float, high: float | None = None) -> None:
        """Make the scripted cars of the episodes that begin from now on faster or slower.

        Args:
            low: Least factor of the speed that a driver asks for; 1 at first.
            high: The largest: each driver draws its own, uniformly, in each episode; None: ``low``.

        Raises:
            ValueError: If they are not positive and finite, or ``low`` is above ``high``.
        """
        high = low if high is None else high
        if not 0 < low <= high < math.inf:
            found = f"{low}" if low == high else f"{low} to {high}"
            raise ValueError(f"difficulty must be positive, finite and rising, found {found}")
        self.difficulties = float(low), float(high)

    def allow_spawn_sets(self, spawn_sets: Sequence[int] | None) -> None:
        """Choose what the episodes that begin from now on draw their starts from.

        Args:
            spawn_sets: Indices of spawn sets, at least one; None: all, as at first.

        Raises:
            ValueError: If no spawn set is given, or one does not exist.
        """
        count = len(self.spawn_sets)
        chosen = range(count) if spawn_sets is None else sorted(set(spawn_sets))
        if spawn_sets is not None and (not chosen or chosen[0] < 0 or chosen[-1] >= count):
            raise ValueError(f"spawn sets must be in 0 ... {count - 1}, found {list(spawn_sets)}")
        self.allowed_spawn_sets = tuple(chosen)

    def seed(self, env: int, seed: Seed) -> None:
        """Start an environment's stream of episode seeds anew; the first is random.

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
        self,
        env: int,
        *,
        spawn_set: int | None = None,
        track: int | None = None,
        poses: Float | None = None,
    ) -> None:
        """Start the next episode of an environment's stream; see `reset`."""
        stream = self._seeds[env]
        # The n-th child that `SeedSequence.spawn` would make, without counting inside it.
        key = (*stream.spawn_key, self._started[env])
        episode = np.random.SeedSequence(stream.entropy, spawn_key=key)
        self.reset(env, episode, spawn_set=spawn_set, track=track, poses=poses)
        self._started[env] += 1

    def autoreset(self) -> NDArray[np.int64]:
        """Start the next episode of every environment whose episode is over.

        Until then `episodes` holds the last observations, rewards, returns, flags, outcomes and
        steps of the episodes that ended; from then on, the first of the new ones.

        Returns:
            (N,) the environments that were reset, ascending; often there are none.
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
        bad = self._begin(0, self.num_envs)
        if bad >= 0:
            env, agent = divmod(bad, len(self.agents))
            raise ValueError(
                f"action of {self.agents[agent]!r} in environment {env} is not a number: "
                f"{actions[env, agent].tolist()}"
            )
        self.world.pool.run(self._step_range, self.num_envs)
        return self.episodes

    def lap_times(self, env: int, car: int) -> list[float]:
        """Time of each lap that a car has completed in this episode, s.

        On an open track the time from the start to the finish line is the only one. Laps beyond
        those that the configuration asks for are left out.
        """
        steps = self.world.arrays.lap_steps[env, car]
        return [float(n) * self.config.physics_step for n in steps if n > 0]

    def outcomes(self, env: int) -> dict[str, Outcome]:
        """How an episode ended for each car, scripted ones too, by name."""
        world, episodes = self.world.arrays, self.episodes
        late = bool(episodes.steps[env] >= self.config.max_steps)
        outcomes = {}
        for c, car in enumerate(self.config.cars):
            if c in self.agent_cars:
                outcome = int(episodes.outcome[env, self.agent_cars.index(c)])
            else:
                outcome = world_outcome(world.crashed[env, c], world.finished[env, c], late)
                if outcome == NONE and episodes.over[env]:
                    outcome = OTHER_DONE
            outcomes[car.name] = Outcome(outcome)
        return outcomes

    def _step_range(self, first: int, last: int, thread: int) -> None:
        """Step the environments ``first`` to ``last - 1``, whose agents' commands are written."""
        for driver in self._drivers:
            driver.command(self.world.arrays, self.world.commands, first, last)
        steps = self.config.physics_steps_per_action
        self.world.step_range(steps, first, last, thread)
        self._after(first, last)

    def _after(self, first: int, last: int) -> None:
        """Judge and observe the environments ``first`` to ``last - 1``."""
        for task in self._tasks:
            task.step(first, last)
        self._conclude(first, last)
        self._observer.observe(self.world.arrays, self.episodes.observations, first, last)
