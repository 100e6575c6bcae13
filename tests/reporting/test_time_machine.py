"""Policies of a run's rounds, driving from the same start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import record
from run_files import keep, write_run
from small import SMALL

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.pages.history import read_history
from f110_fl.reporting.pages.time_machine import (
    Candidate,
    Moment,
    choose,
    moments_of,
    replays,
    thinned,
)
from f110_fl.rundir import RunDir
from f110_fl.training.agents import initial_tensors
from f110_fl.training.evaluation import Evaluator, ModelEvaluator
from f110_fl.training.trajectories import Recorder


def made(path: Path, **changes: Any) -> tuple[Scenario, RunDir]:
    rundir = write_run(path, **changes)
    return read_history(rundir).scenario, rundir


def test_a_policy_drives_as_it_is_evaluated(tmp_path: Path) -> None:
    scenario, rundir = made(tmp_path / "run")
    for number in (1, 2, 3):
        keep(rundir, scenario, number)
    found = replays([(scenario, rundir)])
    assert found.missing is None
    assert found.shown is not None
    assert [moment["label"] for moment in found.shown["rounds"]] == [
        "round 1",
        "round 2",
        "round 3",
    ]
    names = [policy["name"] for policy in found.shown["rounds"][1]["policies"]]
    assert names == ["global", "client 00", "client 01"]
    evaluator = ModelEvaluator(scenario, Evaluator(scenario, 1))
    evaluator.load(initial_tensors(scenario.model_copy(update={"seed": 201})))
    recorder = Recorder()
    (result,) = evaluator.run(recorder)
    episode = found.shown["recording"]["episodes"][4]  # client 00 in round 2
    assert episode["number"] == 4
    assert episode["returns"] == [pytest.approx(result.returns["car_0"])]
    assert episode["ends"][0]["outcome"] == result.outcomes["car_0"]
    assert found.shown["recording"]["lidar"]["angles"] == []


def test_rounds_are_taken_at_equal_steps_within_the_steps_allowed() -> None:
    files = [Candidate(str(k), Path("f"), k) for k in range(9)]
    moments = [Moment(k, f"round {k}", tuple(files)) for k in range(100)]
    few = choose(moments, 10, 33)
    assert [moment.round for moment in few] == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert {len(moment.candidates) for moment in few} == {3}
    assert [moment.round for moment in choose(moments, 10, 2)] == [0, 99]
    assert [moment.round for moment in choose(moments, 10, 0)] == [99]
    assert {len(moment.candidates) for moment in choose(moments[:2], 10, 1000)} == {5}


def test_replicas_have_their_best_and_last_models(tmp_path: Path) -> None:
    _, rundir = made(tmp_path / "run", federated={"enabled": False, "evaluate_on": "none"})
    (rundir.client(1) / "best.safetensors").touch()
    (rundir.client(0) / "state.safetensors").touch()
    scenario = Scenario.model_validate(SMALL | {"federated": {"enabled": False, "clients": 2}})
    best, last = moments_of(scenario, rundir)
    assert (best.label, [c.name for c in best.candidates]) == ("best", ["replica 01"])
    assert (last.label, [c.name for c in last.candidates]) == ("last", ["replica 00"])


def test_files_that_cannot_be_read_are_named_and_left_out(tmp_path: Path) -> None:
    scenario, rundir = made(tmp_path / "run")
    keep(rundir, scenario, 1, clients=1)
    rundir.client_tensors(1, 0).write_bytes(b"half")
    (rundir.root / "round_x").mkdir()
    (rundir.root / "round_x" / "global.safetensors").touch()
    found = replays([(scenario, rundir)])
    assert found.shown is not None
    assert [p["name"] for p in found.shown["rounds"][0]["policies"]] == ["global"]
    assert "client_00.safetensors" in str(found.missing)


def test_a_run_that_kept_none_says_so(tmp_path: Path) -> None:
    found = replays([made(tmp_path / "run")])
    assert found.shown is None
    assert found.missing == "no policy is kept in the run's directory"


def test_runs_drive_side_by_side(tmp_path: Path) -> None:
    runs = [made(tmp_path / name, seed=7) for name in ("one", "two", "other")]
    for k, (scenario, rundir) in enumerate(runs):
        for number in range(1, 4 + k):
            keep(rundir, scenario, number, clients=0)
    longer = runs[2][0].env.model_copy(update={"max_steps": 41})
    runs[2] = (runs[2][0].model_copy(update={"env": longer}), runs[2][1])
    found = replays(runs)
    assert found.shown is not None
    assert [[p["name"] for p in m["policies"]] for m in found.shown["rounds"]] == [
        ["one, round 1", "two, round 1"],
        ["one, round 2", "two, round 3"],
        ["one, round 3", "two, round 4"],
    ]


def test_a_thinned_episode_pays_the_same() -> None:
    episode = record(episodes=2)[0].episodes[1]
    last = len(episode.states) - 1
    few = thinned(episode, 4)
    kept = [*range(0, last, 4), last]
    np.testing.assert_array_equal(few.states, episode.states[kept])
    np.testing.assert_allclose(few.rewards.sum(axis=0), episode.rewards.sum(axis=0))
    np.testing.assert_allclose(few.rewards[1], episode.rewards[1:5].sum(axis=0))
    for end, whole in zip(few.ends, episode.ends, strict=True):
        assert kept[end.frame] >= whole.frame
        assert kept[end.frame - 1] < whole.frame
    same = thinned(episode, 1)
    np.testing.assert_array_equal(same.states, episode.states)
    assert replace(same, states=episode.states).ends == episode.ends
