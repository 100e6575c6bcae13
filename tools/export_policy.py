#!/usr/bin/env python3
"""Write a trained policy as files for other programs: for a car, for ONNX runtimes, for NumPy.

``DIR`` gets ``policy.onnx`` (normaliser, network, squashing and the units of the command),
``policy.npz`` (its tensors, which `f110_fl.robot` runs with NumPy alone), ``contract.json`` (what
it was trained to see and to command), ``golden.npz`` (64 observations of real episodes with their
actions) and ``scenario.json`` (what it was trained in).

``--verify`` compares what they choose with what PyTorch does, in double precision, on 1,000 random
observations and 1,000 of real episodes, and drives whole episodes with each, which must take the
same steps and end alike. PyTorch in single precision, as in training, is compared as well.

Exit status: 0 done and, with ``--verify``, proven; 1 something differs; 2 wrong input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError

if TYPE_CHECKING:
    from f110_fl.config.scenario import Scenario


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="export_policy.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="best.safetensors, global.safetensors, …")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where it is written"
    )
    parser.add_argument("--agent", help="which car's policy (default: the only learner)")
    parser.add_argument(
        "--scenario", type=Path, help="scenario file (default: that of the checkpoint's run)"
    )
    parser.add_argument(
        "--single",
        action="store_true",
        help="the graph computes in single precision, as accelerators want it; sums then depend "
        "on the runtime: --verify allows 1e-5, and episodes that end otherwise",
    )
    parser.add_argument("--verify", action="store_true", help="prove that it acts as PyTorch does")
    parser.add_argument(
        "--episodes", default="20", help="whole episodes to drive with --verify (default: 20)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Export a policy and, if asked to, prove it; return the exit status."""
    arguments = build_parser().parse_args(argv)
    return program("export_policy.py", partial(_export, arguments))


def _export(arguments: argparse.Namespace) -> int:
    from f110_fl.loading.texts import bounded

    episodes = bounded("--episodes", arguments.episodes, 1, 10_000)
    scenario = scenario_of(arguments.checkpoint, arguments.scenario)
    agent = chosen_agent(scenario, arguments.agent)
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install -e '.[export]'") from None

    from f110_fl.exporting.bundle import Exported, write_bundle
    from f110_fl.exporting.drives import drive
    from f110_fl.exporting.proof import prove
    from f110_fl.runs.preflight import check_environment
    from f110_fl.training.checkpoint import load_checkpoint
    from f110_fl.training.evaluation import Evaluator, ModelEvaluator

    check_environment(scenario)
    whole = Evaluator(scenario, episodes if arguments.verify else 1)
    evaluator = ModelEvaluator(scenario, whole)
    load_checkpoint(evaluator.learners, scenario, arguments.checkpoint)
    learner = evaluator.learners[agent]
    exported = Exported(scenario, agent, learner, evaluator.race, arguments.checkpoint)
    drives = drive(evaluator, whole, agent)
    write_bundle(exported, arguments.out, drives.seen, single=arguments.single)
    contract = exported.contract
    observed = ", ".join(f"{part} {size}" for part, size in contract.observation)
    commands = contract.commands
    lines = (
        f"Policy     {arguments.out}  ({agent} of {scenario.name})",
        f"Sees       {observed}",
        f"Commands   {commands.rate:g} a second: steering to {commands.steer:g} rad, "
        f"{commands.slowest:g} to {commands.fastest:g} m/s",
    )
    for line in lines:
        print(line)  # noqa: T201
    proofs = (
        prove(arguments.out, exported, evaluator, whole, single=arguments.single)
        if arguments.verify
        else ()
    )
    held = True
    for proof in proofs:
        held &= proof.holds
        print(  # noqa: T201
            f"{proof.runtime:<11} {'holds' if proof.holds else 'DIFFERS'}: {proof.random:.1e} on "
            f"random, {proof.real:.1e} on {proof.real_count} real observations at most, allowed "
            f"{proof.allowed:g}"
            + (f"; {proof.equal} of {proof.episodes} episodes alike" if proof.episodes else "")
        )
    return 0 if held else 1


def scenario_of(checkpoint: Path, given: Path | None) -> Scenario:
    """Return the scenario that a checkpoint was trained in.

    Args:
        checkpoint: In a run's directory, or beside a scenario in its ``policies``.
        given: The scenario's file; None: what is found beside the checkpoint.

    Raises:
        UserError: If there is none.
    """
    from f110_fl.loading.scenarios import load_scenario, read_resolved
    from f110_fl.rundir import RunDir
    from f110_fl.training.shipped import FOLDER

    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such file")
    if given is not None:
        return load_scenario(given)
    for root in checkpoint.absolute().parents:
        if RunDir(root).config.is_file():
            return read_resolved(RunDir(root).config)
    beside = checkpoint.absolute().parent.parent / f"{checkpoint.stem}.yaml"
    if checkpoint.absolute().parent.name == FOLDER and beside.is_file():
        return load_scenario(beside)
    raise UserError("--scenario FILE is missing: no run's config.json is above the checkpoint")


def chosen_agent(scenario: Scenario, name: str | None) -> str:
    """Return whose policy is meant.

    Raises:
        UserError: If there is no such learner, or more than one to choose from.
    """
    names = list(scenario.learners)
    allowed = ", ".join(names) or "none"
    if name is not None and name not in names:
        raise UserError(f"--agent={name}: no such learner; allowed: {allowed}")
    if name is None and len(names) != 1:
        raise UserError(f"--agent NAME is missing; allowed: {allowed}")
    return name or names[0]


if __name__ == "__main__":
    sys.exit(main())
