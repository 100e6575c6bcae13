"""tools/ship_policy.py, and what run.py does with what it writes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import ship_policy
import yaml
from in_process import InProcess, carry_out
from programs import call
from small import SMALL, merge, write_small

from f110_fl.loading.scenarios import load_scenario
from f110_fl.rundir import RunDir
from f110_fl.seeding import Use, stream
from f110_fl.tensors import read_metadata, read_tensors, write_tensors
from f110_fl.training.agents import make_learners, tensors_of
from f110_fl.training.shipped import origin_of
from run import main
from sim.policy import load_policy
from sim.race import Race

LSTM = {"algorithm": "ppo", "rollout_steps": 16, "lstm": {"units": 8, "sequence": 8}}
FROZEN = "{kind: frozen_policy, checkpoint: policies/small.safetensors, agent: car_0}"


ship = partial(call, ship_policy.main)
run = partial(call, main)


def checkpoint(path: Path, scenario: Path) -> Path:
    """Writes all tensors of the scenario's learners, of another seed."""
    chosen = load_scenario(scenario)
    made = make_learners(chosen, Race(chosen.env), partial(stream, 99, Use.MODEL))
    write_tensors(path, tensors_of(made))
    return path


def test_what_acts_is_kept_and_evaluated(tmp_path: Path) -> None:
    scenario = write_small(tmp_path)
    source = checkpoint(tmp_path / "all.safetensors", scenario)
    flags = ["--episodes", "3", "--command", "make it", "--seed", "5"]
    result = ship(tmp_path, source, "--scenario", scenario.name, *flags)
    assert (result.returncode, result.stderr) == (0, "")
    path = tmp_path / "policies" / "small.safetensors"
    kept, whole = read_tensors(path), read_tensors(source)
    assert {name.split("/")[2] for name in kept} == {"actor"}
    assert all(bool((whole[name] == tensor).all()) for name, tensor in kept.items())
    load_policy(path, "car_0")
    origin = origin_of(read_metadata(path))
    assert origin is not None
    assert (origin.command, origin.seed) == ("make it", 5)
    assert (origin.evaluation["episodes"], origin.evaluation["seed"]) == (3, 7)
    for line in ("Policy          policies/small.safetensors", *origin.lines()):
        assert line in result.stdout
    again = ship(
        tmp_path, source, "--scenario", scenario.name, *flags, "--out", "other.safetensors"
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "other.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_policy_of_a_run_is_evaluated_raced_against_and_trained_further(tmp_path: Path) -> None:
    """As a user does it: train, ship, then everything that the file is for."""
    changes = {"federated": {"root": "run-{name}"}, "evaluation": {"episodes": 2}}
    write_small(tmp_path, **changes)
    trained = run(tmp_path, "--scenario", "small.yaml", "--repeat", "2")
    assert trained.returncode == 0, trained.stderr
    best = RunDir(tmp_path / "run-small").client(1) / "best.safetensors"
    result = ship(tmp_path, best, "--scenario", "small.yaml", "--episodes", "4")
    assert (result.returncode, result.stderr) == (0, "")
    assert "run.py --scenario small.yaml --repeat 2  (seed 7, f110-fl" in result.stdout
    path = tmp_path / "policies" / "small.safetensors"
    origin = origin_of(read_metadata(path))
    assert origin is not None

    flags = "--scenario", "small.yaml", "--mode", "eval", "--eval-episodes", "4", "--set"
    shown = run(tmp_path, *flags, "federated.root=eval")
    assert shown.returncode == 0, shown.stderr
    policy = f"Policy          {path}  (it comes with the scenario)"
    for line in (policy, *origin.lines()):
        assert f"{line}\n" in shown.stderr
    report = json.loads((tmp_path / "eval" / "evaluation.json").read_text())
    assert report["checkpoint"] == str(path)
    assert report["cars"]["car_0"] == origin.evaluation["cars"]["car_0"]
    named = run(tmp_path, *flags, "federated.root=named", "--checkpoint", best)
    assert named.returncode == 0, named.stderr
    assert "it comes with the scenario" not in named.stderr
    misfit = run(tmp_path, *flags, "federated.root=misfit", "env.lidar.beams=9")
    assert misfit.returncode == 2
    assert misfit.stderr.startswith(f"run.py: {path}: another model of 'car_0' than the scenario's")
    assert misfit.stderr.count("\n") == 1

    both = run(tmp_path, *flags, "federated.root=both", f"env.cars[1].driver={FROZEN}")
    assert both.returncode == 0, both.stderr

    further = "--set", "learners.car_0.initial=policies/small.safetensors"
    tuned = run(tmp_path, "--scenario", "small.yaml", *further, "--set", "federated.root=tuned")
    assert tuned.returncode == 0, tuned.stderr
    alone = "--set", "federated.enabled=false", "federated.clients=1", "federated.root=alone"
    tuned = run(tmp_path, "--scenario", "small.yaml", *further, *alone, "--episodes", "1")
    assert tuned.returncode == 0, tuned.stderr
    config = RunDir(tmp_path / "tuned").config
    assert json.loads(config.read_text())["learners"]["car_0"]["initial"] == str(path)
    path.unlink()  # what has begun needs it no more
    for root in ("tuned", "alone"):
        resumed = run(tmp_path, "--resume", root, "--episodes", "3")
        assert resumed.returncode == 0, resumed.stderr


@pytest.mark.slow
def test_a_federation_starts_from_the_policy(tmp_path: Path) -> None:
    """What does not learn yet, at the end of the first round, is the policy itself."""
    settings: dict[str, Any] = {
        "evaluation": {"episodes": 3},
        "federated": {"evaluate_on": "server"},
    }
    learner = {"warmup_steps": 10_000, "initial": "policies/small.safetensors"}
    scenario = write_small(tmp_path, **settings)
    source = checkpoint(tmp_path / "all.safetensors", scenario)
    flags = ["--episodes", "3", "--command", "make it", "--seed", "5"]
    assert ship(tmp_path, source, "--scenario", "small.yaml", *flags).returncode == 0
    write_small(tmp_path, **settings, learners={"car_0": learner})
    rundir = carry_out(load_scenario(scenario), tmp_path / "run", InProcess())
    found = read_tensors(rundir.global_tensors(2))
    for name, tensor in read_tensors(tmp_path / "policies" / "small.safetensors").items():
        assert bool((found[name] == tensor).all())
        target = name.replace("/actor/", "/actor_target/")
        assert bool((found[target] == tensor).all())
    first = json.loads(rundir.evaluations.read_text().splitlines()[0])
    origin = origin_of(read_metadata(tmp_path / "policies" / "small.safetensors"))
    assert origin is not None
    assert first["round"] == 0
    assert first["cars"]["car_0"] == origin.evaluation["cars"]["car_0"]


def test_a_policy_with_a_memory(tmp_path: Path) -> None:
    """Cars drive by it as by any other."""
    scenario = tmp_path / "small.yaml"
    scenario.write_text(yaml.safe_dump(merge(SMALL, {}) | {"learners": {"car_0": LSTM}}))
    source = checkpoint(tmp_path / "all.safetensors", scenario)
    flags = ["--episodes", "1", "--command", "make it", "--seed", "5"]
    result = ship(tmp_path, source, "--scenario", "small.yaml", *flags)
    assert (result.returncode, result.stderr) == (0, "")
    assert "no scripted car" not in result.stdout


MISTAKES = {
    "no checkpoint": (["gone"], "gone: not a readable safetensors file: "),
    "no scenario": (["all", "--scenario", "gone.yaml"], "gone.yaml: no such file; allowed: a scen"),
    "no learner": (["all", "--scenario", "scripted.yaml"], "scripted.yaml: nothing learns"),
    "other agent": (["other"], "other: no model of 'car_0'; found: car_9"),
    "other widths": (["all", "--scenario", "wide.yaml"], "all: another model of 'car_0' than the"),
    "no folder": (["all", "--out", "no/such/file"], "--out='no/such/file': allowed: a file in"),
    "a folder": (["all", "--out", "."], "--out='.': allowed: a file in a folder that exists"),
    "episodes": (["all", "--episodes", "0"], "--episodes='0': allowed: a whole number from 1"),
    "seed": (["all", "--seed", "x"], "--seed='x': allowed: a whole number from 0"),
    "no argument": ([], "required: CHECKPOINT; see --help"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, name: str) -> None:
    scenario = write_small(tmp_path)
    checkpoint(tmp_path / "all", scenario)
    renamed = {n.replace("car_0", "car_9"): x for n, x in read_tensors(tmp_path / "all").items()}
    write_tensors(tmp_path / "other", renamed)
    wide = merge(SMALL, {"learners": {"car_0": {"hidden": [8, 8]}}})
    (tmp_path / "wide.yaml").write_text(yaml.safe_dump(wide))
    cars = [{"name": "car_0", "driver": {"kind": "random"}}]
    scripted = {"name": "scripted", "env": {"cars": cars}}
    (tmp_path / "scripted.yaml").write_text(yaml.safe_dump(scripted))
    arguments, words = MISTAKES[name]
    flags = ["--scenario", "small.yaml", "--command", "make it", "--seed", "5", "--episodes", "1"]
    refused(ship(tmp_path, *flags, *arguments), words)
    assert not (tmp_path / "policies").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--seed", "5"], "--command TEXT is missing: no run's starts.jsonl is above the checkpo"),
        (["--command", "make it"], "--seed N is missing: no run's config.json is above the check"),
    ],
)
def test_a_checkpoint_outside_a_run(tmp_path: Path, given: list[str], words: str) -> None:
    checkpoint(tmp_path / "all", write_small(tmp_path))
    refused(ship(tmp_path, "all", "--scenario", "small.yaml", *given), words)


def refused(result: CompletedProcess[str], words: str) -> None:
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert result.stderr.startswith("ship_policy.py: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
