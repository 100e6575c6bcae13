"""Whole federations of run.py, and their files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import InProcess, carry_out
from small import REPOSITORY, SMALL, merge, write_small
from watching import TIMEOUT

from f110_fl.config.scenario import Scenario
from f110_fl.rundir import RunDir
from f110_fl.tensors import TensorName, read_tensors

pytestmark = pytest.mark.slow

CLIENTS, ROUNDS = 2, 2


def federate(directory: Path, *flags: str, variables: dict[str, str], **changes: Any) -> RunDir:
    path = write_small(directory, **changes)
    root = directory / "run"
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), "--scenario", str(path), *flags],
        env=os.environ | {"FED_ROOT": str(root)} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    log = root / "logs" / "federation.log"
    assert result.returncode == 0, result.stderr + (log.read_text() if log.exists() else "")
    return RunDir(root)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDir]:
    """One run of each optimizer strategy: one of run.py, and the others in this process."""
    base = tmp_path_factory.mktemp("federations")
    average = {"FED_OPTIMIZER_STRATEGY": "average"}
    found = {"average": federate(base / "average", "--max-parallel", "2", variables=average)}
    for strategy in ("local", "reset"):
        changed = merge(SMALL, {"federated": {"optimizer_strategy": strategy}})
        found[strategy] = carry_out(Scenario.model_validate(changed), base / strategy, InProcess())
    return found


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return read_tensors(path)


def optimizer(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in values.items() if TensorName.parse(k).kind == "optimizer"}


@pytest.mark.parametrize("strategy", ["local", "average", "reset"])
def test_files_of_a_run(runs: dict[str, RunDir], strategy: str) -> None:
    rundir = runs[strategy]
    for server_round in range(1, ROUNDS + 1):
        names = {path.name for path in rundir.round(server_round).iterdir()}
        assert names == {
            "global.safetensors",
            "metrics.json",
            *(f"client_{k:02d}.safetensors" for k in range(CLIENTS)),
        }
    assert sorted(p.name for p in rundir.clients.iterdir()) == ["00", "01"]
    resolved = json.loads(rundir.config.read_text())
    assert resolved["federated"]["optimizer_strategy"] == strategy
    lines = [json.loads(line) for line in rundir.rounds.read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert all(line["clients"] == [0, 1] and not line["dropped"] for line in lines)
    assert not list(rundir.root.rglob("*.pkl"))
    assert not list(rundir.root.rglob("*.tmp*"))


@pytest.mark.parametrize("strategy", ["local", "average", "reset"])
def test_the_global_model_is_the_mean_of_the_clients(
    runs: dict[str, RunDir], strategy: str
) -> None:
    rundir = runs[strategy]
    for server_round in range(1, ROUNDS + 1):
        sent = [tensors(rundir.client_tensors(server_round, k)) for k in range(CLIENTS)]
        averaged = tensors(rundir.global_tensors(server_round))
        assert any("actor_target" in name for name in sent[0])
        assert any(not torch.equal(sent[0][name], sent[1][name]) for name in sent[0])
        for name in sent[0]:
            mean = torch.stack([s[name].double() for s in sent]).mean(0)
            torch.testing.assert_close(averaged[name].double(), mean, atol=1e-6, rtol=1e-6)


def test_average_blends_the_moments(runs: dict[str, RunDir]) -> None:
    rundir = runs["average"]
    averaged = optimizer(tensors(rundir.global_tensors(1)))
    assert {TensorName.parse(name).slot for name in averaged} == {"exp_avg", "exp_avg_sq", "step"}
    sent = [optimizer(tensors(rundir.client_tensors(1, k))) for k in range(CLIENTS)]
    assert set(sent[0]) == set(averaged)
    assert any(bool(t.any()) for t in averaged.values())


def test_reset_leaves_zero_moments(runs: dict[str, RunDir]) -> None:
    averaged = optimizer(tensors(runs["reset"].global_tensors(1)))
    assert averaged
    assert not any(bool(t.any()) for t in averaged.values())
    assert not optimizer(tensors(runs["reset"].client_tensors(1, 0)))


def test_local_moments_stay_at_home(runs: dict[str, RunDir]) -> None:
    rundir = runs["local"]
    assert not optimizer(tensors(rundir.global_tensors(1)))
    assert not optimizer(tensors(rundir.client_tensors(1, 0)))
    kept = [optimizer(tensors(rundir.client(k) / "state.safetensors")) for k in range(CLIENTS)]
    assert kept[0]
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_the_same_seed_gives_the_same_bytes_whatever_max_parallel(
    runs: dict[str, RunDir], tmp_path: Path
) -> None:
    again = federate(
        tmp_path, "--max-parallel", "1", variables={"FED_OPTIMIZER_STRATEGY": "average"}
    )
    for server_round in range(1, ROUNDS + 1):
        for name in ("global", "client_00", "client_01"):
            left, right = (
                run.round(server_round) / f"{name}.safetensors" for run in (runs["average"], again)
            )
            assert left.read_bytes() == right.read_bytes()
