"""Learning curves: a run's episodes, gathered into as many points as a screen can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.evaluation.statistics import wilson_interval
from f110_fl.reporting.pages.history import History
from f110_fl.training.metrics import metric_name, total_name
from f110_fl.training.records import EpisodeKind

Float = NDArray[np.float64]
Values = list[float | None]

BINS: Final = 200  # points of a curve at most
FEW: Final = 24  # of a short one, where there are as many episodes
LEAST: Final = 10  # episodes a point, of longer ones
_DIGITS: Final = 5  # significant, of what is written


def numbers(values: Sequence[float] | Float) -> Values:
    """Return numbers for JSON, rounded; None for those that are not finite."""
    return [float(f"{v:.{_DIGITS}g}") if np.isfinite(v) else None for v in np.asarray(values)]


def training_curves(history: History) -> list[dict[str, Any]]:
    """Return each client's curve of training episodes and, of several clients, their mean.

    All have the same bins of episodes. A curve is a mapping for JSON: ``client`` (None: the
    mean), ``episodes``, ``steps`` and ``seconds`` (K,) at the ends of its bins, ``agents``,
    ``losses`` and ``stage``; see `_curve`.
    """
    done = max(episodes.last for episodes in history.training.values())
    if not done:
        return _curves_of_rounds(history)
    bins = min(max(done // LEAST, FEW), BINS, done)
    edges = np.linspace(0, done, bins + 1).round().astype(np.int64)
    curves = [_curve(history, client, edges) for client in history.clients]
    return [_finish(curve) for curve in _with_mean(curves)]


def evaluation_curves(history: History) -> list[dict[str, Any]]:
    """Return each client's evaluations of its own models while it trained.

    A curve is a mapping for JSON: ``client``, ``episodes``, ``steps``, ``seconds`` (K,), and by
    agent ``return``, ``success`` with Wilson's 95 % interval ``low`` to ``high``, and ``lap``, s.
    """
    curves = []
    for client in history.clients:
        episodes, times = history.evaluations[client], history.clock(client)[1]
        numbered = episodes.column("episode")
        # Those of one evaluation share the number of training episodes before it.
        first = np.flatnonzero(np.diff(numbered, prepend=-1.0))
        bins = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(numbered))))
        last = np.append(first[1:], len(numbered)) - 1 if len(first) else first
        mean, trials = _averager(bins, len(first)), np.bincount(bins, minlength=len(first))
        agents = {}
        for agent in history.scenario.learners:
            won = np.nan_to_num(episodes.column(f"outcome/{agent}/success"))
            wins = np.bincount(bins, won, minlength=len(first)).astype(np.int64)
            bounds = [wilson_interval(int(w), int(n)) for w, n in zip(wins, trials, strict=True)]
            agents[agent] = {
                "return": numbers(mean(episodes.column(f"return/{agent}"))),
                "success": numbers(wins / trials),
                "low": numbers([low for low, _ in bounds]),
                "high": numbers([high for _, high in bounds]),
                "lap": numbers(mean(episodes.column(f"lap/{agent}"))),
            }
        curves.append(
            {
                "client": client,
                "episodes": numbers(numbered[last]),
                "steps": numbers(episodes.column("env_steps")[last]),
                "seconds": numbers(times[last]),
                "agents": agents,
            }
        )
    return curves


def _curve(history: History, client: int, edges: NDArray[np.int64]) -> dict[str, Any]:
    """A client's curve, with arrays of one number a bin, NaN where it has no episode."""
    episodes, times = history.training[client], history.clock(client)[0]
    bins, size = np.searchsorted(edges, episodes.column("episode")) - 1, len(edges) - 1
    mean, count = _averager(bins, size), np.bincount(bins, minlength=size)
    agents = {}
    for agent in history.scenario.learners:
        returns = episodes.column(f"return/{agent}")
        absent = np.isnan(returns)  # a snapshot drove
        outcomes = {
            name: mean(np.where(absent, np.nan, episodes.column(f"outcome/{agent}/{name}") == 1.0))
            for name in sorted(episodes.names(f"outcome/{agent}/"))
        }
        agents[agent] = {
            "return": mean(returns),
            "low": _quantile(returns, bins, size, 0.25),
            "high": _quantile(returns, bins, size, 0.75),
            "outcomes": outcomes,
            "lap": mean(episodes.column(f"lap/{agent}")),
        }
    staged = history.scenario.curriculum is not None
    return {
        "client": client,
        "episodes": edges[1:].astype(np.float64),
        "steps": _last_of(episodes.column("env_steps"), count),
        "seconds": _last_of(times, count),
        "agents": agents,
        "losses": {n: mean(episodes.column(f"loss/{n}")) for n in episodes.names("loss/")},
        "stage": mean(episodes.column("stage")) if staged else None,
    }


def _last_of(values: Float, count: NDArray[np.int64]) -> Float:
    """The last value (K,) of each bin of consecutive values (N,); NaN of an empty one."""
    found = np.full(len(count), np.nan)
    found[count > 0] = values[np.cumsum(count)[count > 0] - 1]
    return found


def _averager(bins: NDArray[np.int64], size: int) -> Callable[[Float], Float]:
    """Return a function from values (N,) to their means by bin (size,), without NaN ones."""

    def mean(values: Float) -> Float:
        known = np.isfinite(values)
        sums = np.bincount(bins[known], values[known], minlength=size)
        counts = np.bincount(bins[known], minlength=size)
        found: Float = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
        return found

    return mean


def _quantile(values: Float, bins: NDArray[np.int64], size: int, share: float) -> Float:
    found = np.full(size, np.nan)
    known = np.isfinite(values)
    for k in np.unique(bins[known]):
        found[k] = np.quantile(values[known & (bins == k)], share)
    return found


def _with_mean(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the mean of several clients' curves, between the least and the greatest of them."""
    if len(curves) < 2:
        return curves
    every = [c for c in curves if np.isfinite(c["steps"]).any()]
    mean: dict[str, Any] = {"client": None, "episodes": curves[0]["episodes"]}
    for axis in ("steps", "seconds"):
        mean[axis] = _nan(np.nanmean, [curve[axis] for curve in every])
    mean["agents"] = {}
    for agent in curves[0]["agents"]:
        own = [c["agents"][agent] for c in every]
        returns = [c["return"] for c in own]
        outcomes = dict.fromkeys(name for c in own for name in c["outcomes"])
        none = np.zeros_like(curves[0]["episodes"])
        mean["agents"][agent] = {
            "return": _nan(np.nanmean, returns),
            "low": _nan(np.nanmin, returns),
            "high": _nan(np.nanmax, returns),
            "outcomes": {n: _nan(np.nanmean, [_share(c, n, none) for c in own]) for n in outcomes},
            "lap": _nan(np.nanmean, [c["lap"] for c in own]),
        }
    losses = dict.fromkeys(name for c in every for name in c["losses"])
    absent = np.full_like(curves[0]["episodes"], np.nan)
    mean["losses"] = {
        n: _nan(np.nanmean, [c["losses"].get(n, absent) for c in every]) for n in losses
    }
    staged = [c["stage"] for c in every if c["stage"] is not None]
    mean["stage"] = _nan(np.nanmean, staged) if staged else None
    return [*curves, mean]


def _share(curve: Mapping[str, Any], outcome: str, none: Float) -> Float:
    """A client's share of an outcome: 0 where it has episodes, but not that outcome."""
    share: Float = curve["outcomes"].get(outcome, np.where(np.isnan(curve["return"]), np.nan, none))
    return share


def _nan(function: Callable[..., Any], rows: Sequence[Float]) -> Float:
    """Apply a function to (N, K) along N; NaN where all are."""
    table = np.array(rows)
    found = np.full(table.shape[1], np.nan)
    known = np.isfinite(table).any(axis=0)
    found[known] = function(table[:, known], axis=0)
    return found


def _finish(curve: dict[str, Any]) -> dict[str, Any]:
    """Leave out bins without episodes, and make the curve one for JSON."""
    keep = np.isfinite(curve["steps"])

    def write(values: Any) -> Any:
        if isinstance(values, dict):
            return {key: write(value) for key, value in values.items()}
        return numbers(values[keep]) if isinstance(values, np.ndarray) else values

    written: dict[str, Any] = write(curve)
    return written


def _curves_of_rounds(history: History) -> list[dict[str, Any]]:
    """Curves of clients on other machines, whose metrics of rounds are all that is here."""
    ends, scenario = history.round_ends(), history.scenario
    curves: list[dict[str, Any]] = []
    for client in history.clients:
        found = [
            (int(line["round"]), line["by_client"][f"{client:02d}"])
            for line in history.rounds
            if f"{client:02d}" in line.get("by_client", {})
        ]
        rounds = np.array([number for number, _ in found], np.int64)
        metrics = [values for _, values in found]
        episodes = np.minimum(rounds * scenario.federated.round_interval, scenario.episodes)
        if scenario.federated.mixed is not None:  # of its own rounds, each has as many
            episodes = scenario.round_episodes(1) * np.arange(1, len(rounds) + 1)
        steps = [values.get(total_name("train", "env-steps"), np.nan) for values in metrics]
        curves.append(
            {
                "client": client,
                "episodes": episodes * 1.0,
                "steps": np.cumsum(steps),
                "seconds": ends[rounds] if len(rounds) else np.zeros(0),
                "agents": {a: _round_means("train", a, metrics) for a in history.scenario.learners},
                "losses": {},
                "stage": None,
            }
        )
    return [_finish(curve) for curve in curves if len(curve["episodes"])]


def _round_means(kind: EpisodeKind, agent: str, rounds: Sequence[Mapping[str, Any]]) -> Any:
    def read(measure: str) -> Float:
        name = metric_name(kind, agent, measure)
        return np.array([values.get(name, np.nan) for values in rounds], np.float64)

    returns, success, crash = read("return"), read("success-rate"), read("crash-rate")
    outcomes = {"success": success, "crash": crash, "other": 1.0 - success - crash}
    none = np.full(len(rounds), np.nan)
    return {"return": returns, "low": none, "high": none, "outcomes": outcomes, "lap": none}
