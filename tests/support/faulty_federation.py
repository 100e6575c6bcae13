"""A federation of one round, whose clients 2 and up answer with nonsense; run by a test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.client_app import identify
from f110_fl.engines.simulation import simulate
from f110_fl.federation import messages
from server.server_app import prepared

Values = dict[str, np.ndarray]

app = ClientApp()
app.query()(identify)


def not_a_number(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    next(iter(values.values())).flat[0] = np.nan


def other_shape(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    name = next(iter(values))
    values[name] = np.zeros((3, 1, 4), np.float32)


def other_name(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    values["car_0/model/actor/other"] = values.pop(next(iter(values)))


def far_away(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    next(iter(values.values())).flat[0] = 1e30


def absurd_count(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    metrics[messages.ENV_STEPS] = 1e300


def negative_weight(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    metrics[messages.WEIGHT] = -1.0


def crash(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    raise RuntimeError("the client's disk is full")


FAULTS: dict[int, Callable[[Values, dict[str, float]], None]] = dict(
    enumerate(
        [
            not_a_number,
            other_shape,
            other_name,
            far_away,
            absurd_count,
            negative_weight,
            crash,
        ],
        2,
    )
)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answers with the global model plus the client's number; faulty clients spoil that."""
    client_id = int(context.node_config["partition-id"])
    arrays = message.content.array_records[messages.ARRAYS]
    values = {name: array.numpy() + np.float32(client_id) for name, array in arrays.items()}
    counts = ("train/episodes", messages.ENV_STEPS, "evaluate/episodes", "evaluate/env-steps")
    metrics = dict.fromkeys(counts, 1.0) | {messages.WEIGHT: 1.0, messages.CLIENT_ID: client_id}
    if client_id in FAULTS:
        FAULTS[client_id](values, metrics)
    record = ArrayRecord({name: Array(np.asarray(value)) for name, value in values.items()})
    content = RecordDict({messages.ARRAYS: record, messages.METRICS: MetricRecord(metrics)})
    return Message(content, reply_to=message)


def client_app() -> ClientApp:
    return app


if __name__ == "__main__":
    root = Path(sys.argv[1])
    simulate(lambda: prepared(root), client_app, 2 + len(FAULTS), 1)
