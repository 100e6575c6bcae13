"""Flower's apps on one machine: the ServerApp in this process, its clients in worker processes.

Flower's own simulation runtime runs clients in Ray, polls for messages every 0.1 s, gives a client
to whichever actor is idle, and does not replace an actor that died. Here each message goes straight
to a worker, a client returns to the worker that has it open, and a worker that dies costs one
client one round and is replaced. The apps are those of ``flwr run`` and of a deployment and cannot
tell the difference, because all of this implements Flower's `Grid`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from f110_fl.engines import workers
from f110_fl.engines.flower.internals import (
    SUPERLINK_NODE_ID,
    ErrorCode,
    Run,
    plain_log,
    set_message_id,
    task_identity,
)
from f110_fl.engines.workers import MakeClientApp, Worker
from f110_fl.federation.patience import Patience

log = logging.getLogger("flwr")

RUN_ID: Final = 1
READ_AHEAD: Final = 4  # replies per worker that may wait for the server; each is a whole model
MakeServerApp = Callable[[], ServerApp]


def simulate(
    server_app: MakeServerApp,
    client_app: MakeClientApp,
    clients: int,
    max_parallel: int,
    preload: Sequence[str] = (),
) -> None:
    """Run a ServerApp with virtual clients, and return when it is done.

    Args:
        server_app: Returns the server's app; called while the workers start.
        client_app: Returns the clients' app; a module's function, called in every worker.
        clients: K; their ids, Flower's ``partition-id``, are 0 to K - 1.
        max_parallel: Largest number of clients at work at a time.
        preload: Modules that the workers need, imported once for all of them.

    Raises:
        WorkerError: If a worker cannot start.
        Exception: What the ServerApp raises.
    """
    plain_log()
    with (
        task_identity(RUN_ID, SUPERLINK_NODE_ID),
        LocalGrid(client_app, clients, max_parallel, preload) as grid,
    ):
        server_app()(grid, Context(RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), {}))


@dataclass
class _Batch:
    """Messages that were sent together, and the queue of their replies."""

    replies: SimpleQueue[Message] = field(default_factory=SimpleQueue)
    unread: int = 0  # replies in the queue


@dataclass
class _Order:
    """A message for a worker."""

    message: Message
    batch: _Batch

    @property
    def node(self) -> int:
        return self.message.metadata.dst_node_id


class LocalGrid(Grid):
    """Flower's grid over worker processes of this machine; client k is node k + 1.

    A client's messages are handled one after the other, by the client's last worker or, while that
    is busy, by an idle one. See `simulate` for the arguments.
    """

    def __init__(
        self,
        client_app: MakeClientApp,
        clients: int,
        max_parallel: int,
        preload: Sequence[str] = (),
    ) -> None:
        self._client_app = client_app
        self._preload = preload
        self._clients = clients
        self._run = Run.create_empty(RUN_ID)
        self._pushed: dict[str, _Batch] = {}  # by the message's id
        # The threads share what follows, and hold `_changed` while they use it.
        self._changed = threading.Condition()
        self._sent = 0
        self._orders: list[_Order] = []
        self._busy: dict[int, int] = {}  # the worker that handles a node's message
        self._last: dict[int, int] = {}  # the last worker of a node
        self._workers: dict[int, Worker] = {}
        self._failure: Exception | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._attend, args=(index,), daemon=True)
            for index in range(min(max_parallel, clients))
        ]

    def __enter__(self) -> LocalGrid:
        workers.prepare(self._preload)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            for index in self._busy.values():  # a client's directory is whole at any time
                self._workers[index].kill()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # ------------------------------------------------------------------ Flower's interface

    def set_run(self, run: Run) -> None:
        """See Flower."""
        self._run = run

    @property
    def run(self) -> Run:
        """See Flower."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See Flower."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes; virtual clients are always connected."""
        return range(1, self._clients + 1)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Give messages to the workers and return their ids for `pull_messages`.

        Raises:
            WorkerError: If no workers are left.
        """
        ids = []
        for message in messages:
            batch = _Batch()
            ids += self._push([message], batch)
            self._pushed[ids[-1]] = batch
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the available replies to messages with these ids, each once."""
        found = []
        for number in message_ids:
            with suppress(KeyError, Empty):
                found.append(self._pushed[number].replies.get_nowait())
                del self._pushed[number]
        return found

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Give messages to the workers now; return an iterator that waits for their replies.

        Args:
            messages: What to send.
            timeout: Longest wait, s; None: see `f110_fl.federation.patience`. Messages that no
                worker has begun by then are withdrawn, and late replies are discarded.

        Raises:
            WorkerError: If no workers are left.
        """
        batch = _Batch()
        count = len(self._push(messages, batch))
        return self._replies(count, batch, Patience(count, timeout))

    def _replies(self, count: int, batch: _Batch, patience: Patience) -> Iterator[Message]:
        for number in range(count):
            try:
                reply = batch.replies.get(timeout=max(patience.left(), 0.0))
                patience.count()
            except Empty:
                patience.tell(count - number)
                with self._changed:
                    self._orders = [order for order in self._orders if order.batch is not batch]
                return
            with self._changed:
                batch.unread -= 1
                self._changed.notify_all()
            yield reply

    def _push(self, messages: Iterable[Message], batch: _Batch) -> list[str]:
        with self._changed:
            if self._failure is not None:
                raise self._failure
            ids = []
            for message in messages:
                self._sent += 1
                ids.append(str(self._sent))
                set_message_id(message, ids[-1])
                self._orders.append(_Order(message, batch))
            self._changed.notify_all()
        return ids

    # ------------------------------------------------------------------ one thread per worker

    def _attend(self, index: int) -> None:
        """Give messages to one worker until the grid is closed."""
        try:
            worker = self._start(index)
            while (order := self._next(index)) is not None:
                try:
                    self._done(order, worker.answer(order.message))
                except Exception as error:
                    worker.close()
                    if self._closed:  # it was killed for that
                        return
                    log.warning("A worker is replaced: it %s", error)
                    self._done(order, _error(order, f"its worker {error}"))
                    worker = self._start(index)
            worker.close()
        except Exception as error:  # else the server would wait for ever
            with self._changed:
                self._failure = error
                orders, self._orders = self._orders, []
            for order in orders:
                order.batch.replies.put(_error(order, str(error)))

    def _start(self, index: int) -> Worker:
        worker = Worker(self._client_app, self._clients)
        with self._changed:
            self._workers[index] = worker
        return worker

    def _next(self, index: int) -> _Order | None:
        """Wait for the next message of a worker; return None when the grid is closed."""
        with self._changed:
            while not self._closed:
                order = self._choose(index)
                if order is not None:
                    self._orders.remove(order)
                    self._busy[order.node] = self._last[order.node] = index
                    self._changed.notify_all()  # others may take this worker's other clients
                    return order
                self._changed.wait()
        return None

    def _choose(self, index: int) -> _Order | None:
        """Return the first message of this worker's clients, or of one whose worker is not idle."""
        at_work, limit = set(self._busy.values()), READ_AHEAD * len(self._threads)
        found = None
        for order in self._orders:
            owner = self._last.get(order.node)
            if order.node in self._busy or order.batch.unread >= limit:
                continue
            if owner == index:
                return order
            if found is None and (owner is None or owner in at_work):
                found = order
        return found

    def _done(self, order: _Order, reply: Message) -> None:
        with self._changed:
            del self._busy[order.node]
            order.batch.unread += 1
            self._changed.notify_all()  # another message may wait for this client
        order.batch.replies.put(reply)


def _error(order: _Order, reason: str) -> Message:
    return Message(Error(ErrorCode.CLIENT_APP_CRASHED, reason), reply_to=order.message)
