#!/usr/bin/env python3
"""Fit a learner's policy to what a scripted driver does, to start learning from.

The policy drives in the scenario's episodes, the driver says what it would have done, and the
policy is fitted to all that was said (DAgger). The driver may know more than the policy sees: mppi
knows the track and where other cars are. The result is a policy like those that scenarios come
with: name it in learners.AGENT.initial, watch it with run.py --mode eval, race against it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.reading import read_driver

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError

if TYPE_CHECKING:
    from f110_fl.config.scenario import Scenario
    from f110_fl.training.imitation import Progress
    from sim.config import DriverConfig


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="imitate.py", description=__doc__)
    parser.add_argument("scenario", type=Path, metavar="SCENARIO", help="YAML")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the policy")
    parser.add_argument(
        "--teacher",
        default="mppi",
        metavar="DRIVER",
        help="a driver as in scenarios: mppi (default), or '{kind: stanley, speed: 6}'; or a "
        "checkpoint with a policy",
    )
    parser.add_argument(
        "--agent", metavar="NAME", help="who imitates (default: the only agent that learns)"
    )
    parser.add_argument(
        "--rounds",
        default="30",
        metavar="N",
        help="rounds of at most 16,000 actions, after which the policy is fitted (default: 30)",
    )
    parser.add_argument("--seed", default="0", metavar="N", help="default: 0")
    parser.add_argument(
        "--threads",
        default=str(os.cpu_count() or 1),
        metavar="N",
        help="that drive; results do not depend on it (default: cores)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    arguments = build_parser().parse_args(argv)
    return program("imitate.py", partial(_imitate, arguments))


def _imitate(arguments: argparse.Namespace) -> int:
    """Fit the policy and write it; return the exit status, 0."""
    from f110_fl.loading.scenarios import load_scenario
    from f110_fl.loading.texts import bounded
    from f110_fl.runs.preflight import check_environment

    scenario, out = load_scenario(arguments.scenario), arguments.out
    agent = arguments.agent or _only_agent(scenario)
    rounds = bounded("--rounds", arguments.rounds, 1, 1000)
    seed = bounded("--seed", arguments.seed, 0, 2**62)
    threads = bounded("--threads", arguments.threads, 1, 1024)
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out={str(out)!r}: allowed: a file in a folder that exists")
    teacher = _teacher(arguments.teacher, scenario, agent)
    check_environment(scenario)

    from f110_fl.training.agents import write_models
    from f110_fl.training.imitation import Plan, imitate

    plan = Plan(rounds=rounds)
    print("round  actions  difference  crashed", flush=True)  # noqa: T201
    learners = imitate(scenario, agent, teacher, plan, seed=seed, threads=threads, told=_tell)
    try:
        write_models(out, {agent: learners[agent]}, scenario, {})
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error}") from None
    print(f"Policy  {out}")  # noqa: T201
    return 0


def _only_agent(scenario: Scenario) -> str:
    if len(scenario.learners) == 1:
        return next(iter(scenario.learners))
    allowed = ", ".join(scenario.learners) or "none: nothing learns"
    raise UserError(f"--agent NAME is missing; allowed: {allowed}")


def _teacher(text: str, scenario: Scenario, agent: str) -> DriverConfig:
    """Return a driver's settings, checked as those in a scenario are.

    Raises:
        UserError: If they are wrong, or there is no such agent.
    """
    from f110_fl.loading.document import parse_yaml
    from f110_fl.loading.overrides import Override
    from f110_fl.loading.scenarios import resolve_scenario

    names = [car.name for car in scenario.env.cars]
    if agent not in scenario.learners:
        allowed = ", ".join(scenario.learners) or "none: nothing learns"
        raise UserError(f"--agent={agent!r}: allowed: {allowed}")
    place = names.index(agent)
    cars = [{"name": name, "driver": {"kind": "stanley"}} for name in names]
    document = parse_yaml(json.dumps({"name": "teacher", "env": {"cars": cars}}), "imitate.py")
    driver = read_driver(text, agent, "--teacher")
    override = Override("--teacher", ("env", "cars", place, "driver"), driver, text)
    found = resolve_scenario(document, Path.cwd() / "imitate.py", [override]).env
    teacher = found.cars[place].driver
    assert teacher is not None  # noqa: S101 - the override
    return teacher


def _tell(progress: Progress) -> None:
    share = f"{progress.crashed} of {progress.episodes}" if progress.episodes else "-"
    print(  # noqa: T201
        f"{progress.round:5}  {progress.samples:7,}  {progress.error:10.4f}  {share}", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
