"""Flower's grid with changes: the nodes it shows, and when it returns replies."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from httpx import HTTPError

from f110_fl.engines.flower.internals import ErrorCode, Run
from f110_fl.federation.patience import Patience

POLL_SHARE: Final = 0.02  # interval between polls for replies, as a part of the wait so far
POLL_REST: Final = 4.0  # interval, in times of what the poll took; a deployed server's takes long
POLL_RANGE: Final = (0.005, 1.0)  # s, bounds of the interval
LOST: Final = ("ActorDied", "ActorUnavailable", "NodeDied", "WorkerCrashed")  # errors of Ray


def pull(grid: Grid, number: str, asked: Message) -> list[Message]:
    """Return the reply to one message, if it is there.

    Flower rebuilds a reply from what the client sent, and raises if that is no message. Replies
    are fetched one by one, so that others are not lost with it.

    Args:
        grid: Where the message was sent.
        number: Its id there.
        asked: The message.
    """
    try:
        return list(grid.pull_messages([number]))
    except (OSError, RuntimeError, HTTPError):  # of the connection
        raise
    except Exception as error:  # of any kind: the bytes are the client's
        reason = f"its reply is no message: {type(error).__name__}: {error}"
        return [Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, reason), reply_to=asked)]


def pause(waited: float, looked: float) -> None:
    """Sleep between two looks for replies.

    Args:
        waited: How long they have been waited for, s.
        looked: How long the last look took, s.
    """
    least, most = POLL_RANGE
    time.sleep(min(max(POLL_SHARE * waited, POLL_REST * looked, least), most))


class WrappedGrid(Grid):
    """A grid that forwards every call to another one."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def get_node_ids(self) -> Iterable[int]:
        """See Flower."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[Any]:
        """See Flower."""
        return self._grid.get_nodes()

    def set_run(self, run: Run) -> None:
        """See Flower."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """See Flower."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See Flower."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Flower."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Flower."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Flower."""
        return self._grid.send_and_receive(messages, timeout=timeout)


class Chosen(WrappedGrid):
    """Shows chosen nodes only, since Flower's strategies sample from all nodes they see."""

    def __init__(self, grid: Grid, nodes: Iterable[int]) -> None:
        super().__init__(grid)
        self._nodes = list(nodes)

    def get_node_ids(self) -> Iterable[int]:
        """Return the chosen nodes."""
        return list(self._nodes)


class Streaming(WrappedGrid):
    """Returns each reply as it arrives, where Flower's grids collect all of them first.

    So the server handles one while clients still work on others, and need not hold them all.
    """

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Send messages now; return an iterator that waits for their replies.

        Args:
            messages: What to send.
            timeout: Longest wait, s; None: see `f110_fl.federation.patience`.
        """
        messages = list(messages)
        ids = list(self.push_messages(messages))
        waiting = {i: message for i, message in zip(ids, messages, strict=False) if i}
        return self._replies(waiting, Patience(len(waiting), timeout))

    def _replies(self, waiting: dict[str, Message], patience: Patience) -> Iterator[Message]:
        while waiting:
            over, looked = patience.left() <= 0, 0.0
            for number in sorted(waiting):
                begin = time.monotonic()
                replies = pull(self, number, waiting[number])
                looked += time.monotonic() - begin
                for reply in replies[:1]:
                    del waiting[number]
                    patience.count()
                    yield reply
            if over and waiting:
                patience.tell(len(waiting))
                return
            if waiting:
                pause(patience.waited(), looked)


class LostActorError(RuntimeError):
    """An actor of Ray, or the node that it was on, has died."""


class OnRay(Streaming):
    """The grid of Flower's simulation runtime, which ends the run when an actor has died.

    Flower would go on giving messages to it, and each would cost a client the round.
    """

    # Virtual clients have ids, but no keys.
    get_nodes = Grid.get_nodes

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Flower.

        Raises:
            LostActorError: If one of the replies says so.
        """
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            reason = reply.error.reason or "" if reply.has_error() else ""
            if any(name in reason for name in LOST):
                raise LostActorError(
                    "an actor of Ray has died, or the node that it was on; what was done is kept"
                )
        return replies
