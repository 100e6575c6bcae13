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
            self._limit = min(max(FACTOR * self.waited(), FLOOR), CEILING)

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
