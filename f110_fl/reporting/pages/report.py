"""The report of one run or several: everything that they left, in one HTML file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from f110_fl.files import complete_lines, is_file, write_atomic
from f110_fl.reporting.pages.comparison import bands_of, groups_of, settings_table, table_of
from f110_fl.reporting.pages.curves import evaluation_curves, numbers, training_curves
from f110_fl.reporting.pages.document import assemble
from f110_fl.reporting.pages.drift import Drift
from f110_fl.reporting.pages.history import History
from f110_fl.reporting.pages.replay import COMMON
from f110_fl.reporting.pages.time_machine import Replays
from f110_fl.reporting.summary import is_complete
from f110_fl.training.metrics import metric_name, total_name

FORMAT: Final = 1  # of the data in the page; the page refuses others
SCRIPTS: Final = (
    *COMMON,
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
STYLES: Final = ("common/base.css", "report/report.css", "report/charts.css")
NO_REPLAYS: Final = Replays()
_MEASURES: Final = {"return": "return", "success": "success-rate", "crash": "crash-rate"}


def write_report(path: Path, document: Mapping[str, Any]) -> None:
    """Write a report as one HTML file.

    Args:
        path: The file, in a folder that exists.
        document: What `report` returned.

    Raises:
        OSError: If the file cannot be written.
    """
    write_atomic(path, page(document))


def page(document: Mapping[str, Any], connect: str = "'none'") -> str:
    """Return a report as HTML; ``connect`` is what it may fetch (`assemble`)."""
    return assemble("report/report.html", SCRIPTS, STYLES, document, connect)


def report(
    histories: Sequence[History],
    replays: Replays = NO_REPLAYS,
    drifts: Sequence[Drift] = (),
    live: float | None = None,
) -> dict[str, Any]:
    """Return what a report shows, for JSON; docs/report.md describes it.

    Args:
        histories: Of the runs, at least one.
        replays: What `time_machine.replays` found.
        drifts: The runs' norms, if they were read before; else they are read now.
        live: s between two looks of the page at what is new; None: it shows a file.
    """
    drifts = drifts or [Drift(history.rundir) for history in histories]
    runs = [_run(h, d, live is not None) for h, d in zip(histories, drifts, strict=True)]
    scenarios = [history.scenario for history in histories]
    several = len(runs) > 1
    groups = groups_of(runs, scenarios) if several else []
    return {
        "format": FORMAT,
        "kind": "report",
        "title": f"{len(runs)} runs" if several else runs[0]["name"],
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "live": None if live is None else {"every": live},
        "runs": runs,
        "groups": groups,
        "bands": bands_of(runs, groups),
        "table": table_of(runs, groups) if several else None,
        "settings": settings_table(scenarios),
        "replays": replays.shown,
        "replaysMissing": replays.missing,
    }


def _run(history: History, drift: Drift, live: bool) -> dict[str, Any]:
    scenario, rundir = history.scenario, history.rundir
    federated = scenario.federated.enabled
    training = training_curves(history)
    machine, starts = _starts(rundir.starts)
    done: list[float] = [history.training[client].last for client in history.clients]
    if not any(done):  # on other machines: as far as the rounds tell
        done = [_last(c["episodes"]) for c in training if c["client"] is not None] or done
    steps = [_last(c["steps"]) for c in training if c["client"] is not None]
    ends = history.round_ends()
    clocks = [_last(c["seconds"]) for c in training]
    state = "running" if live else "complete" if _complete(history) else "unfinished"
    return {
        "name": rundir.root.name,
        "path": str(rundir.root),
        "scenario": scenario.name,
        "seed": scenario.client_seed(0),
        "federated": federated,
        "state": state,
        "missing": list(dict.fromkeys([*history.missing, *_removed(history)])),
        "agents": list(scenario.learners),
        "clients": list(history.clients),
        "episodes": {"planned": scenario.episodes, "done": done},
        "steps": int(sum(steps)),
        "seconds": float(ends[-1]) if federated and len(ends) > 1 else max(clocks, default=0.0),
        "rounds": {"planned": scenario.rounds, "done": len(history.rounds)} if federated else None,
        "machine": machine,
        "starts": starts,
        "training": training,
        "evaluations": {"clients": evaluation_curves(history)},
        "globals": _globals(history, training) if federated else [],
        "history": _rounds(history, drift) if federated else [],
    }


def _removed(history: History) -> list[str]:
    """Return a line about rounds whose tensors did not stay."""
    keep = history.scenario.federated.keep_rounds
    numbers = [int(line["round"]) for line in history.rounds]
    gone = [n for n in numbers if not is_file(history.rundir.global_tensors(n))]
    if keep == "all" or not gone:
        return []
    return [f"tensors of {len(gone)} of {len(numbers)} rounds: not kept (keep_rounds {keep})"]


def _complete(history: History) -> bool:
    try:
        return is_complete(history.scenario, history.rundir)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _last(values: Sequence[Any]) -> float:
    return next((value for value in reversed(values) if value is not None), 0)


def _starts(path: Path) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """What a run's machine was when it was last started, and all its starts."""
    try:
        lines = complete_lines(path)
    except (OSError, UnicodeDecodeError):
        lines = []
    machine = lines[-1].get("machine", {}) if lines else {}
    shown = [{key: str(line.get(key, "")) for key in ("at", "command")} for line in lines]
    for entry, line in zip(shown, lines, strict=True):
        entry["resumed"] = bool(line.get("resumed"))  # type: ignore[assignment]
    return [[str(key), str(value)] for key, value in machine.items()], shown


def _rounds(history: History, drift: Drift) -> list[dict[str, Any]]:
    chosen = set(drift.chosen(history.rounds))
    found = []
    for line in history.rounds:
        number, clients = int(line["round"]), [int(k) for k in line["clients"]]
        norms = drift.of(number, clients) if number in chosen else None
        metrics = line["metrics"]
        train = {
            agent: {
                key: metrics.get(metric_name("train", agent, measure))
                for key, measure in _MEASURES.items()
            }
            for agent in history.scenario.federated_agents
        }
        found.append(
            {
                "round": number,
                "seconds": line["seconds"],
                "asked": [int(k) for k in line["asked"]],
                "clients": clients,
                "dropped": {str(k): str(v) for k, v in line["dropped"].items()},
                "train": {
                    a: dict(zip(v, numbers(_floats(v)), strict=True)) for a, v in train.items()
                },
                **(_rounded(norms) if norms else dict.fromkeys(_NORMS)),
            }
        )
    return found


_NORMS: Final = ("norm", "update", "drift", "agreement")


def _floats(values: Mapping[str, Any]) -> list[float]:
    return [np.nan if value is None else float(value) for value in values.values()]


def _rounded(norms: Mapping[str, Any]) -> dict[str, Any]:
    """Norms with as many digits as are shown."""
    found: dict[str, Any] = {}
    for key, value in norms.items():
        if isinstance(value, dict):
            found[key] = dict(zip(value, numbers(_floats(value)), strict=True))
        else:
            found[key] = None if value is None else numbers([value])[0]
    return found


def _globals(history: History, training: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The global model's evaluations, placed among the clients' episodes, steps and seconds."""
    ends, mean = history.round_ends(), training[-1] if training else None
    found = []
    for line in history.globals:
        number = int(line["round"])
        episodes = history.scenario.episodes_after(number)
        steps = None
        if mean is not None and mean["episodes"]:
            at = [0.0, *mean["episodes"]], [0.0, *(s or 0.0 for s in mean["steps"])]
            steps = numbers([float(np.interp(episodes, *at))])[0]
        found.append(
            {
                "round": number,
                "on": str(line["on"]),
                "episodes": episodes,
                "steps": steps,
                "seconds": numbers([float(ends[min(number, len(ends) - 1)])])[0],
                "agents": {a: _judged(line, a) for a in history.scenario.federated_agents},
                "dropped": {str(k): str(v) for k, v in line.get("dropped", {}).items()},
            }
        )
    return found


def _judged(line: Mapping[str, Any], agent: str) -> dict[str, Any]:
    """An agent's part of an evaluation: in full from the server, means from the clients."""
    metrics = line["metrics"]
    none = dict.fromkeys(("low", "high", "count", "trials", "returnSd", "lap"))
    found = none | {
        key: metrics.get(metric_name("evaluate", agent, measure))
        for key, measure in _MEASURES.items()
    }
    trials = metrics.get(total_name("evaluate", "episodes"))
    car = line.get("cars", {}).get(agent)
    if car:
        success = car["outcomes"]["success"]
        found |= {key: success[key] for key in ("low", "high", "count")}
        trials = car["episodes"]
        found["returnSd"] = car.get("return", {}).get("sd")
        found["lap"] = car.get("lap_time", {}).get("mean")
    found["trials"] = trials
    return {k: None if v is None else numbers([float(v)])[0] for k, v in found.items()}
