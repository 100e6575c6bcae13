"""The Flower ClientApp: identifies itself, trains a round, or evaluates the global model.

In a deployment, every message starts a new process, and in a simulation, any worker may serve any
client. So a client's state is in its directory, and a trainer in memory is used only while it
equals the state in the directory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from clients.signed import signed
from clients.warm import WarmTrainers
from f110_fl.config.scenario import Scenario
from f110_fl.federation import sharing
from f110_fl.federation.arrays import to_arrays, to_tensors, values_of
from f110_fl.federation.messages import (
    EvaluateOrder,
    EvaluateReply,
    Evidence,
    Identity,
    Order,
    TrainOrder,
    TrainReply,
    asked_versions,
    shown,
)
from f110_fl.federation.versions import of_node
from f110_fl.loading.scenarios import parse_resolved
from f110_fl.rundir import EPISODES, PRIVACY_KEY, RunDir
from f110_fl.runs.startup import without_collections
from f110_fl.training.state_file import keep_state

if TYPE_CHECKING:
    import torch

    from f110_fl.training.records import EpisodeRecord
    from f110_fl.training.trainer import Trainer

log = logging.getLogger("flwr")

_warm = WarmTrainers()


@lru_cache(maxsize=1)
def _scenario(text: str) -> Scenario:
    """Read a round's scenario, which is mostly the same as in the previous round."""
    return parse_resolved(text, "the run's scenario")


class _Start:
    """The tensors of the last order, which a worker's clients get as one and the same record."""

    def __init__(self) -> None:
        self._arrays: ArrayRecord | None = None
        self._tensors: dict[str, torch.Tensor] = {}

    def of(self, arrays: ArrayRecord) -> Mapping[str, torch.Tensor]:
        """Return an order's arrays as tensors, which must not be changed."""
        if arrays is not self._arrays:
            self._arrays, self._tensors = arrays, to_tensors(arrays)
        return self._tensors


_start = _Start()

app = ClientApp(mods=[signed])  # what is signed is what is sent


@app.query()
def identify(message: Message, context: Context) -> Message:
    """Answer with the client's stable id and what is installed here, and say what differs.

    Flower's node ids differ from run to run. A client with other versions than the run's is left
    out by the server.
    """
    config = context.node_config
    own = of_node(config)
    client_id = int(config["partition-id"])
    differing = own.differing(asked_versions(message.content), "here", "in the run")
    if differing:
        log.error("Client %d is left out of the run: %s", client_id, shown(differing))
    identity = Identity(client_id, int(config["num-partitions"]), **asdict(own))
    return Message(content=identity.to_content(), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round from the averaged tensors and reply with the client's own.

    If this client has already completed the round (the server asks again after a restart), it
    replies from its directory without training.

    Raises:
        InvalidMessageError: For an invalid order.
        LearningError: If learning diverges.
        RuntimeError: If the client has completed a later round.
    """
    order = TrainOrder.from_content(message.content)
    trainer = _open(order, context)
    reply = answer(trainer, order)
    _warm.keep(trainer)
    return Message(content=reply.to_content(), reply_to=message)


def answer(trainer: Trainer, order: TrainOrder) -> TrainReply:
    """Train a round, or read from the client's directory what it was like; see `train`."""
    secret = _secret(trainer)
    if trainer.progress.round < order.server_round:
        records = _train(trainer, order)
    elif trainer.progress.round == order.server_round:
        records = _recorded(trainer.directory / EPISODES, order.server_round)
    else:
        raise RuntimeError(
            f"client {trainer.client_id} has completed round {trainer.progress.round}, "
            f"but was asked to train round {order.server_round}"
        )
    keep_state(trainer.directory, order.server_round, trainer.scenario.federated.keep_states)
    return _reply(trainer, records, order, secret)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the averaged models in the client's own environment, without learning."""
    order = EvaluateOrder.from_content(message.content)
    trainer = _open(order, context)
    from f110_fl.training.metrics import means

    episodes = trainer.evaluate_shared(to_tensors(order.arrays))
    _warm.keep(trainer)
    reply = EvaluateReply(means("evaluate", episodes, trainer.scenario.federated_agents))
    return Message(content=reply.to_content(), reply_to=message)


def _open(order: Order, context: Context) -> Trainer:
    """Return the trainer of the order's client, in the state of the client's directory."""
    rundir = RunDir(_root(order, context))
    scenario = _scenario(order.scenario)
    if "seed" in context.node_config:  # a client that was started by hand may have its own
        scenario = scenario.with_client_seed(int(context.node_config["seed"]))
    with without_collections():  # in a deployment, this is a new process
        from f110_fl.training.trainer import Coming

        coming = None
        if isinstance(order, TrainOrder):
            coming = Coming(order.server_round, order.arrays.keys())
        return _warm.take(scenario, int(context.node_config["partition-id"]), rundir, coming)


def _root(order: Order, context: Context) -> Path:
    """Return the run's directory, which differs from the server's on another machine."""
    if "root" not in context.node_config:
        return Path(order.root)
    if not order.run or Path(order.run).name != order.run or order.run == "..":
        raise RuntimeError(
            f"the server calls its run {order.run!r}, which is not a directory's name"
        )
    return Path(str(context.node_config["root"])) / order.run


def _train(trainer: Trainer, order: TrainOrder) -> list[EpisodeRecord]:
    """Train a round from the averaged tensors, and save the client's new state."""
    from f110_fl.learners.base import LearningError
    from f110_fl.training.state_file import last_good

    start = _start.of(order.arrays)
    trainer.load_shared(start)
    if order.server_round > 1:  # there was a sync
        tensors = trainer.shared_tensors()
        names = sharing.zeroed_names(tensors, trainer.scenario)
        trainer.load_shared({n: tensors[n].new_zeros(tensors[n].shape) for n in names})
    trainer.set_proximal(order.proximal_mu)
    from f110_fl.reporting.learning import say, told_episodes

    begun = time.monotonic()
    trainer.progress.round = order.server_round - 1  # of rounds without this client, none counts
    try:
        records = trainer.train(order.episodes)
        trainer.progress.round = order.server_round
        trainer.update = _update(trainer, start)
        trainer.save()
    except LearningError as error:  # the server logs the message
        reason = f"learning diverged: {error}; {last_good(trainer.directory)}"
        raise LearningError(reason) from error
    told = f"client {trainer.client_id}  round {order.server_round}/{trainer.scenario.rounds}  "
    told += f"{trainer.progress.episodes}/{trainer.scenario.episodes} episodes"
    told += f"  {time.monotonic() - begun:.1f} s"
    say(told_episodes(told, records, trainer.scenario.learners))
    return records


def _update(trainer: Trainer, start: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what is to be sent of a round from ``start``, if it is rounded on its way."""
    compression = trainer.scenario.federated.compression
    if compression == "none":
        return {}
    import torch

    from f110_fl.federation.compression import update

    now, before = trainer.shared_tensors(), trainer.update
    found = update(
        {name: now[name].numpy() for name in start},
        {name: tensor.numpy() for name, tensor in start.items()},
        {name: tensor.numpy() for name, tensor in before.items()},
        compression,
    )
    return {name: torch.from_numpy(array) for name, array in found.items()}


def _secret(trainer: Trainer) -> bytes | None:
    """Return what the client's own privacy noise comes from, before anything is sent; or None."""
    privacy = trainer.scenario.federated.privacy
    if privacy is None or privacy.kind != "local":
        return None
    from f110_fl.federation.privacy import read_secret

    return read_secret(trainer.directory / PRIVACY_KEY, begun=trainer.progress.round > 0)


def _reply(
    trainer: Trainer, records: list[EpisodeRecord], order: TrainOrder, secret: bytes | None
) -> TrainReply:
    from f110_fl.training.metrics import summarise

    tensors, scenario = trainer.shared_tensors(), trainer.scenario
    sent = to_arrays(sharing.select(tensors, sharing.averaged_names(tensors, scenario)))
    privacy = scenario.federated.privacy
    if secret is not None and privacy is not None and privacy.kind == "local":
        from f110_fl.federation.privacy import locally_private

        sent = locally_private(sent, order.arrays, privacy, secret, order.server_round)
    compression = scenario.federated.compression
    if compression != "none":
        from f110_fl.federation.compression import encoded

        updates = {name: tensor.numpy() for name, tensor in trainer.update.items()}
        sent = encoded(values_of(sent), updates, compression)
    metrics = summarise(records, scenario.federated_agents)
    evidence = Evidence(trainer.state_digest())
    return TrainReply(sent, metrics, trainer.client_id, evidence=evidence)


def _recorded(log: Path, server_round: int) -> list[EpisodeRecord]:
    from f110_fl.training.records import EpisodeRecord

    with log.open(encoding="utf-8") as lines:
        records = [EpisodeRecord.from_json(line) for line in lines]
    return [record for record in records if record.round == server_round]
