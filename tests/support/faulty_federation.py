"""A federation of one round, whose clients 2 and up answer with nonsense; run by a test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.client_app import identify
from f110_fl.engines.simulation import simulate
from f110_fl.federation.messages import (
    ARRAYS,
    CLIENT_ID,
    METRICS,
    WEIGHT,
    TrainOrder,
    TrainReply,
    metric_record,
)
from f110_fl.training.metrics import summarise
from server.server_app import prepared
from server.validation import ENV_STEPS

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
    next(iter(values.values())).flat[0] = 1e5


def absurd_count(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    metrics[ENV_STEPS] = 1e300


def negative_weight(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    metrics[WEIGHT] = -1.0


def other_metric(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    metrics["train/car_0/extra"] = 1.0


def other_client(values: Values, metrics: dict[str, float]) -> None:  # noqa: ARG001
    metrics[CLIENT_ID] = 0


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
            other_metric,
            other_client,
        ],
        2,
    )
)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answers with the global model plus the client's number; faulty clients spoil that."""
    client_id = int(context.node_config["partition-id"])
    arrays = TrainOrder.from_content(message.content).arrays
    values = {name: array.numpy() + np.float32(client_id) for name, array in arrays.items()}
    metrics = TrainReply(arrays, summarise((), ["car_0"]), client_id).values
    if client_id in FAULTS:
        FAULTS[client_id](values, metrics)
    record = ArrayRecord({name: Array(np.asarray(value)) for name, value in values.items()})
    content = RecordDict({ARRAYS: record, METRICS: metric_record(metrics)})
    return Message(content, reply_to=message)


def client_app() -> ClientApp:
    return app


if __name__ == "__main__":
    root = Path(sys.argv[1])
    simulate(lambda: prepared(root), client_app, 2 + len(FAULTS), 1)
