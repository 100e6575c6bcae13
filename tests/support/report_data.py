"""A report's data, made up but as a run leaves it: for tests of the page that shows it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recorded import record

from f110_fl.reporting.pages.document import assemble
from f110_fl.reporting.pages.recording import EpisodeReplay, Recording
from f110_fl.reporting.pages.replay import describe

SCRIPTS = (
    "common/data.js",
    "common/words.js",
    "common/theme.js",
    "common/view.js",
    "common/scene.js",
    "common/player.js",
    "report/numbers.js",
    "report/scales.js",
    "report/series.js",
    "report/layers.js",
    "report/tip.js",
    "report/chart.js",
    "report/grid.js",
    "report/tables.js",
    "report/model.js",
    "report/clients.js",
    "report/summary.js",
    "report/curves.js",
    "report/strip.js",
    "report/rounds.js",
    "report/comparison.js",
    "report/settings.js",
    "report/stage.js",
    "report/machine.js",
    "report/live.js",
    "report/main.js",
)
STYLES = ("common/base.css", "report/report.css", "report/charts.css")
BIN = 25  # episodes
LATE = 2  # the client that learns slower than the others

Json = dict[str, Any]


def page(document: Json, connect: str = "'none'") -> str:
    """The page as HTML."""
    return assemble("report/report.html", SCRIPTS, STYLES, document, connect)


def document(
    runs: int = 1,
    clients: int = 3,
    episodes: int = 5000,
    rounds: int = 100,
    federated: bool = True,
    agents: tuple[str, ...] = ("car_0",),
    replays: bool = True,
) -> Json:
    """A report of runs that were planned alike; of several, every second one learns worse."""
    made = [
        _run(k, clients, episodes, rounds if federated else None, agents, worse=bool(k % 2))
        for k in range(runs)
    ]
    groups = _groups(runs) if runs > 1 else []
    return {
        "format": 1,
        "kind": "report",
        "title": made[0]["name"] if runs == 1 else f"{runs} runs",
        "written": "2026-11-26 07:00 UTC",
        "live": None,
        "runs": made,
        "groups": groups,
        "bands": [band for g, each in enumerate(groups) for band in _bands(g, each, made, agents)],
        "table": _table(groups, made, agents[0]) if groups else None,
        "settings": _settings(runs),
        "replays": _replays(clients, rounds, federated) if replays else None,
        "replaysMissing": None if replays else "trajectories were not recorded",
    }


def _run(
    index: int,
    clients: int,
    episodes: int,
    rounds: int | None,
    agents: tuple[str, ...],
    worse: bool,
) -> Json:
    rng = np.random.default_rng(100 + index)
    pace = 0.7 if worse else 1.0
    curves = [
        _curve(rng, c, episodes, agents, pace * (0.55 if c == LATE else 1)) for c in range(clients)
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
            "return": _numbers(returned),
            "low": _numbers(returned - spread),
            "high": _numbers(returned + spread),
            "outcomes": {
                "success": _numbers(success),
                "crash": _numbers(crash),
                "idle": _numbers(idle),
                "time_limit": _numbers(1 - success - crash - idle),
            },
            "lap": _numbers(lap),
        }
        losses[f"{agent}/critic"] = _numbers(
            2 * np.exp(-done / episodes * 4) * rng.lognormal(0, 0.2, count)
        )
        losses[f"{agent}/actor"] = _numbers(-3 * level + rng.normal(0, 0.1, count))
    return {
        "client": client,
        "episodes": done.tolist(),
        "steps": steps.astype(int).tolist(),
        "seconds": _numbers(steps / 2400 * (1 + 0.05 * client), 1),
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
            "return": _numbers(returns.mean(0)),
            "low": _numbers(returns.min(0)),
            "high": _numbers(returns.max(0)),
            "outcomes": {
                key: _numbers(over("agents", agent, "outcomes", key).mean(0)) for key in outcomes
            },
            "lap": _numbers(laps.mean(0).filled(np.nan)),
        }
    return {
        "client": None,
        "episodes": curves[0]["episodes"],
        "steps": over("steps").mean(0).astype(int).tolist(),
        "seconds": _numbers(over("seconds").mean(0), 1),
        "agents": found,
        "losses": {key: _numbers(over("losses", key).mean(0)) for key in curves[0]["losses"]},
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
    low, high = _numbers(np.array([max(middle - half, 0), min(middle + half, 1)]))
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
    far = {c: 2.1 if c == str(LATE) else 1.0 for c in update}
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


def _groups(runs: int) -> list[Json]:
    names = ("optimizer_strategy=keep", "optimizer_strategy=reset")
    members = [list(range(g, runs, 2)) for g in range(2)]
    return [
        {"name": name, "runs": own, "seeds": [k // 2 + 1 for k in own]}
        for name, own in zip(names, members, strict=True)
    ]


def _bands(group: int, about: Json, runs: list[Json], agents: tuple[str, ...]) -> list[Json]:
    made = []
    for agent in agents:
        for axis in ("episodes", "steps", "seconds"):
            curves = [runs[k]["training"][-1] for k in about["runs"]]
            evaluated = [runs[k]["globals"] for k in about["runs"]]
            own = [curve["agents"][agent] for curve in curves]
            sources: dict[tuple[str, str], tuple[list[Any], list[Any]]] = {
                ("return", "training"): (curves[0][axis], [each["return"] for each in own]),
                ("success", "training"): (
                    curves[0][axis],
                    [each["outcomes"]["success"] for each in own],
                ),
                ("success", "global"): (
                    [each[axis] for each in evaluated[0]],
                    [[point["agents"][agent]["success"] for point in each] for each in evaluated],
                ),
            }
            for (metric, of), (x, rows) in sources.items():
                if not x:
                    continue
                values = np.array(rows, np.float64)
                spread = values.std(0) + 0.02
                made.append(
                    {
                        "group": group,
                        "metric": metric,
                        "of": of,
                        "agent": agent,
                        "axis": axis,
                        "x": x,
                        "iqm": _numbers(values.mean(0)),
                        "low": _numbers(values.mean(0) - spread),
                        "high": _numbers(values.mean(0) + spread),
                    }
                )
    return made


def _table(groups: list[Json], runs: list[Json], agent: str) -> Json:
    def last(index: int) -> float:
        evaluated = runs[index]["globals"]
        return float(evaluated[-1]["agents"][agent]["success"]) if evaluated else 0.5

    rows = []
    for g, group in enumerate(groups):
        share = float(np.mean([last(k) for k in group["runs"]]))
        rows.append(
            {
                "group": g,
                "cells": {
                    "success": {
                        "value": share,
                        "low": max(share - 0.08, 0),
                        "high": min(share + 0.05, 1),
                    },
                    "return": {"value": 3.2 - g, "low": 2.7 - g, "high": 3.6 - g},
                    "lap": None if g else {"value": 10.2, "low": 10.0, "high": 10.5},
                    "steps": {"value": 812345 + g, "low": None, "high": None},
                },
            }
        )
    return {
        "columns": [
            {"key": "success", "title": "Success, last evaluation", "form": "share"},
            {"key": "return", "title": "Return, last evaluation", "form": "number"},
            {"key": "lap", "title": "Best lap", "form": "seconds"},
            {"key": "steps", "title": "Steps", "form": "count"},
        ],
        "rows": rows,
        "pairs": [
            {
                "group": 1,
                "other": 0,
                "key": "success",
                "difference": -0.12,
                "low": -0.2,
                "high": -0.03,
                "seeds": 3,
                "verdict": "worse",
            },
            {
                "group": 1,
                "other": 0,
                "key": "return",
                "difference": -0.1,
                "low": -0.4,
                "high": 0.2,
                "seeds": 3,
                "verdict": "indistinguishable",
            },
        ],
    }


def _settings(runs: int) -> list[Json]:
    different = [["keep", "reset"][k % 2] for k in range(runs)]
    rows: list[Json] = [
        {"key": "learners.car_0.discount", "default": "0.99", "values": ["0.98"] * runs},
        {"key": "federated.optimizer_strategy", "default": "keep", "values": different},
        {"key": "federated.round_interval", "default": "20", "values": ["50"] * runs},
        {"key": "env.lidar.beams", "default": "1080", "values": ["108"] * runs},
        {"key": "env.cars.1.driver.speed", "default": None, "values": ["2.0"] * runs},
    ]
    return rows if runs > 1 else [row for row in rows if row["values"] != [row["default"]]]


@cache
def recording(policies: int) -> Recording:
    """Episodes of as many policies, slow ones and ones that crash; without lidar."""
    made, first = [], None
    for k in range(policies):
        found, _ = record(2, speed=round(0.1 + 0.02 * k, 2))
        first = first or found
        made.append(_bare(found.episodes[0 if k % 3 else 1], k))
    assert first is not None
    lidar = replace(first.lidar, angles=np.empty(0))
    return replace(first, lidar=lidar, episodes=tuple(made))


def _bare(episode: EpisodeReplay, number: int) -> EpisodeReplay:
    return replace(episode, number=number, scans=episode.scans[:, :, :0])


def _replays(clients: int, rounds: int, federated: bool) -> Json:
    shown = [1, *range(rounds // 4, rounds + 1, rounds // 4)] if federated else [1]
    makers: list[int | None] = [*([None] if federated else []), *range(clients)]
    names = ["global" if c is None else f"client {c:02d}" for c in makers]
    return {
        "recording": describe(recording(len(shown) * len(makers))),
        "rounds": [
            {
                "round": number,
                "label": f"round {number}" if federated else "best",
                "policies": [
                    {"client": client, "episode": k * len(makers) + j, "name": names[j]}
                    for j, client in enumerate(makers)
                ],
            }
            for k, number in enumerate(shown)
        ],
    }


def _numbers(values: NDArray[np.float64], digits: int = 4) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), digits) for v in values]
