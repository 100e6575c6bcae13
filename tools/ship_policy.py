#!/usr/bin/env python3
"""Make the policy that a scenario comes with from a checkpoint of a run.

What acts is kept: networks and normaliser of every learner. It is evaluated in the scenario, on the
seeds of run.py --mode eval, and written to policies/NAME.safetensors beside the scenario, with
these figures, the command, the seed and this project's version as metadata.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="ship_policy.py", description=__doc__)
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="best, state or global.safetensors",
    )
    parser.add_argument("--scenario", type=Path, required=True, metavar="FILE", help="YAML")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the policy (default: policies/NAME.safetensors beside the scenario)",
    )
    parser.add_argument(
        "--episodes", default="200", metavar="N", help="episodes evaluated (default: 200)"
    )
    parser.add_argument(
        "--command",
        metavar="TEXT",
        help="the command that trained it (default: what the checkpoint's run recorded in "
        "starts.jsonl, which has flags but no variables)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        help="seed of the training (default: that in the run's config.json)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    arguments = build_parser().parse_args(argv)
    return program("ship_policy.py", partial(_ship, arguments))


def _ship(arguments: argparse.Namespace) -> int:
    """Evaluate the checkpoint, write the policy, print what it reaches; return the status, 0."""
    from rich.console import Console

    from f110_fl.loading.scenarios import load_scenario
    from f110_fl.loading.texts import bounded
    from f110_fl.reporting.console import evaluation_table, print_table
    from f110_fl.runs.preflight import check_environment
    from f110_fl.training.checkpoint import load_checkpoint, policy_format
    from f110_fl.training.evaluation import ModelEvaluator
    from f110_fl.training.metrics import report
    from f110_fl.training.shipped import Origin, project_version, shipped_path, write_shipped

    checkpoint, episodes = arguments.checkpoint, bounded("--episodes", arguments.episodes, 1)
    scenario = load_scenario(arguments.scenario)
    if not scenario.learners:
        raise UserError(f"{arguments.scenario}: nothing learns")
    out = arguments.out or shipped_path(arguments.scenario, scenario.name)
    if arguments.out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UserError(f"--out={str(out)!r}: allowed: a file in a folder that exists")
    command = arguments.command or _command(checkpoint)
    seed = _seed(checkpoint) if arguments.seed is None else bounded("--seed", arguments.seed, 0)
    check_environment(scenario)
    evaluation = scenario.evaluation.model_copy(update={"episodes": episodes})
    evaluator = ModelEvaluator(scenario.model_copy(update={"evaluation": evaluation}))
    load_checkpoint(evaluator.learners, scenario, checkpoint)
    found = report(evaluator.run(), [car.name for car in scenario.env.cars])
    told = {
        "episodes": episodes,
        "seed": scenario.shared_seed,
        "cars": {agent: found[agent] for agent in scenario.learners},
    }
    origin = Origin(command, seed, project_version(), told)
    if arguments.out is None:
        _make_folder(out.parent)
    write_shipped(out, evaluator.learners, scenario, origin)
    print_table(Console(), evaluation_table(found))
    size = out.stat().st_size
    for line in (f"Policy          {out}  ({size / 1000:.1f} kB)", *origin.lines()):
        print(line)  # noqa: T201
    forms = {agent: policy_format(agent, scenario) for agent in scenario.learners}
    undescribed = [agent for agent, form in forms.items() if form is None]
    if undescribed:  # with an encoder of another package
        print(f"But             no scripted car can drive by it: {', '.join(undescribed)}")  # noqa: T201
    return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error}") from None


def _command(checkpoint: Path) -> str:
    """Return the command that started the run that a checkpoint is of."""
    from f110_fl.files import complete_lines
    from f110_fl.rundir import RunDir

    root = _run_of(checkpoint)
    starts = [] if root is None else complete_lines(RunDir(root).starts)
    for start in starts:
        if isinstance(start.get("command"), str):
            return str(start["command"])
    raise UserError("--command TEXT is missing: no run's starts.jsonl is above the checkpoint")


def _seed(checkpoint: Path) -> int:
    """Return the seed of the run, or of its client, that a checkpoint is of."""
    from f110_fl.loading.scenarios import parse_resolved
    from f110_fl.rundir import RunDir

    root = _run_of(checkpoint)
    if root is None:
        raise UserError("--seed N is missing: no run's config.json is above the checkpoint")
    rundir = RunDir(root)
    config = rundir.config
    scenario = parse_resolved(config.read_text(encoding="utf-8"), str(config))
    for client_id in range(scenario.federated.clients):
        if checkpoint.absolute().parent == rundir.client(client_id):
            return scenario.client_seed(client_id)
    return scenario.shared_seed


def _run_of(checkpoint: Path) -> Path | None:
    """Return the directory of a checkpoint's run, None if it is not in one."""
    from f110_fl.rundir import RunDir

    return next((p for p in checkpoint.absolute().parents if RunDir(p).config.is_file()), None)


if __name__ == "__main__":
    sys.exit(main())
