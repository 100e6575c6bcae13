"""Independent replicas, which a scenario that is not federated trains."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import locked
from f110_fl.loading.scenarios import read_resolved
from f110_fl.reporting.learning import say, told_episodes
from f110_fl.rundir import LOCK, RunDir
from f110_fl.runs.session import Session
from f110_fl.training.state_file import last_good


def run_replicas(session: Session, scenario: Scenario, max_parallel: int) -> int:
    """Run the scenario's replicas, at most ``max_parallel`` at a time; return 0 or 1."""
    root = session.rundir.root
    starters = [
        partial(session.start, f"replica_{k:02d}", run_replica, root, k)
        for k in range(scenario.federated.clients)
    ]
    return 1 if session.run_all(starters, max_parallel) else 0


def run_replica(root: Path, client_id: int) -> None:
    """Train replica ``client_id`` of the run in ``root`` to the scenario's last episode.

    Its state is saved at every multiple of ``checkpoint_every`` episodes and at the end; training
    continues from the saved state. What each of these parts was like is printed.

    Raises:
        UserError: If learning diverges or the state cannot be written. The message names the
            last good checkpoint and, if learning diverged, the agent, the step and the tensor.
    """
    rundir = RunDir(root)
    scenario = read_resolved(rundir.config)
    directory = rundir.client(client_id)
    directory.mkdir(parents=True, exist_ok=True)
    # The replica of a killed run lives until it notices; two must not write here.
    with locked(directory / LOCK, wait=True):
        _train(scenario, client_id, directory)


def _train(scenario: Scenario, client_id: int, directory: Path) -> None:
    from safetensors import SafetensorError

    from f110_fl.learners.base import LearningError
    from f110_fl.training.trainer import Trainer

    try:
        trainer = Trainer(scenario, client_id, directory)
        interval = scenario.checkpoint_every
        while (done := trainer.progress.episodes) < scenario.episodes:
            begun = time.monotonic()
            records = trainer.train(min(interval - done % interval, scenario.episodes - done))
            trainer.save()
            start = f"{trainer.progress.episodes}/{scenario.episodes} episodes"
            start += f"  {time.monotonic() - begun:.1f} s"
            say(told_episodes(start, records, scenario.learners))
    except LearningError as error:
        raise UserError(f"learning diverged: {error}; {last_good(directory)}") from error
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory}: {error}; {last_good(directory)}") from error
