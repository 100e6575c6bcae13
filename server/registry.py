"""The federation's clients among Flower's nodes: which are connected, which are sampled."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

import numpy as np
from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.federation.messages import Identity, InvalidMessageError, brief, identity_query, shown
from f110_fl.seeding import Use, stream

log = logging.getLogger("flwr")

POLL_INTERVAL = 0.5  # s between two polls for nodes
QUERY_TIMEOUT = 30.0  # s that a node has to identify itself


class ClientRegistry:
    """Client ids of Flower's nodes; node ids are random and change when a node returns."""

    def __init__(self) -> None:
        self.total: int | None = None  # as the nodes report it (``num-partitions``)
        self._client_of: dict[int, int] = {}  # every node that has ever answered

    def online(self, grid: Grid) -> dict[int, int]:
        """Return the ids of the connected nodes, by client id.

        A client that reconnects as another node replaces its former node.
        """
        nodes = list(grid.get_node_ids())
        self._ask(grid, [node for node in nodes if node not in self._client_of])
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
            UserError: If fewer than ``least`` clients are connected when the wait ends, or clients
                were started for a federation of another size.
        """
        deadline = time.monotonic() + timeout
        while True:
            present = self.online(grid)
            if total and self.total and total != self.total:
                raise UserError(
                    f"the run is for {total} clients, but clients were started with "
                    f"--total-clients {self.total}"
                )
            total = total or self.total
            missing = sorted(set(range(total or 1)) - set(present))
            if total is not None and not missing:
                return
            if time.monotonic() >= deadline:
                break
            log.info("Waiting for clients %s", missing)
            time.sleep(POLL_INTERVAL)
        if total is None or total - len(missing) < least:
            raise UserError(f"clients {missing} of {total} did not connect within {timeout:g} s")
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
            if reply.has_error():
                log.warning("A node failed to identify itself: %s", brief(reply.error.reason or ""))
                continue
            try:
                identity = Identity.from_content(reply.content)
            except InvalidMessageError as error:
                log.warning("A node identified itself wrongly: %s", shown(str(error)))
                continue
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
