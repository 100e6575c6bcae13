"""Signs what a client answers to a round, if it has a key."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable

from f110_fl.federation.arrays import values_of
from f110_fl.federation.chain import Basis, ReplyDigests, statement
from f110_fl.federation.compression import decoded
from f110_fl.federation.digests import code_digest, metrics_digest, scenario_digest
from f110_fl.federation.messages import ARRAYS, CONFIG, METRICS, TrainOrder
from f110_fl.federation.signing import sign
from f110_fl.loading.scenarios import parse_resolved
from f110_fl.tensors import tensors_digest

KEY = "key"  # of a node's config: the file of its private key


def signed(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Add the signature of the node's key to the reply to a round, as it is sent.

    Raises:
        UserError: If the key cannot be read.
    """
    reply = call_next(message, context)
    is_round = message.metadata.message_type == MessageType.TRAIN
    if KEY not in context.node_config or not is_round or reply.has_error():
        return reply
    order = TrainOrder.from_content(message.content)
    evidence = reply.content.config_records[CONFIG]
    scenario = parse_resolved(order.scenario, "the run's scenario")
    sent = reply.content.array_records[ARRAYS]
    text = statement(
        order.run,
        order.server_round,
        int(context.node_config["partition-id"]),
        Basis(
            code=code_digest(),
            scenario=scenario_digest(scenario),
            start=_digest(order.arrays),
            previous=order.previous,
        ),
        ReplyDigests(
            tensors=_digest(decoded(sent, order.arrays, scenario.federated.compression)),
            metrics=_metrics(reply),
            state=str(evidence["state"]),
        ),
    )
    key = Path(str(context.node_config[KEY]))
    reply.content[CONFIG] = ConfigRecord({**evidence, "signature": sign(key, text)})
    return reply


def _digest(arrays: ArrayRecord) -> str:
    """Return the digest of a message's tensors."""
    return tensors_digest(values_of(arrays))


def _metrics(reply: Message) -> str:
    """Return the digest of a reply's metrics, as the server keeps them."""
    from f110_fl.training.metrics import measured

    return metrics_digest(measured(dict(reply.content.metric_records[METRICS])))  # type: ignore[arg-type]  # only numbers are sent
