"""A report's data, made up but as a run leaves it: for tests of the page that shows it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from recorded import record
from report_run import Json, numbers, run

from f110_fl.reporting.pages.recording import EpisodeReplay, Recording
from f110_fl.reporting.pages.replay import describe


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
        run(k, clients, episodes, rounds if federated else None, agents, worse=bool(k % 2))
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
                        "iqm": numbers(values.mean(0)),
                        "low": numbers(values.mean(0) - spread),
                        "high": numbers(values.mean(0) + spread),
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
