"""A federation of one round in real worker processes, most of whose clients are hostile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from hostile_replies import IDENTITIES, MOMENT, NORMALISER, REPLIES

from clients.client_app import identify
from f110_fl.engines.simulation import simulate
from f110_fl.federation.messages import TrainOrder, TrainReply
from f110_fl.training.metrics import summarise
from server.server_app import prepared

HONEST: Final = 3
# Of a learner without normaliser whose moments stay where they are, weighted equally.
KINDS: Final = [
    kind
    for kind in REPLIES
    if not kind.startswith(("mean", "variance", "count", "moment", "second", "step-"))
]
LIARS: Final = list(IDENTITIES)
CLIENTS: Final = HONEST + len(KINDS) + len(LIARS)

app = ClientApp()


def number(context: Context) -> int:
    return int(context.node_config["partition-id"])


@app.query()
def query(message: Message, context: Context) -> Message:
    """Say who one is; the last clients do not."""
    position = number(context) - HONEST - len(KINDS)
    if position < 0:
        return identify(message, context)
    rng = np.random.default_rng(position)
    said = IDENTITIES[LIARS[position]](rng, message.content)
    assert said is not None
    return Message(said, reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with the global model plus a hundredth of the client's number, or worse."""
    client_id = number(context)
    arrays = TrainOrder.from_content(message.content).arrays
    values = {name: array.numpy() + np.float32(client_id / 100) for name, array in arrays.items()}
    assert not any(name.startswith((NORMALISER, MOMENT)) for name in values)
    record = ArrayRecord({name: Array(np.asarray(value)) for name, value in values.items()})
    content = TrainReply(record, summarise((), ["car_0"]), client_id).to_content()
    if client_id >= HONEST:
        rng = np.random.default_rng(client_id)
        changed = REPLIES[KINDS[client_id - HONEST]](rng, content)
        if changed is not None:
            return Message(changed, reply_to=message)
    return Message(content, reply_to=message)


def client_app() -> ClientApp:
    return app


if __name__ == "__main__":
    root = Path(sys.argv[1])
    simulate(lambda: prepared(root), client_app, CLIENTS, 2)
