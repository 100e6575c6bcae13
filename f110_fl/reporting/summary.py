"""The progress of a run according to its files, and its closing lines."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.rundir import RunDir
from f110_fl.training.state_file import saved_progress


def is_complete(scenario: Scenario, rundir: RunDir) -> bool:
    """Return whether a run has completed."""
    if scenario.federated.enabled:
        return completed_rounds(rundir) >= scenario.rounds
    return completed_replicas(scenario, rundir) == scenario.federated.clients


def completed_rounds(rundir: RunDir) -> int:
    """Return the number of the last completed round, 0 before the first."""
    if not rundir.rounds.exists():
        return 0
    lines = rundir.rounds.read_text(encoding="utf-8").splitlines()
    return int(json.loads(lines[-1])["round"]) if lines else 0


def completed_replicas(scenario: Scenario, rundir: RunDir) -> int:
    """Return how many replicas have trained to the scenario's last episode."""
    done = 0
    for client_id in range(scenario.federated.clients):
        with suppress(UserError):  # an unreadable state does not count as complete
            done += saved_progress(rundir.client(client_id)).episodes >= scenario.episodes
    return done


def closing_lines(scenario: Scenario, rundir: RunDir) -> list[str]:
    """Return the closing lines: the files, and how to continue the run."""
    root = rundir.root
    lines = [f"Run directory   {root}"]
    if scenario.federated.enabled:
        rounds = completed_rounds(rundir)
        lines.append(f"Rounds          {rounds} of {scenario.rounds} completed, {rundir.rounds}")
        if rounds and scenario.federated.checkpoint_after_sync:
            lines.append(f"Global model    {rundir.global_tensors(rounds)}")
    else:
        done, replicas = completed_replicas(scenario, rundir), scenario.federated.clients
        lines.append(f"Replicas        {done} of {replicas} completed")
    lines.append(f"Clients' state  {rundir.clients}")
    lines.append(f"Logs            {rundir.logs}")
    if rundir.report.exists():
        lines.append(f"Report          {rundir.report}  (open it in a browser)")
    lines.append(f"To go on        python run.py --resume {shlex.quote(str(root))} --episodes N")
    if scenario.wandb.enabled and (root / "wandb").is_dir():
        path = shlex.quote(str(root / "wandb"))
        lines.append(f"W&B             wandb sync {path}/offline-run-*")
    return lines
