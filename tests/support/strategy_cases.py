"""The server's strategy with three clients: what it asks them, and replies built by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fake_grid import FakeGrid, sent
from flwr.app import ConfigRecord, Message
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.federation.arrays import to_arrays
from f110_fl.federation.messages import TrainOrder, TrainReply
from f110_fl.rundir import RunDir
from f110_fl.training.metrics import summarise
from server.registry import ClientRegistry
from server.rounds import RoundRecorder
from server.strategy import FederatedStrategy
from server.validation import ENV_STEPS

NODES = {901: 2, 17: 0, 333: 1}  # Flower's node ids say nothing about the client ids
NAME = "car_0/model/actor/weight"
MOMENT = "car_0/optimizer/actor/weight/exp_avg"
SHAPE = (2, 2)
RETURN = "train/car_0/return"


def scenario(**federated: Any) -> Scenario:
    return Scenario.model_validate(
        merge(
            SMALL,
            {"federated": {"clients": 3} | federated, "episodes": 5, "env": {"max_steps": 100}},
        )
    )


def strategy(root: Path, **federated: Any) -> FederatedStrategy:
    chosen = scenario(**federated)
    return FederatedStrategy(
        chosen, ClientRegistry(), RoundRecorder(chosen, RunDir(root), imposed={})
    )


def ask(
    server: FederatedStrategy, server_round: int = 1, *, names: tuple[str, ...] = (NAME,)
) -> dict[int, Message]:
    """Return the round's messages by client id."""
    arrays = to_arrays({name: torch.zeros(SHAPE) for name in names})
    asked_for = server.configure_train(server_round, arrays, ConfigRecord(), FakeGrid(NODES))
    return {NODES[message.metadata.dst_node_id]: message for message in asked_for}


def answer(
    message: Message, value: float, steps: float = 10.0, *, names: tuple[str, ...] = (NAME,)
) -> Message:
    arrays = to_arrays({name: torch.full(SHAPE, float(value)) for name in names})
    metrics = summarise((), ["car_0"]) | {ENV_STEPS: steps, RETURN: float(value)}
    reply = TrainReply(arrays, metrics, NODES[message.metadata.dst_node_id])
    return Message(reply.to_content(), reply_to=sent(message))


def order(message: Message) -> TrainOrder:
    return TrainOrder.from_content(message.content)
