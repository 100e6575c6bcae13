"""The orders that are not answered yet, and the virtual clock that says whose reply is next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import torch
from flwr.app import ArrayRecord

from f110_fl.config.asynchronous import AsynchronousConfig
from f110_fl.federation.arrays import to_arrays, to_tensors
from f110_fl.tensors import prefixed, unprefixed
from server.strategy import Sent


class Pending(NamedTuple):
    """An order that is not answered yet.

    Attributes:
        sent: What it starts from.
        due: Virtual time at which its reply is taken.
    """

    sent: Sent
    due: float


class Orders:
    """Who has which order, and until when by the virtual clock.

    An order takes 1 / speed of its client. Of those that end at the same time, that of the lowest
    client is first.

    Args:
        mixed: The clients' speeds.

    Attributes:
        now: Virtual time: that at which the last reply was taken.
        pending: The orders, by client.
    """

    def __init__(self, mixed: AsynchronousConfig) -> None:
        self._mixed = mixed
        self.now = 0.0
        self.pending: dict[int, Pending] = {}

    def give(self, clients: Iterable[int], sent: Sent, most: int) -> None:
        """Give orders to clients that have none, to those first that will be done first.

        Args:
            clients: Who may have one.
            sent: What they start from.
            most: Largest number of orders that may be pending then.
        """
        due = {c: self.now + self._mixed.duration(c) for c in clients if c not in self.pending}
        for client_id in sorted(due, key=lambda c: (due[c], c)):
            if len(self.pending) < most:
                self.pending[client_id] = Pending(sent, due[client_id])

    def turns(self) -> list[int]:
        """Return the clients with orders, in the order in which their replies are taken."""
        return sorted(self.pending, key=lambda client: (self.pending[client].due, client))

    def take(self, client_id: int) -> Sent:
        """End an order, with a usable reply or without, and return what it started from."""
        sent, due = self.pending.pop(client_id)
        self.now = max(self.now, due)
        return sent

    def models(self, clients: Collection[int] | None = None) -> dict[int, ArrayRecord]:
        """Return the tensors that orders start from, by round.

        Args:
            clients: Whose orders; None: all.
        """
        chosen = self.pending if clients is None else clients
        found = [self.pending[client_id].sent for client_id in chosen]
        return {sent.number: sent.arrays for sent in found}

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a round's commit keeps: who has which round's order, its tensors, times."""
        clients = sorted(self.pending)
        found = [self.pending[client_id] for client_id in clients]
        kept = {
            "clients": torch.tensor(clients, dtype=torch.int64),
            "rounds": torch.tensor([order.sent.number for order in found], dtype=torch.int64),
            "due": torch.tensor([order.due for order in found], dtype=torch.float64),
            "now": torch.tensor(self.now, dtype=torch.float64),
        }
        for number, arrays in self.models().items():
            kept |= prefixed(f"{number:05d}", to_tensors(arrays))
        return kept

    def load(self, kept: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state`."""
        self.now = float(kept["now"])
        start = {
            number: to_arrays(unprefixed(f"{number:05d}", kept))
            for number in kept["rounds"].unique().tolist()
        }
        columns = (kept[name].tolist() for name in ("clients", "rounds", "due"))
        self.pending = {
            client_id: Pending(Sent(number, start[number]), due)
            for client_id, number, due in zip(*columns, strict=True)
        }
