"""How long a server waits for the replies of a round."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger("flwr")

FACTOR: Final = 10.0  # wait, in times that half of the clients took
FLOOR: Final = 600.0  # s, shortest wait: kernels are compiled and processes started in it
CEILING: Final = 86_400.0  # s, longest wait, if fewer than half of the clients answer


def limit(waited: float) -> float:
    """Return how long to wait where half of the answers took so long, s."""
    return min(max(FACTOR * waited, FLOOR), CEILING)


class Patience:
    """The wait for replies to messages that were sent together.

    Without a timeout it ends ``FACTOR`` times as late as half of the replies were there, within
    ``FLOOR`` and ``CEILING``. Half of those asked, not of those that answered: so a minority that
    answers at once, or late, or never, neither cuts off the others nor holds them up for long.

    Args:
        asked: Number of messages.
        timeout: Longest wait, s; None: as above.
        clock: Seconds from some beginning.
    """

    def __init__(
        self,
        asked: int,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._half = (asked + 1) // 2
        self._timeout = timeout
        self._clock = clock
        self._begin = clock()
        self._replies = 0
        self._limit = CEILING if timeout is None else timeout

    def waited(self) -> float:
        """Return the wait so far, s."""
        return self._clock() - self._begin

    def left(self) -> float:
        """Return how long to wait yet, s; 0 or less: no longer."""
        return self._limit - self.waited()

    def count(self) -> None:
        """Take a reply into account when it comes."""
        self._replies += 1
        if self._timeout is None and self._replies == self._half:
            self._limit = limit(self.waited())

    def tell(self, missing: int) -> None:
        """Log that the wait has ended without some replies, and why then."""
        why = "federated.timeout"
        if self._timeout is None:
            why = f"{FACTOR:g} times as long as half of the clients took, at least {FLOOR:g} s"
            if self._replies < self._half:
                why = "more than half of the clients have not answered"
        log.warning(
            "The wait ends after %.0f s without %d replies (%s)", self.waited(), missing, why
        )


class Waits:
    """The waits for replies to orders that are sent one by one.

    Without a timeout, one ends ``FACTOR`` times as late as the middle one of the clients' last
    replies came, within ``FLOOR`` and ``CEILING``; with ``CEILING`` until half of them have
    answered.

    Args:
        clients: Number of clients.
        timeout: Longest wait, s; None: as above.
        clock: Seconds from some beginning.
    """

    def __init__(
        self,
        clients: int,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._half = (clients + 1) // 2
        self._timeout = timeout
        self._clock = clock
        self._begin: dict[int, float] = {}
        self._last: dict[int, float] = {}  # how long each client's last reply took

    def sent(self, client_id: int) -> None:
        """Begin the wait for a client."""
        self._begin[client_id] = self._clock()

    def answered(self, client_id: int) -> None:
        """Take a client's reply into account."""
        self._last[client_id] = self._clock() - self._begin[client_id]

    def over(self, client_id: int) -> bool:
        """Return whether to wait no longer for a client."""
        return self._clock() - self._begin[client_id] >= self._limit()

    def _limit(self) -> float:
        if self._timeout is not None:
            return self._timeout
        if len(self._last) < self._half:
            return CEILING
        return limit(sorted(self._last.values())[self._half - 1])
