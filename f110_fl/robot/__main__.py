"""A node that drives a car by an exported policy: ``python -m f110_fl.robot --policy DIR``."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from f110_fl.commandline import OneLineParser
from f110_fl.errors import UserError
from f110_fl.robot.driver import Limits
from f110_fl.robot.policy import Policy


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="python -m f110_fl.robot",
        description=__doc__,
        epilog="Scans and odometry come in, AckermannDriveStamped goes out, at the policy's rate. "
        "It stops when one of them is late, a scan does not fit, or the switch is let go.",
    )
    add = parser.add_argument
    add("--policy", type=Path, required=True, metavar="DIR", help="of tools/export_policy.py")
    add("--speed-cap", type=_positive, metavar="M/S", help="drive no faster")
    add("--slow-start", type=_not_negative, default=2.0, metavar="S", help="to full speed, 2 s")
    add("--stale", type=_positive, default=0.2, metavar="S", help="stop without news, 0.2 s")
    add("--scan-topic", default="/scan", help="sensor_msgs/LaserScan")
    add("--odom-topic", default="/odom", help="nav_msgs/Odometry")
    add("--drive-topic", default="/drive", help="ackermann_msgs/AckermannDriveStamped")
    add("--dead-man-topic", default="", help="std_msgs/Bool: drive only while it says true")
    add("--simulate", action="store_true", help="drive in the simulator, without ROS")
    add("--episodes", type=_count, default=5, help="with --simulate: how many, 5")
    add("--seed", type=_count, default=1, help="with --simulate: of the first episode, 1")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; return 0, or 2 for wrong input."""
    arguments = build_parser().parse_args(argv)
    limits = Limits(
        speed=arguments.speed_cap or math.inf,
        slow_start=arguments.slow_start,
        stale=arguments.stale,
        dead_man=bool(arguments.dead_man_topic),
    )
    try:
        policy = Policy(arguments.policy)
        if arguments.simulate:
            return _simulate(policy, limits, arguments)
        from f110_fl.robot.ros import Topics, run

        topics = Topics(
            arguments.scan_topic,
            arguments.odom_topic,
            arguments.drive_topic,
            arguments.dead_man_topic,
        )
        return run(policy, limits, topics)
    except UserError as error:
        print(f"f110_fl.robot: {error}", file=sys.stderr)  # noqa: T201
        return 2


def _simulate(policy: Policy, limits: Limits, arguments: argparse.Namespace) -> int:
    if limits.dead_man:
        raise UserError("--simulate contradicts --dead-man-topic; leave one of them out")
    from f110_fl.robot.simulated import environment, simulate

    env = environment(arguments.policy)
    done = simulate(policy, limits, env, arguments.episodes, arguments.seed, print)
    for k, (outcome, steps) in enumerate(zip(done.outcomes, done.steps, strict=True), 1):
        seconds = steps / policy.contract.commands.rate
        print(f"episode {k}  {outcome}  {seconds:.2f} s")  # noqa: T201
    if done.lap_times:
        mean = sum(done.lap_times) / len(done.lap_times)
        print(f"{len(done.lap_times)} laps, {mean:.2f} s on average")  # noqa: T201
    return 0


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not finite")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if value <= 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def _not_negative(text: str) -> float:
    value = _number(text)
    if value < 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is below 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
