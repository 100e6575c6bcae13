"""tools/bench_time_to_policy.py: whole runs of a tiny scenario, and its rules on made-up ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from small import REPOSITORY, SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.training.agents import tensors_of
from f110_fl.training.trainer import Trainer

sys.path.insert(0, str(REPOSITORY / "tools"))
import bench_time_to_policy as bench
import parts.bench_time_to_policy_training as timed
from parts.bench_time_to_policy_training import Check, Goal, Interval, Own, time_to_policy

FLAGS = ["--episodes", "3", "--every", "60", "--json"]
NEEDS_PEER = pytest.mark.skipif(
    find_spec("stable_baselines3") is None, reason="stable_baselines3 is not installed"
)


def measure(capsys: pytest.CaptureFixture[str], path: Path, *flags: str) -> dict[str, Any]:
    assert bench.main(["--scenario", str(path), *FLAGS, *flags]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_first_evaluation_is_good_enough_for_threshold_0(
    capsys: pytest.CaptureFixture[str], write_scenario: Callable[..., Path]
) -> None:
    found = measure(capsys, write_scenario(), "--threshold", "0", "--seeds", "1", "2")
    assert (found["scenario"], found["algorithm"], found["episodes"]) == ("small", "td3", 3)
    assert set(found["versions"]) == {"python", "torch", "numpy", "numba", "gymnasium"}
    assert "ratio" not in found
    assert [run["seed"] for run in found["runs"]["ours"]] == [1, 2]
    for run in found["runs"]["ours"]:
        assert run["reached"]
        assert run["steps"] == 60
        (only,) = run["evaluations"]
        assert only == {k: run[k] for k in ("seconds", "cpu_seconds", "steps", "success")}
    summary = found["summary"]["ours"]
    assert (summary["reached"], summary["runs"]) == (2, 2)
    assert summary["steps"] == {"median": 60, "range": [60, 60]}
    seconds = sorted(run["seconds"] for run in found["runs"]["ours"])
    assert summary["seconds"] == {"median": pytest.approx(sum(seconds) / 2), "range": seconds}


def test_a_threshold_out_of_reach_is_given_up_at_the_limit(
    capsys: pytest.CaptureFixture[str], write_scenario: Callable[..., Path]
) -> None:
    flags = ["--threshold", "1", "--seeds", "1", "--limit", "0.5"]
    found = measure(capsys, write_scenario(), *flags)
    (run,) = found["runs"]["ours"]
    assert not run["reached"]
    assert run["seconds"] >= 0.5
    assert run["evaluations"][-1]["steps"] == run["steps"]
    steps = [evaluation["steps"] for evaluation in run["evaluations"][:-1]]
    assert steps == [60 * (1 + k) for k in range(len(steps))]
    assert found["summary"]["ours"]["seconds"] == {"median": None, "range": None}


@NEEDS_PEER
@pytest.mark.parametrize("algorithm", ["td3", "sac", "dqn", "ppo"])
def test_peers_take_turns_with_ours(
    capsys: pytest.CaptureFixture[str], write_scenario: Callable[..., Path], algorithm: str
) -> None:
    learner: dict[str, Any] = {"algorithm": algorithm}
    if algorithm == "ppo":
        learner |= {"rollout_steps": 20, "minibatches": 2}
    else:
        learner |= {"hidden": [8], "warmup_steps": 20, "replay": {"capacity": 100, "alpha": 0.6}}
    text = json.dumps(learner)
    flags = ["--set", f"learners.car_0={text}", "--set", "collect.num_envs=2", "--peer"]
    path = write_scenario()
    assert bench.main(["--scenario", str(path), *FLAGS, "--threshold", "0", *flags]) == 0
    out, err = capsys.readouterr()
    names = ["ours", "peer_defaults", "peer_our_settings"]
    assert [row.split()[0] for row in err.splitlines() if " seed " in row] == names * 3
    found = json.loads(out)
    assert list(found["runs"]) == names
    assert all(run["steps"] == 60 for runs in found["runs"].values() for run in runs)
    assert found["versions"].keys() >= {"stable-baselines3"}
    priorities = ["learners.car_0.replay.alpha"]
    extensions = ["learners.car_0.double", "learners.car_0.duelling"]
    expected = {"ppo": [], "dqn": extensions + priorities}.get(algorithm, priorities)
    assert found["left_out"] == expected
    for name, ratio in found["ratio"].items():
        assert ratio["steps"] == 1.0
        assert not ratio["lower_bound"]
        of, own = (found["summary"][n]["seconds"]["median"] for n in (name, "ours"))
        assert ratio["seconds"] == pytest.approx(of / own, abs=1e-3)


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threshold", "1.5"], "--threshold: a success rate, 0 to 1, found 1.5"),
        (["--threshold", "nan"], "--threshold: a success rate, 0 to 1, found nan"),
        (["--episodes", "0"], "--episodes must be positive, found 0"),
        (["--limit", "0"], "--limit must be positive, found 0.0"),
        (["--seeds", "1", "-2"], "--seeds: from 0 to below 2^63, found -2"),
        (["--every", "soon"], "--every: found 'soon'; allowed: seconds, as 10s, or steps"),
        (["--every", "0s"], "--every: found '0s'"),
        (["--set", "learners.car_0.nothing=1"], "unknown key"),
        (["--scenario", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--scenario", "scenarios/duel_td3.yaml"], "one learner is needed, found car_0, car_1"),
        (["--scenario", "scenarios/lap_pure_pursuit.yaml"], "one learner is needed, found none"),
        (["--set", "env.track={kind: map, file: nowhere.yaml}"], "nowhere.yaml"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_scenario: Callable[..., Path],
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(REPOSITORY)
    path = write_scenario()
    assert bench.main(["--scenario", str(path), "--threshold", "0.5", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_without_the_peer_there_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_scenario: Callable[..., Path],
) -> None:
    for name in ("parts.stable_baselines_peer", "parts.stable_baselines_settings"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    flags = ["--scenario", str(write_scenario()), "--threshold", "0", "--peer"]
    assert bench.main(flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bench_time_to_policy.py: --peer: Stable-Baselines3 cannot be imported")
    assert len(err.splitlines()) == 1


# ------------------------------------------------------------------ the rules


class MadeUp:
    """Trains ten steps in a second, and takes 7 s to be evaluated, on clocks of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rates: list[float]) -> None:
        self.now, self.rates = 0.0, iter(rates)
        monkeypatch.setattr(timed, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timed, "process_time", lambda: self.now / 2)

    def policy(self, num_envs: int) -> Any:
        raise NotImplementedError

    def run(self, check: Check) -> None:
        steps, on = 0, True
        while on:
            steps, self.now = steps + 10, self.now + 1.0
            on = check(steps)

    def evaluate(self, _: object) -> float:
        self.now += 7.0
        return next(self.rates)


@pytest.mark.parametrize("every", [Interval(3.0, timed=True), Interval(30, timed=False)])
def test_evaluations_are_not_timed_and_the_first_good_one_ends_the_training(
    monkeypatch: pytest.MonkeyPatch, every: Interval
) -> None:
    made_up = MadeUp(monkeypatch, [0.1, 0.89, 0.9, 1.0])
    found = time_to_policy(made_up, Goal(0.9, every, 100.0), made_up.evaluate)
    evaluations = found.pop("evaluations")
    assert found == {
        "reached": True,
        "seconds": 9.0,
        "cpu_seconds": 4.5,
        "steps": 90,
        "success": 0.9,
        "evaluation_seconds": 21.0,
    }
    assert [(e["seconds"], e["steps"], e["success"]) for e in evaluations] == [
        (3.0, 30, 0.1),
        (6.0, 60, 0.89),
        (9.0, 90, 0.9),
    ]


@pytest.mark.parametrize(("last", "reached"), [(0.5, False), (0.9, True)])
def test_the_last_evaluation_is_at_the_limit(
    monkeypatch: pytest.MonkeyPatch, last: float, reached: bool
) -> None:
    made_up = MadeUp(monkeypatch, [0.1, last])
    found = time_to_policy(made_up, Goal(0.9, Interval(3.0, timed=True), 5.0), made_up.evaluate)
    assert (found["reached"], found["seconds"], found["steps"]) == (reached, 5.0, 50)


def test_the_clock_may_be_that_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = MadeUp(monkeypatch, [0.1, 0.2, 0.3])
    goal = Goal(0.9, Interval(2.0, timed=True), 5.0, cpu=True)  # 4 s and 10 s by the wall clock
    found = time_to_policy(made_up, goal, made_up.evaluate)
    assert [e["seconds"] for e in found["evaluations"]] == [4.0, 8.0, 10.0]
    assert [e["cpu_seconds"] for e in found["evaluations"]] == [2.0, 4.0, 5.0]


def made_up_runs(*steps: float, reached: str) -> list[dict[str, Any]]:
    letters = [letter == "y" for letter in reached]
    return [
        {"reached": r, "seconds": s / 10, "cpu_seconds": s / 20, "steps": s}
        for s, r in zip(steps, letters, strict=True)
    ]


def test_trainings_that_did_not_arrive_are_infinitely_long_in_medians() -> None:
    most = bench.summarise(made_up_runs(300, 100, 900, reached="yyn"))
    assert (most["reached"], most["runs"]) == (2, 3)
    assert most["steps"] == {"median": 300, "range": [100, 300]}
    few = bench.summarise(made_up_runs(300, 900, 900, reached="ynn"))
    assert few["seconds"] == {"median": None, "range": [30.0, 30.0]}


def test_ratios_are_of_medians_or_a_lower_bound() -> None:
    own = made_up_runs(100, 200, 300, reached="yyy")
    theirs = made_up_runs(400, 500, 900, reached="yyn")
    exact = bench.ratios(own, theirs)
    assert exact == {"lower_bound": False, "seconds": 2.5, "cpu_seconds": 2.5, "steps": 2.5}
    given_up = made_up_runs(100, 800, 900, reached="ynn")
    assert bench.ratios(own, given_up) == {"lower_bound": True} | dict.fromkeys(bench.MEASURES, 4.0)
    nothing = bench.ratios(given_up, theirs)
    assert nothing == {"lower_bound": False} | dict.fromkeys(bench.MEASURES)


CURRICULUM = {
    "agent": "car_0",
    "window": 1,
    "patience": 1,
    "raise_above": 0.0,
    "lower_below": 0.0,
    "stages": [{"spawn_sets": [1], "difficulty": 0.5}, {"spawn_sets": [0]}],
}


@pytest.mark.parametrize("curriculum", [None, CURRICULUM], ids=["plain", "curriculum"])
def test_ours_is_what_a_client_trains(tmp_path: Path, curriculum: dict[str, Any] | None) -> None:
    changes = {"curriculum": curriculum, "seed": 3, "evaluation": {"episodes": 0}}
    changes |= {"checkpoint_every": 3, "collect": {"num_envs": 2}}
    scenario = Scenario.model_validate(merge(SMALL, changes))
    trainer = Trainer(scenario, 0, tmp_path)
    for _ in range(3):  # as run.py does, which saves in between
        trainer.train(3)
    own = Own(scenario)
    own.run(lambda steps: steps < trainer.progress.env_steps)
    ours, theirs = tensors_of({"car_0": own.learner}), tensors_of(trainer.learners)
    assert trainer.progress.env_steps > 40
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
