"""Runs a stress evaluation: cell by cell, each in a line of a file, from which it goes on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from f110_fl.errors import UserError
from f110_fl.files import append_line, complete_lines, write_atomic
from f110_fl.loading.flags import outside_overrides
from f110_fl.reporting.console import print_table
from f110_fl.reporting.pictures.heat_map import heat_maps
from f110_fl.rundir import RunDir
from f110_fl.runs import preflight
from f110_fl.runs.directory import lock_directory
from f110_fl.runs.inputs import digest, digests
from f110_fl.runs.plan import RunPlan, resolve_plan
from f110_fl.sweeps.stress import Cell, Stress, check_sweeps, fingerprint, load_stress
from f110_fl.sweeps.stress_report import (
    break_lines,
    csv_text,
    document,
    settings_text,
    tables,
    write_stress_page,
)

if TYPE_CHECKING:
    from rich.console import Console

    from f110_fl.training.evaluation import ModelEvaluator
    from sim.tracks.track import Track

CELLS: Final = "cells.jsonl"
MOST_CELLS: Final = 10_000
Results = dict[str, dict[str, Any]]  # of cells, by fingerprint


def run_stress(arguments: argparse.Namespace, environ: Mapping[str, str], console: Console) -> int:
    """Evaluate what is missing of a stress evaluation, and write its tables, page and picture.

    Returns:
        The exit status, 0.

    Raises:
        UserError: For any mistake in the files or settings, or if the directory has cells of
            another policy or scenario; then nothing is evaluated.
    """
    path = Path(arguments.stress)
    plan = resolve_plan(arguments, environ)
    outside = outside_overrides(arguments, environ)
    stress = load_stress(path, Path(arguments.scenario), outside)
    check_sweeps(stress, MOST_CELLS)
    root = _root(plan, stress)
    plan = replace(plan, scenario=stress.nominal.scenario, rundir=RunDir(root))
    preflight.check(plan)
    with lock_directory(root, "is evaluating into it"):
        results = _Evaluation(plan, stress, console).run()
    found = document(stress, results, plan.checkpoint)
    write_atomic(root / "stress.json", json.dumps(found, indent=2) + "\n")
    write_atomic(root / "stress.csv", csv_text(found))
    write_atomic(root / "stress.svg", heat_maps(found))
    write_stress_page(root / "stress.html", found)
    for table in tables(found):
        print_table(console, table)
        console.out("")
    for line in break_lines(found):
        console.out(line, highlight=False)
    console.out(f"Page            {root / 'stress.html'}  (open it in a browser)", highlight=False)
    console.out(f"Table, picture  {root}/stress.csv, .json, .svg", highlight=False)
    return 0


def _root(plan: RunPlan, stress: Stress) -> Path:
    """Return the directory, which is the same each time, so that the same command goes on."""
    words = {"name": plan.scenario.name, "time": f"stress-{stress.name}"}
    template = plan.scenario.federated.root
    return Path(template.format_map(words)).expanduser().absolute()


class _Evaluation:
    """Evaluates cells one after another, in the order of the file."""

    def __init__(self, plan: RunPlan, stress: Stress, console: Console) -> None:
        self._plan, self._stress, self._console = plan, stress, console
        self._path = plan.rundir.root / CELLS
        self._policy = "" if plan.checkpoint is None else digest(plan.checkpoint)
        self._built: tuple[str, tuple[Track, ...]] | None = None  # by their settings

    def run(self) -> list[dict[str, Any]]:
        """Evaluate what is missing, and return each cell's result, in the order of the cells.

        Raises:
            UserError: If the file has cells of another policy or scenario, or the policy does not
                fit a cell.
        """
        cells = self._stress.cells
        keys = [self._key(cell) for cell in cells]
        known = self._known(dict(zip(keys, cells, strict=True)))
        missing = dict.fromkeys(key for key in keys if key not in known)
        for key, cell in zip(keys, cells, strict=True):
            if key in known:
                continue
            cars = self._evaluate(cell)
            entry = {"settings": cell.settings, "key": key, "cars": cars}
            append_line(self._path, json.dumps(entry, separators=(",", ":")))
            known[key] = entry
            done = sum(k in known for k in missing)
            words = f"{done}/{len(missing)}  {settings_text(cell.settings)}"
            self._console.out(f"{words}: {_told(cars)}", highlight=False)
        return [{**known[key], "settings": c.settings} for key, c in zip(keys, cells, strict=True)]

    def _key(self, cell: Cell) -> str:
        return fingerprint(cell.scenario, {**digests(cell.scenario), "policy": self._policy})

    def _known(self, cells: Mapping[str, Cell]) -> Results:
        """Return what the file has, without lines that a crash has torn."""
        found: Results = {}
        keys = {json.dumps(cell.settings): key for key, cell in cells.items()}
        for entry in complete_lines(self._path):
            own = keys.get(json.dumps(entry.get("settings")))
            if own is not None and entry.get("key") != own:
                raise UserError(
                    f"{self._path}: its cells are of another policy, scenario or number of "
                    "episodes; choose another directory with FED_ROOT"
                )
            if "cars" in entry:
                found[str(entry["key"])] = entry
        whole = "".join(json.dumps(e, separators=(",", ":")) + "\n" for e in found.values())
        if self._path.exists() and self._path.read_bytes() != whole.encode():
            write_atomic(self._path, whole)
        return found

    def _evaluate(self, cell: Cell) -> dict[str, dict[str, object]]:
        from f110_fl.training.checkpoint import load_checkpoint
        from f110_fl.training.metrics import report

        evaluator = self._evaluator(cell)
        if self._plan.checkpoint is not None:
            load_checkpoint(evaluator.learners, cell.scenario, self._plan.checkpoint)
        episodes = evaluator.run()
        return report(episodes, [car.name for car in cell.scenario.env.cars])

    def _evaluator(self, cell: Cell) -> ModelEvaluator:
        """Return the environments of a cell, on the tracks of the cell before if they are its."""
        from f110_fl.training.evaluation import Evaluator, ModelEvaluator

        scenario = cell.scenario
        wanted = scenario.evaluation_env.track.model_dump_json()
        tracks = self._built[1] if self._built and self._built[0] == wanted else None
        try:
            own = Evaluator(scenario, scenario.evaluation.episodes, tracks, held_out=True)
        except ValueError as error:
            raise UserError(f"{settings_text(cell.settings)}: {error}") from None
        self._built = wanted, own.race.tracks
        return ModelEvaluator(scenario, own)


def _told(cars: Mapping[str, Any]) -> str:
    """Return each car's rate of success in words."""
    parts = []
    for car, entry in cars.items():
        outcome = "success" if "return" in entry else "finished"
        rate = entry["outcomes"][outcome]
        low, high = 100 * rate["low"], 100 * rate["high"]
        parts.append(f"{car} {outcome} {rate['rate']:.0%} [{low:.0f}, {high:.0f}]")
    return ", ".join(parts)
