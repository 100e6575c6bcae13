#!/usr/bin/env python3
"""Run one federation in workers, in a deployment and on two Ray nodes, and compare every byte.

Both nodes are on this machine, on loopback, with two cores each. Four clients train three rounds
in one worker process, in four, as a deployment, and on the nodes. In another run one of the nodes
is killed in the second round: the run completes, or fails, and is then resumed on what is left.

Prints a line for each run. Exit status: 0 all equal, 1 something differs or fails.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.compared import Run, Stop, contents, difference

from f110_fl.commandline import OneLineParser, program
from f110_fl.reporting.summary import completed_rounds
from f110_fl.rundir import RunDir

LENGTH: Final = 3600.0  # s that a run may take
CORES: Final = 2  # of each node
TASK: Final[dict[str, Any]] = {
    "name": "verify_ray",
    "seed": 7,
    "episodes": 12,
    "env": {
        "max_steps": 120,
        "lidar": {"beams": 8, "noise_std": 0.01},
        "spawn_sets": [["spawn_3", "spawn_1"], ["spawn_2", "spawn_1"]],
        "cars": [
            {"name": "car_0", "task": {"kind": "convoy_lock", "target": "car_1"}},
            {"name": "car_1", "driver": {"kind": "secondary_vicon", "target": "car_0"}},
        ],
    },
    "learners": {
        "car_0": {
            "algorithm": "td3",
            "hidden": [16, 16],
            "batch_size": 16,
            "warmup_steps": 20,
            "replay": {"capacity": 100, "alpha": 0.6},
        }
    },
    "evaluation": {"every": 4, "episodes": 1},
    "federated": {"clients": 4, "round_interval": 4, "optimizer_strategy": "average"},
}


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    return OneLineParser(
        prog="verify_ray.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def verify(directory: Path) -> bool:
    """Return whether all runs end with the same files."""
    from ray.cluster_utils import Cluster

    scenario = directory / "scenario.yaml"
    scenario.write_text(yaml.safe_dump(TASK), encoding="utf-8")

    def run(name: str, *flags: str, **variables: str) -> Run:
        return Run(flags, scenario, RunDir(directory / name), variables)

    def done(name: str, tried: Run, expected: dict[str, object] | None) -> bool:
        begun = time.monotonic()
        outcome = tried.go(LENGTH)
        tried.kill(everything=True)
        found = f"{outcome}, see {tried.errors}" if outcome != "done" else ""
        if not found and expected is not None:
            differing = difference(tried.rundir, expected)
            found = differing and f"{differing} differs"
        print(f"{name:34} {time.monotonic() - begun:5.1f} s  {found or 'equal'}", flush=True)  # noqa: T201
        return not found

    straight = run("workers_1", "--max-parallel", "1")
    if not done("workers, 1 process", straight, None):
        return False
    expected = contents(straight.rundir)
    good = done("workers, 4 processes", run("workers_4", "--max-parallel", "4"), expected)
    good &= done("deployment", run("deployment", "--engine", "deployment"), expected)
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": CORES})
    try:
        second = cluster.add_node(num_cpus=CORES)
        on_ray = {"RAY_ADDRESS": cluster.address}
        good &= done("ray, two nodes", run("ray", "--backend", "ray", **on_ray), expected)
        hurt = run("hurt", "--backend", "ray", **on_ray)
        outcome = hurt.go(LENGTH, Stop(lines=TASK["federated"]["clients"] * 4 + 5, seconds=0.0))
        rounds = completed_rounds(hurt.rundir)
        cluster.remove_node(second, allow_graceful=False)
        print(f"a node is killed after round {rounds} ({outcome})", flush=True)  # noqa: T201
        outcome = hurt.wait(LENGTH)
        told = hurt.errors.read_text(encoding="utf-8", errors="replace").splitlines()
        failed = [line for line in told if line.startswith("run.py: federation failed")]
        print(f"the run {outcome}: {' '.join(failed)}", flush=True)  # noqa: T201
        good &= done("ray, resumed on the other node", hurt, expected)
    finally:
        cluster.shutdown()
    return good


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 if all are equal, else 1, with the runs' directory kept."""
    build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the nodes are ended, too

    def work() -> int:
        directory = Path(tempfile.mkdtemp(prefix="verify_ray-"))
        good = verify(directory)
        if good:
            shutil.rmtree(directory)
        else:
            print(f"the runs are kept in {directory}")  # noqa: T201
        return 0 if good else 1

    return program("verify_ray.py", work)


if __name__ == "__main__":
    sys.exit(main())
