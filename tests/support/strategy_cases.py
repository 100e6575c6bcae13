"""The server's strategy with three clients: what it asks them, and replies built by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fake_grid import FakeGrid, sent
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.federation import messages
from f110_fl.rundir import RunDir
from server.roster import Roster
from server.rounds import RoundRecorder
from server.strategy import FederatedStrategy

NODES = {901: 2, 17: 0, 333: 1}  # Flower's node ids say nothing about the client ids
NAME = "car_0/model/actor/weight"
MOMENT = "car_0/optimizer/actor/weight/exp_avg"
SHAPE = (2, 2)


def scenario(**federated: Any) -> Scenario:
    return Scenario.model_validate(
        merge(
            SMALL,
            {"federated": {"clients": 3} | federated, "episodes": 5, "env": {"max_steps": 100}},
        )
    )


def strategy(root: Path, **federated: Any) -> FederatedStrategy:
    chosen = scenario(**federated)
    return FederatedStrategy(chosen, Roster(), RoundRecorder(chosen, RunDir(root), imposed={}))


def ask(
    server: FederatedStrategy, server_round: int = 1, *, names: tuple[str, ...] = (NAME,)
) -> dict[int, Message]:
    """Return the round's messages by client id."""
    arrays = messages.to_arrays({name: torch.zeros(SHAPE) for name in names})
    asked_for = server.configure_train(server_round, arrays, ConfigRecord(), FakeGrid(NODES))
    return {NODES[message.metadata.dst_node_id]: message for message in asked_for}


def answer(
    message: Message, value: float, steps: float = 10.0, *, names: tuple[str, ...] = (NAME,)
) -> Message:
    arrays = messages.to_arrays({name: torch.full(SHAPE, float(value)) for name in names})
    metrics = MetricRecord(
        {
            "train/episodes": 1.0,
            messages.ENV_STEPS: steps,
            "evaluate/episodes": 0.0,
            "evaluate/env-steps": 0.0,
            messages.CLIENT_ID: 0,
            messages.WEIGHT: 1.0,
            "x": float(value),
        }
    )
    content = RecordDict({messages.ARRAYS: arrays, messages.METRICS: metrics})
    return Message(content, reply_to=sent(message))
