"""Federated averaging of networks and, if wanted, of optimizer moments."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from f110_fl import exchange
from f110_fl.files import append_line, write_atomic, write_tensors
from f110_fl.loading import dump_scenario
from f110_fl.rundir import RunDir
from f110_fl.scenario import Scenario

log = logging.getLogger("flwr")


class FederatedAveraging(FedAvg):
    """Flower's FedAvg (McMahan et al. 2017) with stable client identities and records.

    Clients are told apart by their own ids, replies are averaged in the order of these
    ids (a rerun is bit-equal), and each round leaves its files in the run's directory.

    Args:
        scenario: The run's scenario.
        rundir: Where the rounds' files go.
        clients: Client id of each Flower node id.
        imposed: Tensors that a sync sets on every client without sending them: the zeroed
            moments of ``optimizer_strategy: reset``. They complete ``global.safetensors``.
    """

    def __init__(
        self,
        scenario: Scenario,
        rundir: RunDir,
        clients: Mapping[int, int],
        imposed: Mapping[str, torch.Tensor],
    ) -> None:
        super().__init__(min_train_nodes=1, min_available_nodes=1, weighted_by_key=exchange.WEIGHT)
        self.scenario = scenario
        self.rundir = rundir
        self.clients = dict(clients)
        self.imposed = dict(imposed)
        self._names: frozenset[str] = frozenset()
        self._scenario_text = dump_scenario(scenario)
        self._started = 0.0

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,  # noqa: ARG002 - the clients were found before the first round
    ) -> Iterable[Message]:
        """Ask every client to train the round's episodes from ``arrays``."""
        self._started = time.monotonic()
        self._names = frozenset(arrays)
        config[exchange.ROUND] = server_round
        config[exchange.EPISODES] = self.scenario.round_episodes(server_round)
        config[exchange.SCENARIO] = self._scenario_text
        config[exchange.ROOT] = str(self.rundir.root)
        content = RecordDict({exchange.ARRAYS: arrays, exchange.CONFIG: config})
        nodes = sorted(self.clients, key=self.clients.__getitem__)
        return self._construct_messages(content, nodes, MessageType.TRAIN)

    def configure_evaluate(
        self,
        server_round: int,  # noqa: ARG002
        arrays: ArrayRecord,  # noqa: ARG002
        config: ConfigRecord,  # noqa: ARG002
        grid: Grid,  # noqa: ARG002
    ) -> Iterable[Message]:
        """Ask nobody: clients evaluate while they train."""
        return []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the usable replies and records the round.

        Raises:
            RuntimeError: If no reply is usable.
        """
        accepted, dropped = self._sort_out(replies)
        for client_id, reason in dropped.items():
            log.warning("Round %d goes on without client %d: %s", server_round, client_id, reason)
        if not accepted:
            raise RuntimeError(f"round {server_round}: no client's reply can be used: {dropped}")
        for client_id, reply in accepted.items():
            own = reply.content.metric_records[exchange.METRICS]
            own[exchange.WEIGHT] = self._weight(client_id, own)
        arrays, metrics = super().aggregate_train(server_round, list(accepted.values()))
        if arrays is None or metrics is None:
            raise RuntimeError(f"round {server_round}: Flower averaged nothing")
        del metrics[exchange.CLIENT_ID]
        self._record(server_round, arrays, metrics, accepted, dropped)
        return arrays, metrics

    def _sort_out(self, replies: Iterable[Message]) -> tuple[dict[int, Message], dict[int, str]]:
        """Return usable replies and reasons against the rest, each by client id."""
        accepted: dict[int, Message] = {}
        dropped = dict.fromkeys(sorted(self.clients.values()), "no answer in time")
        for reply in replies:
            client_id = self.clients[reply.metadata.src_node_id]
            reason = reply.error.reason if reply.has_error() else self._fault(reply.content)
            if reason is None:
                accepted[client_id] = reply
                del dropped[client_id]
            else:
                dropped[client_id] = reason
        return dict(sorted(accepted.items())), dropped

    def _fault(self, content: RecordDict) -> str | None:
        """Return why a reply cannot be averaged, or None."""
        if set(content.array_records) != {exchange.ARRAYS}:
            return f"array records {sorted(content.array_records)}"
        if set(content.metric_records) != {exchange.METRICS}:
            return f"metric records {sorted(content.metric_records)}"
        differing = self._names ^ set(content.array_records[exchange.ARRAYS])
        if differing:
            return f"tensors missing or not asked for: {sorted(differing)[:3]}"
        return None

    def _weight(self, client_id: int, metrics: MetricRecord) -> float:
        federated = self.scenario.federated
        if federated.weighting == "env_steps":
            return float(metrics[exchange.ENV_STEPS])  # type: ignore[arg-type]
        return federated.weights[client_id] if federated.weighting == "weights" else 1.0

    def _record(
        self,
        server_round: int,
        arrays: ArrayRecord,
        metrics: MetricRecord,
        accepted: Mapping[int, Message],
        dropped: Mapping[int, str],
    ) -> None:
        """Write the round's files; its line in rounds.jsonl, written last, completes it."""
        self.rundir.round(server_round).mkdir(parents=True, exist_ok=True)
        if self.scenario.federated.checkpoint_after_sync:
            for client_id, reply in accepted.items():
                sent = exchange.to_tensors(reply.content.array_records[exchange.ARRAYS])
                write_tensors(self.rundir.client_tensors(server_round, client_id), sent)
            synced = exchange.to_tensors(arrays) | self.imposed
            write_tensors(self.rundir.global_tensors(server_round), synced)
        summary = {
            "round": server_round,
            "rounds": self.scenario.rounds,
            "seconds": round(time.monotonic() - self._started, 3),
            "clients": list(accepted),
            "dropped": {str(k): v for k, v in dropped.items()},
            "metrics": dict(metrics),
        }
        by_client = {
            f"{client_id:02d}": dict(reply.content.metric_records[exchange.METRICS])
            for client_id, reply in accepted.items()
        }
        text = json.dumps(summary | {"by_client": by_client}, indent=2, sort_keys=True)
        write_atomic(self.rundir.metrics(server_round), text + "\n")
        append_line(self.rundir.rounds, json.dumps(summary))
