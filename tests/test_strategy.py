"""The server's strategy, with replies built by hand and averages computed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, merge
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from f110_fl import exchange
from f110_fl.files import read_tensors
from f110_fl.loading import parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.scenario import Scenario
from server.strategy import FederatedAveraging

pytestmark = pytest.mark.usefixtures("flower_task")

NODES = {901: 2, 17: 0, 333: 1}  # Flower's node ids say nothing about the client ids
NAME = "car_0/model/actor/weight"


def scenario(**federated: Any) -> Scenario:
    return Scenario.model_validate(
        merge(SMALL, {"federated": {"clients": 3} | federated, "episodes": 5})
    )


def strategy(root: Path, **federated: Any) -> FederatedAveraging:
    return FederatedAveraging(scenario(**federated), RunDir(root), NODES, imposed={})


def ask(server: FederatedAveraging, server_round: int = 1) -> dict[int, Message]:
    """Returns the round's messages by client id."""
    arrays = exchange.to_arrays({NAME: torch.zeros(2, 2)})
    grid: Any = None  # the strategy knows its clients and does not look for them
    messages = list(server.configure_train(server_round, arrays, ConfigRecord(), grid))
    return {NODES[message.metadata.dst_node_id]: message for message in messages}


def answer(message: Message, value: float, steps: float = 10.0, name: str = NAME) -> Message:
    arrays = exchange.to_arrays({name: torch.full((2, 2), value)})
    metrics = MetricRecord(
        {exchange.ENV_STEPS: steps, exchange.CLIENT_ID: 0, exchange.WEIGHT: 1e9, "x": value}
    )
    message.metadata.__dict__["_message_id"] = f"message-{message.metadata.dst_node_id}"
    return Message(
        RecordDict({exchange.ARRAYS: arrays, exchange.METRICS: metrics}), reply_to=message
    )


def average(server: FederatedAveraging, replies: Iterable[Message]) -> np.ndarray:
    arrays, _ = server.aggregate_train(1, replies)
    assert arrays is not None
    return arrays[NAME].numpy()


def test_every_client_is_asked_once_in_order_of_its_id(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    messages = ask(server, 2)
    assert list(messages) == [0, 1, 2]
    config = messages[1].content.config_records[exchange.CONFIG]
    assert config[exchange.ROUND] == 2
    assert config[exchange.EPISODES] == 1
    assert config[exchange.ROOT] == str(tmp_path)
    assert parse_resolved(str(config[exchange.SCENARIO])) == server.scenario


def test_the_last_round_trains_what_is_left(tmp_path: Path) -> None:
    server = strategy(tmp_path, round_interval=2)  # 5 episodes: 2, 2, 1
    episodes = [
        ask(server, r)[0].content.config_records[exchange.CONFIG][exchange.EPISODES]
        for r in (1, 2, 3)
    ]
    assert episodes == [2, 2, 1]
    assert server.scenario.rounds == 3


@pytest.mark.parametrize(
    ("federated", "expected"),
    [
        ({"weighting": "equal"}, (1 + 2 + 6) / 3),
        ({"weighting": "env_steps"}, (1 * 10 + 2 * 30 + 6 * 60) / 100),
        ({"weighting": "weights", "weights": [1, 1, 2]}, (1 + 2 + 12) / 4),
    ],
)
def test_weighting(tmp_path: Path, federated: dict[str, Any], expected: float) -> None:
    server = strategy(tmp_path, **federated)
    asked = ask(server)
    replies = [answer(asked[0], 1, 10), answer(asked[1], 2, 30), answer(asked[2], 6, 60)]
    np.testing.assert_allclose(average(server, replies), expected, rtol=1e-6)


def test_order_of_replies_does_not_change_a_bit(tmp_path: Path) -> None:
    results = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        server = strategy(tmp_path)
        asked = ask(server)
        values = {0: 0.1, 1: 1e-8, 2: 3.3333}
        results.append(average(server, [answer(asked[k], values[k]) for k in order]).tobytes())
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
    assert metrics["metrics"]["x"] == pytest.approx(1.0)
    assert metrics["by_client"]["02"]["x"] == 2.0
    (line,) = rundir.rounds.read_text().splitlines()
    assert json.loads(line)["clients"] == [0, 1, 2]


def test_checkpoints_can_be_left_out(tmp_path: Path) -> None:
    server = strategy(tmp_path, checkpoint_after_sync=False)
    asked = ask(server)
    average(server, [answer(asked[k], k) for k in range(3)])
    assert sorted(p.name for p in (tmp_path / "round_00001").iterdir()) == ["metrics.json"]


def test_imposed_tensors_complete_the_global_file(tmp_path: Path) -> None:
    moments = {"car_0/optimizer/actor/weight/exp_avg": torch.zeros(3)}
    server = FederatedAveraging(
        scenario(optimizer_strategy="reset"), RunDir(tmp_path), NODES, imposed=moments
    )
    asked = ask(server)
    average(server, [answer(asked[k], k) for k in range(3)])
    tensors = read_tensors(RunDir(tmp_path).global_tensors(1))
    assert set(tensors) == {NAME, *moments}


def test_unusable_replies_cost_their_senders_the_round(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    asked = ask(server)
    broken = answer(asked[0], 100.0, name="car_0/model/actor/other")
    failed = Message(Error(code=0, reason="out of memory"), reply_to=answer_to(asked[1]))
    value = average(server, [broken, failed, answer(asked[2], 5.0)])
    np.testing.assert_allclose(value, 5.0)
    dropped = json.loads((tmp_path / "rounds.jsonl").read_text())["dropped"]
    assert set(dropped) == {"0", "1"}
    assert "out of memory" in dropped["1"]


def test_a_round_without_a_usable_reply_fails(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    ask(server)
    with pytest.raises(RuntimeError, match="round 1: no client's reply can be used"):
        server.aggregate_train(1, [])
    assert not (tmp_path / "rounds.jsonl").exists()


def answer_to(message: Message) -> Message:
    message.metadata.__dict__["_message_id"] = f"message-{message.metadata.dst_node_id}"
    return message


def test_arrays_survive_the_wire() -> None:
    tensors = {"a/model/x": torch.randn(3, 4), "a/optimizer/x/step": torch.tensor(3.0)}
    record = exchange.to_arrays(tensors)
    assert isinstance(record, ArrayRecord)
    back = exchange.to_tensors(record)
    assert set(back) == set(tensors)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
