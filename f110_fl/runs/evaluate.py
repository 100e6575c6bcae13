"""``run.py --mode eval``: greedy episodes of a checkpoint, or of scripted drivers only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from f110_fl.evaluation.statistics import Sequential, run_until, trials_needed
from f110_fl.files import write_atomic
from f110_fl.reporting.console import evaluation_table, opponents_table, print_table
from f110_fl.reporting.summary import offline_lines
from f110_fl.reporting.tracking import record_evaluation, wandb_mode
from f110_fl.reporting.values import report_values
from f110_fl.runs.directory import check_unused, lock_directory
from f110_fl.runs.pictures import draw_pictures
from f110_fl.runs.plan import REPLAYED, REPORT, RunPlan
from f110_fl.tensors import read_metadata
from f110_fl.training.checkpoint import load_checkpoint
from f110_fl.training.shipped import origin_of

if TYPE_CHECKING:
    from rich.console import Console

    from f110_fl.config.scenario import Scenario
    from f110_fl.evaluation.watching import Watcher
    from f110_fl.training.evaluation import ModelEvaluator
    from f110_fl.training.records import EpisodeResult

TRAJECTORIES = "trajectories.npz"
REPLAY = "replay.html"


def evaluate(plan: RunPlan, console: Console) -> int:
    """Evaluate on fixed seeds, show a table, write the report, trajectories, replay and pictures.

    With ``plan.wandb``, all but the trajectories are recorded with W&B, too.

    Returns:
        The exit status, 0.

    Raises:
        UserError: If the checkpoint does not fit the scenario, or another evaluation has the
            directory.
    """
    root = plan.rundir.root
    with lock_directory(root, "is evaluating into it"):
        check_unused(root, REPORT)  # again: another evaluation may have begun and ended since
        return _evaluate(plan, console)


def _evaluate(plan: RunPlan, console: Console) -> int:
    """Evaluate into a directory that is this process's own; see `evaluate`."""
    from f110_fl.reporting.pages.recording import ReplayRecorder, Watchers
    from f110_fl.reporting.pages.replay import write_replay
    from f110_fl.training.evaluation import Evaluator, ModelEvaluator
    from f110_fl.training.metrics import by_opponent, means, report
    from f110_fl.training.trajectories import Recorder

    scenario, root, checkpoint = plan.scenario, plan.rundir.root, plan.checkpoint
    evaluator = ModelEvaluator(
        scenario, Evaluator(scenario, scenario.evaluation.episodes, held_out=True)
    )
    if checkpoint is not None:
        load_checkpoint(evaluator.learners, scenario, checkpoint)
        if plan.shipped:
            _introduce(checkpoint, console)
    shown = REPLAYED if plan.replay is None else plan.replay
    recorder, replay = Recorder(), ReplayRecorder(max_episodes=shown)
    # Of one episode, a success is kept rather than a failure.
    drawn = ReplayRecorder(max_episodes=1, only=plan.pictures.episode)
    watchers: list[Watcher] = [recorder]
    watchers += [replay] if shown else []
    watchers += [drawn] if plan.pictures.wanted else []
    episodes, stopped = _run(evaluator, plan, Watchers(*watchers))
    found = report(episodes, [car.name for car in scenario.env.cars])
    recorder.save(root / TRAJECTORIES, evaluator.race)
    document: dict[str, Any] = {
        "scenario": scenario.name,
        "seed": scenario.shared_seed,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "cars": found,
    }
    if scenario.league_opponents is not None:
        document["opponents"] = by_opponent(episodes, scenario.league_opponents[0])
    if plan.until is not None:
        document["until"] = {"asked": plan.until, **stopped._asdict()}
        console.out(_told(stopped, plan, episodes), highlight=False)
    write_atomic(root / REPORT, json.dumps(document, indent=2) + "\n")
    print_table(console, evaluation_table(found))
    if scenario.league_opponents is not None:
        console.print()
        print_table(console, opponents_table(document["opponents"]))
    console.out(f"Report          {root / REPORT}", highlight=False)
    console.out(f"Trajectories    {root / TRAJECTORIES}", highlight=False)
    name = scenario.name if checkpoint is None else f"{checkpoint.parent.name}/{checkpoint.stem}"
    if shown:
        recording = replay.recording(name, scenario.name, scenario.shared_seed)
        write_replay(root / REPLAY, [recording])
        console.out(f"Replay          {root / REPLAY}  (open it in a browser)", highlight=False)
    if plan.pictures.wanted:
        recording = drawn.recording(name, scenario.name, scenario.shared_seed)
        draw_pictures(plan.pictures, recording, console)
    if plan.wandb and wandb_mode() != "disabled":
        values = means("evaluate", episodes, scenario.learners) | report_values(found)
        record_evaluation(scenario, root, values, root / REPLAY if shown else None)
        for line in offline_lines(root):
            console.out(line, highlight=False)
    return 0


def _run(
    evaluator: ModelEvaluator, plan: RunPlan, watcher: Watcher
) -> tuple[list[EpisodeResult], Sequential]:
    """Return the episodes, all or as many as ``plan.until`` needs, and how they ended."""
    from f110_fl.training.evaluation import MAX_BATCH

    episodes: list[EpisodeResult] = []
    most = plan.scenario.evaluation.episodes

    def run(first: int, last: int) -> dict[str, int]:
        found = evaluator.run(watcher, slice(first, last))
        episodes.extend(found)
        return _successes(found, plan.scenario)

    half, batch = (0.0, most) if plan.until is None else (plan.until, MAX_BATCH)
    return episodes, run_until(half, most, batch, run)


def _successes(episodes: Sequence[EpisodeResult], scenario: Scenario) -> dict[str, int]:
    """Return how many episodes each learner has succeeded in, or each car has finished."""
    cars, outcome = tuple(scenario.learners), "success"
    if not cars:
        cars, outcome = tuple(car.name for car in scenario.env.cars), "finished"
    return {car: sum(e.outcomes[car] == outcome for e in episodes) for car in cars}


def _told(stopped: Sequential, plan: RunPlan, episodes: Sequence[EpisodeResult]) -> str:
    """Return how many episodes were needed, or would be."""
    what = "success" if plan.scenario.learners else "finishing"
    words = f"Episodes        {stopped.trials}: {what} within ±{stopped.half_width:.2%}"
    if stopped.enough or plan.until is None:
        return words
    counts = _successes(episodes, plan.scenario).values()
    needed = max(trials_needed(count / stopped.trials, plan.until) for count in counts)
    return f"{words}; for ±{plan.until:.2%} about --eval-episodes {needed}"


def _introduce(checkpoint: Path, console: Console) -> None:
    """Say which policy is evaluated, and what its file says of itself."""
    console.out(f"Policy          {checkpoint}  (it comes with the scenario)", highlight=False)
    origin = origin_of(read_metadata(checkpoint))
    for line in origin.lines() if origin else ():
        console.out(line, highlight=False)
