"""A whole federation whose networks are another package's, installed as packages are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import packages
import pytest
import torch
from small import REPOSITORY, write_small
from watching import TIMEOUT

from f110_fl.learners.networks import encoder
from f110_fl.rundir import RunDir
from f110_fl.tensors import TensorName, read_tensors

pytestmark = pytest.mark.slow


def example() -> dict[str, str]:
    """Returns the modules of the example in the documentation, by name."""
    text = encoder.__doc__ or ""
    found = re.findall(r"``my_package/(\w+)\.py``::\n\n((?:    .*\n|\n)+)", text)
    return {name: re.sub("(?m)^    ", "", source) for name, source in found}


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Installs the example; returns the environment of programs that have it."""
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    modules = example()
    assert modules.keys() == {"plugin", "networks"}
    for name, source in modules.items():
        (package / f"{name}.py").write_text(source)
    return packages.install(package.parent, {}, ["my_package.plugin:PLUGIN"])


def run(variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), *words],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


def test_the_documented_encoder_is_averaged_and_evaluated(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    learner = {"encoder": {"kind": "bottleneck", "width": 3}}
    root = tmp_path / "run"
    path = write_small(tmp_path, learners={"car_0": learner}, federated={"share": "all_but_head"})
    words = ("--scenario", str(path))
    trained = run(variables | {"FED_ROOT": str(root)}, *words, "--max-parallel", "2")
    assert trained.returncode == 0, trained.stderr

    rundir = RunDir(root)
    parameters = ("weight", "bias")
    names = {f"car_0/model/actor/encoder.layer.{parameter}" for parameter in parameters}
    first, last = (read_tensors(rundir.global_tensors(number)) for number in (1, 2))
    sent = [read_tensors(rundir.client_tensors(2, client)) for client in range(2)]
    assert names < last.keys()
    assert "weights.2" not in {TensorName.parse(name).parameter for name in last}
    for name in names:
        assert not torch.equal(sent[0][name], sent[1][name])
        torch.testing.assert_close(last[name], (sent[0][name] + sent[1][name]) / 2)
        assert not torch.equal(last[name], first[name])

    words += ("--mode", "eval", "--eval-episodes", "1", "--checkpoint", str(rundir.state(0)))
    judged = run(variables | {"FED_ROOT": str(tmp_path / "judged")}, *words)
    assert judged.returncode == 0, judged.stderr
    report = json.loads((tmp_path / "judged" / "evaluation.json").read_text())
    assert report["cars"].keys() == {"car_0", "car_1"}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"kind": "botleneck"}, "allowed: conv, bottleneck (did you mean 'bottleneck'?)"),
        ({"kind": "bottleneck"}, "encoder 'bottleneck': lidar must be in the observation, found p"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, variables: dict[str, str], settings: dict[str, str], line: str
) -> None:
    learners, env = {"car_0": {"encoder": settings}}, {"observation": ["pose"]}
    path, root = write_small(tmp_path, learners=learners, env=env), tmp_path / "run"
    refused = run(variables | {"FED_ROOT": str(root)}, "--scenario", str(path))
    assert refused.returncode == 2
    assert line in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not root.exists()
