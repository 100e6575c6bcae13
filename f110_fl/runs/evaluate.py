"""``run.py --mode eval``: greedy episodes of a checkpoint, or of scripted drivers alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from f110_fl.config.scenario import Scenario
from f110_fl.files import write_atomic
from f110_fl.rundir import RunDir
from f110_fl.tensors import read_tensors
from f110_fl.training.checkpoint import load_models

if TYPE_CHECKING:
    from rich.console import Console


REPORT = "evaluation.json"
TRAJECTORIES = "trajectories.npz"


def evaluate(scenario: Scenario, rundir: RunDir, checkpoint: Path | None, console: Console) -> int:
    """Evaluate, show a table, and write ``evaluation.json`` and ``trajectories.npz``.

    Args:
        scenario: Its ``evaluation.episodes`` are run, on their fixed seeds.
        rundir: Where to write.
        checkpoint: A file with the learners' models; None if nothing learns.
        console: Where to show.

    Returns:
        The exit status, 0.

    Raises:
        UserError: If the checkpoint does not fit the scenario.
    """
    from f110_fl.training.evaluation import ModelEvaluator
    from f110_fl.training.metrics import report
    from f110_fl.training.trajectories import Recorder

    evaluator = ModelEvaluator(scenario)
    if checkpoint is not None:
        tensors = read_tensors(checkpoint)
        for agent, learner in evaluator.learners.items():
            load_models(learner, agent, tensors, checkpoint)
    recorder = Recorder()
    episodes = evaluator.run(recorder)
    found = report(episodes, [car.name for car in scenario.env.cars])
    rundir.root.mkdir(parents=True, exist_ok=True)
    recorder.save(rundir.root / TRAJECTORIES, evaluator.race)
    document = {
        "scenario": scenario.name,
        "seed": scenario.shared_seed,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "cars": found,
    }
    write_atomic(rundir.root / REPORT, json.dumps(document, indent=2) + "\n")
    console.print(_table(found))
    console.out(f"Report          {rundir.root / REPORT}", highlight=False)
    console.out(f"Trajectories    {rundir.root / TRAJECTORIES}", highlight=False)
    return 0


def _table(found: Mapping[str, Any]) -> Any:
    """Lay the report out, a row a car; scripted cars have no task: finishing is their success."""
    from rich.table import Table
    from rich.text import Text

    caption = Text("[low, high]: 95 % interval, %")  # brackets in plain texts are markup
    table = Table(
        box=None, pad_edge=False, collapse_padding=True, caption=caption, caption_justify="left"
    )
    for name in ("car", "episodes", "success", "crash", "return", "laps", "lap, s"):
        table.add_column(name, justify="right", no_wrap=True)
    for car, entry in found.items():
        success = "success" if "return" in entry else "finished"
        rates = [entry["outcomes"][outcome] for outcome in (success, "crash")]
        laps, returns = entry.get("lap_time"), entry.get("return")
        table.add_row(
            car,
            str(entry["episodes"]),
            *(f"{r['rate']:.1%} [{100 * r['low']:.0f}, {100 * r['high']:.0f}]" for r in rates),
            f"{returns['mean']:.1f} ± {returns['sd']:.1f}" if returns else "-",
            str(entry["laps"]),
            f"{laps['mean']:.2f} ± {laps['sd']:.2f}" if laps else "-",
        )
    return table
