"""From a settled scenario to a finished run: directory, children, progress, summary."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from f110_fl.errors import UserError
from f110_fl.files import write_atomic
from f110_fl.loading import dump_scenario
from f110_fl.monitor import Monitor, Sink
from f110_fl.processes import Children
from f110_fl.rundir import RunDir
from f110_fl.scenario import Scenario

POLL_INTERVAL = 0.25  # s between two looks at the children and their files

# Starts the engine of a federated run; run.py supplies it, as only it may know both sides.
Engine = Callable[[Path, int], None]


def run_root(scenario: Scenario) -> Path:
    """Return the run's directory, absolute, with the placeholders filled in.

    Raises:
        UserError: If the directory already holds a run.
    """
    words = {"name": scenario.name, "time": time.strftime("%Y%m%d-%H%M%S")}
    root = Path(scenario.federated.root.format_map(words)).absolute()
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is not a directory; choose another with FED_ROOT")
    if RunDir(root).config.exists():
        raise UserError(f"{root} already holds a run; choose another directory with FED_ROOT")
    return root


def check_environment(scenario: Scenario) -> None:
    """Build the environment once and step it.

    This finds what only the simulator can (a map that is none, a spawn in a wall) before
    anything is written, and compiles the kernels once instead of in every child.

    Raises:
        UserError: If the environment cannot be built.
    """
    import numpy as np

    from sim.envs import F110ParallelEnv

    try:
        env = F110ParallelEnv(scenario.env)
    except ValueError as error:
        raise UserError(str(error)) from error
    env.reset(seed=0)
    env.step({agent: np.zeros(2, np.float32) for agent in env.agents})


def create(scenario: Scenario, root: Path) -> RunDir:
    """Make the run's directory and write the resolved scenario into it.

    Raises:
        UserError: If the directory cannot be written.
    """
    rundir = RunDir(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        write_atomic(rundir.config, dump_scenario(scenario))
    except OSError as error:
        raise UserError(f"cannot write the run's directory {root}: {error.strerror}") from error
    return rundir


def run(
    scenario: Scenario, rundir: RunDir, max_parallel: int, engine: Engine, sinks: list[Sink]
) -> int:
    """Run the scenario to its end and return the exit status of the command.

    Args:
        scenario: The resolved scenario, as in ``rundir``.
        rundir: The run's directory.
        max_parallel: Clients or replicas at a time.
        engine: Runs a federation; called with the run's root and ``max_parallel``.
        sinks: Who is told what happens.
    """
    children = Children()
    monitor = Monitor(rundir)
    try:
        if scenario.federated.enabled:
            log = rundir.logs / "federation.log"
            waiting = [lambda: children.start(engine, (rundir.root, max_parallel), log)]
        else:
            waiting = [
                _replica_starter(children, rundir, k) for k in range(scenario.federated.clients)
            ]
        failed = _supervise(waiting, max_parallel, monitor, sinks)
    finally:
        children.stop()
        _forward(monitor, sinks)
        for sink in sinks:
            sink.close()
    return 1 if failed else 0


def _replica_starter(
    children: Children, rundir: RunDir, client_id: int
) -> Callable[[], BaseProcess]:
    from f110_fl.replica import run_replica

    log = rundir.logs / f"replica_{client_id:02d}.log"
    return lambda: children.start(run_replica, (rundir.root, client_id), log)


def _supervise(
    waiting: list[Callable[[], BaseProcess]],
    max_parallel: int,
    monitor: Monitor,
    sinks: list[Sink],
) -> int:
    """Keep at most ``max_parallel`` children running; return how many failed."""
    running: list[BaseProcess] = []
    failed = 0
    waiting = list(reversed(waiting))
    while waiting or running:
        while waiting and len(running) < max_parallel:
            running.append(waiting.pop()())
        _forward(monitor, sinks)
        running[0].join(POLL_INTERVAL)
        failed += sum(child.exitcode not in (0, None) for child in running)
        running = [child for child in running if child.is_alive()]
    return failed


def _forward(monitor: Monitor, sinks: list[Sink]) -> None:
    for event in monitor.poll():
        for sink in sinks:
            sink.handle(event)


def summary(scenario: Scenario, rundir: RunDir, status: int) -> list[str]:
    """Return the closing lines: what was written where, and how to go on."""
    root = rundir.root
    lines = [f"Run directory   {root}"]
    if scenario.federated.enabled:
        rounds = _completed_rounds(rundir)
        lines.append(f"Rounds          {rounds} of {scenario.rounds} completed, {rundir.rounds}")
        if rounds and scenario.federated.checkpoint_after_sync:
            lines.append(f"Global model    {rundir.global_tensors(rounds)}")
    lines.append(f"Clients' state  {rundir.clients}")
    if status:
        lines.append(f"Failed; the logs say why: {rundir.logs}")
    elif scenario.wandb.enabled and (root / "wandb").is_dir():
        path = shlex.quote(str(root / "wandb"))
        lines.append(f"W&B             wandb sync {path}/offline-run-*")
    return lines


def _completed_rounds(rundir: RunDir) -> int:
    if not rundir.rounds.exists():
        return 0
    lines = rundir.rounds.read_text(encoding="utf-8").splitlines()
    return int(json.loads(lines[-1])["round"]) if lines else 0
