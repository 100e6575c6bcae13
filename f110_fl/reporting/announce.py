"""Events that a run's server sends through Flower's log to whoever follows the run."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from f110_fl.errors import UserError
from f110_fl.files import json_objects
from sim.plugins import PluginError

# The start of an event's line, which a key and the event follow. The control character is in no
# text that came from a client, since `messages.shown` escapes it, nor in JSON.
MARK: Final = "\x02f110-fl-event "
_KEY: Final = secrets.token_hex(16)  # this server's, which no client learns

STARTED: Final = "started"  # root, scenario (JSON), rounds: number completed before
ROUND: Final = "round"  # the round's metrics.json
EVALUATION: Final = "evaluation"  # a line of evaluations.jsonl
NOTE: Final = "note"  # message
FAILED: Final = "failed"  # message


Tell: TypeAlias = Callable[[str, dict[str, Any]], None]  # called with an event's kind and values


def silent(_kind: str, _values: dict[str, Any]) -> None:
    """Ignore an event."""


def begin() -> None:
    """Print this server's key, before anything that a client has sent can be in the log."""
    print(f"{MARK}{_KEY}", flush=True)  # noqa: T201


def announce(kind: str, values: dict[str, Any]) -> None:
    """Print an event as one line."""
    print(f"{MARK}{_KEY} {json.dumps({'event': kind} | values)}", flush=True)  # noqa: T201


@contextmanager
def failure_announced() -> Iterator[None]:
    """Announce why the run failed, if it does."""
    try:
        yield
    except Exception as error:
        told = isinstance(error, UserError | PluginError | RuntimeError)
        kind = "" if told else f"{type(error).__name__}: "
        announce(FAILED, {"message": f"{kind}{error}"})
        raise


class Announcements:
    """Finds a server's events in its log, in which there are texts of clients as well.

    The first key in the log is the server's; what comes with another, or elsewhere than at the
    start of a line, is not the server's word.
    """

    def __init__(self) -> None:
        self._key = ""

    def read(self, line: str) -> dict[str, Any] | None:
        """Return the event in the log's next line, None for any other line."""
        if not line.startswith(MARK):
            return None
        key, _, text = line.removeprefix(MARK).partition(" ")
        self._key = self._key or key
        events = json_objects([text]) if key == self._key else []
        return events[0] if events and "event" in events[0] else None
