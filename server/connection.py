"""Finding the federation's clients among Flower's nodes."""

from __future__ import annotations

import logging
import time

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from f110_fl import exchange
from f110_fl.errors import UserError

log = logging.getLogger("flwr")

POLL_INTERVAL = 0.5  # s between two looks for nodes


def connect(grid: Grid, total: int | None, timeout: float) -> dict[int, int]:
    """Wait until every client of the federation is there.

    Node ids are random; each node is asked once for the id that it was started with.

    Args:
        grid: Flower's grid.
        total: Number of clients; None takes what the nodes say (``num-partitions``).
        timeout: Longest wait, s.

    Returns:
        Client id of each node id, for the ids 0 ... total - 1. Further nodes stay idle.

    Raises:
        UserError: If clients are missing at the end of the wait, or two nodes share an id.
    """
    deadline = time.monotonic() + timeout
    clients: dict[int, int] = {}
    while True:
        unknown = [node for node in grid.get_node_ids() if node not in clients]
        for node, client_id, num_clients in _ask(grid, unknown, deadline):
            total = num_clients if total is None else total
            if client_id in clients.values():
                raise UserError(f"two nodes were started as client {client_id}; ids are unique")
            clients[node] = client_id
        missing = sorted(set(range(total or 1)) - set(clients.values()))
        if total is not None and not missing:
            return {node: client for node, client in clients.items() if client < total}
        if time.monotonic() >= deadline:
            raise UserError(f"clients {missing} of {total} did not connect within {timeout:g} s")
        log.info("Waiting for clients %s", missing)
        time.sleep(POLL_INTERVAL)


def _ask(grid: Grid, nodes: list[int], deadline: float) -> list[tuple[int, int, int]]:
    """Return (node id, client id, number of clients) of the nodes that answer."""
    if not nodes:
        return []
    messages = [
        Message(
            content=RecordDict({exchange.CONFIG: ConfigRecord()}),
            message_type=MessageType.QUERY,
            dst_node_id=node,
        )
        for node in nodes
    ]
    answers = []
    remaining = max(deadline - time.monotonic(), POLL_INTERVAL)
    for reply in grid.send_and_receive(messages, timeout=remaining):
        if reply.has_error():
            raise RuntimeError(f"a client failed to say who it is: {reply.error.reason}")
        record = reply.content.config_records[exchange.CONFIG]
        client_id, total = record[exchange.CLIENT_ID], record[exchange.NUM_CLIENTS]
        if type(client_id) is not int or type(total) is not int:
            raise RuntimeError(f"a client says it is {client_id!r} of {total!r}")
        answers.append((reply.metadata.src_node_id, client_id, total))
    return answers
