"""Learners on their own: what replicas run when the scenario is not federated."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from f110_fl.loading import parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.scenario import Scenario
from f110_fl.session import Session


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

    Its state is saved every ``checkpoint_every`` episodes and at the end.
    """
    from f110_fl.trainer import Trainer

    rundir = RunDir(root)
    scenario = parse_resolved(rundir.config.read_text(encoding="utf-8"))
    trainer = Trainer(scenario, client_id, rundir.client(client_id))
    while (left := scenario.episodes - trainer.progress.episodes) > 0:
        trainer.train(min(scenario.checkpoint_every, left))
        trainer.save()
