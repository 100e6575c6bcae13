"""Weights & Biases: one run for each client and one for the server, in one group.

A failure of W&B is reported once and never stops training.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.events import EvaluationEvent, Event, Monitor, RoundEvent
from f110_fl.rundir import RunDir
from f110_fl.tensors import prefixed
from f110_fl.training.metrics import episode_values

CLOSE_TIMEOUT = 60.0  # s that the end of a run waits for W&B
FOLLOW_INTERVAL = 1.0  # s between two polls of the run's files


class WandbSink:
    """Passes events to W&B on a thread of its own."""

    def __init__(self, scenario: Scenario, rundir: RunDir) -> None:
        self._scenario = scenario
        self._rundir = rundir
        # A sweep's agent gives this process one run, for the role that the sweep compares.
        swept = "WANDB_SWEEP_ID" in os.environ
        judged = "server" if scenario.federated.enabled else "client_00"
        self._only = judged if swept else None
        self._time = time.strftime("%Y%m%d-%H%M%S")
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def handle(self, event: Event) -> None:
        """Take the next event; return at once."""
        self._events.put(event)

    def close(self) -> None:
        """Wait until everything is recorded, at most ``CLOSE_TIMEOUT``."""
        self._events.put(None)
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            _warn(f"did not finish within {CLOSE_TIMEOUT:.0f} s")

    def _work(self) -> None:
        runs: dict[str, Any] = {}
        try:
            while (event := self._events.get()) is not None:
                role, values = _log_values(event)
                if self._only not in (None, role):
                    continue
                if role not in runs:
                    runs[role] = self._start(role)
                runs[role].log(values)
            for run in runs.values():
                run.finish()
        except Exception as error:  # W&B may raise anything, and must not stop training
            _warn(f"{type(error).__name__}: {error}")

    def _start(self, role: str) -> Any:
        import wandb

        settings = self._scenario.wandb
        words = {
            "scenario": self._scenario.name,
            "seed": self._scenario.shared_seed,
            "time": self._time,
            "prefix": settings.prefix,
            "role": role,
        }
        return wandb.init(
            project=settings.project,
            group=settings.group_template.format_map(words),
            name=settings.name_template.format_map(words),
            config=self._scenario.model_dump(mode="json"),
            dir=self._rundir.root,
            mode=wandb_mode(),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )


def is_tracked(scenario: Scenario) -> bool:
    """Return whether W&B records the scenario's runs."""
    return scenario.wandb.enabled and wandb_mode() != "disabled"


def wandb_mode() -> Any:
    """Return ``WANDB_MODE`` if set; otherwise online with an API key, offline without."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode
    has_key = bool(os.environ.get("WANDB_API_KEY")) or "wandb" in _netrc()
    return "online" if has_key else "offline"


def _netrc() -> str:
    """Return the text of the file with ``wandb login``'s key, "" if it cannot be read."""
    try:
        path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return ""


def _log_values(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the role of an event's W&B run, and the values to log there."""
    if isinstance(event, EvaluationEvent):
        found = event.found
        return "server", {"round": found["round"], **prefixed(found["on"], found["metrics"])}
    if isinstance(event, RoundEvent):
        summary = event.summary
        return "server", {
            "round": summary["round"],
            "seconds": summary["seconds"],
            "clients": len(summary["clients"]),
            **summary["metrics"],
        }
    record, result = event.record, event.record.result
    values = {
        "episode": record.episode,
        "env_steps": record.env_steps,
        "round": record.round,
        f"{record.kind}/steps": result.steps,
        f"{record.kind}/steps_per_s": result.steps / max(result.seconds, 1e-9),
    }
    return f"client_{event.client_id:02d}", values | episode_values(record) | record.losses


def _warn(reason: str) -> None:
    print(f"W&B: {reason}; training goes on without it", file=sys.stderr)  # noqa: T201


@contextmanager
def recorded(scenario: Scenario, rundir: RunDir) -> Iterator[None]:
    """Record the run in ``rundir`` with W&B, on a thread, while the block runs."""
    if not is_tracked(scenario):
        yield
        return
    sink, monitor, done = (
        WandbSink(scenario, rundir),
        Monitor(rundir, scenario.federated.clients),
        threading.Event(),
    )

    def follow() -> None:
        while not done.wait(FOLLOW_INTERVAL):
            monitor.tell(sink)

    thread = threading.Thread(target=follow, name="wandb-monitor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        monitor.tell(sink)
        sink.close()
