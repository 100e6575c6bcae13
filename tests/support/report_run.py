"""One run of a report's data, made up but as a run leaves it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BIN = 25  # episodes
SLOW = 2  # the client that learns slower than the others, and drifts further from the average

Json = dict[str, Any]


def run(
    index: int,
    clients: int,
    episodes: int,
    rounds: int | None,
    agents: tuple[str, ...],
    worse: bool,
) -> Json:
    """A run; without a number of rounds its clients are independent."""
    rng = np.random.default_rng(100 + index)
    pace = 0.7 if worse else 1.0
    curves = [
        _curve(rng, c, episodes, agents, pace * (0.55 if c == SLOW else 1)) for c in range(clients)
    ]
    history = [_round(rng, n, clients, agents, rounds) for n in range(1, (rounds or 0) + 1)]
    name = f"gap-{index + 1}"
    return {
        "name": name,
        "path": f"outputs/{name}",
        "scenario": "gaplock_td3",
        "seed": index // 2 + 1,
        "federated": rounds is not None,
        "state": "complete",
        "missing": [],
        "agents": list(agents),
        "clients": list(range(clients)),
        "episodes": {"planned": episodes, "done": [episodes] * clients},
        "steps": sum(curve["steps"][-1] for curve in curves),
        "seconds": curves[0]["seconds"][-1],
        "rounds": rounds and {"planned": rounds, "done": rounds},
        "machine": [["Processor", "AMD EPYC 7763"], ["Cores", "16"], ["Python", "3.11.2"]],
        "starts": [
            {
                "at": "2026-11-26 06:50 UTC",
                "resumed": False,
                "command": f"run.py gaplock_td3.yaml --root outputs/{name}",
            },
            {
                "at": "2026-11-26 06:58 UTC",
                "resumed": True,
                "command": f"run.py --resume outputs/{name}",
            },
        ],
        "training": [*curves, *([_mean(curves, agents)] if clients > 1 else [])],
        "evaluations": {"clients": [_evaluations(rng, curve, agents) for curve in curves]},
        "globals": _globals(rng, curves, rounds, agents),
        "history": history,
    }


def _curve(
    rng: np.random.Generator, client: int, episodes: int, agents: tuple[str, ...], pace: float
) -> Json:
    count = episodes // BIN
    done = np.arange(1, count + 1) * BIN
    steps = np.cumsum(rng.normal(60, 4, count) * BIN * (0.6 + 0.6 * done / episodes))
    skill = [1 / (1 + np.exp(-9 * (pace * done / episodes - 0.35))) * 0.95 for _ in agents]
    found = {}
    losses = {}
    for agent, level in zip(agents, skill, strict=True):
        success = np.clip(level + rng.normal(0, 0.05, count), 0, 1)
        crash = (1 - success) * np.clip(0.75 + rng.normal(0, 0.08, count), 0, 1)
        idle = (1 - success - crash) * np.linspace(0.8, 0.1, count)
        returned = -4 + 9 * success + rng.normal(0, 0.3, count)
        spread = 0.4 + 2.2 * success * (1 - success) * 2
        lap = np.where(success > 0.3, 13 - 3 * success + rng.normal(0, 0.1, count), np.nan)
        found[agent] = {
            "return": numbers(returned),
            "low": numbers(returned - spread),
            "high": numbers(returned + spread),
            "outcomes": {
                "success": numbers(success),
                "crash": numbers(crash),
                "idle": numbers(idle),
                "time_limit": numbers(1 - success - crash - idle),
            },
            "lap": numbers(lap),
        }
        losses[f"{agent}/critic"] = numbers(
            2 * np.exp(-done / episodes * 4) * rng.lognormal(0, 0.2, count)
        )
        losses[f"{agent}/actor"] = numbers(-3 * level + rng.normal(0, 0.1, count))
    return {
        "client": client,
        "episodes": done.tolist(),
        "steps": steps.astype(int).tolist(),
        "seconds": numbers(steps / 2400 * (1 + 0.05 * client), 1),
        "agents": found,
        "losses": losses,
        "stage": np.floor(done / (episodes + 1) * 4).astype(int).tolist(),
    }


def _mean(curves: list[Json], agents: tuple[str, ...]) -> Json:
    def over(*keys: str) -> NDArray[np.float64]:
        rows = []
        for curve in curves:
            for key in keys:
                curve = curve[key]
            rows.append(np.array(curve, np.float64))
        return np.array(rows)

    found = {}
    for agent in agents:
        returns = over("agents", agent, "return")
        laps = np.ma.masked_invalid(over("agents", agent, "lap"))
        outcomes = curves[0]["agents"][agent]["outcomes"]
        found[agent] = {
            "return": numbers(returns.mean(0)),
            "low": numbers(returns.min(0)),
            "high": numbers(returns.max(0)),
            "outcomes": {
                key: numbers(over("agents", agent, "outcomes", key).mean(0)) for key in outcomes
            },
            "lap": numbers(laps.mean(0).filled(np.nan)),
        }
    return {
        "client": None,
        "episodes": curves[0]["episodes"],
        "steps": over("steps").mean(0).astype(int).tolist(),
        "seconds": numbers(over("seconds").mean(0), 1),
        "agents": found,
        "losses": {key: numbers(over("losses", key).mean(0)) for key in curves[0]["losses"]},
        "stage": curves[0]["stage"],
    }


def _evaluations(rng: np.random.Generator, curve: Json, agents: tuple[str, ...]) -> Json:
    places = range(7, len(curve["episodes"]), 8)
    axes = {key: [curve[key][k] for k in places] for key in ("episodes", "steps", "seconds")}
    found = {}
    for agent in agents:
        own = curve["agents"][agent]
        trials = [_trials(rng, own["outcomes"]["success"][k]) for k in places]
        found[agent] = {
            "return": [own["return"][k] for k in places],
            "success": [each["success"] for each in trials],
            "low": [each["low"] for each in trials],
            "high": [each["high"] for each in trials],
            "lap": [own["lap"][k] for k in places],
        }
    return {"client": curve["client"], **axes, "agents": found}


def _trials(rng: np.random.Generator, chance: float, trials: int = 40) -> Json:
    """Successes of so many, with Wilson's interval (JASA 22, 1927)."""
    count = int(rng.binomial(trials, chance))
    share, z = count / trials, 1.96
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = (
        z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2) / (1 + z * z / trials)
    )
    low, high = numbers(np.array([max(middle - half, 0), min(middle + half, 1)]))
    return {"success": share, "low": low, "high": high, "count": count, "trials": trials}


def _globals(
    rng: np.random.Generator, curves: list[Json], rounds: int | None, agents: tuple[str, ...]
) -> list[Json]:
    if rounds is None:
        return []
    made = []
    every = max(1, rounds // 20)
    for number in range(every, rounds + 1, every):
        place = round(number / rounds * len(curves[0]["episodes"])) - 1
        found = {}
        for agent in agents:
            chances = [curve["agents"][agent]["outcomes"]["success"][place] for curve in curves]
            trials = _trials(rng, float(np.clip(np.mean(chances) + 0.04, 0, 1)))
            success = trials["success"]
            lap = round(12 - 2 * success, 2) if success > 0.3 else None
            found[agent] = trials | {
                "return": round(-4 + 9 * success, 3),
                "returnSd": 1.2,
                "crash": round(0.8 * (1 - success), 3),
                "lap": lap,
            }
        axes = {key: curves[0][key][place] for key in ("episodes", "steps", "seconds")}
        made.append({"round": number, "on": "server", **axes, "agents": found, "dropped": {}})
    return made


def _round(
    rng: np.random.Generator, number: int, clients: int, agents: tuple[str, ...], rounds: int | None
) -> Json:
    asked = [c for c in range(clients) if clients < 4 or rng.random() < 0.85]
    dropped = {str(c): "no answer in time" for c in asked if number % 17 == 5 and c == 1}
    took = [c for c in asked if str(c) not in dropped]
    share = number / (rounds or 1)
    update = {str(c): round(float((1.2 - share) * rng.lognormal(0, 0.1)), 4) for c in took}
    far = {c: 2.1 if c == str(SLOW) else 1.0 for c in update}
    success = round(float(0.95 / (1 + np.exp(-9 * (share - 0.35)))), 3)
    return {
        "round": number,
        "seconds": round(float(rng.normal(2.4, 0.15)), 2),
        "asked": asked,
        "clients": took,
        "dropped": dropped,
        "train": {
            a: {
                "return": round(-4 + 9 * success, 3),
                "success": success,
                "crash": round(1 - success, 3),
            }
            for a in agents
        },
        "norm": round(float(0.6 * (1.2 - share)), 4),
        "update": update,
        "drift": {c: round(value * 0.45 * far[c], 4) for c, value in update.items()},
        "agreement": round(float(0.6 - 0.4 * share + rng.normal(0, 0.04)), 3),
    }


def numbers(values: NDArray[np.float64], digits: int = 4) -> list[float | None]:
    """Rounded, and null where there is no number."""
    return [None if np.isnan(v) else round(float(v), digits) for v in values]
