"""Asynchronous rounds: a round is one reply, mixed into the global model by its age.

FedAsync (Xie et al. 2019, arXiv 1903.03934): every client has an order at any time. When a reply
has come, the round is closed, and its client goes on from the new global model, so that a slow one
holds up no other. Its reply, made from a model of some rounds ago, counts less for that.

Which reply is next would be a matter of luck. Where clients' speeds are known, a virtual clock says
it (`server.asynchronous.orders`), and the server waits for the reply whose turn it is. What a
round's commit keeps of the pending orders makes a resumed run go on in the same order, from the
same models.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid

from f110_fl.config.asynchronous import AsynchronousConfig
from f110_fl.config.federated import FedProxConfig
from f110_fl.config.scenario import Scenario
from f110_fl.federation.messages import InvalidMessageError, TrainReply
from f110_fl.federation.patience import Waits
from server.asynchronous.orders import Orders
from server.averaging import mix
from server.grids import pause, pull
from server.registry import ClientRegistry
from server.rounds import RoundRecorder
from server.strategy import FederatedStrategy, Sent, some, usable

if TYPE_CHECKING:  # the simulator is imported when it is needed
    from server.evaluation import GlobalEvaluation

log = logging.getLogger("flwr")


class AsynchronousStrategy(FederatedStrategy):
    """Keeps every client at work, and makes a round of each usable reply.

    Flower's loop of rounds is used as it is, but sends and receives nothing itself.

    Args:
        scenario: The run's scenario, in mode asynchronous.
        registry: The clients.
        recorder: See `FederatedStrategy`; so is the next one.
        evaluation: Writes the evaluations' file; None: the global model is not evaluated.
        mixed: How replies are mixed, of the scenario.
        clock: Whether the virtual clock says whose reply is next, or their arrival.
    """

    def __init__(
        self,
        scenario: Scenario,
        registry: ClientRegistry,
        recorder: RoundRecorder,
        evaluation: GlobalEvaluation | None = None,
        *,
        mixed: AsynchronousConfig,
        clock: bool,
    ) -> None:
        super().__init__(scenario, registry, recorder, evaluation)
        self._mixed = mixed
        strategy = scenario.federated.strategy
        self._proximal_mu = strategy.proximal_mu if isinstance(strategy, FedProxConfig) else 0.0
        self._clock = clock
        self._orders = Orders(mixed)
        self._waits = Waits(scenario.federated.clients, scenario.federated.timeout)
        self._sent: dict[int, tuple[Message, str]] = {}  # by this process; with the grid's number
        self._grid: Grid

    def restore(self, initial: ArrayRecord) -> ArrayRecord:
        """Return the global arrays to go on from, and restore the pending orders."""
        arrays = super().restore(initial)
        if self.recorder.orders:
            self._orders.load(self.recorder.orders)
        return arrays

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Give an order to every client that has none; return no messages for Flower to send.

        There are never more orders than rounds left, so that each is used.
        """
        del config
        number = self.true_round(server_round)
        self._started = time.monotonic()
        self._global, self._grid = arrays, grid
        online = self.registry.online(grid)
        for client_id in self._unsent() - set(online):  # it was there when the run was cut off
            self._withdraw(client_id, "it is not connected")
        self.recorder.begin(number, arrays, self._orders.models())
        self._orders.give(online, Sent(number, arrays), self.scenario.rounds - number + 1)
        self._send_orders(online)
        return []

    def _unsent(self) -> set[int]:
        return set(self._orders.pending) - set(self._sent)

    def _withdraw(self, client_id: int, why: str) -> None:
        log.warning("The order of client %d is withdrawn: %s", client_id, why)
        del self._orders.pending[client_id]

    def _send_orders(self, online: Mapping[int, int]) -> None:
        """Send the orders that this process has not sent."""
        clients, pending = sorted(self._unsent()), self._orders.pending
        contents = {
            number: self._order(Sent(number, arrays), self._proximal_mu).to_content()
            for number, arrays in self._orders.models(clients).items()
        }
        messages = [
            Message(contents[pending[client].sent.number], online[client], MessageType.TRAIN)
            for client in clients
        ]
        ids = list(self._grid.push_messages(messages))
        for client_id, message, number in zip(clients, messages, ids, strict=False):
            if number:
                self._sent[client_id] = message, number
                self._waits.sent(client_id)
        for client_id in self._unsent():
            self._withdraw(client_id, "it could not be sent")

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Wait for the next usable reply, mix it into the global model, and record the round.

        Raises:
            RuntimeError: If no client has given one.
        """
        del replies  # there are none: nothing was sent through Flower's loop
        number = self.true_round(server_round)
        client_id, order, reply, dropped = self._take(number)
        self.recorder.written()
        staleness, accepted = number - order, {client_id: reply}
        weight = self._mixed.weight(staleness)
        found, metrics = self._averager.average(number, accepted, self._global)
        arrays = mix(self._global, found, weight)
        self._asked = tuple(sorted({client_id, *dropped}))
        self.recorder.orders = self._orders.state()
        age: dict[str, Any] = {"order": order, "staleness": staleness, "weight": weight}
        if self._clock:
            age["time"] = self._orders.now
        averaged = self._averager.metrics(metrics, accepted)
        more = {"metrics": averaged, "asynchronous": age}
        self._complete(number, arrays, accepted, dropped, more)
        return arrays, metrics

    def _take(self, number: int) -> tuple[int, int, TrainReply, dict[int, str]]:
        """Wait for a usable reply.

        Returns:
            Its client, the round of its order, it, and why others that came before are not used.
        """
        dropped: dict[int, str] = {}
        while self._orders.pending:
            client_id, message = self._next()
            del self._sent[client_id]
            sent = self._orders.take(client_id)
            if message is None:
                dropped[client_id] = "no answer in time"
            else:
                try:
                    reply = usable(message, client_id, partial(self._trained, number, sent))
                except InvalidMessageError as error:
                    dropped[client_id] = str(error)
                else:
                    return client_id, sent.number, reply, dropped
            reason = dropped[client_id]
            log.warning("Round %d goes on without client %d: %s", number, client_id, reason)
        raise RuntimeError(f"round {number}: no client has given a usable reply: {some(dropped)}")

    def _next(self) -> tuple[int, Message | None]:
        """Wait for the reply whose turn it is; return its client and it, or None: it is late."""
        turns = self._orders.turns()
        begin = time.monotonic()
        while True:
            looked = time.monotonic()
            for client_id in turns[:1] if self._clock else turns:
                message, number = self._sent[client_id]
                for reply in pull(self._grid, number, message):
                    self._waits.answered(client_id)
                    return client_id, reply
                if self._waits.over(client_id):
                    return client_id, None
            now = time.monotonic()
            pause(now - begin, now - looked)
