"""The federation's clients among Flower's nodes: which are connected, which are sampled."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from f110_fl.config.scenario import Scenario
from f110_fl.engines.flower.internals import node_keys
from f110_fl.errors import UserError
from f110_fl.federation.messages import Identity, brief, identity_query, shown
from f110_fl.federation.versions import Versions
from f110_fl.reporting import announce
from f110_fl.reporting.announce import Tell, silent
from f110_fl.seeding import Use, stream

log = logging.getLogger("flwr")

POLL_INTERVAL = 0.5  # s between two polls for nodes
QUERY_TIMEOUT = 30.0  # s that a node has to identify itself
ASK_AGAIN = 10.0  # s after which a node without a usable answer is asked again, doubled each time
ASK_AGAIN_MOST = 600.0  # s
MOST_TOLD = 5  # nodes left out that the line of an error names
MOST_IDS = 20  # clients that a line names


class ClientRegistry:
    """Client ids of Flower's nodes; node ids are random and change when a node returns.

    Args:
        keys: Client id of each public key, see `f110_fl.engines.credentials.public_keys`. With
            them, only a node that holds a client's key is that client, whatever others say. None:
            a client is who it says it is, and of two the later counts.
        tell: Called with ``announce.NOTE`` and why a node is left out.
        versions: What a client must have installed to take part; nothing by default.
    """

    def __init__(
        self,
        keys: Mapping[bytes, int] | None = None,
        tell: Tell = silent,
        versions: Versions = Versions(),  # noqa: B008 - it is immutable
    ) -> None:
        self._tell = tell
        self._versions = versions
        self.total: int | None = None  # of the run; if not known, as most nodes report it
        self._keys = keys
        self._identity: dict[int, Identity] = {}  # of every node that has ever answered
        self._left_out: dict[int, str] = {}  # why, by node
        self._failed: dict[int, tuple[int, float]] = {}  # how often, and when to ask again

    def key_of(self, client_id: int) -> bytes | None:
        """Return the public key of a client, by which it signs; None: no keys are known."""
        if self._keys is None:
            return None
        return next((key for key, owner in self._keys.items() if owner == client_id), b"")

    def online(self, grid: Grid) -> dict[int, int]:
        """Return the ids of the connected nodes, by client id.

        A client that reconnects as another node replaces its former node. A node that disagrees
        with its key, with the size of the federation or with the run's versions is named once, and
        left out.
        """
        nodes = list(grid.get_node_ids())
        held = node_keys(grid) if self._keys is not None else {}
        if self._keys is not None:
            strangers = [node for node in nodes if held.get(node) not in self._keys]
            for node in strangers:  # they are not even asked
                self._leave_out(node, "its key is none of a client's")
            nodes = [node for node in nodes if node not in set(strangers)]
        self._ask(grid, nodes)
        here = set(nodes)
        present = {node: said for node, said in self._identity.items() if node in here}
        total = self.total or _most_frequent(found.num_clients for found in present.values())
        online: dict[int, int] = {}
        for node, said in present.items():
            reason = self._contradiction(said, total, held.get(node))
            if not reason:
                self._left_out.pop(node, None)
                self._failed.pop(node, None)
                online[said.client_id] = node
            elif self._due(node) or node not in self._left_out:
                self._fail(node, reason)
        return online

    def wait(self, grid: Grid, total: int | None, least: int, timeout: float) -> None:
        """Wait until all clients are connected or, at the end of the wait, enough of them.

        Args:
            grid: Flower's grid.
            total: Number of clients; None: as most nodes report it.
            least: Smallest number of clients to start with.
            timeout: Longest wait, s.

        Raises:
            UserError: If fewer than ``least`` clients are connected when the wait ends.
        """
        deadline = time.monotonic() + timeout
        self.total = total
        while True:
            present = self.online(grid)
            known = total or _most_frequent(i.num_clients for i in self._identity.values())
            missing = sorted(set(range(known or 1)) - set(present))
            if known is not None and not missing:
                break
            if time.monotonic() >= deadline:
                if known is None or known - len(missing) < least:
                    raise UserError(self._who_is_missing(missing, known, timeout))
                log.warning("Starting without clients %s, which did not connect", _few(missing))
                break
            log.info("Waiting for clients %s", _few(missing))
            time.sleep(POLL_INTERVAL)
        self.total = known

    def _who_is_missing(self, missing: list[int], total: int | None, timeout: float) -> str:
        reasons = [f"{_node(node)}: {reason}" for node, reason in sorted(self._left_out.items())]
        left_out = f"; left out: {'; '.join(reasons[:MOST_TOLD])}" if reasons else ""
        return f"clients {_few(missing)} of {total} did not connect within {timeout:g} s{left_out}"

    def _contradiction(self, said: Identity, total: int | None, key: bytes | None) -> str:
        """Return why a node is not who it says it is, "" if it is."""
        if total is not None and said.num_clients != total:
            return (
                f"the run is for {total} clients, but it was started with "
                f"--total-clients {said.num_clients}"
            )
        if self._keys is not None:
            owner = self._keys[key] if key is not None else None
            if owner != said.client_id:
                return (
                    f"it says that it is client {said.client_id}, but has the key of client {owner}"
                )
        differing = self._versions.differing(said.versions, "in the run", "there")
        return f"client {said.client_id}'s versions differ: {differing}" if differing else ""

    def _leave_out(self, node: int, reason: str) -> None:
        if self._left_out.get(node) != reason:
            self._left_out[node] = reason
            log.warning("%s is left out: %s", _node(node), reason)
            self._tell(announce.NOTE, {"message": f"{_node(node)} is left out: {reason}"})

    def _ask(self, grid: Grid, nodes: Collection[int]) -> None:
        """Ask nodes for the client ids with which they were started.

        One that was away is asked again, since it may have been started anew. So is one without a
        usable answer, each time after twice as long: waiting for it must not hold up the others.
        """
        for node in set(self._identity) - set(nodes):
            del self._identity[node]
        again = [node for node in nodes if self._due(node)]
        if not again:
            return
        queries = {
            node: Message(identity_query(self._versions), node, MessageType.QUERY) for node in again
        }
        replies = grid.send_and_receive(list(queries.values()), timeout=QUERY_TIMEOUT)
        found: dict[str, int] = {}
        silent = set(again)
        for reply in replies:
            found = found or {query.metadata.message_id: n for n, query in queries.items()}
            # A reply's sender is what it says; what it replies to is checked by Flower.
            node = found.get(reply.metadata.reply_to_message_id, 0)
            if node not in silent:
                continue
            silent.discard(node)
            reason = self._read(node, reply)
            if reason:
                self._fail(node, reason)
        for node in sorted(silent):
            self._fail(node, "it did not say who it is in time")

    def _read(self, node: int, reply: Message) -> str:
        """Keep the identity in a reply, or return why there is none."""
        try:
            if reply.has_error():
                return f"it failed to identify itself: {brief(reply.error.reason or '')}"
            said = Identity.from_content(reply.content)
        except Exception as error:  # whatever a reply is, it must not end the run
            return f"it identified itself wrongly: {error}"
        self._identity.pop(node, None)
        self._identity[node] = said  # the last: of two nodes that are one client, the later counts
        return ""

    def _due(self, node: int) -> bool:
        if node in self._identity and node not in self._left_out:
            return False
        return time.monotonic() >= self._failed.get(node, (0, 0.0))[1]

    def _fail(self, node: int, reason: str) -> None:
        times = self._failed.get(node, (0, 0.0))[0] + 1
        pause = min(ASK_AGAIN * 2.0 ** (times - 1), ASK_AGAIN_MOST)
        self._failed[node] = times, time.monotonic() + pause
        self._leave_out(node, shown(reason))


def _node(node: int) -> str:
    return f"node {node}"


def _few(clients: list[int]) -> str:
    """Return client ids as a list that is short enough for a line."""
    return f"{clients}" if len(clients) <= MOST_IDS else f"{clients[:MOST_IDS]}, ..."


def _most_frequent(sizes: Iterable[int]) -> int | None:
    """Return the number that occurs most often, of several the smallest; None of none."""
    counts = Counter(sizes)
    return min(counts, key=lambda size: (-counts[size], size)) if counts else None


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
