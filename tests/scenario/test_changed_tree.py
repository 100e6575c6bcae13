"""The changes of docs/extending.md to this tree, applied to a copy of it, which is then run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import page
import pytest
from small import REPOSITORY, write_small
from watching import TIMEOUT

from f110_fl.runs.kernels import cache as kernel_cache

# Records what W&B would be told.
WANDB = """
import json, os
def Settings(**_): pass
class Run:
    def __init__(self, name): self.name = name
    def log(self, values):
        with open(os.environ["TOLD"], "a") as told:
            told.write(json.dumps([self.name, values]) + "\\n")
    def define_metric(self, *_, **__): pass
    def finish(self): pass
def init(**options): return Run(options["name"])
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = page.changed_tree(tmp_path_factory.mktemp("changed") / "tree")
    lend_kernels(tree)
    return tree


def lend_kernels(tree: Path) -> None:
    """Gives the tree the compiled kernels of all files that the page does not change.

    To compile them takes half a minute; they call nothing that it does change.
    """
    theirs = kernel_cache.directory({"NUMBA_CACHE_DIR": str(kernels_of(tree))}, tree)
    for folder in kernel_cache.directory(os.environ).glob("*/"):
        source = Path(*folder.name.split(".")).with_suffix(".py")
        if (tree / source).read_bytes() == (REPOSITORY / source).read_bytes():
            shutil.copytree(folder, theirs / folder.name)


def kernels_of(tree: Path) -> Path:
    return tree.with_name("kernels")


def run(tree: Path, *command: str, path: str = "", **variables: str) -> subprocess.CompletedProcess:
    """Runs a Python program of the changed tree."""
    found = os.pathsep.join(filter(None, [path, str(tree)]))
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env=os.environ
        | {"PYTHONPATH": found, "NUMBA_CACHE_DIR": str(kernels_of(tree))}
        | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


def done(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return str(result.stdout)


def test_it_is_as_tidy_as_the_rest(tree: Path) -> None:
    done(run(tree, "-m", "ruff", "check", "."))
    done(run(tree, "-m", "ruff", "format", "--check", "."))


@pytest.mark.slow
def test_the_observation_has_the_new_part(tree: Path) -> None:
    (script,) = page.unnamed(page.TREE, "python")
    (number,) = map(float, done(run(tree, "-c", script)).strip().strip("[]").split())
    # The nearest wall of a lane 2.55 m wide, of at most 30 m.
    assert 0.0 < number < 2.55 / 30.0


MEDIAN = """
import json
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MessageType
from f110_fl.config.federated import GeometricMedianConfig
from f110_fl.engines.flower.internals import task_identity
from f110_fl.federation.messages import TrainReply
from server.aggregation import make_aggregation

def reply(client, value):
    values = {"a": np.full((2, 3), value, np.float32), "b": np.array(value, np.float32)}
    arrays = ArrayRecord({name: Array(array) for name, array in values.items()})
    content = TrainReply(arrays, {"return": value}, client).weighted(arrays, 1.0)
    return Message(content, dst_node_id=0, message_type=MessageType.TRAIN)

with task_identity(run_id=1, node_id=1):
    strategy = make_aggregation(GeometricMedianConfig(iterations=100))
    replies = [reply(client, value) for client, value in enumerate([0.0, 1.0, 2.0, 1000.0, 1.0])]
    arrays, metrics = strategy.aggregate_train(1, replies)
found = {name: array.numpy() for name, array in arrays.items()}
print(json.dumps([
    {name: [array.tolist(), str(array.dtype)] for name, array in found.items()}, metrics["return"]
]))
"""


def test_a_broken_client_does_not_move_the_geometric_median(tree: Path) -> None:
    models, mean = json.loads(done(run(tree, "-c", MEDIAN)))
    assert models["a"][0] == [pytest.approx([1.0] * 3, abs=1e-3)] * 2
    assert models["b"] == [pytest.approx(1.0, abs=1e-3), "float32"]
    assert mean == pytest.approx(1004.0 / 5)


@pytest.mark.slow
def test_a_federation_with_all_of_it(tree: Path, tmp_path: Path) -> None:
    """The variable asks one client of two; its model is averaged; episodes have their length."""
    scenario = write_small(
        tmp_path,
        env={"observation": ["lidar", "nearest"]},
        federated={"strategy": {"name": "geometric_median"}},
    )
    (tmp_path / "wandb.py").write_text(WANDB)
    told = tmp_path / "told.jsonl"
    begun = ("run.py", "--scenario", str(scenario))
    variables = {"FED_ROOT": str(tmp_path / "run"), "WANDB_MODE": "offline", "TOLD": str(told)}
    result = run(tree, *begun, path=str(tmp_path), FED_FRACTION="0.5", **variables)
    done(result)
    rounds = [json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").open()]
    assert [len(line["asked"]) for line in rounds] == [1, 1]
    lengths = [line["metrics"]["train/car_0/length"] for line in rounds]
    assert all(1 <= length <= 40 for length in lengths)
    titles = next(line for line in result.stderr.splitlines() if "steps/s" in line).split()
    assert titles[:6] == ["client", "episodes", "success", "return", "length", "crash"]
    logged = [json.loads(line) for line in told.open()]
    by_server = [values["train/car_0/length"] for name, values in logged if name == "server"]
    assert by_server == lengths
    for name in ("train/car_0/length", "evaluate/car_0/length"):
        assert any(name in values for role, values in logged if role != "server")


def test_the_flag_wins_over_the_variable_and_is_checked(tree: Path, tmp_path: Path) -> None:
    (line,) = page.unnamed(page.TREE, "text")
    scenario = str(write_small(tmp_path))
    result = run(tree, "run.py", "--scenario", scenario, "--fraction", "2", FED_FRACTION="0.5")
    assert result.returncode == 2
    assert result.stderr == line
    assert "--fraction VALUE" in done(run(tree, "run.py", "--help"))
