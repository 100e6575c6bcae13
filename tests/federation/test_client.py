"""The Flower client, called as Flower calls it, on a real simulator and learner."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message, MessageType, RecordDict
from small import SMALL, merge

from clients import client_app
from clients.warm import WarmTrainers
from f110_fl.config.scenario import Scenario
from f110_fl.engines.flower.internals import set_message_id
from f110_fl.federation import sharing
from f110_fl.federation.arrays import to_arrays, to_tensors
from f110_fl.federation.messages import Identity, TrainOrder, TrainReply, identity_query
from f110_fl.federation.versions import Versions
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.rundir import RunDir
from f110_fl.tensors import TensorName, owned, read_tensors
from f110_fl.training.agents import initial_tensors
from f110_fl.training.metrics import summarise
from f110_fl.training.trainer import Trainer

Tensors = dict[str, torch.Tensor]

pytestmark = pytest.mark.usefixtures("flower_task")


def scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate(merge(SMALL, changes))


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_app, "_warm", WarmTrainers())


def cool_down(most: int = 8) -> None:
    """Forget the trainers, as a process does that ends."""
    client_app._warm = WarmTrainers(most)


def call(content: RecordDict, message_type: str, client_id: int = 0, **node_config: Any) -> Message:
    message = Message(content, dst_node_id=99, message_type=message_type)
    set_message_id(message, "m")
    context = Context(
        run_id=1,
        node_id=99,
        node_config={"partition-id": client_id, "num-partitions": 2, **node_config},
        state=RecordDict(),
        run_config={},
    )
    return client_app.app(message, context)


def train(
    chosen: Scenario,
    root: Path,
    server_round: int,
    tensors: Tensors,
    client_id: int = 0,
    **node_config: int,
) -> tuple[Tensors, dict[str, Any]]:
    order = TrainOrder(
        to_arrays(tensors),
        server_round,
        dump_scenario(chosen),
        root=str(root),
        run="run",
        episodes=1,
        proximal_mu=0.0,
    )
    message = call(order.to_content(), MessageType.TRAIN, client_id, **node_config)
    names = summarise((), chosen.federated_agents)
    reply = TrainReply.from_content(message.content, names)
    assert reply.client_id == client_id
    return to_tensors(reply.arrays), dict(reply.metrics)


def networks(tensors: Tensors) -> Tensors:
    return {k: v for k, v in tensors.items() if TensorName.parse(k).kind == "model"}


def moments(tensors: Tensors) -> Tensors:
    return {k: v for k, v in tensors.items() if TensorName.parse(k).kind == "optimizer"}


def saved(root: Path, client_id: int = 0) -> Tensors:
    return read_tensors(RunDir(root).client(client_id) / "state.safetensors")


def same(left: Tensors, right: Tensors) -> bool:
    return set(left) == set(right) and all(torch.equal(left[k], right[k]) for k in left)


def test_a_client_says_who_it_is() -> None:
    reply = call(identity_query(Versions()), MessageType.QUERY, 1)
    assert Identity.from_content(reply.content) == Identity(client_id=1, num_clients=2)


def test_a_client_on_a_machine_of_its_own_says_what_is_installed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And why it will be left out, once and in one line."""
    own = {"root": str(tmp_path), "project": "0.2.0", "schema": "abc"}
    flower = version("flwr")
    for run in (Versions("0.2.0", "abc", flower), Versions("0.1.0", "abc", flower)):
        reply = call(identity_query(run), MessageType.QUERY, 1, **own)
        assert Identity.from_content(reply.content) == Identity(1, 2, "0.2.0", "abc", flower)
    assert [record.getMessage() for record in caplog.records] == [
        "Client 1 is left out of the run: project 0.2.0 here, 0.1.0 in the run; install the same "
        "version on both machines"
    ]


def test_a_round_sends_networks_and_metrics_and_keeps_the_rest(tmp_path: Path) -> None:
    chosen = scenario()
    initial = networks(initial_tensors(chosen))
    sent, metrics = train(chosen, tmp_path, 1, initial)
    assert set(sent) == set(initial)
    assert metrics["train/episodes"] == 1
    assert metrics["evaluate/episodes"] == 1
    state = saved(tmp_path)
    assert all(torch.equal(state[name], sent[name]) for name in sent)
    assert moments(state)
    assert not same(sent, initial)  # 40 steps after 20 of warm-up: it has learnt something


@pytest.mark.parametrize("warm", [True, False])
def test_warm_and_cold_clients_are_byte_equal(tmp_path: Path, warm: bool) -> None:
    chosen = scenario(env={"max_steps": 60})
    reference = tmp_path / "reference"
    root = tmp_path / "root"
    for directory, keep in ((reference, True), (root, warm)):
        cool_down()
        tensors = networks(initial_tensors(chosen))
        for server_round in (1, 2, 3, 4):  # 240 steps wrap the replay of 100
            if not keep:
                cool_down()
            tensors, _ = train(chosen, directory, server_round, tensors)
    assert same(saved(reference), saved(root))
    replay = "clients/00/car_0.replay"
    assert (reference / replay).read_bytes() == (root / replay).read_bytes()


PPO = {"algorithm": "ppo", "rollout_steps": 16, "minibatches": 2, "normalise_observations": True}
LSTM = PPO | {"lstm": {"units": 8, "sequence": 8}}
STAGES = {"agent": "car_0", "window": 1, "patience": 1, "stages": [{"difficulty": 0.5}, {}]}


TD3 = SMALL["learners"]["car_0"]
LEARNERS = {
    "td3": TD3,
    "sac": TD3 | {"algorithm": "sac"},
    "dqn": TD3 | {"algorithm": "dqn"},
    "ppo": PPO,
    "lstm": LSTM,
}


def learning(algorithm: str, **federated: Any) -> Scenario:
    """A scenario with as much as possible that a client has to keep."""
    changes = {"env": {"max_steps": 60}, "curriculum": STAGES, "federated": federated}
    # Settings of one algorithm are none of another.
    learners = {"car_0": LEARNERS[algorithm]}
    return Scenario.model_validate(merge(SMALL, changes) | {"learners": learners})


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_a_client_that_another_process_served_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    chosen = learning(algorithm)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    tensors = networks(initial_tensors(chosen))
    for server_round in (1, 2, 3, 4, 5):
        cool_down()
        train(chosen, alone, server_round, tensors)
    processes = [WarmTrainers(), WarmTrainers()]
    for server_round, process in zip((1, 2, 3, 4, 5), (0, 1, 1, 0, 1), strict=True):
        monkeypatch.setattr(client_app, "_warm", processes[process])
        before = list(processes[process])
        train(chosen, shared, server_round, tensors)
        assert not before or list(processes[process]) == before
    assert same(saved(alone), saved(shared))
    rows = [root / "clients/00/car_0.replay" for root in (alone, shared)]
    if rows[0].exists():
        assert rows[0].read_bytes() == rows[1].read_bytes()


def replays(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(root.glob("clients/*/*.replay"))]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", LEARNERS)
def test_a_client_that_is_opened_in_the_place_of_another_is_no_other(
    tmp_path: Path, algorithm: str
) -> None:
    """With more clients than are kept warm; one trains more often, so they differ in all."""
    chosen = learning(algorithm, clients=3)
    asked = [(1, 0), (1, 1), (1, 2), (2, 0), (3, 0), (2, 1), (4, 0), (2, 2), (3, 1), (5, 0)]
    tensors = networks(initial_tensors(chosen))
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for server_round, client_id in asked:
        cool_down()
        train(chosen, alone, server_round, tensors, client_id)
    cool_down(most=1)
    opened = set()
    for server_round, client_id in asked:
        train(chosen, shared, server_round, tensors, client_id)
        opened |= set(client_app._warm)
    assert len(opened) == 1  # the first client's; all others moved in
    for client_id in range(3):
        assert same(saved(alone, client_id), saved(shared, client_id))
    assert replays(alone) == replays(shared)
    logs = [
        [json.loads(line)["returns"] for line in path.read_text().splitlines()]
        for root in (alone, shared)
        for path in sorted(root.glob("clients/*/episodes.jsonl"))
    ]
    assert logs[:3] == logs[3:]


def test_a_client_with_other_settings_is_opened_anew(tmp_path: Path) -> None:
    chosen = scenario(federated={"vary": {"env.max_steps": [30, 40]}})
    cool_down(most=1)
    tensors = networks(initial_tensors(chosen))
    for server_round in (1, 2):
        for client_id, steps in ((0, 30), (1, 40)):
            train(chosen, tmp_path, server_round, tensors, client_id)
            (trainer,) = client_app._warm
            assert trainer.own.env.max_steps == steps


@pytest.mark.parametrize("moved", [False, True])
def test_a_round_asked_for_again_is_answered_the_same(tmp_path: Path, moved: bool) -> None:
    """From its directory, whether the client is opened anew or in the place of another."""
    chosen = scenario(federated={"clients": 2})
    tensors = networks(initial_tensors(chosen))
    cool_down(most=1)
    first, first_metrics = train(chosen, tmp_path, 1, tensors)
    if moved:
        other, _ = train(chosen, tmp_path, 1, tensors, client_id=1)
        assert not same(first, other)
    else:
        cool_down()
    again, again_metrics = train(chosen, tmp_path, 1, tensors)
    assert same(first, again)
    assert first_metrics == pytest.approx(again_metrics)
    assert Trainer(chosen, 0, RunDir(tmp_path).client(0)).progress.episodes == 1


def test_a_client_that_was_not_drawn_counts_the_rounds_without_it(tmp_path: Path) -> None:
    """As with ``fraction`` below 1: its records name the round in which they were made."""
    chosen = scenario()
    tensors = networks(initial_tensors(chosen))
    train(chosen, tmp_path, 1, tensors)
    sent, metrics = train(chosen, tmp_path, 4, tensors)
    cool_down()
    again, again_metrics = train(chosen, tmp_path, 4, tensors)  # a server asks that was lost
    assert same(sent, again)
    assert metrics == pytest.approx(again_metrics)
    lines = RunDir(tmp_path).episodes(0).read_text().splitlines()
    assert {json.loads(line)["round"] for line in lines} == {1, 4}


def test_an_older_round_is_refused(tmp_path: Path) -> None:
    chosen = scenario()
    tensors = networks(initial_tensors(chosen))
    train(chosen, tmp_path, 1, tensors)
    train(chosen, tmp_path, 2, tensors)
    with pytest.raises(RuntimeError, match="completed round 2, but was asked to train round 1"):
        train(chosen, tmp_path, 1, tensors)


def test_clients_do_not_collect_the_same_episodes(tmp_path: Path) -> None:
    chosen = scenario()
    initial = networks(initial_tensors(chosen))
    first, _ = train(chosen, tmp_path, 1, initial, client_id=0)
    second, _ = train(chosen, tmp_path, 1, initial, client_id=1)
    assert not same(first, second)


# What each slot holds after a sync: 0.25 was the client's own, 0.5 the server's.
SLOTS = {
    "local": {"exp_avg": 0.25, "exp_avg_sq": 0.25, "step": 0.25},
    "average": {"exp_avg": 0.5, "exp_avg_sq": 0.5, "step": 0.5},
    "reset": {"exp_avg": 0.0, "exp_avg_sq": 0.0, "step": 0.0},
    "average_second_moment": {"exp_avg": 0.0, "exp_avg_sq": 0.5, "step": 0.5},
}


@pytest.mark.parametrize("seed", [7, [4, 9], {"base": 5, "step": 2}], ids=str)
def test_a_client_with_the_seed_that_the_scenario_gives_it_is_the_same(
    tmp_path: Path, seed: Any
) -> None:
    vary = {"env.lidar.noise_std": {"low": 0.01, "high": 0.02}}  # drawn by the shared seed
    chosen = scenario(seed=seed, federated={"vary": vary})
    initial = networks(initial_tensors(chosen))
    train(chosen, tmp_path / "simulated", 1, initial, 1)
    train(chosen, tmp_path / "deployed", 1, initial, 1, seed=chosen.client_seed(1))
    train(chosen, tmp_path / "other", 1, initial, 1, seed=1234)
    simulated, deployed, other = (
        saved(tmp_path / name, 1) for name in ("simulated", "deployed", "other")
    )
    assert same(simulated, deployed)
    assert not same(simulated, other)
    trainers = list(client_app._warm)
    assert len({trainer.scenario.shared_seed for trainer in trainers}) == 1
    assert len({trainer.own.env.lidar.noise_std for trainer in trainers}) == 1


@pytest.mark.parametrize("strategy", SLOTS)
def test_optimizer_strategies(tmp_path: Path, strategy: str) -> None:
    """After round 1 the client's moments are replaced, zeroed or left, as asked."""
    chosen = scenario(
        federated={"optimizer_strategy": strategy},
        learners={"car_0": {"warmup_steps": 10_000}},  # no update: what is loaded stays
    )
    trainer = Trainer(chosen, 0, RunDir(tmp_path).client(0))
    own = {name: torch.full_like(t, 0.25) for name, t in moments(trainer.shared_tensors()).items()}
    trainer.load_shared(own)
    trainer.progress.round = 1
    trainer.save()
    initial = initial_tensors(chosen)
    names = sharing.averaged_names(initial, chosen)
    averaged = {name: torch.full_like(initial[name], 0.5) for name in names}
    sent, _ = train(chosen, tmp_path, 2, averaged)
    after = moments(saved(tmp_path))
    assert after
    for name, tensor in after.items():
        expected = SLOTS[strategy][TensorName.parse(name).slot]
        assert torch.equal(tensor, torch.full_like(tensor, expected))
    slots = {TensorName.parse(name).slot for name in moments(sent)}
    assert slots == {slot for slot, value in SLOTS[strategy].items() if value == 0.5}
    model = owned(saved(tmp_path), "car_0", "model")
    assert any(TensorName.of_learner(name).network == "actor_target" for name in model)
    assert all(torch.equal(t, torch.full_like(t, 0.5)) for t in model.values())


def test_local_privacy_clips_and_adds_noise_to_what_is_sent(tmp_path: Path) -> None:
    privacy = {"kind": "local", "clipping_norm": 1e-3, "sensitivity": 1e-9, "epsilon": 1.0}
    chosen = scenario(federated={"privacy": privacy})
    initial = networks(initial_tensors(chosen))
    sent, _ = train(chosen, tmp_path, 1, initial)
    kept = saved(tmp_path)
    length = sum(float((sent[k] - initial[k]).double().square().sum()) for k in initial) ** 0.5
    assert length == pytest.approx(1e-3, rel=0.01)
    assert any(not torch.equal(kept[name], sent[name]) for name in sent)
    again, _ = train(chosen, tmp_path, 1, initial)  # as after a restart of the server
    assert all(torch.equal(sent[name], again[name]) for name in sent)
    key = RunDir(tmp_path).client(0) / "privacy.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.unlink()
    with pytest.raises(Exception, match=r"privacy\.key: is gone"):
        train(chosen, tmp_path, 2, initial)


def test_a_killed_round_leaves_the_last_state(tmp_path: Path) -> None:
    chosen = scenario()
    tensors = networks(initial_tensors(chosen))
    train(chosen, tmp_path, 1, tensors)
    train(chosen, tmp_path, 2, tensors)
    expected = saved(tmp_path)
    trainer = Trainer(chosen, 0, RunDir(tmp_path).client(0))
    trainer.train(1)  # and is never saved
    reopened = Trainer(chosen, 0, RunDir(tmp_path).client(0))
    reopened.save()
    assert same(saved(tmp_path), expected)
    lines = (RunDir(tmp_path).episodes(0)).read_text().splitlines()
    assert len(lines) == 4  # two episodes with an evaluation each


def test_a_diverged_client_says_who_where_and_what_is_left(tmp_path: Path) -> None:
    chosen = scenario(learners={"car_0": {"warmup_steps": 0, "replay": {"alpha": 0.0}}})
    sent, _ = train(chosen, tmp_path, 1, networks(initial_tensors(chosen)))
    state = RunDir(tmp_path).client(0) / "state.safetensors"
    before, name = state.read_bytes(), "car_0/model/critic/weights.0"
    sent[name] = torch.full_like(sent[name], torch.nan)
    with pytest.raises(Exception, match="learning diverged") as caught:
        train(chosen, tmp_path, 2, sent)
    assert str(caught.value) == (
        "learning diverged: car_0: model/critic/weights.0 is not finite at step 41, update 40; "
        f"last good checkpoint: {state}, after 1 episodes"
    )
    assert state.read_bytes() == before


def test_a_failed_round_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    chosen = scenario()
    tensors = networks(initial_tensors(chosen))
    reference, root = tmp_path / "reference", tmp_path / "root"
    for directory in (reference, root):
        train(chosen, directory, 1, tensors)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_evaluate", fail)  # after the training episode
        with pytest.raises(Exception, match="no space left"):
            train(chosen, root, 2, tensors)
    assert same(train(chosen, root, 2, tensors)[0], train(chosen, reference, 2, tensors)[0])
    assert same(saved(root), saved(reference))
