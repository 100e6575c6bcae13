"""Metrics of episodes: named means, rates with their intervals, scores.

Nothing else computes them. The console and what charts them (`reporting.values`) need no PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from f110_fl.evaluation.statistics import wilson_interval
from f110_fl.training.records import EpisodeKind, EpisodeRecord, EpisodeResult

if TYPE_CHECKING:
    from f110_fl.config.scenario import Metric

# What is measured in a learning car's episode, by the name of its mean.
MEASURES: Final[Mapping[str, Callable[[EpisodeResult, str], float]]] = {
    "return": lambda episode, agent: episode.returns[agent],
    "success-rate": lambda episode, agent: float(episode.outcomes[agent] == "success"),
    "crash-rate": lambda episode, agent: float(episode.outcomes[agent] == "crash"),
    "laps": lambda episode, agent: float(len(episode.lap_times.get(agent, ()))),
}

LAP_SCORE: Final = 4  # length of a score by lap time
UPDATES: Final = "updates"  # a learner's in a round, all together


def metric_name(kind: EpisodeKind, agent: str, measure: str) -> str:
    """Return the name of a mean in the metrics of a round or an evaluation."""
    return f"{kind}/{agent}/{measure}"


def total_name(kind: EpisodeKind, what: Literal["episodes", "env-steps", "seconds"]) -> str:
    """Return the name of a total over a round's or an evaluation's episodes."""
    return f"{kind}/{what}"


def mean(measure: str, episodes: Iterable[EpisodeResult], agents: Iterable[str]) -> float:
    """Return the mean of a measure over episodes and agents; 0 over none.

    An agent's episodes are those in which its learner drove, not a snapshot.
    """
    of, agents = MEASURES[measure], list(agents)
    values = [of(e, agent) for e in episodes for agent in agents if agent not in e.snapshots]
    return float(np.mean(values)) if values else 0.0


def means(
    kind: EpisodeKind, episodes: Sequence[EpisodeResult], agents: Iterable[str]
) -> dict[str, float]:
    """Return the number of episodes and each agent's means; only ``agents`` decide the names.

    Flower averages metrics only if every reply has the same names. Where no evaluation took place,
    the means are therefore 0, and so is the number of episodes.
    """
    found = {total_name(kind, "episodes"): float(len(episodes))}
    for agent in agents:
        for measure in MEASURES:
            found[metric_name(kind, agent, measure)] = mean(measure, episodes, [agent])
    return found


def measured(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics without an evaluation's means over no episodes, which messages have as 0."""
    if metrics.get(total_name("evaluate", "episodes")) != 0:
        return dict(metrics)
    return {name: value for name, value in metrics.items() if not is_evaluated(name)}


def is_evaluated(name: str) -> bool:
    """Return whether a metric is a mean over the episodes of an evaluation."""
    return name.startswith("evaluate/") and name.count("/") > 1


def evaluation_names(agents: Iterable[str]) -> list[str]:
    """Return the names of the metrics of an evaluation of the global model."""
    return list(means("evaluate", (), agents))


def summarise(records: Iterable[EpisodeRecord], agents: Sequence[str]) -> dict[str, float]:
    """Return a round's metrics, those of training and those of evaluations in it; see `means`."""
    records, found = list(records), dict[str, float]()
    kinds: tuple[EpisodeKind, ...] = ("train", "evaluate")
    for kind in kinds:
        episodes = [record.result for record in records if record.kind == kind]
        found |= means(kind, episodes, agents)
        found[total_name(kind, "env-steps")] = float(sum(episode.steps for episode in episodes))
        found[total_name(kind, "seconds")] = float(sum(episode.seconds for episode in episodes))
    for agent in agents:
        updates = sum(record.updates.get(agent, 0) for record in records)
        found[metric_name("train", agent, UPDATES)] = float(updates)
    return found


def episode_values(record: EpisodeRecord) -> dict[str, float]:
    """Return each agent's measures of one episode; what many episodes have a rate of is 0 or 1."""
    return {
        metric_name(record.kind, agent, measure.removesuffix("-rate")): of(record.result, agent)
        for agent in record.result.returns
        if agent not in record.result.snapshots
        for measure, of in MEASURES.items()
    }


def score(
    episodes: Sequence[EpisodeResult], agents: Iterable[str], metric: Metric
) -> tuple[float, ...]:
    """Return a score by which `improved` compares evaluations.

    Returns:
        The metric, then the mean return. For ``lap_time``: the share of episodes with a lap, the
        lower end of its 95 % interval, the negative mean lap time in s (0 without laps), the mean
        return.
    """
    agents = list(agents)
    returns = mean("return", episodes, agents)
    if metric == "return":
        return (returns,)
    if metric == "success_rate":
        return mean("success-rate", episodes, agents), returns
    laps = [episode.lap_times.get(a, []) for episode in episodes for a in agents]
    completed, times = sum(map(bool, laps)), [time for own in laps for time in own]
    low, _ = wilson_interval(completed, len(laps))
    return completed / len(laps), low, -float(np.mean(times)) if times else 0.0, returns


class Choice(NamedTuple):
    """Whether an evaluation is the best so far, and why."""

    kept: bool
    score: tuple[float, ...]  # of the best so far, this one included
    why: str


def improved(found: tuple[float, ...], best: tuple[float, ...]) -> Choice:
    """Compare an evaluation's score with the best so far.

    Success rates and returns: the greater is better. Lap times: a policy that completes laps in a
    share of the episodes below the best one's 95 % interval is worse; if the best one's share is
    below this one's interval, this is better; otherwise the shorter mean lap time is. A chosen
    policy keeps the higher lower end of the two, so that shares do not fall step by step.

    Args:
        found: The evaluation's score.
        best: That of the best so far; (): there is none.
    """
    if len(found) != len(best):  # the first, or one of another version of this program
        return Choice(True, found, "the first")
    if len(found) < LAP_SCORE:
        kept = found > best
        words = "above" if kept else "not above"
        return Choice(kept, max(found, best), f"{found[0]:.3g}, {words} {best[0]:.3g}")
    share, low, lap, _ = found
    before, floor, faster, _ = best
    laps = f"laps in {share:.0%} of the episodes"
    if share < floor:
        return Choice(False, best, f"{laps}, below {floor:.0%}")
    chosen = (share, max(low, floor), *found[2:])
    if before < low:
        return Choice(True, chosen, f"{laps}, before in {before:.0%}")
    kept = found[2:] > best[2:]
    words = f"{laps}, at least {floor:.0%}; {-lap:.2f} s a lap, before {-faster:.2f} s"
    return Choice(kept, chosen if kept else best, words)


def report(episodes: Sequence[EpisodeResult], cars: Iterable[str]) -> dict[str, dict[str, object]]:
    """Return an evaluation's results by car, for JSON.

    Rates are ``{"rate", "low", "high", "count"}`` with Wilson's 95 % interval, for success,
    finished, crash and any other outcome; ``return`` has mean and standard deviation;
    lap times are in s.
    """
    found: dict[str, dict[str, object]] = {}
    for car in cars:
        outcomes = [episode.outcomes[car] for episode in episodes]
        names = sorted({"success", "finished", "crash", *outcomes})
        entry: dict[str, object] = {
            "episodes": len(outcomes),
            "outcomes": {name: _rate(outcomes.count(name), len(outcomes)) for name in names},
        }
        if car in episodes[0].returns:
            entry["return"] = _spread([episode.returns[car] for episode in episodes])
        laps = [time for episode in episodes for time in episode.lap_times.get(car, ())]
        entry["laps"] = len(laps)
        if laps:
            entry["lap_time"] = {**_spread(laps), "best": float(min(laps))}
        found[car] = entry
    return found


def by_opponent(episodes: Sequence[EpisodeResult], agent: str) -> dict[str, dict[str, float]]:
    """Return an agent's success rate against each of a league's entries that it met, for JSON.

    Rates are as in `report`, by the entry's name, with ``episodes`` against it.
    """
    found: dict[str, list[str]] = {}
    for episode in episodes:
        for name in episode.opponents.values():
            found.setdefault(name, []).append(episode.outcomes[agent])
    return {
        name: {"episodes": len(own), **_rate(own.count("success"), len(own))}
        for name, own in found.items()
    }


def _rate(count: int, trials: int) -> dict[str, float]:
    low, high = wilson_interval(count, trials)
    return {"rate": count / trials, "low": low, "high": high, "count": count}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "sd": float(np.std(values))}
