"""What episodes amount to: rates with their intervals, means, scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from f110_fl.config.scenario import Metric
from f110_fl.training.collector import Finished
from f110_fl.training.records import EpisodeRecord

Z_95 = 1.959964  # of a standard normal, two-sided 95 %


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


def summarise(records: Sequence[EpisodeRecord], agents: Iterable[str]) -> dict[str, float]:
    """Return a round's metrics; the names depend on ``agents`` alone.

    Flower averages metrics only if every reply has the same names, so rates of no
    episodes at all (no evaluation took place) are 0 and their count says so.
    """
    metrics: dict[str, float] = {}
    for kind in ("train", "evaluate"):
        chosen = [record for record in records if record.kind == kind]
        count = max(len(chosen), 1)
        metrics[f"{kind}/episodes"] = float(len(chosen))
        metrics[f"{kind}/env-steps"] = float(sum(record.steps for record in chosen))
        metrics[f"{kind}/seconds"] = sum(record.seconds for record in chosen)
        for agent in agents:
            outcomes = [record.outcomes[agent] for record in chosen]
            returns = [record.returns[agent] for record in chosen]
            metrics[f"{kind}/{agent}/return"] = sum(returns) / count
            for outcome in ("success", "crash"):
                metrics[f"{kind}/{agent}/{outcome}-rate"] = outcomes.count(outcome) / count
    return metrics


def evaluation_names(agents: Iterable[str]) -> list[str]:
    """Return the names of what an evaluation of the global model finds."""
    means = ("return", "success-rate", "crash-rate", "laps")
    each = [f"evaluate/{agent}/{mean}" for agent in agents for mean in means]
    return ["evaluate/episodes", *each]
