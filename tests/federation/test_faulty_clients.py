"""Clients that answer with nonsense in a real simulation cost only themselves a round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hostile_federation import CLIENTS, HONEST, KINDS
from small import PYTHONPATH, REPOSITORY, SMALL, merge
from watching import TIMEOUT

from f110_fl.config.scenario import Scenario
from f110_fl.federation.messages import MAX_REASON
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.reporting.announce import Announcements
from f110_fl.rundir import RunDir
from f110_fl.tensors import read_tensors
from f110_fl.training.agents import initial_tensors

REASONS = {
    2: "is not finite",
    3: "float32[3, 1, 4]",
    4: "is missing or was not asked for",
    5: "exceeds 1000",
    6: "1e+300 steps, where the round allows",
    7: "metric 'num-examples' is -1.0",
    8: "the client's disk is full",
    9: "metric 'train/car_0/extra' is missing or was not asked for",
    10: "it says that it is client 0",
}


def federate(program: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of tests/support for a run's directory."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "tests" / "support" / f"{program}.py"), str(root)],
        env=os.environ | {"PYTHONPATH": PYTHONPATH, "FLWR_TELEMETRY_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


@pytest.mark.slow
def test_nonsense_is_dropped_and_named(tmp_path: Path) -> None:
    """The model stays finite and is the average of what the honest ones sent."""
    federated = {"clients": 2 + len(REASONS), "max_update_norm": 1000.0}
    chosen = Scenario.model_validate(merge(SMALL, {"episodes": 1, "federated": federated}))
    rundir = RunDir(tmp_path)
    rundir.config.write_text(dump_scenario(chosen))
    result = federate("faulty_federation", tmp_path)
    assert rundir.rounds.exists(), result.stdout
    (line,) = [json.loads(text) for text in rundir.rounds.read_text().splitlines()]
    assert line["asked"] == list(range(2 + len(REASONS)))
    assert line["clients"] == [0, 1]
    assert line["dropped"].keys() == {str(k) for k in REASONS}
    for client_id, reason in REASONS.items():
        assert reason in line["dropped"][str(client_id)]
    initial, average = initial_tensors(chosen), read_tensors(rundir.global_tensors(1))
    assert average
    for name, tensor in average.items():
        assert bool(tensor.isfinite().all())
        torch.testing.assert_close(tensor, initial[name] + 0.5)  # client k adds k
    sent = sorted(p.name for p in rundir.round(1).glob("client_*"))
    assert sent == ["client_00.safetensors", "client_01.safetensors"]


@pytest.mark.slow
def test_every_kind_of_hostile_client_is_dropped_and_named(tmp_path: Path) -> None:
    """In real processes: fifty hostile replies and a dozen false names, and one honest average."""
    federated = {"clients": CLIENTS, "connect_timeout": 1.0}
    chosen = Scenario.model_validate(merge(SMALL, {"episodes": 1, "federated": federated}))
    rundir = RunDir(tmp_path)
    rundir.config.write_text(dump_scenario(chosen))
    result = federate("hostile_federation", tmp_path)
    assert result.returncode == 0, result.stdout
    (line,) = [json.loads(text) for text in rundir.rounds.read_text().splitlines()]
    assert line["asked"] == list(range(HONEST + len(KINDS)))
    assert line["clients"] == list(range(HONEST))
    assert len(line["dropped"]) == len(KINDS) >= 12
    for reason in line["dropped"].values():
        assert reason.isprintable()
        assert 0 < len(reason) <= MAX_REASON
    for liar in range(HONEST + len(KINDS), CLIENTS):
        assert f"node {liar + 1} is left out: " in result.stdout
    initial, average = initial_tensors(chosen), read_tensors(rundir.global_tensors(1))
    sent = [read_tensors(rundir.client_tensors(1, client)) for client in range(HONEST)]
    for name, tensor in average.items():
        torch.testing.assert_close(tensor, initial[name] + 0.01)  # client k adds k / 100
        summed = sum(client[name].double() for client in sent)
        assert bool(tensor.isfinite().all())
        torch.testing.assert_close(tensor.double(), summed / HONEST)
    assert all(Announcements().read(text) is None for text in result.stdout.splitlines())
