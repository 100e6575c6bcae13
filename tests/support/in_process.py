"""A federation in this process: the server's app and its clients', with all of their files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives import serialization
from fake_grid import FakeGrid, sent
from flwr.app import Context, Message, MessageType, RecordDict
from small import SMALL, merge

from clients import client_app
from clients.warm import WarmTrainers
from f110_fl.config.scenario import Scenario
from f110_fl.engines.credentials import Credentials, make_credentials
from f110_fl.engines.flower.internals import task_identity
from f110_fl.federation.manifest import manifested
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import prepare_directory
from server.server_app import run_prepared

TWO_ROUNDS: dict[str, Any] = {
    "env": {"max_steps": 30},
    "evaluation": {"episodes": 0},
    "federated": {
        "optimizer_strategy": "average",
        "strategy": {"name": "fedavgm"},
        "average_decay": 0.5,
        "keep_states": 1,
    },
}


class CutError(RuntimeError):
    """The server is lost in the middle of a round, as it is with its connection."""


class InProcess(FakeGrid):
    """Calls the clients' app for each message; node k + 1 is client k.

    Args:
        credentials: The clients' keys; None: they have none.
        cut: Round in which the first client answers, and nothing comes after.
    """

    def __init__(self, credentials: Credentials | None = None, cut: int = 0) -> None:
        super().__init__({1: 0, 2: 1})
        self.cut = cut
        self._credentials = credentials

    def private_key(self, client_id: int) -> Path | None:
        return self._credentials.client_key(client_id) if self._credentials else None

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        del timeout
        return self._replies([sent(message) for message in messages])  # all have ids before any

    def _replies(self, messages: Iterable[Message]) -> Iterator[Message]:
        for message in messages:
            yield self._answer(message)
            if self._is_cut(message):
                raise CutError

    def _answer(self, message: Message) -> Message:
        client_id = self.clients[message.metadata.dst_node_id]
        config: dict[str, Any] = {"partition-id": client_id, "num-partitions": 2}
        key = self.private_key(client_id)
        if key is not None:
            config["key"] = str(key)
        context = Context(1, message.metadata.dst_node_id, config, RecordDict(), {})
        return self.changed(client_id, client_app.app(message, context))

    def _is_cut(self, message: Message) -> bool:
        is_round = message.metadata.message_type == MessageType.TRAIN
        return is_round and message.content.config_records["config"]["server-round"] == self.cut

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Let clients answer now; with a cut, the answer to that round's order is lost."""
        found = []
        for number in message_ids:
            found.append(self._answer(self.pushed[number]))
            if self._is_cut(self.pushed[number]):
                raise CutError
        return found

    def changed(self, client_id: int, reply: Message) -> Message:
        """Return a reply as it arrives."""
        del client_id
        return reply


class Keyed(InProcess):
    """Its SuperLink knows each node's key."""

    def get_nodes(self) -> list[Any]:
        assert self._credentials
        found = []
        for node, client_id in self.clients.items():
            path = self._credentials.client_public_key(client_id)
            pem = serialization.load_ssh_public_key(path.read_bytes()).public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            found.append(SimpleNamespace(node_id=node, public_key=pem))
        return found


def federate(root: Path, grid: InProcess, *, resumed: bool = False, **changes: Any) -> RunDir:
    """Runs the small scenario's two rounds, or what is left of them."""
    scenario = Scenario.model_validate(merge(merge(SMALL, TWO_ROUNDS), changes))
    return carry_out(scenario, root, grid, resumed=resumed)


def carry_out(scenario: Scenario, root: Path, grid: InProcess, *, resumed: bool = False) -> RunDir:
    """Runs a federated scenario's rounds, or what is left of them."""
    client_app._warm = WarmTrainers()  # as in a process of its own
    rundir = RunDir(root)
    own = prepare_directory(scenario, rundir, resumed=resumed)
    with task_identity(1, 1), own, manifested(rundir, print), suppress(CutError):
        run_prepared(grid, root)
    return rundir


def credentials(root: Path) -> Credentials:
    """Makes the keys where a deployed run has them."""
    return make_credentials(RunDir(root).flower / "keys", ("localhost",), 2)
