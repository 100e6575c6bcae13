"""What ``bench_time_to_policy.py`` times: a training that pauses for evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import count
from time import perf_counter, process_time
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from f110_fl.config.scenario import Scenario
from f110_fl.learners.base import Policy
from f110_fl.learners.device import choose
from f110_fl.seeding import Use, stream
from f110_fl.training.agents import make_learners
from f110_fl.training.collector import Collector, Explorer
from f110_fl.training.curriculum import Curriculum
from sim.envs import F110VectorEnv
from sim.race import Race

OURS: Final = "ours"
PEERS: Final = {"peer_defaults": False, "peer_our_settings": True}  # whether ours are taken over
CLIENT: Final = 0  # whose random streams and settings are trained

Result = dict[str, Any]
Check = Callable[[int], bool]  # told the environment steps so far; whether training goes on


class Training(Protocol):
    """A learner in its environments."""

    def policy(self, num_envs: int) -> Policy:
        """Return the greedy policy; it follows the learner."""

    def run(self, check: Check) -> None:
        """Train until the check, which every step ends with, is false."""


class _StoppedError(Exception):
    """A check was false."""


class _Steps:
    """Counts the steps of a collector and calls a check after each; a ``Watcher``."""

    def __init__(self, check: Check) -> None:
        self._check, self._steps = check, 0

    def begin(self, race: Race, env: int) -> None:
        """Do nothing."""

    def step(self, race: Race, envs: list[int]) -> None:  # noqa: ARG002
        """Count a step of these environments."""
        self._steps += len(envs)
        if not self._check(self._steps):
            raise _StoppedError

    def end(self, env: int, number: int) -> None:
        """Do nothing."""


class Own:
    """Our learner, as a client that is not federated trains it, in memory and without saving.

    Args:
        scenario: The scenario of that client, with a single learner.

    Attributes:
        learner: The learner.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        race = Race(scenario.env, num_envs=scenario.collect.num_envs, num_threads=scenario.threads)
        self._collector = Collector(race, scenario.collect.prefetch)
        seed = partial(stream, scenario.client_seed(CLIENT), Use.LEARNER, CLIENT)
        learners = make_learners(scenario, race, seed, device=scenario.device)
        ((self._agent, self.learner),) = learners.items()

    def policy(self, num_envs: int) -> Policy:
        """Return the greedy policy; see `Training`."""
        return self.learner.policy(num_envs)

    def run(self, check: Check) -> None:
        """Train until the check is false; see `Training`."""
        config, race = self._scenario.curriculum, self._collector.race
        curriculum = Curriculum(config, self._scenario.env) if config is not None else None
        if curriculum is not None:
            curriculum.apply(race)
        players, steps = {self._agent: Explorer(self._agent, self.learner)}, _Steps(check)
        try:
            for seeds in self._seeds():
                for ended in self._collector.run(seeds, players, steps):
                    outcome = ended.result.outcomes[self._agent]
                    if curriculum is not None and curriculum.observe(outcome, ended.env):
                        curriculum.apply(race)
        except _StoppedError:
            return

    def _seeds(self) -> Iterator[list[np.random.SeedSequence]]:
        """Yield the seeds of the episodes up to the next checkpoint, where run.py lets all end."""
        scenario = self._scenario
        seed, every = scenario.client_seed(CLIENT), scenario.checkpoint_every
        for first in count(0, every):
            numbers = [n * scenario.collect.seed_stride for n in range(first, first + every)]
            yield [stream(seed, Use.TRAIN_EPISODE, CLIENT, number) for number in numbers]


def compile_kernels(scenario: Scenario) -> None:
    """Train ours until its first update, and forget it."""
    training = Own(scenario)
    training.run(lambda _: not training.learner.pop_metrics())


def make_training(name: str, scenario: Scenario, seed: int) -> Training:
    """Return a learner that has not learned yet.

    Args:
        name: `OURS`, or one of `PEERS`.
        scenario: The scenario of the client.
        seed: Its seed.
    """
    if name == OURS:
        return Own(scenario)
    peer = import_module("parts.stable_baselines_peer")
    env = F110VectorEnv(scenario.env, scenario.collect.num_envs, num_threads=scenario.threads)
    (config,) = scenario.learners.values()
    device = choose(scenario.device).type
    training: Training = peer.Peer(config, env, seed, ours=PEERS[name], device=device)
    return training


class Clock:
    """Wall-clock and CPU seconds since it was made, pauses left out.

    Attributes:
        paused: Wall-clock seconds of all pauses.
    """

    def __init__(self) -> None:
        self.paused = self._cpu_paused = 0.0
        self._wall, self._cpu = perf_counter(), process_time()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds."""
        return perf_counter() - self._wall - self.paused

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of this process, all threads."""
        return process_time() - self._cpu - self._cpu_paused

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave out what is done within."""
        wall, cpu = perf_counter(), process_time()
        yield
        self.paused += perf_counter() - wall
        self._cpu_paused += process_time() - cpu


class Interval(NamedTuple):
    """Training between two evaluations."""

    length: float
    timed: bool  # in seconds of the goal's clock, otherwise in environment steps


class Goal(NamedTuple):
    """When a training ends."""

    threshold: float  # success rate of an evaluation
    every: Interval
    limit: float  # s
    cpu: bool = False  # whether seconds are CPU time, otherwise wall-clock time


def time_to_policy(
    training: Training, goal: Goal, success_rate: Callable[[Callable[[int], Policy]], float]
) -> Result:
    """Train until an evaluation is good enough or the limit is reached.

    Args:
        training: What trains; nothing else is timed.
        goal: When it ends.
        success_rate: Evaluates the policy that a function makes for a number of environments.

    Returns:
        Whether it got there, the seconds and steps of training, and every evaluation.
    """
    evaluations: list[Result] = []
    due = goal.every.length
    clock = Clock()

    def check(steps: int) -> bool:
        nonlocal due
        now = clock.cpu_seconds if goal.cpu else clock.seconds
        over = now >= goal.limit
        if not over and (now if goal.every.timed else steps) < due:
            return True
        found = {"seconds": round(clock.seconds, 3), "cpu_seconds": round(clock.cpu_seconds, 3)}
        with clock.pause():
            rate = success_rate(training.policy)
        evaluations.append(found | {"steps": steps, "success": rate})
        due = (now if goal.every.timed else steps) + goal.every.length
        return rate < goal.threshold and not over

    training.run(check)
    last = evaluations[-1]
    return {
        "reached": last["success"] >= goal.threshold,
        **last,
        "evaluation_seconds": round(clock.paused, 3),
        "evaluations": evaluations,
    }
