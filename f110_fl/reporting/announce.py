"""Events that a run's server sends through Flower's log to whoever follows the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from f110_fl.errors import UserError
from f110_fl.files import json_objects
from sim.plugins import PluginError

# The start of an event's line. The control character is in no text that came from a client, since
# `messages.shown` escapes it, nor in JSON: so only the server itself can write an event.
MARK: Final = "\x02f110-fl-event "

STARTED: Final = "started"  # root, scenario (JSON), rounds: number completed before
ROUND: Final = "round"  # the round's metrics.json
EVALUATION: Final = "evaluation"  # a line of evaluations.jsonl
FAILED: Final = "failed"  # message


Tell: TypeAlias = Callable[[str, dict[str, Any]], None]  # called with an event's kind and values


def silent(_kind: str, _values: dict[str, Any]) -> None:
    """Ignore an event."""


def announce(kind: str, values: dict[str, Any]) -> None:
    """Print an event as one line."""
    print(f"{MARK}{json.dumps({'event': kind} | values)}", flush=True)  # noqa: T201


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


def announced(line: str) -> dict[str, Any] | None:
    """Return the event in a line of a log, None for any other line."""
    events = json_objects(line.split(MARK, 1)[1:])
    return events[0] if events and "event" in events[0] else None
