#!/usr/bin/env python3
"""Let policies of one car meet policies of another and scripted drivers, all with all.

Prints a table of how many of the greedy episodes, on the same seeds everywhere, ended with some
outcomes for the one car: a row for each of its policies, a column for each opponent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.reading import read_driver

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from f110_fl.config.scenario import Scenario


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="cross_play.py", description=__doc__)
    parser.add_argument("--scenario", type=Path, required=True, metavar="FILE", help="YAML")
    parser.add_argument("--agent", default="car_0", metavar="CAR", help="default: car_0")
    parser.add_argument("--other", default="car_1", metavar="CAR", help="default: car_1")
    parser.add_argument(
        "--policies",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="checkpoints with models of the agent",
    )
    parser.add_argument(
        "--opponents",
        nargs="+",
        required=True,
        metavar="WHO",
        help="who drives the other car: a checkpoint with its policy, or a driver as in "
        "scenarios: secondary_vicon, or '{kind: follow_the_gap, speed: 0.8}'",
    )
    parser.add_argument("--episodes", default="40", metavar="N", help="of each pair (default: 40)")
    parser.add_argument(
        "--outcomes",
        nargs="+",
        default=["success"],
        metavar="NAME",
        help="what is counted, such as success crash (default: success)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    arguments = build_parser().parse_args(argv)
    return program("cross_play.py", partial(_play, arguments))


def _play(arguments: argparse.Namespace) -> int:
    """Run all pairs' episodes and print the table, a line at once; return the exit status, 0."""
    from f110_fl.loading.scenarios import load_scenario
    from f110_fl.loading.texts import bounded
    from f110_fl.runs.preflight import check_environment
    from f110_fl.training.checkpoint import load_checkpoint
    from f110_fl.training.evaluation import ModelEvaluator
    from sim.episodes import Outcome

    episodes = bounded("--episodes", arguments.episodes, 1)
    outcomes = [outcome.name.lower() for outcome in Outcome if outcome]
    for name in arguments.outcomes:
        if name not in outcomes:
            raise UserError(f"--outcomes={name!r}: allowed: {', '.join(outcomes)}")
    scenario = load_scenario(arguments.scenario)
    evaluators = []
    for who in arguments.opponents:
        own = versus(scenario, arguments.agent, arguments.other, who, episodes)
        check_environment(own)
        evaluators.append((own, ModelEvaluator(own)))
    heads = [f"{', '.join(arguments.outcomes)} of {episodes}", *arguments.opponents]
    print("|", *(f"{head} |" for head in heads))  # noqa: T201
    print("|---" * (1 + len(evaluators)) + "|")  # noqa: T201
    for policy in arguments.policies:
        row = [str(policy)]
        for own, evaluator in evaluators:
            load_checkpoint(evaluator.learners, own, policy)
            ended = [result.outcomes[arguments.agent] for result in evaluator.run()]
            row.append(", ".join(str(ended.count(name)) for name in arguments.outcomes))
        print("|", *(f"{cell} |" for cell in row), flush=True)  # noqa: T201
    return 0


def versus(scenario: Scenario, agent: str, other: str, who: str, episodes: int) -> Scenario:
    """Return a scenario in which one car learns, and another is driven by something that does not.

    Args:
        scenario: A scenario with both cars.
        agent: The car that learns.
        other: The other one.
        who: A checkpoint with a policy of the other, or a driver in YAML.
        episodes: Episodes of an evaluation.

    Raises:
        UserError: If there are no such cars, or the driver is not one.
    """
    from pydantic import ValidationError

    from f110_fl.config.scenario import Scenario

    names = [car.name for car in scenario.env.cars]
    if agent not in scenario.learners:
        raise UserError(f"--agent={agent!r}: allowed: {', '.join(scenario.learners)}")
    if other not in names or other == agent:
        near = did_you_mean(other, names)
        raise UserError(f"--other={other!r}: allowed: another car of {', '.join(names)}{near}")
    env = scenario.env.model_dump()
    for car in env["cars"]:
        if car["name"] == other:
            car |= {"driver": read_driver(who, other, "--opponents"), "task": None}
    learner = scenario.learners[agent].model_dump() | {"opponents": None, "initial": None}
    evaluation = scenario.evaluation.model_dump() | {"episodes": episodes}
    settings = {"env": env, "learners": {agent: learner}, "evaluation": evaluation}
    try:
        return Scenario.model_validate(
            {"name": scenario.name, "seed": scenario.shared_seed, **settings},
            strict=True,
            context=Path(),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"against {who!r}: {first['msg']}") from None


if __name__ == "__main__":
    sys.exit(main())
