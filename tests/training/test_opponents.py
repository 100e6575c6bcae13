"""Earlier selves as opponents: who drives, who learns from it, which are drawn, what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL, merge

from f110_fl.config.opponents import OpponentsConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.common import BaseLearner
from f110_fl.rundir import RunDir
from f110_fl.runs import preflight
from f110_fl.runs.plan import RunPlan
from f110_fl.tensors import read_tensors, unprefixed
from f110_fl.training.metrics import summarise
from f110_fl.training.opponents import Pool, Snapshot
from f110_fl.training.records import EpisodeRecord
from f110_fl.training.trainer import Trainer
from sim.policy import PolicyFormat

TD3 = SMALL["learners"]["car_0"]
EVADE = {"name": "car_1", "reverse": False, "task": {"kind": "evade", "target": "car_0"}}
OPPONENTS = {"every": 2, "keep": 3, "fraction": 0.5}
DUEL = merge(
    SMALL,
    {
        "env": {"cars": [SMALL["env"]["cars"][0], EVADE], "max_steps": 30},
        "learners": {"car_0": {**TD3, "opponents": OPPONENTS}, "car_1": TD3},
        "collect": {"num_envs": 3},
        "evaluation": {"episodes": 0},
    },
)
FORM = PolicyFormat(layers=(("w", "b"),), activation="relu", output="tanh")


def duel(**changes: Any) -> Scenario:
    return Scenario.model_validate(merge(DUEL, changes))


def opponents(agent: str = "car_0", **changes: Any) -> Scenario:
    return duel(learners={agent: {"opponents": {**OPPONENTS, **changes}}})


def steps_of(trainer: Trainer, agent: str) -> int:
    learner = trainer.learners[agent]
    assert isinstance(learner, BaseLearner)
    return learner.steps


def steps_driven(records: list[EpisodeRecord], agent: str) -> int:
    return sum(r.result.steps for r in records if agent not in r.result.snapshots)


# The pool


def pool(**settings: Any) -> Pool:
    return Pool(OpponentsConfig.model_validate(settings), FORM)


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((2, 3), value), "b": torch.zeros(2), "other": torch.zeros(1)}


def test_a_snapshot_is_taken_every_so_many_episodes_and_the_latest_are_kept() -> None:
    found = pool(every=10, keep=3)
    for episode in range(52):
        if found.due(episode):
            found.add(episode, weights(float(episode)))
    assert [snapshot.episode for snapshot in found.snapshots] == [30, 40, 50]
    assert [float(snapshot.tensors["w"][0, 0]) for snapshot in found.snapshots] == [30, 40, 50]


def test_an_empty_pool_takes_what_there_is() -> None:
    found = pool(every=10)
    assert found.due(7)
    found.add(7, weights(0.0))
    assert not found.due(8)


def test_the_success_rate_follows_the_latest_hundred_episodes_or_so() -> None:
    snapshot = Snapshot(0, FORM, weights(0.0))
    assert snapshot.success_rate == 0.5
    snapshot.count(won=True)
    assert snapshot.success_rate == pytest.approx(2 / 3)
    for _ in range(1000):
        snapshot.count(won=True)
    assert 0.98 < snapshot.success_rate < 1.0  # it is still drawn now and then
    for _ in range(200):
        snapshot.count(won=False)
    assert snapshot.success_rate < 0.2


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_draws_are_proportional_to_a_power_of_the_failure_rate(power: float) -> None:
    found = pool(every=1, power=power)
    for episode in range(3):
        found.add(episode, weights(0.0))
    for k, snapshot in enumerate(found.snapshots):
        for _ in range(40):
            snapshot.count(won=k == 2)
        for _ in range(40 * k):
            snapshot.count(won=True)
    expected = np.array([1 - snapshot.success_rate for snapshot in found.snapshots]) ** power
    rng = np.random.default_rng(0)
    drawn = [found.draw(rng).episode for _ in range(5000)]
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.03)
    assert (shares[0] > 2 * shares[2]) == (power > 0)


def test_a_pool_goes_on_from_its_state() -> None:
    found = pool(every=5, keep=2, power=1.0)
    for episode in range(0, 20, 5):
        found.add(episode, weights(float(episode)))
        found.snapshots[-1].count(won=episode % 3 == 0)
    other = pool(every=5, keep=2, power=1.0)
    other.load_state(found.state())
    for left, right in zip(found.snapshots, other.snapshots, strict=True):
        assert (left.episode, left.games, left.wins) == (right.episode, right.games, right.wins)
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    assert [found.draw(a).episode for _ in range(50)] == [other.draw(b).episode for _ in range(50)]
    other.load_state({})
    assert not other.snapshots
    with pytest.raises(ValueError, match="games"):
        other.load_state({k: v for k, v in found.state().items() if k != "games"})


# Training


def test_a_snapshot_drives_as_its_learner_did_without_noise(tmp_path: Path) -> None:
    trainer = Trainer(opponents(every=100), 0, tmp_path)
    learner = trainer.learners["car_1"]
    size = trainer._observation_size
    observations = np.random.default_rng(0).uniform(-1, 1, (5, size)).astype(np.float32)
    envs = np.arange(5)
    before = learner.policy(5).act(observations, envs)
    trainer.train(12)
    assert not np.allclose(learner.policy(5).act(observations, envs), before, atol=1e-4)
    assert trainer._opponents is not None
    (snapshot,) = trainer._opponents._pools["car_0"]["car_1"].snapshots
    actions = np.zeros((5, 2), np.float32)
    for row in range(5):
        snapshot.act(observations, row, actions)
    np.testing.assert_allclose(actions, before, atol=1e-5)


def test_a_car_that_a_snapshot_drives_teaches_its_learner_nothing(tmp_path: Path) -> None:
    trainer = Trainer(opponents(fraction=1.0), 0, tmp_path)
    before = {k: v.clone() for k, v in trainer.learners["car_1"].tensors().items()}
    records = trainer.train(8)
    assert steps_of(trainer, "car_0") == trainer.progress.env_steps
    assert steps_of(trainer, "car_1") == 0
    for name, tensor in trainer.learners["car_1"].tensors().items():
        assert torch.equal(tensor, before[name]), name
    # Three episodes begin at once; snapshots are those of episodes 0, 2, 4 and 6.
    assert all(record.result.snapshots.keys() == {"car_1"} for record in records)
    assert {r.result.snapshots["car_1"] for r in records} <= {0, 2, 4, 6}


def test_both_meet_snapshots_and_learn_from_the_rest(tmp_path: Path) -> None:
    changes = {a: {"opponents": {**OPPONENTS, "fraction": 0.4}} for a in ("car_0", "car_1")}
    trainer = Trainer(duel(learners=changes), 0, tmp_path)
    records = trainer.train(40)
    driven = [tuple(record.result.snapshots) for record in records]
    assert set(driven) == {(), ("car_0",), ("car_1",)}
    for agent in ("car_0", "car_1"):
        assert steps_of(trainer, agent) == steps_driven(records, agent)


@pytest.mark.parametrize(
    "learner",
    [
        {"algorithm": "sac", "warmup_steps": 20, "n_step": 3},
        {"algorithm": "dqn", "warmup_steps": 20, "normalise_observations": True},
        {"algorithm": "ppo", "rollout_steps": 16, "minibatches": 2},
        {"algorithm": "ppo", "rollout_steps": 16, "minibatches": 2, "lstm": {"sequence": 8}},
    ],
    ids=["sac", "dqn", "ppo", "ppo-lstm"],
)
def test_every_algorithm_takes_part(tmp_path: Path, learner: dict[str, Any]) -> None:
    """The one with a memory only meets others: nobody meets its earlier selves."""
    remembers = "lstm" in learner
    settings = {**TD3, **({} if remembers else {"opponents": OPPONENTS})}
    learners = {"car_0": settings, "car_1": {**learner, "opponents": OPPONENTS}}
    trainer = Trainer(Scenario.model_validate({**DUEL, "learners": learners}), 0, tmp_path)
    records = trainer.train(30)
    assert steps_of(trainer, "car_1") == steps_driven(records, "car_1")
    assert any(name.startswith("car_1/") for record in records for name in record.losses)


def comparable(records: list[EpisodeRecord]) -> list[Any]:
    return [
        (r.episode, r.env_steps, r.result.returns, r.result.outcomes, r.result.snapshots, r.losses)
        for r in records
    ]


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_training_goes_on_exactly_from_its_state(tmp_path: Path, power: float) -> None:
    chosen = opponents(power=power)
    straight, stopped = (Trainer(chosen, 0, tmp_path / name) for name in ("a", "b"))
    records = []
    for _ in range(3):
        records += straight.train(6)
        straight.save()
    found = []
    for _ in range(3):
        found += stopped.train(6)
        stopped.save()
        stopped = Trainer(chosen, 0, tmp_path / "b")
    assert comparable(found) == comparable(records)
    a, b = (tmp_path / name / "state.safetensors" for name in ("a", "b"))
    assert a.read_bytes() == b.read_bytes()
    kept = unprefixed("car_0/opponents/car_1", read_tensors(a))
    assert kept["episode"].tolist() == [12, 14, 16]
    assert not any(name.startswith("model/critic") for name in kept)


def test_the_number_of_the_simulators_threads_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # it may round otherwise
    # Several threads set this for the process, and so for those of later tests that it starts.
    monkeypatch.setenv("MKL_CBWR", "AUTO,STRICT")
    states = []
    for threads in (3, 1):
        chosen = opponents(power=1.0).model_copy(update={"threads": threads})
        trainer = Trainer(chosen, 0, tmp_path / str(threads))
        trainer.train(10)
        trainer.save()
        states.append(read_tensors(tmp_path / str(threads) / "state.safetensors"))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_another_client_has_a_pool_of_its_own(tmp_path: Path) -> None:
    chosen = opponents(every=1)
    for client_id in (0, 1):
        trainer = Trainer(chosen, client_id, tmp_path / str(client_id))
        trainer.train(2 + client_id)
        trainer.save()
    trainer.switch_client(0, tmp_path / "0")
    assert trainer._opponents is not None
    assert trainer._opponents.state()["car_0/opponents/car_1/episode"].tolist() == [0, 1]


# What is reported


def test_metrics_of_a_car_are_those_of_the_episodes_that_its_learner_drove(tmp_path: Path) -> None:
    records = Trainer(opponents(), 0, tmp_path).train(12)
    own = [r.result.returns["car_1"] for r in records if "car_1" not in r.result.snapshots]
    assert 0 < len(own) < 12
    found = summarise(records, ["car_0", "car_1"])
    assert found["train/car_1/return"] == pytest.approx(np.mean(own))
    every = [r.result.returns["car_0"] for r in records]
    assert found["train/car_0/return"] == pytest.approx(np.mean(every))
    line = next(record for record in records if record.result.snapshots)
    assert EpisodeRecord.from_json(line.to_json()) == line


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {a: {"opponents": {"fraction": 0.6}} for a in ("car_0", "car_1")},
            "learners.car_0.opponents.fraction and learners.car_1.opponents.fraction add up to 1.2;"
            " allowed: at most 1",
        ),
        ({"car_1": {"opponents": {"fraction": 0.0}}}, "greater than 0"),
        ({"car_1": {"opponents": {"keep": 0}}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        duel(learners=changes)


def test_a_single_learner_has_nobody_to_meet() -> None:
    with pytest.raises(ValueError, match=r"learners.car_0.opponents: there is no other learner"):
        Scenario.model_validate(merge(SMALL, {"learners": {"car_0": {"opponents": {}}}}))


def test_who_remembers_cannot_be_kept(tmp_path: Path) -> None:
    lstm = {"algorithm": "ppo", "rollout_steps": 16, "lstm": {"sequence": 8}}
    learners = {"car_0": {**TD3, "opponents": OPPONENTS}, "car_1": lstm}
    chosen = Scenario.model_validate({**DUEL, "learners": learners})
    message = r"learners.car_0.opponents: no snapshots can be kept of 'car_1'.*allowed: neither"
    with pytest.raises(UserError, match=message):
        preflight.check(RunPlan(chosen, RunDir(tmp_path / "run")))
    with pytest.raises(UserError, match=message):
        Trainer(chosen, 0, tmp_path)
