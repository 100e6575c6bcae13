"""The server's strategy, with replies built by hand and averages computed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_grid import FakeGrid, sent
from flwr.app import ArrayRecord, ConfigRecord, Error, Message
from strategy_cases import (
    MOMENT,
    NAME,
    NODES,
    RETURN,
    SHAPE,
    answer,
    ask,
    order,
    scenario,
    strategy,
)

from f110_fl.federation.arrays import to_arrays, to_tensors
from f110_fl.federation.messages import ARRAYS, TrainReply
from f110_fl.loading.scenarios import parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.tensors import read_tensors
from f110_fl.training.metrics import summarise
from server.averaging import RunningAverage
from server.registry import ClientRegistry
from server.rounds import RoundRecorder
from server.strategy import FederatedStrategy
from server.validation import ENV_STEPS

pytestmark = pytest.mark.usefixtures("flower_task")


def average(server: FederatedStrategy, replies: Iterable[Message]) -> np.ndarray:
    arrays, _ = server.aggregate_train(1, replies)
    assert arrays is not None
    return arrays[NAME].numpy()


def test_every_client_is_asked_once_in_order_of_its_id(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    asked = ask(server, 2)
    assert list(asked) == [0, 1, 2]
    told = order(asked[1])
    assert (told.server_round, told.episodes, told.proximal_mu) == (2, 1, 0.0)
    assert told.root == str(tmp_path)
    assert parse_resolved(told.scenario) == server.scenario


def test_the_last_round_trains_what_is_left(tmp_path: Path) -> None:
    server = strategy(tmp_path, round_interval=2)  # 5 episodes: 2, 2, 1
    assert [order(ask(server, r)[0]).episodes for r in (1, 2, 3)] == [2, 2, 1]
    assert server.scenario.rounds == 3


@pytest.mark.parametrize(
    ("federated", "expected"),
    [
        ({"weighting": "equal"}, (1 + 2 + 6) / 3),
        ({"weighting": "env_steps"}, (1 * 10 + 2 * 30 + 6 * 60) / 100),
        ({"weighting": [1, 1, 2]}, (1 + 2 + 12) / 4),
    ],
)
def test_weighting(tmp_path: Path, federated: dict[str, Any], expected: float) -> None:
    server = strategy(tmp_path, **federated)
    asked = ask(server)
    replies = [answer(asked[0], 1, 10), answer(asked[1], 2, 30), answer(asked[2], 6, 60)]
    np.testing.assert_allclose(average(server, replies), expected, rtol=1e-6)


def test_a_second_reply_and_one_to_nothing_are_ignored(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    asked = ask(server)
    stranger = answer(asked[0], 1e6)
    stranger.metadata.__dict__["_reply_to_message_id"] = "message-of-another-round"
    assert stranger.metadata.reply_to_message_id == "message-of-another-round"
    replies = [answer(asked[k], v) for k, v in ((0, 1), (0, 1e6), (1, 2), (2, 3), (1, 5))]
    assert average(server, [stranger, *replies]) == pytest.approx(2.0)


def test_a_poisoned_update_is_left_out_and_named(tmp_path: Path) -> None:
    """Finite, of the right shape, and far beyond what the others send."""
    server = strategy(tmp_path, clients=5, max_update_ratio=10.0)
    nodes = dict(enumerate(range(5)))
    arrays = to_arrays({NAME: torch.zeros(SHAPE)})
    messages = list(server.configure_train(1, arrays, ConfigRecord(), FakeGrid(nodes)))
    values = [0.1, 0.2, 4.9, 0.3, 0.2]
    replies = []
    for client_id, value in enumerate(values):
        metrics = summarise((), ["car_0"]) | {ENV_STEPS: 10.0}
        reply = TrainReply(to_arrays({NAME: torch.full(SHAPE, value)}), metrics, client_id)
        replies.append(Message(reply.to_content(), reply_to=sent(messages[client_id])))
    assert average(server, replies) == pytest.approx(0.2)
    (line,) = (tmp_path / "rounds.jsonl").read_text().splitlines()
    assert json.loads(line)["clients"] == [0, 1, 3, 4]
    assert "times the round's median, 0.4" in json.loads(line)["dropped"]["2"]
    kept = sorted(path.name for path in RunDir(tmp_path).round(1).glob("client_*"))
    assert kept == [f"client_0{k}.safetensors" for k in (0, 1, 3, 4)]


def test_order_of_replies_does_not_change_a_bit(tmp_path: Path) -> None:
    results = []
    for arrival in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        server = strategy(tmp_path)
        asked = ask(server)
        values = {0: 0.1, 1: 1e-8, 2: 3.3333}
        results.append(average(server, [answer(asked[k], values[k]) for k in arrival]).tobytes())
    assert len(set(results)) == 1


def test_round_files(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    asked = ask(server)
    average(server, [answer(asked[k], k) for k in range(3)])
    rundir = RunDir(tmp_path)
    tensors = read_tensors(rundir.global_tensors(1))
    assert torch.equal(tensors[NAME], torch.full((2, 2), 1.0))
    for client_id in range(3):
        sent = read_tensors(rundir.client_tensors(1, client_id))
        assert torch.equal(sent[NAME], torch.full((2, 2), float(client_id)))
    metrics = json.loads(rundir.metrics(1).read_text())
    assert metrics["metrics"][RETURN] == pytest.approx(1.0)
    assert metrics["by_client"]["02"][RETURN] == 2.0
    (line,) = rundir.rounds.read_text().splitlines()
    assert json.loads(line)["clients"] == [0, 1, 2]


def test_checkpoints_can_be_left_out(tmp_path: Path) -> None:
    server = strategy(tmp_path, checkpoint_after_sync=False)
    asked = ask(server)
    average(server, [answer(asked[k], k) for k in range(3)])
    assert sorted(p.name for p in (tmp_path / "round_00001").iterdir()) == ["metrics.json"]


def test_imposed_tensors_complete_the_global_file(tmp_path: Path) -> None:
    chosen, rundir = scenario(optimizer_strategy="reset"), RunDir(tmp_path)
    recorder = RoundRecorder(chosen, rundir, imposed={MOMENT: torch.zeros(3)})
    server = FederatedStrategy(chosen, ClientRegistry(), recorder)
    asked = ask(server)
    average(server, [answer(asked[k], k) for k in range(3)])
    assert set(read_tensors(rundir.global_tensors(1))) == {NAME, MOMENT}


def test_the_running_average_is_published_and_no_client_starts_from_it(tmp_path: Path) -> None:
    server, rundir = strategy(tmp_path, average_decay=0.6), RunDir(tmp_path)
    names = (NAME, MOMENT)
    # The plain mean of two rounds, since 1/2 is below the decay, then 0.6 of it and 0.4 of 9.
    for number, (value, expected) in enumerate([(1.0, 1.0), (3.0, 2.0), (9.0, 4.8)], 1):
        asked = ask(server, number, names=names)
        replies = [answer(asked[k], value, names=names) for k in range(3)]
        arrays, _ = server.aggregate_train(number, replies)
        assert arrays is not None
        assert set(arrays[NAME].numpy().ravel()) == {value}
        assert rundir.published(number) == rundir.average(number)
        averaged = read_tensors(rundir.average(number))
        assert set(averaged) == {NAME}
        torch.testing.assert_close(averaged[NAME], torch.full(SHAPE, expected))
        evaluated = server.recorder.evaluated(arrays)
        np.testing.assert_array_equal(evaluated[NAME].numpy(), averaged[NAME].numpy())
        assert set(evaluated[MOMENT].numpy().ravel()) == {value}
        assert set(read_tensors(rundir.global_tensors(number))[NAME].ravel().tolist()) == {value}


def test_without_a_decay_the_global_model_is_published(tmp_path: Path) -> None:
    server, rundir = strategy(tmp_path), RunDir(tmp_path)
    asked = ask(server)
    arrays, _ = server.aggregate_train(1, [answer(asked[k], k) for k in range(3)])
    assert arrays is not None
    assert not rundir.average(1).exists()
    assert rundir.published(1) == rundir.global_tensors(1)
    assert server.recorder.evaluated(arrays) is arrays


def test_of_numbers_that_are_not_real_the_last_counts() -> None:
    average = RunningAverage(0.9)
    for number in (1, 2):
        average.update(number, {"a/model/normaliser/count": torch.tensor(10 * number)})
    assert average.tensors["a/model/normaliser/count"].item() == 20


def test_unusable_replies_cost_their_senders_the_round(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    asked = ask(server)
    broken = answer(asked[0], 100.0, names=("car_0/model/actor/other",))
    failed = Message(Error(code=0, reason="out of memory"), reply_to=sent(asked[1]))
    value = average(server, [broken, failed, answer(asked[2], 5.0)])
    np.testing.assert_allclose(value, 5.0)
    dropped = json.loads((tmp_path / "rounds.jsonl").read_text())["dropped"]
    assert set(dropped) == {"0", "1"}
    assert "out of memory" in dropped["1"]


def test_a_clients_error_is_told_without_its_class(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    asked = ask(server)
    reason = "<class 'f110_fl.errors.UserError'>:<'the run's scenario: seed: found 'x' (text)'>"
    failed = Message(Error(code=0, reason=reason), reply_to=sent(asked[1]))
    average(server, [answer(asked[0], 1.0), failed, answer(asked[2], 1.0)])
    dropped = json.loads((tmp_path / "rounds.jsonl").read_text())["dropped"]
    assert dropped == {"1": "the run's scenario: seed: found 'x' (text)"}


def test_bytes_that_are_no_array_cost_their_sender_the_round(tmp_path: Path) -> None:
    """A header is Python source, on which Python's own parser may give up."""
    server = strategy(tmp_path)
    asked = ask(server)
    spoilt = answer(asked[0], 100.0)
    array = spoilt.content.array_records[ARRAYS][NAME]
    array.data = array.data.replace(b"False", b"open(")
    np.testing.assert_allclose(average(server, [spoilt, answer(asked[2], 5.0)]), 5.0)
    dropped = json.loads((tmp_path / "rounds.jsonl").read_text())["dropped"]
    assert dropped["0"] == f"tensor {NAME!r} cannot be read"


@pytest.mark.parametrize("usable", [0, 1])
def test_a_round_with_too_few_usable_replies_fails(tmp_path: Path, usable: int) -> None:
    server = strategy(tmp_path, min_clients=usable + 1)
    asked = ask(server)
    replies = [answer(asked[k], 1.0) for k in range(usable)]
    message = f"round 1: {usable} usable replies, {usable + 1} are needed"
    with pytest.raises(RuntimeError, match=message):
        server.aggregate_train(1, replies)
    assert not (tmp_path / "rounds.jsonl").exists()


def test_too_few_connected_clients_fail_the_round(tmp_path: Path) -> None:
    server = strategy(tmp_path, min_clients=3)
    arrays = to_arrays({NAME: torch.zeros(SHAPE)})
    grid = FakeGrid({17: 0, 333: 1})
    with pytest.raises(RuntimeError, match="round 1: 2 clients are connected, 3 are needed"):
        server.configure_train(1, arrays, ConfigRecord(), grid)


def test_moments_are_averaged_by_weight_whatever_the_strategy(tmp_path: Path) -> None:
    server = strategy(
        tmp_path,
        strategy={"name": "fedmedian"},
        optimizer_strategy="average",
        weighting=[1, 1, 2],
    )
    names = (NAME, MOMENT)
    asked = ask(server, names=names)
    replies = [answer(asked[k], v, names=names) for k, v in ((0, 1.0), (1, 2.0), (2, 9.0))]
    arrays, _ = server.aggregate_train(1, replies)
    assert arrays is not None
    np.testing.assert_allclose(arrays[NAME].numpy(), 2.0)
    np.testing.assert_allclose(arrays[MOMENT].numpy(), (1 + 2 + 18) / 4)


@pytest.mark.parametrize(
    "name",
    ["fedavg", "fedavgm", "fedadam", "fedyogi", "fedmedian", "fedtrimmedavg", "krum", "multikrum"],
)
def test_every_strategy_keeps_names_shapes_and_types(tmp_path: Path, name: str) -> None:
    server = strategy(tmp_path, strategy={"name": name})
    for server_round in (1, 2):
        asked = ask(server, server_round)
        arrays, _ = server.aggregate_train(
            server_round, [answer(asked[k], k + 1.0) for k in range(3)]
        )
        assert arrays is not None
        assert list(arrays) == [NAME]
        assert arrays[NAME].numpy().dtype == np.float32
        assert arrays[NAME].numpy().shape == SHAPE
        assert (tmp_path / f"round_{server_round:05d}" / "client_02.safetensors").exists()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"name": "fedmedian"}, [2.0]),
        ({"name": "krum", "malicious": 0}, [1.0]),  # nearest to its nearest, the first of two
        # From 0 to the mean 11/3 with momentum 1/2: 11/3, then (0 - 11/3)(-1/2) + 11/3 ahead.
        ({"name": "fedavgm", "momentum": 0.5}, [11 / 3, 11 / 3 * 1.5]),
    ],
)
def test_strategies_by_hand(tmp_path: Path, config: dict[str, Any], expected: list[float]) -> None:
    server = strategy(tmp_path, strategy=config)
    for server_round, value in enumerate(expected, 1):
        before = 0.0 if server_round == 1 else expected[server_round - 2]
        arrays = to_arrays({NAME: torch.full(SHAPE, before)})
        asked_for = server.configure_train(server_round, arrays, ConfigRecord(), FakeGrid(NODES))
        asked = {NODES[m.metadata.dst_node_id]: m for m in asked_for}
        replies = [answer(asked[k], v) for k, v in ((0, 1.0), (1, 2.0), (2, 8.0))]
        after, _ = server.aggregate_train(server_round, replies)
        assert after is not None
        np.testing.assert_allclose(after[NAME].numpy(), value, rtol=1e-6)


def test_bulyan_needs_more_clients_than_there_are(tmp_path: Path) -> None:
    server = strategy(tmp_path, strategy={"name": "bulyan", "malicious": 1})
    asked = ask(server)
    with pytest.raises(RuntimeError, match="too few replies for the strategy"):
        server.aggregate_train(1, [answer(asked[k], 1.0) for k in range(3)])


def test_fedprox_tells_clients_its_weight(tmp_path: Path) -> None:
    server = strategy(tmp_path, strategy={"name": "fedprox", "proximal_mu": 0.25})
    assert order(ask(server)[0]).proximal_mu == 0.25


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedadam", "fedyogi"])
def test_a_resumed_server_goes_on_byte_by_byte(tmp_path: Path, name: str) -> None:
    """Three rounds at a stretch equal one round, a restart and two more."""

    def rounds(server: FederatedStrategy, numbers: Iterable[int], arrays: ArrayRecord) -> None:
        for server_round in numbers:
            asked_for = server.configure_train(
                server_round, arrays, ConfigRecord(), FakeGrid(NODES)
            )
            asked = {NODES[m.metadata.dst_node_id]: m for m in asked_for}
            true = server.true_round(server_round)
            replies = [answer(asked[k], 0.3 * true + 0.1 * k) for k in range(3)]
            after, _ = server.aggregate_train(server_round, replies)
            assert after is not None
            arrays = after

    start = to_arrays({NAME: torch.zeros(SHAPE)})
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    chosen: dict[str, Any] = {"strategy": {"name": name}, "average_decay": 0.6}
    rounds(strategy(straight, **chosen), (1, 2, 3), start)
    rounds(strategy(broken, **chosen), (1,), start)
    # The crash came after the commit and before the line was whole.
    lines = (broken / "rounds.jsonl").read_text()
    (broken / "rounds.jsonl").write_text(lines[: len(lines) // 2])
    resumed = strategy(broken, **chosen)
    assert resumed.recorder.resumed_from == 1
    rounds(resumed, (1, 2), resumed.recorder.restore(resumed.aggregation, start))
    for server_round in (1, 2, 3):
        runs = [RunDir(root) for root in (straight, broken)]
        for left, right in (
            [run.global_tensors(server_round) for run in runs],
            [run.average(server_round) for run in runs],
        ):
            assert left.read_bytes() == right.read_bytes()
    numbers = [json.loads(x)["round"] for x in (broken / "rounds.jsonl").read_text().splitlines()]
    assert numbers == [1, 2, 3]


def test_central_privacy_clips_and_adds_noise(tmp_path: Path) -> None:
    """Updates of norm 2 * value are clipped to 1; noise of a known size is on the mean."""
    noise, clients = 2.0, 3
    server = strategy(
        tmp_path,
        privacy={"kind": "central", "clipping_norm": 1.0, "noise_multiplier": noise},
        max_update_ratio=None,
    )
    asked = ask(server)
    arrays, _ = server.aggregate_train(1, [answer(asked[k], 100.0) for k in range(clients)])
    assert arrays is not None
    value = arrays[NAME].numpy()
    assert value.dtype == np.float32
    assert len(set(value.ravel().tolist())) == 4  # all were equal before the noise
    # Without noise each entry were 1/2; six standard deviations of noise / clients.
    assert np.abs(value - 0.5).max() < 6 * noise / clients


def test_partial_participation_is_seeded_and_bounded(tmp_path: Path) -> None:
    def drawn(root: Path) -> list[list[int]]:
        server = strategy(root, fraction=0.67, min_clients=2)
        return [sorted(ask(server, server_round)) for server_round in range(1, 9)]

    first = drawn(tmp_path)
    assert first == drawn(tmp_path)
    assert all(len(clients) == 2 for clients in first)
    assert {client for clients in first for client in clients} == {0, 1, 2}


def test_arrays_survive_the_wire() -> None:
    tensors = {"a/model/x": torch.randn(3, 4), "a/optimizer/x/step": torch.tensor(3.0)}
    record = to_arrays(tensors)
    assert isinstance(record, ArrayRecord)
    back = to_tensors(record)
    assert set(back) == set(tensors)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_an_average_is_of_the_clients_that_evaluated(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    name, count = "evaluate/car_0/return", "evaluate/episodes"

    def recorded(number: int, episodes: tuple[float, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
        replies = []
        messages = sorted(ask(server, number).items())
        for (_, message), evaluated in zip(messages, episodes, strict=True):
            reply = answer(message, 1.0)
            reply.content.metric_records["metrics"][count] = evaluated
            reply.content.metric_records["metrics"][name] = 8.0 * bool(evaluated)
            replies.append(reply)
        average(server, replies)
        line = json.loads(RunDir(tmp_path).rounds.read_text().splitlines()[-1])
        return line["metrics"], json.loads(RunDir(tmp_path).metrics(number).read_text())

    clients = len(ask(server, 1))
    metrics, _ = recorded(1, (0.0,) * clients)
    assert name not in metrics  # absent is not zero
    assert metrics[count] == 0
    assert "train/car_0/return" in metrics
    metrics, details = recorded(1, (5.0, *(0.0,) * (clients - 1)))
    assert metrics[name] == pytest.approx(8.0)
    assert name in details["by_client"]["00"]
    assert name not in details["by_client"]["01"]
