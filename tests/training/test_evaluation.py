"""Evaluation: rates with intervals, scores, trajectories, and ``--mode eval`` as users run it."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from programs import call
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.evaluation.statistics import wilson_interval
from f110_fl.tensors import read_tensors
from f110_fl.training.checkpoint import load_models
from f110_fl.training.evaluation import Evaluator
from f110_fl.training.metrics import improved, report, score
from f110_fl.training.records import EpisodeRecord, EpisodeResult
from f110_fl.training.trainer import Trainer
from f110_fl.training.trajectories import Recorder
from run import main
from sim.layout import V, X


def episode(outcome: str, value: float, laps: list[float]) -> EpisodeResult:
    return EpisodeResult(10, 1.0, {"a": value}, {"a": outcome}, {"a": laps})


def test_wilson_by_the_textbook() -> None:
    # The interval's ends solve |p - rate| = z sqrt(p (1 - p) / n).
    for successes, trials in ((0, 10), (3, 10), (95, 100), (200, 200)):
        for end in wilson_interval(successes, trials):
            distance = abs(end - successes / trials)
            expected = 1.959964 * (end * (1 - end) / trials) ** 0.5
            assert distance == pytest.approx(expected, abs=1e-7)


@given(st.integers(1, 500), st.data())
def test_the_interval_holds_the_rate(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1


def test_better_is_greater() -> None:
    good = [episode("success", 1.0, [9.0]), episode("success", 3.0, [11.0])]
    half = [episode("success", 9.0, [8.0]), episode("crash", 9.0, [])]
    assert score(good, ["a"], "success_rate") == (1.0, 2.0)
    assert score(half, ["a"], "success_rate") == (0.5, 9.0)
    assert score(half, ["a"], "return") == (9.0,)
    low, _ = wilson_interval(2, 2)
    assert score(good, ["a"], "lap_time") == (1.0, low, -10.0, 2.0)
    assert improved((0.5, 1.0), (0.5, 0.0)).kept
    assert improved((3.0,), ()).kept
    choice = improved((2.0,), (3.0,))
    assert (choice.kept, choice.score) == (False, (3.0,))


def laps(completed: int, seconds: float, trials: int = 40) -> tuple[float, ...]:
    """The score by lap time of an evaluation that completes a lap in so many episodes."""
    own = [episode("success", 1.0, [seconds])] * completed
    return score(own + [episode("crash", 0.0, [])] * (trials - completed), ["a"], "lap_time")


@pytest.mark.parametrize(
    ("found", "best", "kept"),
    [
        (laps(39, 8.0), laps(40, 9.0), True),  # one crash more, and faster
        (laps(39, 9.5), laps(40, 9.0), False),
        (laps(30, 5.0), laps(40, 9.0), False),  # faster, but it crashes
        (laps(40, 9.0), laps(30, 5.0), True),
        (laps(1, 9.0), laps(0, 0.0), True),
        (laps(0, 0.0), laps(1, 9.0), False),
        (laps(40, 9.0), (0.0, -8.0, 1.0), True),  # of another version of this program
    ],
)
def test_of_policies_that_complete_as_much_the_faster_is_best(
    found: tuple[float, ...], best: tuple[float, ...], kept: bool
) -> None:
    choice = improved(found, best)
    assert choice.kept == kept
    assert choice.why


def test_shares_do_not_fall_step_by_step() -> None:
    best: tuple[float, ...] = ()
    shares = []
    for step, completed in enumerate(range(40, 20, -2)):
        best = improved(laps(completed, 9.0 - 0.1 * step), best).score
        shares.append(best[0])
    assert min(shares) >= wilson_interval(40, 40)[0]
    assert shares[1] < shares[0]


def test_a_report_by_hand() -> None:
    found = report(
        [
            episode("success", 1.0, [9.0, 10.0]),
            episode("time_limit", 3.0, []),
            episode("success", 2.0, [11.0]),
        ],
        ["a"],
    )["a"]
    outcomes: Any = found["outcomes"]
    assert {name: rate["count"] for name, rate in outcomes.items()} == {
        "success": 2, "finished": 0, "crash": 0, "time_limit": 1
    }  # fmt: skip
    assert outcomes["success"]["rate"] == pytest.approx(2 / 3)
    assert found["return"] == {"mean": pytest.approx(2.0), "sd": pytest.approx((2 / 3) ** 0.5)}
    assert found["lap_time"]["mean"] == 10.0  # type: ignore[index]
    assert found["laps"] == 3


class _Straight:
    """Full speed ahead."""

    def reset(self, envs: np.ndarray) -> None:
        pass

    def act(self, _: np.ndarray, envs: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([0.0, 1.0]), (len(envs), 1))


def test_trajectories_are_the_simulators(tmp_path: Path) -> None:
    scenario = Scenario.model_validate(SMALL)
    evaluator, recorder = Evaluator(scenario, 3), Recorder()
    found = evaluator.run({"car_0": lambda _: _Straight()}, recorder)
    recorder.save(tmp_path / "t.npz", evaluator.race)
    with np.load(tmp_path / "t.npz", allow_pickle=False) as data:
        first, states, period = data["first"], data["states"], float(data["period"])
        assert data["cars"].tolist() == ["car_0", "car_1"]
        assert data["columns"][V] == "v"
    assert period == 0.01
    for number, one in enumerate(found):
        own = states[first[number] : first[number + 1]]
        assert len(own) == one.steps + 1
        assert np.all(own[0, :, V] == 0)  # at rest
        middle = (own[1:, 0, V] + own[:-1, 0, V]) / 2  # trapezoids: it drives along x
        np.testing.assert_allclose(np.diff(own[:, 0, X]), middle * period, atol=1e-5)


def test_evaluations_compare() -> None:
    """The same policy, evaluated twice, does the same."""
    scenario = Scenario.model_validate(SMALL)
    evaluator = Evaluator(scenario, 4)
    runs = [evaluator.run({"car_0": lambda _: _Straight()}) for _ in range(2)]
    assert [e.returns for e in runs[0]] == [e.returns for e in runs[1]]
    assert [e.steps for e in runs[0]] == [e.steps for e in runs[1]]


def test_a_part_of_an_evaluation_is_as_in_the_whole() -> None:
    scenario = Scenario.model_validate(SMALL)
    straight = {"car_0": lambda _: _Straight()}
    recorder = Recorder()
    whole = Evaluator(scenario, 5).run(straight)
    evaluator = Evaluator(scenario, 5)
    parts = [evaluator.run(straight, recorder, slice(*bounds)) for bounds in ((0, 3), (3, 5))]
    assert [e.returns for part in parts for e in part] == [e.returns for e in whole]


def test_the_best_models_are_kept(tmp_path: Path) -> None:
    """They are those of the evaluation with the highest score, not the last ones."""
    scenario = Scenario.model_validate(
        merge(SMALL, {"episodes": 6, "evaluation": {"every": 2, "episodes": 2, "best": "return"}})
    )
    trainer = Trainer(scenario, 0, tmp_path)
    kept: dict[float, bytes] = {}
    for _ in range(3):
        records: list[EpisodeRecord] = trainer.train(2)
        value = np.mean([r.result.returns["car_0"] for r in records if r.kind == "evaluate"])
        kept.setdefault(float(value), (tmp_path / "best.safetensors").read_bytes())
    assert (tmp_path / "best.safetensors").read_bytes() == kept[max(kept)]
    assert trainer.progress.best == (max(kept),)
    trainer.save()
    assert Trainer(scenario, 0, tmp_path).progress.best == (max(kept),)


run = partial(call, main)


def terms(page: Path) -> list[str]:
    """The names of the reward terms that a replay shows."""
    found = re.search('id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    names: list[str] = json.loads(found[1])["recordings"][0]["terms"]
    return names


@pytest.mark.slow
def test_eval_mode_reports_what_a_checkpoint_does(tmp_path: Path) -> None:
    changes = {"federated": {"root": str(tmp_path / "run")}}
    scenario = Scenario.model_validate(merge(SMALL, changes))
    trainer = Trainer(scenario, 0, tmp_path / "client")
    trainer.train(1)
    trainer.save()
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(merge(SMALL, changes)))
    best = str(tmp_path / "client" / "best.safetensors")
    flags = "--scenario", str(file), "--mode", "eval", "--eval-episodes", "5"
    process = run(tmp_path, *flags, "--checkpoint", best)
    assert process.returncode == 0, process.stderr
    document = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert set(document["cars"]) == {"car_0", "car_1"}
    learner = trainer.learners["car_0"]
    found = Evaluator(scenario, 5).run({"car_0": learner.policy})
    expected = float(np.mean([one.returns["car_0"] for one in found]))
    assert document["cars"]["car_0"]["return"]["mean"] == pytest.approx(expected)
    assert "car_0" in process.stderr
    ends = ("success", "crash", "truncation", "idle_limit", "idle")
    assert terms(tmp_path / "run" / "replay.html") == [f"{end}_reward" for end in ends]


@pytest.mark.slow
def test_eval_mode_without_learners(tmp_path: Path) -> None:
    scenario = {
        "name": "follow",
        "env": {
            "track": {"kind": "oval"},
            "max_steps": 600,
            "physics_steps_per_action": 5,
            "spawn": {"kind": "random"},
            "cars": [{"name": "car_0", "driver": {"kind": "pure_pursuit"}}],
        },
        "evaluation": {"episodes": 2},
        "federated": {"root": str(tmp_path / "run")},
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(scenario))
    refused = run(tmp_path, "--scenario", "s.yaml")
    assert refused.returncode == 2
    assert refused.stderr == "run.py: s.yaml: nothing learns; allowed: --mode eval\n"
    wrong = run(tmp_path, "--scenario", "s.yaml", "--mode", "eval", "--replay", "all")
    assert wrong.stderr == "run.py: --replay='all': allowed: a whole number from 0\n"
    process = run(tmp_path, "--scenario", "s.yaml", "--mode", "eval", "--replay", "0")
    assert process.returncode == 0, process.stderr
    assert not (tmp_path / "run" / "replay.html").exists()
    document = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert document["cars"]["car_0"]["laps"] == 2
    assert document["cars"]["car_0"]["outcomes"]["crash"]["count"] == 0
    flags = "--scenario", "s.yaml", "--mode", "eval", "--replay", "0", "--until"
    enough = run(tmp_path, *flags, "0.2", "--eval-episodes", "90", "--set", "federated.root=many")
    early = json.loads((tmp_path / "many" / "evaluation.json").read_text())
    finished = early["cars"]["car_0"]["outcomes"]["finished"]
    half = (finished["high"] - finished["low"]) / 2
    assert early["until"]["half_width"] == pytest.approx(half)
    assert early["cars"]["car_0"]["episodes"] == early["until"]["trials"] == 64
    assert f"Episodes        64: finishing within ±{half:.2%}\n" in enough.stderr
    short = run(tmp_path, *flags, "0.05", "--set", "federated.root=few")
    assert "Episodes        2: finishing within ±" in short.stderr
    assert "; for ±5.00% about --eval-episodes " in short.stderr
    again = run(tmp_path, "--scenario", "s.yaml", "--mode", "eval")  # would overwrite it
    used = f"{tmp_path / 'run'} already holds evaluation.json; choose another with FED_ROOT"
    assert (again.returncode, again.stderr) == (2, f"run.py: {used}\n")
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text()) == document


def test_a_checkpoint_that_does_not_fit(tmp_path: Path) -> None:
    scenario = Scenario.model_validate(SMALL)
    trainer = Trainer(scenario, 0, tmp_path / "a")
    trainer.save()
    path = tmp_path / "a" / "state.safetensors"
    tensors = read_tensors(path)
    learner = trainer.learners["car_0"]
    load_models(learner, "car_0", tensors, path)
    actors = {k: v for k, v in tensors.items() if k.startswith("car_0/model/actor/")}
    load_models(learner, "car_0", actors, path)  # what a federation that shares actors has
    with pytest.raises(UserError, match=r"no model of 'car_1'; found: car_0"):
        load_models(learner, "car_1", tensors, path)
    critics = {k: v for k, v in tensors.items() if k.startswith("car_0/model/critic/")}
    with pytest.raises(UserError, match=r"lacks 'model/actor/biases.0'.*it has networks critic"):
        load_models(learner, "car_0", critics, path)
    wide = Trainer(
        Scenario.model_validate(merge(SMALL, {"learners": {"car_0": {"hidden": [8, 8]}}})),
        0, tmp_path / "b",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"has shape \(16,\), expected \(8,\)"):
        load_models(wide.learners["car_0"], "car_0", tensors, path)
