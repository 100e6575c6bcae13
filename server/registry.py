"""The federation's clients among Flower's nodes: which are connected, which are sampled."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping

import numpy as np
from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.federation.messages import Identity, InvalidMessageError, brief, identity_query, shown
from f110_fl.reporting import announce
from f110_fl.reporting.announce import Tell, silent
from f110_fl.seeding import Use, stream

log = logging.getLogger("flwr")

POLL_INTERVAL = 0.5  # s between two polls for nodes
QUERY_TIMEOUT = 30.0  # s that a node has to identify itself


class ClientRegistry:
    """Client ids of Flower's nodes; node ids are random, without keys they change at a return.

    Args:
        bound: Client ids by node id, if nodes have keys: then a node is who its key belongs to,
            and one that says something else, or is not among them, is left out.
        tell: Called with ``announce.NOTE`` and why, of every node that is left out.

    Attributes:
        total: Number of clients: of the bound ones, or as the first node reports it.
    """

    def __init__(self, bound: Mapping[int, int] | None = None, tell: Tell = silent) -> None:
        self._tell = tell
        self.total = None if bound is None else len(bound)
        self._bound = bound
        self._client_of: dict[int, int] = {}  # every node that takes part, or did
        self._left_out: dict[int, str] = {}  # why, of every other node that has answered
        self._failed: dict[int, str] = {}  # of nodes that are asked again

    def online(self, grid: Grid) -> dict[int, int]:
        """Return the ids of the connected nodes, by client id.

        A client that reconnects as another node replaces its former node.
        """
        nodes = list(grid.get_node_ids())
        answered = self._client_of.keys() | self._left_out.keys()
        new = [node for node in nodes if node not in answered]
        if self._bound is not None:
            for node in new:
                if node not in self._bound:
                    self._leave_out(node, "its key is no client's")
            new = [node for node in new if node in self._bound]
        self._ask(grid, new)
        present = set(nodes)
        return {client: node for node, client in self._client_of.items() if node in present}

    def wait(self, grid: Grid, total: int | None, least: int, timeout: float) -> None:
        """Wait until all clients are connected or, at the end of the wait, enough of them.

        Args:
            grid: Flower's grid.
            total: Number of clients; None: as the nodes report it.
            least: Smallest number of clients to start with.
            timeout: Longest wait, s.

        Raises:
            UserError: If fewer than ``least`` clients are connected when the wait ends.
        """
        deadline = time.monotonic() + timeout
        self.total = total or self.total
        while True:
            present = self.online(grid)
            total = self.total
            missing = sorted(set(range(total or 1)) - set(present))
            if total is not None and not missing:
                return
            if time.monotonic() >= deadline:
                break
            log.info("Waiting for clients %s", missing)
            time.sleep(POLL_INTERVAL)
        if total is None or total - len(missing) < least:
            failed = (f"node {node} failed: {reason}" for node, reason in self._failed.items())
            reasons = "; ".join(["", *[*self._left_out.values(), *failed][:5]])
            raise UserError(
                f"clients {missing} of {total} did not connect within {timeout:g} s{reasons}"
            )
        log.warning("Starting without clients %s, which did not connect", missing)

    def _ask(self, grid: Grid, nodes: list[int]) -> None:
        """Ask nodes once for the client ids with which they were started."""
        if not nodes:
            return
        queries = [
            Message(content=identity_query(), message_type=MessageType.QUERY, dst_node_id=node)
            for node in nodes
        ]
        for reply in grid.send_and_receive(queries, timeout=QUERY_TIMEOUT):
            node = reply.metadata.src_node_id
            if node not in nodes or node in self._client_of or node in self._left_out:
                continue  # nobody asked it
            if reply.has_error():
                reason = brief(reply.error.reason or "no reason given")
                if self._failed.get(node) != reason:
                    log.warning("Node %s failed to identify itself: %s", node, reason)
                self._failed[node] = reason
                continue
            try:
                self._take(node, Identity.from_content(reply.content))
            except InvalidMessageError as error:
                self._leave_out(node, shown(str(error)))

    def _leave_out(self, node: int, reason: str) -> None:
        self._left_out[node] = f"node {node} is left out: {reason}"
        log.warning("%s", self._left_out[node].capitalize())
        self._tell(announce.NOTE, {"message": self._left_out[node].capitalize()})

    def _take(self, node: int, identity: Identity) -> None:
        """Count a node among the clients, if it is who it says.

        Raises:
            InvalidMessageError: If not.
        """
        said = f"client {identity.client_id} of {identity.num_clients}"
        if self._bound is not None and identity.client_id != self._bound[node]:
            raise InvalidMessageError(
                f"it says it is {said}, but its key is that of client {self._bound[node]}"
            )
        if self.total is not None and identity.num_clients != self.total:
            raise InvalidMessageError(f"it says it is {said}, but the run is for {self.total}")
        self._client_of[node] = identity.client_id
        self.total = identity.num_clients


def sample_size(scenario: Scenario) -> int:
    """Return the number of clients that a round asks."""
    federated = scenario.federated
    return max(round(federated.fraction * federated.clients), federated.min_clients)


def sample(scenario: Scenario, online: Collection[int], server_round: int) -> list[int]:
    """Return the clients asked in a round, in order; the draw depends on the seed and round."""
    generator = np.random.default_rng(stream(scenario.shared_seed, Use.SAMPLING, server_round))
    # Drawn from all clients, so that a missing one does not change which others are asked.
    order = generator.permutation(scenario.federated.clients).tolist()
    present = [client for client in order if client in online]
    return sorted(present[: sample_size(scenario)])
