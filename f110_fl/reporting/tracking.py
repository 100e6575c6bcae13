"""Weights & Biases: one run for each client and one for the server, in one group.

A failure of W&B is said once and ends nothing. What its server does not take is recorded offline.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.background import BackgroundSink, first_line, tell, warn
from f110_fl.reporting.events import Monitor
from f110_fl.reporting.values import SERVER, Point, client_role
from f110_fl.rundir import RunDir

FOLLOW_INTERVAL = 1.0  # s between two polls of the run's files
INIT_TIMEOUT = 10.0  # s that W&B's server may take to answer
OLD_MODES = {"dryrun": "offline", "run": "online"}  # W&B's names of them before


class WandbSink(BackgroundSink):
    """Passes the values of events to W&B and, at the end, the run's report.

    Args:
        scenario: The run's scenario.
        rundir: The run's directory, which W&B writes into.
    """

    name: ClassVar[str] = "W&B"

    def __init__(self, scenario: Scenario, rundir: RunDir) -> None:
        self._rundir = rundir
        # A sweep's agent gives this process one run, for the role that the sweep compares.
        swept = "WANDB_SWEEP_ID" in os.environ
        self._judged = SERVER if scenario.federated.enabled else client_role(0)
        self._only = self._judged if swept else None
        self._starter = _Starter(scenario, rundir.root)
        self._runs: dict[str, Any] = {}
        super().__init__(scenario)

    def record(self, point: Point) -> None:
        """Log the values of a point."""
        if self._only not in (None, point.role):
            return
        if point.role not in self._runs:
            run = self._starter.start(point.role)
            run.define_metric("*", step_metric=point.axis)
            self._runs[point.role] = run
        self._runs[point.role].log(point.values)

    def finish(self) -> None:
        """Log the report, if there is one, with the run that is judged, and end all runs."""
        if self._rundir.report.exists() and self._judged in self._runs:
            _log_page(self._runs[self._judged], self._rundir.report, "report")
        for run in self._runs.values():
            run.finish()

    def rest(self) -> str:
        """Return how to send what is in W&B's files."""
        folders = [shlex.quote(str(Path(run.dir).parent)) for run in self._runs.values()]
        return f"; later: wandb sync {' '.join(folders)}" if folders else ""


def record_evaluation(
    scenario: Scenario, root: Path, values: Mapping[str, float], replay: Path | None
) -> None:
    """Record an evaluation as a W&B run of its own, with the role ``eval``.

    Args:
        scenario: The evaluated scenario.
        root: Directory that W&B writes into.
        values: By name.
        replay: Its page, which becomes a panel and an artifact; None: there is none.
    """
    try:
        run = _Starter(scenario, root).start("eval")
        run.log(dict(values))
        if replay is not None:
            _log_page(run, replay, "replay")
        run.finish()
    except Exception as error:  # W&B may raise anything
        warn(WandbSink.name, first_line(error))


class _Starter:
    """Starts W&B runs of one time, and from the first that its server does not take on, offline.

    Args:
        scenario: The scenario, which names the runs and is their config.
        root: Directory that W&B writes into.
    """

    def __init__(self, scenario: Scenario, root: Path) -> None:
        self._scenario = scenario
        self._root = root
        self._mode = wandb_mode()
        self._begun = time.strftime("%Y%m%d-%H%M%S")

    def start(self, role: str) -> Any:
        """Return a new W&B run with this role in its name."""
        if self._mode != "online":
            return self._init(role)
        try:
            return self._init(role)
        except Exception as error:  # no network, another key: W&B may raise anything
            tell(WandbSink.name, f"{first_line(error)}; recorded offline instead")
            self._mode = "offline"
            return self._init(role)

    def _init(self, role: str) -> Any:
        import wandb

        settings = self._scenario.wandb
        words = {
            "scenario": self._scenario.name,
            "seed": self._scenario.shared_seed,
            "time": self._begun,
            "prefix": settings.prefix,
            "role": role,
        }
        return wandb.init(
            project=settings.project,
            group=settings.group_template.format_map(words),
            name=settings.name_template.format_map(words),
            config=self._scenario.model_dump(mode="json"),
            dir=self._root,
            mode=self._mode,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=INIT_TIMEOUT),
        )


def _log_page(run: Any, path: Path, kind: str) -> None:
    """Log an HTML page as a panel, and as an artifact of a type."""
    import wandb

    # A page's Content Security Policy would not let through what W&B injects.
    with path.open(encoding="utf-8") as page:
        run.log({kind: wandb.Html(page, inject=False)})
    artifact = wandb.Artifact(f"{run.id}-{kind}", type=kind)
    artifact.add_file(str(path))
    run.log_artifact(artifact)


def is_tracked(scenario: Scenario) -> bool:
    """Return whether W&B records the scenario's runs."""
    return scenario.wandb.enabled and wandb_mode() != "disabled"


def wandb_mode() -> Any:
    """Return ``WANDB_MODE`` if set; otherwise online with an API key, offline without."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return OLD_MODES.get(mode, mode)
    has_key = bool(os.environ.get("WANDB_API_KEY")) or "wandb" in _netrc()
    return "online" if has_key else "offline"


def _netrc() -> str:
    """Return the text of the file with ``wandb login``'s key, "" if it cannot be read."""
    try:
        path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return ""


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
