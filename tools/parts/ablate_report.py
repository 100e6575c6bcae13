"""The report of an ablation: tables, a figure, and a verdict computed from intervals."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final, get_args

import numpy as np

from f110_fl.errors import UserError
from f110_fl.evaluation.statistics import (
    Estimate,
    Float,
    Judgement,
    judge,
    probability_of_improvement,
    student,
)
from f110_fl.files import write_atomic
from f110_fl.reporting.summary import is_complete
from f110_fl.rundir import RunDir
from f110_fl.sweeps.grid import Cell, Grid
from f110_fl.tensors import read_tensors, unprefixed
from parts.ablate_figure import Line, draw
from parts.ablate_plan import INDEPENDENT, SINGLE, STRATEGIES, Arm, make_arms
from parts.ablate_stats import Curve, Metric, Panel, make_panel, read_curve

SCORES: Final[dict[str, Callable[[Panel, str], Float]]] = {
    "at equal steps": Panel.end,
    "on the way": Panel.mean,
    "at equal episodes": Panel.last,
}
OTHERS: Final = {INDEPENDENT: "independent learners", SINGLE: "one learner that sees everything"}


@dataclass(frozen=True)
class Comparison:
    """A comparison of a strategy with another one or a baseline, with equally many clients."""

    clients: int
    score: str  # a key of SCORES
    strategy: str
    other: str  # a baseline or another strategy
    difference: Estimate  # strategy minus other, paired by seed

    @property
    def judgement(self) -> Judgement:
        """What its interval allows to say."""
        return judge(float(self.difference.low), float(self.difference.high))


def write_report(grid: Grid, arguments: argparse.Namespace) -> str:
    """Write ``report.md``, ``curves.svg`` and ``ablation.json``, and return the report.

    Args:
        grid: The plan; runs that are not complete are left out.
        arguments: The arguments of ``ablate.py``.

    Raises:
        UserError: If there is nothing to compare yet, or ``--doc`` has no markers for the report.
    """
    metric: Metric = arguments.metric
    curves, averaged = _read(grid, arguments, metric)
    panels: dict[int, Panel] = {}
    for clients in arguments.clients:
        names = [arm.name for arm in _arms_of(clients, arguments)]
        panel = make_panel({name: curves.get(name, {}) for name in names})
        if panel is not None:
            panels[clients] = panel
    if not panels:
        raise UserError(f"{grid.root}: no seed is complete with every arm yet; nothing to report")
    found = [
        each for clients, panel in panels.items() for each in compare(clients, panel, arguments)
    ]
    figure = _figure(panels, arguments)
    lines = [
        *verdict(found, panels),
        "",
        *_results(panels, curves, averaged, arguments),
        "",
        *_differences(found, panels),
    ]
    report = "\n".join(lines) + "\n"
    write_atomic(grid.root / "report.md", report)
    write_atomic(grid.root / "curves.svg", figure)
    numbers = {
        "seeds": {clients: panel.seeds for clients, panel in panels.items()},
        "comparisons": [vars(each) | {"difference": _json(each.difference)} for each in found],
        "runs": {
            arm: {
                seed: {"steps": own.steps.tolist(), "values": own.values.tolist()}
                for seed, own in by_seed.items()
            }
            for arm, by_seed in curves.items()
        },
        "averaged": averaged,
    }
    write_atomic(grid.root / "ablation.json", json.dumps(numbers, indent=1) + "\n")
    if arguments.doc is not None:
        _into(arguments.doc, grid.cells[0].scenario.name, report, figure)
    return report


def told(found: Estimate) -> str:
    """Return an estimate with its interval, where it has one: ``1.00 (0.50 to 1.50)``."""
    value, low, high = (f"{round(float(each), 2) + 0.0:.2f}" for each in found)  # 0.00, not -0.00
    return value if np.isnan(found.low) else f"{value} ({low} to {high})"


def _json(found: Estimate) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in found]


def _arms_of(clients: int, arguments: argparse.Namespace) -> list[Arm]:
    return make_arms([clients], arguments.strategies)


def _read(
    grid: Grid, arguments: argparse.Namespace, metric: Metric
) -> tuple[dict[str, dict[int, Curve]], dict[str, dict[int, float]]]:
    """Return the curves and, for federated runs, the last average's value, by arm and seed."""
    cells = {cell.name: cell for cell in grid.cells}
    curves: dict[str, dict[int, Curve]] = {}
    averaged: dict[str, dict[int, float]] = {}
    for arm in make_arms(arguments.clients, arguments.strategies):
        for seed in range(arguments.seeds):
            cell = cells[arm.cell_name(seed)]
            rundir = RunDir(grid.root / cell.name)
            if not is_complete(cell.scenario, rundir):
                continue
            agents = tuple(cell.scenario.learners)
            curve = read_curve(rundir, arm.clients, agents, metric)
            curves.setdefault(arm.name, {})[seed] = curve
            value = averaged_value(cell, rundir, metric) if arm.kind in STRATEGIES else None
            if value is not None:
                averaged.setdefault(arm.name, {})[seed] = value
    return curves, averaged


def averaged_value(cell: Cell, rundir: RunDir, metric: Metric) -> float | None:
    """Evaluate the average of a complete federated run's last round, as its clients were.

    The clients' own evaluations are of the models that each has trained; this is of the average
    from which all would continue. None if a part of an actor is not averaged.
    """
    from f110_fl.training.checkpoint import load_models
    from f110_fl.training.evaluation import ModelEvaluator
    from f110_fl.training.metrics import score

    evaluator = ModelEvaluator(cell.scenario)
    learners = evaluator.learners
    tensors = unprefixed("global", read_tensors(rundir.server))
    try:
        for agent, learner in learners.items():
            load_models(learner, agent, tensors, rundir.server)
    except UserError:
        return None
    return score(evaluator.run(), learners, metric)[0]


def compare(clients: int, panel: Panel, arguments: argparse.Namespace) -> Iterator[Comparison]:
    """Yield each strategy against both baselines, and each pair of strategies."""
    arms = {arm.kind: arm.name for arm in _arms_of(clients, arguments)}
    pairs = [(one, other) for other in OTHERS for one in arguments.strategies]
    pairs += combinations(arguments.strategies, 2)
    for score, function in SCORES.items():
        for one, other in pairs:
            difference = panel.difference(arms[one], arms[other], function)
            yield Comparison(clients, score, one, other, difference)


def verdict(found: Sequence[Comparison], panels: Mapping[int, Panel]) -> list[str]:
    """Return the conclusions that the intervals allow, as lines of Markdown."""
    lines = _headline([e for e in found if len(panels[e.clients].seeds) > 1])
    lines += _improvements(found, panels)
    for clients, panel in panels.items():
        if len(panel.seeds) < 2:
            lines.append(f"- {clients} clients: one seed says nothing of chance; no verdict.")
            continue
        own = [each for each in found if each.clients == clients]
        for other, words in OTHERS.items():
            parts = []
            for score in SCORES:
                chosen = [e for e in own if e.other == other and e.score == score]
                parts.append(f"{score} {_words(chosen)}")
            lines.append(f"- {clients} clients against {words}: {'; '.join(parts)}.")
        pairs = [e for e in own if e.other not in OTHERS]
        said = [
            f"`{e.strategy}` {e.judgement} than `{e.other}` {e.score}, "
            f"by {abs(e.difference.value):.2f}"
            for e in pairs
            if e.judgement != "indistinguishable"
        ]
        if pairs:
            words = "; ".join(said) or "all indistinguishable"
            lines.append(f"- {clients} clients, strategies among themselves: {words}.")
    lines.append(
        f"- Of the {len(found)} intervals of 95 % behind this, {len(found) / 20:.1f} would miss "
        "zero by chance alone if nothing differed."
    )
    return lines


def _headline(found: Sequence[Comparison]) -> list[str]:
    """Return the counts of verdicts on federating, against each baseline."""
    lines = []
    for other, words in OTHERS.items():
        said = [e.judgement for e in found if e.other == other]
        if said:
            counts = ", ".join(f"{word} in {said.count(word)}" for word in get_args(Judgement))
            lines.append(f"- **Federated against {words}, {len(said)} comparisons: {counts}.**")
    return lines


def _improvements(found: Sequence[Comparison], panels: Mapping[int, Panel]) -> list[str]:
    """Return how likely a run of a strategy ends better than one of a baseline, over all panels."""
    lines = []
    for other, words in OTHERS.items():
        said = []
        for strategy in dict.fromkeys(e.strategy for e in found if e.other == other):
            ours, theirs = (
                {
                    str(clients): panel.end(Arm(kind, clients).name)
                    for clients, panel in panels.items()
                }
                for kind in (strategy, other)
            )
            likely = probability_of_improvement(ours, theirs, np.random.default_rng(0))
            if not np.isnan(likely.low):
                said.append(f"`{strategy}` {told(likely)}")
        if said:
            lines.append(f"- Probability of improvement on {words}: {'; '.join(said)}.")
    return lines


def _words(chosen: Sequence[Comparison]) -> str:
    """Return ``all better``, or the verdict on each strategy."""
    by_judgement: dict[str, list[str]] = {}
    for each in chosen:
        by_judgement.setdefault(each.judgement, []).append(f"`{each.strategy}`")
    if len(by_judgement) == 1 and len(chosen) > 1:
        return f"all {next(iter(by_judgement))}"
    return ", ".join(f"{' and '.join(names)} {word}" for word, names in by_judgement.items())


def _results(
    panels: Mapping[int, Panel],
    curves: Mapping[str, Mapping[int, Curve]],
    averaged: Mapping[str, Mapping[int, float]],
    arguments: argparse.Namespace,
) -> list[str]:
    """Return the table of each arm's results."""
    lines = [
        f"| clients | arm | thousand steps | {' | '.join(SCORES)} | last average |",
        "|---|---|---|" + "---|" * (len(SCORES) + 1),
    ]
    for clients, panel in panels.items():
        for arm in _arms_of(clients, arguments):
            runs = [curves[arm.name][seed] for seed in panel.seeds]
            known = averaged.get(arm.name, {})
            cells = [
                str(clients),
                arm.kind,
                f"{np.mean([run.steps[-1] for run in runs]) / 1000:.0f}",
                *(told(student(score(panel, arm.name))) for score in SCORES.values()),
                told(student(np.array([known[s] for s in panel.seeds]))) if known else "",
            ]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _differences(found: Sequence[Comparison], panels: Mapping[int, Panel]) -> list[str]:
    """Return the table of paired differences from the baselines."""
    columns = [(score, other) for other in OTHERS for score in SCORES]
    heads = [f"{other}: {score}" for score, other in columns]
    lines = [
        f"| clients | seeds | strategy minus | {' | '.join(heads)} |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    values = {(e.clients, e.strategy, e.score, e.other): e.difference for e in found}
    for clients, strategy in dict.fromkeys((e.clients, e.strategy) for e in found):
        differences = [values[clients, strategy, *column] for column in columns]
        if differences:
            row = [str(clients), str(len(panels[clients].seeds)), strategy, *map(told, differences)]
            lines.append(f"| {' | '.join(row)} |")
    return lines


def _figure(panels: Mapping[int, Panel], arguments: argparse.Namespace) -> str:
    """Return the learning curves, a panel for each number of clients."""
    shown: dict[str, tuple[Float, list[Line]]] = {}
    for clients, panel in panels.items():
        lines = []
        for arm in _arms_of(clients, arguments):
            points = [student(column) for column in panel.values[arm.name].T]
            mean, low, high = np.array(points).T
            lines.append(Line(arm.kind, mean, low, high))
        shown[f"{clients} clients"] = panel.steps / 1000, lines
    label = "return" if arguments.metric == "return" else "success rate"
    return draw(shown, "training steps of all clients, thousand", f"{label}, held out")


def place_in(path: Path, name: str) -> str:
    """Return the part of a document that contains a scenario's report, with its markers.

    Args:
        path: The document.
        name: The scenario's name.

    Raises:
        UserError: If the document cannot be read, or has no such markers.
    """
    begin, end = _markers(name)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--doc={str(path)!r}: cannot be read: {error.strerror}") from None
    places = re.findall(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
    if len(places) != 1:
        raise UserError(
            f"--doc={str(path)!r}: needs the markers {begin} {end} once, for the report"
        )
    return str(places[0])


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- ablation {name} -->", f"<!-- end of ablation {name} -->"


def _into(path: Path, name: str, report: str, figure: str) -> None:
    """Put the report between its markers in a document, and the figure beside the document."""
    (begin, end), before = _markers(name), place_in(path, name)
    file = f"ablation_{name}.svg"
    body = f"{begin}\n![learning curves]({file})\n\n{report}{end}"
    write_atomic(path.parent / file, figure)
    write_atomic(path, path.read_text(encoding="utf-8").replace(before, body))
