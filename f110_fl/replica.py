"""A learner on its own: what a replica runs when the scenario is not federated."""

from __future__ import annotations

from pathlib import Path

from f110_fl.loading import parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.trainer import Trainer


def run_replica(root: Path, client_id: int) -> None:
    """Train replica ``client_id`` of the run in ``root`` to the scenario's last episode.

    Its state is saved every ``checkpoint_every`` episodes and at the end.
    """
    rundir = RunDir(root)
    scenario = parse_resolved(rundir.config.read_text(encoding="utf-8"))
    trainer = Trainer(scenario, client_id, rundir.client(client_id))
    while (left := scenario.episodes - trainer.progress.episodes) > 0:
        trainer.train(min(scenario.checkpoint_every, left))
        trainer.save()
