"""tools/bench_federation.py with Flower's own simulation, and what it measures by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import RecordDict
from small import REPOSITORY, SMALL
from watching import TIMEOUT

from f110_fl.config.scenario import Scenario
from f110_fl.federation import sharing
from f110_fl.federation.arrays import to_arrays
from f110_fl.federation.messages import ARRAYS
from f110_fl.loading.scenarios import load_scenario
from f110_fl.training.agents import initial_tensors

sys.path.insert(0, str(REPOSITORY / "tools"))
import bench_federation
from parts import bench_federation_apps, process_memory


def bench(directory: Path, *flags: str) -> tuple[int, str, str]:
    """Returns the exit status, what was printed and what went to standard error."""
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "bench_federation.py"), *flags],
        cwd=directory,
        env=os.environ | {"RAY_ADDRESS": "local"},  # none that another program has left
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    return result.returncode, result.stdout, result.stderr


def shared(scenario: Scenario) -> dict[str, torch.Tensor]:
    tensors = initial_tensors(scenario)
    return sharing.select(tensors, sharing.averaged_names(tensors, scenario))


@pytest.mark.slow
def test_two_clients_and_one_round_beside_a_bare_flower_app(
    tmp_path: Path, write_scenario: Callable[..., Path]
) -> None:
    path = write_scenario()
    flags = ["--scenario", str(path), "--clients", "2", "--rounds", "1"]
    status, out, err = bench(tmp_path, *flags, "--peer", "--memory", "--json")
    assert status == 0, err
    found = json.loads(out)  # one object and nothing else, or this fails
    assert (found["clients"], found["rounds"], found["engine"]) == (2, 1, "simulation")
    size = sum(t.nbytes for t in shared(Scenario.model_validate(SMALL)).values())
    for figures in (found, found["peer"]):
        assert figures["tensor_bytes"] == size
        assert figures["bytes_per_client"] > size
        assert figures["bytes_to_client"] > size
        assert 0 < figures["round_overhead_s"] < TIMEOUT
        assert figures["server_peak_mib"] > 50
    for name, ratio in found["ratio"].items():
        assert ratio == pytest.approx(found[name] / found["peer"][name], rel=0.01, abs=1e-3)
    assert all(len(rounds) == 2 for rounds in found["memory_mib"].values())
    assert {"worker", "child", "all"} <= set(found["memory_mib"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--clients", "0"), "--clients must be positive"),
        (("--set", "learners.car_0.nothing=1"), "unknown key"),
        (("--scenario", "nowhere.yaml"), "no such file"),
    ],
)
def test_wrong_flags_are_one_line(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert bench_federation.main(flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_messages_of_the_scenario_that_is_shipped_are_hardly_larger_than_its_tensors() -> None:
    tensors = shared(load_scenario(REPOSITORY / "scenarios" / "convoy_lock_td3_original.yaml"))
    content = RecordDict({ARRAYS: to_arrays(tensors)})
    sent, size = bench_federation_apps._sizes(content)
    assert size == sum(tensor.nbytes for tensor in tensors.values())
    assert size < sent < 1.05 * size


def test_memory_is_that_of_descendants_round_by_round() -> None:
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", grandchild], stdin=subprocess.PIPE) as child:
        while len(found := process_memory.descendants(child.pid)) < 1:
            assert child.poll() is None
        assert child.pid in process_memory.descendants(os.getpid())
        assert set(found) <= set(process_memory.descendants(os.getpid()))
        child.communicate(b"\n")
    sampler = process_memory.Sampler()
    rows: list[Any] = [
        (1.0, 1, "a", 5.0, 0.5),
        (1.0, 2, "a", 7.0, 3.0),
        (1.0, 3, "b", 1.0, 0.0),
        (2.5, 1, "a", 9.0, 2.0),
    ]
    sampler.samples = [process_memory.Sample(*row) for row in rows]
    expected = {"a": [7.0, 9.0, 0.0], "b": [1.0, 0.0, 0.0], "all": [13.0, 9.0, 0.0]}
    assert sampler.by_round([0.0, 2.0, 3.0, time.monotonic()]) == expected
    assert (sampler.seconds(0.0, 2.0), sampler.seconds(2.0, 3.0)) == (3.5, 1.5)
