#!/usr/bin/env python3
"""Train the learners on standard tasks, and print their results as JSON.

Pendulum-v1 for TD3 and SAC, CartPole-v1 for PPO and DQN, several seeds each: the mean return of
greedy episodes after a fixed number of steps, and its standard deviation over the seeds. With
``--peer``, Stable-Baselines3, which must be importable, gets the same steps and settings.

CartPole's two actions are the two halves of a continuous one: PPO pushes right where its action
is positive; DQN chooses between -1 and 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError

ALGORITHMS: Final = ("td3", "sac", "ppo", "dqn")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="verify_learning.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--algo", choices=ALGORITHMS, nargs="+", default=ALGORITHMS)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default: 3)")
    parser.add_argument("--episodes", type=int, default=20, help="greedy episodes (default: 20)")
    parser.add_argument("--peer", action="store_true", help="Stable-Baselines3 too")
    return parser


def verify(arguments: argparse.Namespace) -> int:
    """Train, and print a line for each algorithm; return the exit status, 0.

    Raises:
        UserError: If a flag is wrong, or the peer is missing.
    """
    if arguments.seeds < 1 or arguments.episodes < 1:
        raise UserError("--seeds and --episodes must be positive")
    if arguments.peer and find_spec("stable_baselines3") is None:
        raise UserError("--peer needs stable_baselines3")
    import torch  # which --help does without
    from parts.verify_learning_tasks import TASKS, greedy_return, peer_return, train

    torch.set_num_threads(1)
    for algorithm in arguments.algo:
        task, steps = TASKS[algorithm][:2]
        found: dict[str, Any] = {"algo": algorithm, "task": task, "steps": steps}
        ours = []
        for seed in range(arguments.seeds):
            learner, seconds = train(algorithm, seed)
            ours.append((greedy_return(learner, task, arguments.episodes), seconds))
        found |= summary("", ours)
        if arguments.peer:
            peers = [peer_return(algorithm, s, arguments.episodes) for s in range(arguments.seeds)]
            found |= summary("peer_", peers)
        print(json.dumps(found), flush=True)  # noqa: T201
    return 0


def summary(prefix: str, runs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the returns by seed, their mean and deviation, and the median time."""
    returns = [value for value, _ in runs]
    return {
        f"{prefix}returns": [round(value, 1) for value in returns],
        f"{prefix}mean": round(statistics.mean(returns), 1),
        f"{prefix}sd": round(statistics.stdev(returns), 1) if len(returns) > 1 else 0.0,
        f"{prefix}seconds": round(statistics.median(seconds for _, seconds in runs), 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    arguments = build_parser().parse_args(argv)
    return program("verify_learning.py", partial(verify, arguments))


if __name__ == "__main__":
    sys.exit(main())
