"""The numbers of an ablation: learning curves at equal samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np

from f110_fl.errors import UserError
from f110_fl.evaluation.statistics import Estimate, Float, student
from f110_fl.rundir import RunDir
from f110_fl.training.metrics import score
from f110_fl.training.records import EpisodeRecord

Metric = Literal["return", "success_rate"]

POINTS: Final = 40  # of a curve; evenly spaced in samples


class Curve(NamedTuple):
    """The evaluations of one run, in order.

    ``steps`` (K,) are the training steps of all clients together, ``values`` (K,) means over
    clients, and over each one's episodes and learning cars.
    """

    steps: Float
    values: Float


def read_curve(rundir: RunDir, clients: int, agents: Sequence[str], metric: Metric) -> Curve:
    """Return the evaluations of a complete run.

    Args:
        rundir: Its directory.
        clients: Number of its clients or replicas.
        agents: The learning cars.
        metric: The metric.

    Raises:
        UserError: If clients were evaluated at different times, or never.
    """
    steps, values = [], []
    for client_id in range(clients):
        evaluations = _evaluations(rundir.episodes(client_id))
        steps.append([records[0].env_steps for records in evaluations])
        episodes = [[record.result for record in records] for records in evaluations]
        values.append([score(found, agents, metric)[0] for found in episodes])
    if len({len(own) for own in steps}) != 1 or not steps[0]:
        counts = ", ".join(str(len(own)) for own in steps)
        raise UserError(f"{rundir.root}: clients have {counts} evaluations; the run is damaged")
    return Curve(np.sum(steps, axis=0, dtype=np.float64), np.mean(values, axis=0))


def _evaluations(path: Path) -> list[list[EpisodeRecord]]:
    """Return a client's evaluations, each as the records of its episodes."""
    found: dict[int, list[EpisodeRecord]] = {}
    with path.open(encoding="utf-8") as lines:
        for record in map(EpisodeRecord.from_json, lines):
            if record.kind == "evaluate":
                found.setdefault(record.episode, []).append(record)
    return list(found.values())


@dataclass(frozen=True)
class Panel:
    """Arms at the same numbers of samples.

    ``steps`` (POINTS,) are training steps of all clients together, from the point where every run
    has been evaluated to the end of the shortest: runs have equally many episodes, but not steps.
    ``values`` are (seeds, POINTS) by arm, linear between evaluations; ``lasts`` (seeds,) are those
    of the last evaluation, after all episodes.
    """

    seeds: tuple[int, ...]
    steps: Float
    values: dict[str, Float]
    lasts: dict[str, Float]

    def end(self, arm: str) -> Float:
        """(seeds,) values after the last sample that all runs have."""
        return self.values[arm][:, -1]

    def mean(self, arm: str) -> Float:
        """(seeds,) means over all samples, which are larger for a faster learner."""
        means: Float = self.values[arm].mean(axis=1)
        return means

    def last(self, arm: str) -> Float:
        """(seeds,) values after the last episode, of any number of steps."""
        return self.lasts[arm]

    def difference(self, arm: str, other: str, score: Callable[[Panel, str], Float]) -> Estimate:
        """Return an arm's score minus another's, paired by seed, with its interval."""
        return student(score(self, arm) - score(self, other))


def make_panel(curves: Mapping[str, Mapping[int, Curve]]) -> Panel | None:
    """Bring arms to the same numbers of samples.

    Args:
        curves: By arm, then by seed. Only seeds that every arm has are compared.

    Returns:
        The panel; None if there is no such seed.
    """
    seeds = tuple(sorted(set.intersection(*(set(own) for own in curves.values()))))
    if not seeds:
        return None
    used = [own[seed] for own in curves.values() for seed in seeds]
    last = min(curve.steps[-1] for curve in used)
    first = min(max(curve.steps[0] for curve in used), last)
    steps = np.linspace(first, last, POINTS)
    values = {
        arm: np.array([np.interp(steps, own[s].steps, own[s].values) for s in seeds])
        for arm, own in curves.items()
    }
    lasts = {arm: np.array([own[s].values[-1] for s in seeds]) for arm, own in curves.items()}
    return Panel(seeds, steps, values, lasts)
