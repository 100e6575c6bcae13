"""The Flower ClientApp: answers who it is, and trains a round when asked.

Deployed, every message starts a new process, and in a simulation any worker may serve any
client. So everything a client keeps lives in its directory, and what is in memory is used
only while it is what the directory holds.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod
from flwr.clientapp.typing import ClientAppCallable

from f110_fl.config.scenario import Scenario
from f110_fl.federation import messages, sharing
from f110_fl.loading.scenarios import parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.runs.startup import without_collections

if TYPE_CHECKING:
    from f110_fl.training.records import EpisodeRecord
    from f110_fl.training.trainer import Trainer

# Trainers kept warm in one process; more would only cost memory, as a round visits each
# client once and a worker serves few of them.
MAX_WARM = 8
_warm: OrderedDict[Path, Trainer] = OrderedDict()


@lru_cache(maxsize=1)
def _scenario(text: str) -> Scenario:
    """Read a round's scenario, which is that of the round before."""
    return parse_resolved(text)


def private(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Add local differential privacy, Flower's mod, to rounds whose scenario asks for it."""
    if message.metadata.message_type != MessageType.TRAIN:
        return call_next(message, context)
    order = message.content.config_records[messages.CONFIG]
    privacy = _scenario(str(order[messages.SCENARIO])).federated.privacy
    if privacy is None or privacy.kind != "local":
        return call_next(message, context)
    mod = LocalDpMod(privacy.clipping_norm, privacy.sensitivity, privacy.epsilon, privacy.delta)
    return mod(message, context, call_next)


app = ClientApp(mods=[private])


@app.query()
def identify(message: Message, context: Context) -> Message:
    """Answer with the client's stable id; Flower's node ids differ from run to run."""
    record = ConfigRecord(
        {
            messages.CLIENT_ID: int(context.node_config["partition-id"]),
            messages.NUM_CLIENTS: int(context.node_config["num-partitions"]),
        }
    )
    return Message(content=RecordDict({messages.CONFIG: record}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round from the averaged tensors and answers with the client's own.

    A round that this client has already completed (the server asks again after a restart)
    is answered from its directory without training.
    """
    order = message.content.config_records[messages.CONFIG]
    server_round = int(order[messages.ROUND])  # type: ignore[arg-type]
    trainer, rundir = _ordered(order, context)
    from f110_fl.learners.base import LearningError
    from f110_fl.training.metrics import summarise
    from f110_fl.training.progress import last_good

    scenario, client_id = trainer.scenario, trainer.client_id
    if trainer.progress.round < server_round:
        arrays = message.content.array_records[messages.ARRAYS]
        trainer.load_shared(messages.to_tensors(arrays))
        if server_round > 1:  # there was a sync
            held = trainer.shared_tensors()
            names = sharing.zeroed_names(held, scenario)
            trainer.load_shared({name: held[name].new_zeros(held[name].shape) for name in names})
        trainer.set_proximal(float(order.get(messages.PROXIMAL_MU, 0.0)))  # type: ignore[arg-type]
        episodes = int(order[messages.EPISODES])  # type: ignore[arg-type]
        try:
            records = trainer.train(episodes)
            trainer.progress.round = server_round
            trainer.save()
        except LearningError as error:  # the server logs the message
            reason = f"learning diverged: {error}; {last_good(trainer.directory)}"
            raise LearningError(reason) from error
    elif trainer.progress.round == server_round:
        records = _recorded(rundir, client_id, server_round)
    else:
        raise RuntimeError(
            f"client {client_id} has completed round {trainer.progress.round}, "
            f"but was asked to train round {server_round}"
        )
    _keep_warm(trainer)
    metrics = MetricRecord(
        {
            **summarise(records, scenario.federated_agents),
            messages.CLIENT_ID: client_id,
            messages.WEIGHT: 1.0,
        }
    )
    tensors = trainer.shared_tensors()
    sent = sharing.select(tensors, sharing.averaged_names(tensors, scenario))
    content = RecordDict({messages.ARRAYS: messages.to_arrays(sent), messages.METRICS: metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer how the averaged models do in the client's own environment; learn nothing."""
    trainer, _ = _ordered(message.content.config_records[messages.CONFIG], context)
    from f110_fl.training.metrics import metrics

    arrays = message.content.array_records[messages.ARRAYS]
    episodes = trainer.evaluate_shared(messages.to_tensors(arrays))
    _keep_warm(trainer)
    found = MetricRecord(metrics(episodes, trainer.scenario.federated_agents))  # type: ignore[arg-type]
    return Message(content=RecordDict({messages.METRICS: found}), reply_to=message)


def _ordered(order: ConfigRecord, context: Context) -> tuple[Trainer, RunDir]:
    """Return the client that an order is for, as its directory has it, and the run's directory."""
    scenario = _scenario(str(order[messages.SCENARIO]))
    if "seed" in context.node_config:  # a replica that was started by hand has its own
        own = {"seed": int(context.node_config["seed"]), "seeds": ()}
        scenario = scenario.model_copy(update=own)
    client_id = int(context.node_config["partition-id"])
    rundir = RunDir(_root(context, order))
    with without_collections():  # deployed, this is a new process
        return _open(scenario, client_id, rundir), rundir


def _root(context: Context, order: ConfigRecord) -> Path:
    """Return the run's directory, which on another machine is not where the server has it."""
    if "root" not in context.node_config:
        return Path(str(order[messages.ROOT]))
    name = str(order[messages.RUN])
    if Path(name).name != name or name == "..":
        raise RuntimeError(f"the server calls its run {name!r}, which is no name")
    return Path(str(context.node_config["root"])) / name


def _open(scenario: Scenario, client_id: int, rundir: RunDir) -> Trainer:
    """Return the client as its directory has it, taken from the warm ones if it is there."""
    from f110_fl.training.trainer import Trainer

    directory = rundir.client(client_id)
    trainer = _warm.pop(directory, None)
    if not rundir.state(client_id).exists():
        return Trainer(scenario, client_id, directory)
    if trainer is None and len(_warm) == MAX_WARM:  # whose turn it is to go may be of use
        trainer = _warm.popitem(last=False)[1]
    if (
        trainer is None
        or trainer.scenario != scenario
        or trainer.own != scenario.for_client(client_id)
    ):
        return Trainer(scenario, client_id, directory)
    if trainer.directory != directory:
        trainer.become(client_id, directory)
    elif not trainer.is_current():  # another process has served the client since
        trainer.reload()
    return trainer


def _keep_warm(trainer: Trainer) -> None:
    """Keep a trainer for its next round; one that failed half-way is not what is on disk."""
    _warm[trainer.directory] = trainer
    while len(_warm) > MAX_WARM:
        _warm.popitem(last=False)


def _recorded(rundir: RunDir, client_id: int, server_round: int) -> list[EpisodeRecord]:
    from f110_fl.training.records import EpisodeRecord

    with rundir.episodes(client_id).open(encoding="utf-8") as lines:
        records = [EpisodeRecord.from_json(line) for line in lines]
    return [record for record in records if record.round == server_round]
