#!/usr/bin/env python3
"""Measure how long a scenario's learner trains until its policy succeeds often enough.

Every ``--every``, training pauses for ``--episodes`` greedy episodes on the scenario's fixed seeds.
The first evaluation with a success rate of at least ``--threshold`` ends the training; so does the
first one after ``--limit`` seconds. Seconds are wall-clock seconds of training: evaluations are not
among them, nor are building the environments, the networks and the compiled kernels. CPU seconds
are the process's, of training alone; with ``--clock cpu``, ``--every`` and ``--limit`` are in
these, which is fairer where other programs run. The scenario is trained as one client, not
federated.

``--peer`` also trains Stable-Baselines3's learner of the same algorithm, which must be importable,
in the same environments, once with its own defaults and once with our settings as far as it has
them; the result names those that it has not. Learners take turns, seed by seed, in this process,
and are evaluated in the same episodes. Ratios are theirs over ours, of medians; where theirs does
not get there, of what its training had taken when it was given up: a lower bound.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.config.scenario import MAX_SEED, Scenario
from f110_fl.errors import UserError
from f110_fl.loading.overrides import set_overrides
from f110_fl.loading.scenarios import load_scenario
from f110_fl.runs.preflight import check_encoders, check_environment, check_mirrors

if TYPE_CHECKING:  # torch, which --help does without
    from parts.bench_time_to_policy_training import Interval

    from f110_fl.learners.base import Policy

Result = dict[str, Any]
MEASURES: Final = ("seconds", "cpu_seconds", "steps")
PACKAGES: Final = ("torch", "numpy", "numba", "gymnasium")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="bench_time_to_policy.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenario", type=Path, required=True, help="with a single learner")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="see run.py")
    parser.add_argument("--threshold", type=float, required=True, help="success rate, 0 to 1")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(default: 1 2 3)")
    parser.add_argument("--episodes", type=int, default=100, help="an evaluation (default: 100)")
    parser.add_argument(
        "--every",
        default="10s",
        metavar="SECONDS|STEPS",
        help="training between evaluations: 10s, or 20000 environment steps (default: 10s)",
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, help="seconds of training (default: 600)"
    )
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="of both (default: wall)"
    )
    parser.add_argument("--peer", action="store_true", help="Stable-Baselines3 too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def parse_interval(text: str) -> Interval:
    """Return the interval of ``10s`` or ``20000``.

    Raises:
        UserError: If it is neither, or not positive.
    """
    from parts.bench_time_to_policy_training import Interval

    found = re.fullmatch(r"(\d+(?:\.\d+)?)s|(\d+)", text)
    interval = found and Interval(float(found[1] or found[2]), found[1] is not None)
    if not interval or interval.length <= 0:
        raise UserError(f"--every: found {text!r}; allowed: seconds, as 10s, or steps, as 20000")
    return interval


# ------------------------------------------------------------------ all of them


def median_or_none(values: Sequence[float]) -> float | None:
    """Return the median, None if it is infinite."""
    found = statistics.median(values)
    return found if math.isfinite(found) else None


def summarise(runs: Sequence[Result]) -> Result:
    """Return how many of a learner's trainings got there, and medians and ranges of what it took.

    A training that did not counts as infinitely long in a median, which is then None if half of
    them did not. Ranges are of those that did.
    """
    arrived = [run for run in runs if run["reached"]]
    found: Result = {"reached": len(arrived), "runs": len(runs)}
    for name in MEASURES:
        values = [run[name] for run in arrived]
        found[name] = {
            "median": median_or_none(values + [math.inf] * (len(runs) - len(values))),
            "range": [min(values), max(values)] if values else None,
        }
    return found


def ratios(own: Sequence[Result], theirs: Sequence[Result]) -> Result:
    """Return the ratios of medians, theirs over ours, by measure; None if ours did not get there.

    ``lower_bound`` says that theirs did not, so that it may be larger than it is here.
    """
    bounded = summarise(theirs)["seconds"]["median"] is None
    found: Result = {"lower_bound": bounded}
    for name in MEASURES:
        ours = summarise(own)[name]["median"]
        median = statistics.median(run[name] for run in theirs)
        found[name] = round(median / ours, 3) if ours else None
    return found


def read_scenario(arguments: argparse.Namespace) -> Scenario:
    """Return the scenario of the client that is trained, its seed aside, after all checks.

    Raises:
        UserError: If the flags or the scenario are wrong, or Stable-Baselines3 is missing.
    """
    from f110_fl.learners.device import choose

    for name in ("episodes", "limit"):
        if not 0 < getattr(arguments, name) < math.inf:
            raise UserError(f"--{name} must be positive, found {getattr(arguments, name)}")
    if not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold: a success rate, 0 to 1, found {arguments.threshold}")
    for seed in arguments.seeds:
        if not 0 <= seed < (2**32 if arguments.peer else MAX_SEED):
            allowed = "2^32 with --peer" if arguments.peer else "2^63"
            raise UserError(f"--seeds: from 0 to below {allowed}, found {seed}")
    scenario = load_scenario(arguments.scenario, set_overrides(arguments.set or []))
    if len(scenario.learners) != 1:
        found = ", ".join(scenario.learners) or "none"
        raise UserError(f"{arguments.scenario}: one learner is needed, found {found}")
    choose(scenario.device)
    check_encoders(scenario)
    check_environment(scenario)
    check_mirrors(scenario)
    if arguments.peer:
        check_peer(scenario)
    return scenario


def check_peer(scenario: Scenario) -> list[str]:
    """Return the keys of our settings that Stable-Baselines3 has nothing for.

    Raises:
        UserError: If it cannot be imported, or has no such algorithm.
    """
    try:
        peer = import_module("parts.stable_baselines_peer")
    except ImportError as error:
        raise UserError(f"--peer: Stable-Baselines3 cannot be imported: {error}") from error
    ((agent, config),) = scenario.learners.items()
    settings = peer.peer_settings(config, scenario.collect.num_envs)
    curriculum = ["curriculum"] if scenario.curriculum else []
    return [f"learners.{agent}.{key}" for key in settings.left_out] + curriculum


def measure(arguments: argparse.Namespace) -> Result:
    """Return all trainings and their summary.

    Raises:
        UserError: If something is wrong with the flags or the scenario.
        LearningError: If our learner diverges.
    """
    from parts.bench_time_to_policy_training import (
        CLIENT,
        OURS,
        PEERS,
        Goal,
        compile_kernels,
        make_training,
        time_to_policy,
    )

    from f110_fl.learners.device import use_threads
    from f110_fl.training.evaluation import Evaluator
    from f110_fl.training.metrics import mean

    every, cpu = parse_interval(arguments.every), arguments.clock == "cpu"
    goal = Goal(arguments.threshold, every, arguments.limit, cpu=cpu)
    scenario = read_scenario(arguments)
    use_threads(scenario.threads)
    evaluator = Evaluator(scenario.for_client(CLIENT), arguments.episodes)
    (agent,) = scenario.learners

    def success_rate(make_policy: Callable[[int], Policy]) -> float:
        return mean("success-rate", evaluator.run({agent: make_policy}), [agent])

    names = [OURS, *(PEERS if arguments.peer else ())]
    runs: dict[str, list[Result]] = {name: [] for name in names}
    compile_kernels(scenario.for_client(CLIENT))
    for seed in arguments.seeds:
        own = scenario.with_client_seed(seed).for_client(CLIENT)
        for name in names:
            found = time_to_policy(make_training(name, own, seed), goal, success_rate)
            runs[name].append({"seed": seed} | found)
            print(line(name, runs[name][-1]), file=sys.stderr, flush=True)  # noqa: T201
    packages = [*PACKAGES, *(["stable-baselines3"] if arguments.peer else [])]
    result: Result = {
        "scenario": scenario.name,
        "algorithm": scenario.learners[agent].algorithm,
        "threshold": goal.threshold,
        "episodes": arguments.episodes,
        "every": arguments.every,
        "limit": goal.limit,
        "clock": arguments.clock,
        "environments": scenario.collect.num_envs,
        "threads": scenario.threads,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "runs": runs,
        "summary": {name: summarise(own) for name, own in runs.items()},
    }
    if arguments.peer:
        result["ratio"] = {name: ratios(runs[OURS], runs[name]) for name in PEERS}
        result["left_out"] = check_peer(scenario)
    return result


# ------------------------------------------------------------------ text


def line(name: str, run: Mapping[str, Any]) -> str:
    """Return a training in one line."""
    best = max(evaluation["success"] for evaluation in run["evaluations"])
    return (
        f"{name:18} seed {run['seed']}  {'reached' if run['reached'] else 'not reached':11}  "
        f"success {run['success']:.2f}, best {best:.2f}  "
        f"{run['seconds']:8.1f} s  {run['cpu_seconds']:8.1f} CPU s  "
        f"{run['steps']:10,} steps  evaluations {run['evaluation_seconds']:.1f} s"
    )


def table(result: Result) -> str:
    """Return the summary as text: medians, ranges in brackets."""
    from parts.bench_time_to_policy_training import OURS

    rows = [f"{result['scenario']}, success of at least {result['threshold']}"]
    for name, found in result["summary"].items():
        row = f"{name:18} {found['reached']} of {found['runs']}"
        for measured in MEASURES:
            median, bounds = found[measured]["median"], found[measured]["range"]
            text = "-" if median is None else f"{median:,.0f}"
            text += f" [{bounds[0]:,.0f} to {bounds[1]:,.0f}]" if bounds else ""
            row += f"  {text} {measured.replace('_', ' ')}"
        rows.append(row)
    for name, found in result.get("ratio", {}).items():
        sign = ">=" if found["lower_bound"] else ""
        values = (f"{sign}{found[m]} {m.replace('_', ' ')}" for m in MEASURES if found[m])
        rows.append(f"{name} / {OURS}: {', '.join(values) or '-'}")
    if "left_out" in result:
        rows.append(f"not in the peer: {', '.join(result['left_out']) or 'nothing'}")
    rows.append(", ".join(f"{name} {found}" for name, found in result["versions"].items()))
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 if the measurement is not possible."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        from f110_fl.learners.base import LearningError

        try:
            result = measure(arguments)
        except LearningError as error:
            raise UserError(str(error)) from error
        print(json.dumps(result) if arguments.json else table(result))  # noqa: T201
        return 0

    return program("bench_time_to_policy.py", work)


if __name__ == "__main__":
    sys.exit(main())
