"""Greedy episodes on fixed seeds, what they amount to, and their trajectories."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from f110_fl.collector import Collector, Finished, Greedy
from f110_fl.files import write_arrays
from f110_fl.learners.base import Policy
from f110_fl.records import evaluation_names
from f110_fl.scenario import Metric, Scenario
from f110_fl.seeding import Use, stream
from sim.race import Race

MAX_BATCH = 64  # environments of an evaluation stepped together
Z_95 = 1.959964  # of a standard normal, two-sided 95 %


class Evaluator:
    """The environments that a scenario's policies are evaluated in.

    Episode k has the same seed at every evaluation, so that evaluations compare.

    Args:
        scenario: Its environment, with the evaluation's own track if there is one.
        episodes: Episodes of an evaluation.
    """

    def __init__(self, scenario: Scenario, episodes: int) -> None:
        self.race = Race(
            scenario.evaluation_env,
            num_envs=min(episodes, MAX_BATCH),
            num_threads=scenario.threads,
        )
        self.episodes = episodes
        self._seeds = [
            stream(scenario.seed, Use.EVALUATION_EPISODE, index) for index in range(episodes)
        ]
        self._collector = Collector(self.race)

    def run(
        self,
        make_policy: Mapping[str, Callable[[int], Policy]],
        recorder: Recorder | None = None,
    ) -> list[Finished]:
        """Run every episode once.

        Args:
            make_policy: For each agent, makes its policy for a number of environments.
            recorder: Keeps the trajectories.

        Returns:
            The episodes, in the order of their seeds.
        """
        players = {a: Greedy(make(self.race.num_envs)) for a, make in make_policy.items()}
        found = self._collector.run(self._seeds, players, recorder)
        return sorted(found, key=lambda episode: episode.number)


def score(episodes: Sequence[Finished], agents: Iterable[str], metric: Metric) -> tuple[float, ...]:
    """Return what makes one evaluation better than another: greater is better.

    The metric comes first, the mean return second. ``lap_time`` counts only if every episode
    completed its laps; else the share that did counts, below any lap time.
    """
    agents = list(agents)
    returns = float(np.mean([episode.returns[a] for episode in episodes for a in agents]))
    if metric == "return":
        return (returns,)
    if metric == "success_rate":
        successes = [episode.outcomes[a] == "success" for episode in episodes for a in agents]
        return float(np.mean(successes)), returns
    laps = [episode.lap_times.get(a, []) for episode in episodes for a in agents]
    completed = float(np.mean([bool(times) for times in laps]))
    if completed < 1.0:
        return completed - 1.0, returns
    mean = float(np.mean([time for times in laps for time in times]))
    return 0.0, -mean, returns


def metrics(episodes: Sequence[Finished], agents: Iterable[str]) -> dict[str, float]:
    """Return means of an evaluation by name; the names depend on ``agents`` alone."""
    agents = list(agents)
    values = [float(len(episodes))]
    for agent in agents:
        outcomes = [episode.outcomes[agent] for episode in episodes]
        values += [
            float(np.mean([episode.returns[agent] for episode in episodes])),
            outcomes.count("success") / len(outcomes),
            outcomes.count("crash") / len(outcomes),
            float(np.mean([len(episode.lap_times[agent]) for episode in episodes])),
        ]
    return dict(zip(evaluation_names(agents), values, strict=True))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a rate (Wilson 1927).

    Args:
        successes: Of the trials.
        trials: At least 1.
    """
    rate, z2 = successes / trials, Z_95**2 / trials
    centre = (rate + z2 / 2) / (1 + z2)
    half = Z_95 / (1 + z2) * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def report(episodes: Sequence[Finished], cars: Iterable[str]) -> dict[str, dict[str, object]]:
    """Return what an evaluation amounts to, by car, ready for JSON.

    Rates are ``{"rate", "low", "high", "count"}`` with Wilson's 95 % interval, for success,
    finished, crash and whatever else occurred; ``return`` has mean and standard deviation;
    lap times are in s.
    """
    found: dict[str, dict[str, object]] = {}
    for car in cars:
        outcomes = [episode.outcomes[car] for episode in episodes]
        rates: dict[str, object] = {}
        for outcome in sorted({"success", "finished", "crash", *outcomes}):
            count = outcomes.count(outcome)
            low, high = wilson_interval(count, len(outcomes))
            rates[outcome] = {
                "rate": count / len(outcomes),
                "low": low,
                "high": high,
                "count": count,
            }
        entry: dict[str, object] = {"episodes": len(outcomes), "outcomes": rates}
        if car in episodes[0].returns:
            returns = [episode.returns[car] for episode in episodes]
            entry["return"] = {"mean": float(np.mean(returns)), "sd": float(np.std(returns))}
        laps = [time for episode in episodes for time in episode.lap_times[car]]
        entry["laps"] = len(laps)
        if laps:
            entry["lap_time"] = {
                "mean": float(np.mean(laps)),
                "sd": float(np.std(laps)),
                "best": float(min(laps)),
            }
        found[car] = entry
    return found


class Recorder:
    """Keeps the states of every episode, from its first to its last.

    ``save`` writes a NumPy ``.npz`` file, without pickle: ``cars`` (C,) names; ``columns`` (7,)
    names of the state's columns (`sim.layout`); ``period`` s between two states; ``first``
    (N + 1,) int64, so that episode k is ``states[first[k]:first[k + 1]]``; ``states``
    (sum of T + 1, C, 7) float64, SI units.
    """

    def __init__(self) -> None:
        self._open: dict[int, list[NDArray[np.float64]]] = {}
        self._done: dict[int, NDArray[np.float64]] = {}

    def begin(self, race: Race, env: int) -> None:
        """Keep an episode's first states."""
        self._open[env] = [race.world.arrays.state[env].copy()]

    def step(self, race: Race, envs: list[int]) -> None:
        """Keep the states after a step."""
        for env in envs:
            self._open[env].append(race.world.arrays.state[env].copy())

    def end(self, env: int, number: int) -> None:
        """Close an episode."""
        self._done[number] = np.array(self._open.pop(env))

    def save(self, path: Path, race: Race) -> None:
        """Write all episodes that have ended, in the order of their numbers.

        Raises:
            OSError: If the file cannot be written.
        """
        episodes = [self._done[number] for number in sorted(self._done)]
        config = race.config
        write_arrays(
            path,
            {
                "cars": np.array([car.name for car in config.cars]),
                "columns": np.array(["x", "y", "steer", "v", "yaw", "yaw_rate", "slip"]),
                "period": np.array(config.physics_step * config.physics_steps_per_action),
                "first": np.cumsum([0, *map(len, episodes)]),
                "states": np.concatenate(episodes),
            },
        )
