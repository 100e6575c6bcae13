"""Flower's grid with changes: the nodes it shows, and when it returns replies."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from f110_fl.engines.flower_internals import Run

POLL_SHARE: Final = 0.02  # interval between polls for replies, as a part of the wait so far
POLL_RANGE: Final = (0.005, 1.0)  # s, bounds of the interval
AT_ONCE: Final = 32  # largest number of replies fetched together


class WrappedGrid(Grid):
    """A grid that forwards every call to another one."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def get_node_ids(self) -> Iterable[int]:
        """See Flower."""
        return self._grid.get_node_ids()

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
            timeout: Longest wait, s; None: until all have replied.
        """
        begin = time.monotonic()
        return self._replies({i for i in self.push_messages(messages) if i}, begin, timeout)

    def _replies(self, waiting: set[str], begin: float, timeout: float | None) -> Iterator[Message]:
        least, most = POLL_RANGE
        while waiting:
            over = timeout is not None and time.monotonic() - begin >= timeout
            some = sorted(waiting)
            for first in range(0, len(some), AT_ONCE):
                for reply in self.pull_messages(some[first : first + AT_ONCE]):
                    waiting.discard(reply.metadata.reply_to_message_id)
                    yield reply
            if over:
                return
            if waiting:
                time.sleep(min(max(POLL_SHARE * (time.monotonic() - begin), least), most))
