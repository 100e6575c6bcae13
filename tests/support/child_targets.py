"""What tests run in child processes, which import this module and little else."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from f110_fl.engines.flower.programs import run_program
from f110_fl.engines.replicas import run_replica
from f110_fl.rundir import RunDir
from f110_fl.tensors import write_tensors
from f110_fl.training.state_file import FORMAT, Progress


def pretend(words: Sequence[str]) -> None:
    """Stand in for run.py: leave behind replicas that are done; with seed 2, unrepaired, fail."""
    rundir = RunDir(Path(words[1]))
    scenario = json.loads(rundir.config.read_text())
    if scenario["seed"] == 2 and not (rundir.root.parent / "repaired").exists():
        sys.stderr.write("run.py: replica_00 failed: disk on fire\nrun.py: the run failed; see x\n")
        sys.exit(1)
    progress = json.dumps(asdict(Progress(episodes=scenario["episodes"])))
    for client_id in range(scenario["federated"]["clients"]):
        rundir.client(client_id).mkdir(parents=True)
        state = rundir.client(client_id) / "state.safetensors"
        write_tensors(state, {}, {"format": FORMAT, "progress": progress})
    (rundir.root / "words").write_text(json.dumps(words))


def limited(root: Path, limit: int) -> None:
    """Run a replica that cannot write files beyond a size, in bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    run_replica(root, 0)


def sleep_beside_one_that_fails() -> None:
    """Run a program for ten minutes, and beside it a process that ends at once."""
    other = multiprocessing.get_context("spawn").Process(target=sys.exit, args=(1,))
    other.start()
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    run_program(command, dict(os.environ), other)
