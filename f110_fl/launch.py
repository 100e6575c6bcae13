"""What comes before and after a run: its directory, a check of its environment, a summary."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from f110_fl.errors import UserError
from f110_fl.files import write_atomic
from f110_fl.loading import dump_scenario
from f110_fl.records import trim_episodes
from f110_fl.rundir import RunDir
from f110_fl.scenario import Scenario

# Makes numba, which reads it when it is imported, keep kernels where every copy of the same
# sources finds them: this project's and those that Flower installs.
KERNEL_CACHE: Final = {
    "NUMBA_CACHE_LOCATOR_CLASSES": (
        "f110_fl.kernel_cache.SourcesLocator, InTreeCacheLocator, UserWideCacheLocator"
    )
}


def run_root(scenario: Scenario) -> Path:
    """Return the run's directory, absolute, with the placeholders filled in."""
    words = {"name": scenario.name, "time": time.strftime("%Y%m%d-%H%M%S")}
    return Path(scenario.federated.root.format_map(words)).absolute()


def refuse_used(root: Path) -> None:
    """Stop before a run that would mix its files with another's.

    Raises:
        UserError: If ``root`` already holds a run, or is a file.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is not a directory; choose another with FED_ROOT")
    if RunDir(root).config.exists():
        raise UserError(f"{root} already holds a run; choose another directory with FED_ROOT")


def check_environment(scenario: Scenario) -> None:
    """Build the environment once and step it.

    This finds what only the simulator can (a map that is none, a spawn in a wall) before
    anything is written, and compiles the kernels once instead of in every child.

    Raises:
        UserError: If the environment cannot be built.
    """
    import numpy as np

    os.environ.update(KERNEL_CACHE)  # for the children, too
    from sim.envs import F110ParallelEnv

    try:
        env = F110ParallelEnv(scenario.env)
    except ValueError as error:
        raise UserError(str(error)) from error
    env.reset(seed=0)
    env.step({agent: np.zeros(2, np.float32) for agent in env.agents})


@contextmanager
def claimed(scenario: Scenario, rundir: RunDir, *, resumed: bool = False) -> Iterator[None]:
    """Make the run's directory, hold it for this process and write the scenario into it.

    The hold ends with this process, however it ends. A resumed run's logs lose what its
    clients will do again.

    Raises:
        UserError: If the directory cannot be written, or another process holds it.
    """
    try:
        rundir.root.mkdir(parents=True, exist_ok=True)
        with rundir.lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_atomic(rundir.config, dump_scenario(scenario))
            for client_id in range(scenario.federated.clients if resumed else 0):
                trim_episodes(rundir.client(client_id))
            yield
    except BlockingIOError:
        raise UserError(f"{rundir.root}: another process is running this run") from None
    except OSError as error:
        raise UserError(f"cannot write the run's directory {rundir.root}: {error}") from error


def identity(rundir: RunDir) -> str:
    """Return the run's name for clients elsewhere, made when it is first asked for."""
    if not rundir.identity.exists():
        write_atomic(rundir.identity, f"{rundir.root.name}-{secrets.token_hex(4)}")
    return rundir.identity.read_text(encoding="utf-8")


def summary(scenario: Scenario, rundir: RunDir) -> list[str]:
    """Return the closing lines: what was written where, and how to go on."""
    root = rundir.root
    lines = [f"Run directory   {root}"]
    if scenario.federated.enabled:
        rounds = completed_rounds(rundir)
        lines.append(f"Rounds          {rounds} of {scenario.rounds} completed, {rundir.rounds}")
        if rounds and scenario.federated.checkpoint_after_sync:
            lines.append(f"Global model    {rundir.global_tensors(rounds)}")
    lines.append(f"Clients' state  {rundir.clients}")
    lines.append(f"Logs            {rundir.logs}")
    lines.append(f"To go on        python run.py --resume {shlex.quote(str(root))} --episodes N")
    if scenario.wandb.enabled and (root / "wandb").is_dir():
        path = shlex.quote(str(root / "wandb"))
        lines.append(f"W&B             wandb sync {path}/offline-run-*")
    return lines


def completed_rounds(rundir: RunDir) -> int:
    """Return the number of the last completed round, 0 before the first."""
    if not rundir.rounds.exists():
        return 0
    lines = rundir.rounds.read_text(encoding="utf-8").splitlines()
    return int(json.loads(lines[-1])["round"]) if lines else 0
