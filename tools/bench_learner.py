#!/usr/bin/env python3
"""Time a learner's updates, and print updates per second.

Observations and rewards are random; collecting them is not timed. Figures are medians of
``--repeats`` measurements of ``--seconds`` each, after one to warm up. An update of PPO is a
whole one: advantages, and 10 epochs over 8 times 256 steps in minibatches of 64.

``--env`` times PPO with the racing environment instead, 8 at once, collecting and learning
together, and prints environment steps per second.

``--peer`` also times Stable-Baselines3, which must be importable, with the same algorithm,
networks, batch and number of threads, in turns with ours, and adds its rate and the median
of the ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="bench_learner.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--algo", choices=("td3", "sac", "dqn", "ppo"), default="td3")
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "auto"), default="cpu", help="our device (default: cpu)"
    )
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads (default: 1)")
    parser.add_argument("--observation", type=int, default=62, help="their size (default: 62)")
    parser.add_argument("--encoder", choices=("conv",), help="ours: all that is observed is LiDAR")
    parser.add_argument("--hidden", help="widths (default: 256,256,128; ppo: 64,64)")
    parser.add_argument("--batch", type=int, help="transitions (default: 256; ppo: 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements (default: 5)")
    parser.add_argument("--env", action="store_true", help="PPO together with its environment")
    parser.add_argument("--peer", action="store_true", help="also time Stable-Baselines3")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 if the measurement is not possible."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        from parts.bench_learner_rates import measure  # and torch, which --help does without

        result = measure(arguments)
        lines = [f"{name:22} {value:12,.3f}" for name, value in result.items()]
        print(json.dumps(result) if arguments.json else "\n".join(lines))  # noqa: T201
        return 0

    return program("bench_learner.py", work)


if __name__ == "__main__":
    sys.exit(main())
