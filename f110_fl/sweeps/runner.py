"""Runs a grid: each run has a process, a log and a directory of its own."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from f110_fl.errors import UserError
from f110_fl.files import is_file, write_atomic
from f110_fl.loading.flags import outside_overrides
from f110_fl.loading.scenarios import dump_scenario, read_resolved
from f110_fl.reporting.commands import command_line
from f110_fl.reporting.console import SILENCE, print_table, whole
from f110_fl.reporting.summary import is_complete
from f110_fl.reporting.tensorboard import check_installed
from f110_fl.rundir import RunDir
from f110_fl.runs import directory, preflight
from f110_fl.runs.inputs import check_inputs
from f110_fl.runs.plan import parallel_number, resolve_engine
from f110_fl.runs.session import Session
from f110_fl.sweeps.grid import GRID, Cell, Grid, load_grid, read_grid, write_grid
from f110_fl.sweeps.results import Result, RunProgress, earlier_seconds, write_results

CellTarget = Callable[[Sequence[str]], None]
STYLES = {"running": "bold", "done": "green", "failed": "red", "stopped": "yellow"}


def run_sweep(
    arguments: argparse.Namespace, environ: Mapping[str, str], console: Console, target: CellTarget
) -> int:
    """Run a new grid, or the remaining runs of a resumed one.

    Each run is a child process, in which ``target`` is called with run.py's command line.

    Returns:
        Exit status: 0 if every run is complete, else 1.

    Raises:
        UserError: For any mistake in the grid or one of its runs; then nothing is started.
    """
    grid = _resumed(arguments, environ) if arguments.grid is None else _new(arguments, environ)
    for cell in grid.cells:
        if not cell.scenario.learners:
            raise UserError(f"{cell.name}: nothing learns in its scenario")
        resolve_engine(arguments.engine, cell.scenario)
    parallel = parallel_number(arguments.max_parallel)
    if arguments.tensorboard:
        check_installed()
    _check_environments(grid)
    for cell in grid.cells:
        for line in preflight.futile(cell.scenario):
            console.out(f"run.py: warning: {cell.name}: {line}", highlight=False)
    with _own(grid, resumed=arguments.grid is None) as own:
        return _run_all(own, arguments, console, target, parallel)


def _run_all(
    grid: Grid,
    arguments: argparse.Namespace,
    console: Console,
    target: CellTarget,
    parallel: int,
) -> int:
    """Run what is not complete of a grid, in a directory that no other process uses."""
    rundir = RunDir(grid.root)
    with directory.lock_directory(grid.root):
        if arguments.grid is not None:
            _check_unused(grid)  # again: another process may have begun and ended since
            _prepare(grid)
        starters = []
        share = max(1, (os.cpu_count() or 1) // parallel)
        with closing(_Table(grid, console)) as table, _SweepSession(rundir, table) as session:
            for cell in grid.cells:
                if table.results[cell.name].status != "done":
                    words = _command(cell, grid.root, arguments, share)
                    starters.append(partial(session.start_cell, cell.name, target, words))
            session.run_all(starters, parallel)
    return 0 if all(result.status == "done" for result in table.results.values()) else 1


@contextmanager
def _own(grid: Grid, *, resumed: bool) -> Iterator[Grid]:
    """Give a new grid, whose directory is named by the time, one that no other process has."""
    if resumed:
        yield grid
        return
    with directory.claimed(grid.root, grid.template) as root:
        yield grid.at(root)


def _check_unused(grid: Grid) -> None:
    directory.check_unused(grid.root)
    if (grid.root / GRID).exists():
        raise UserError(f"{grid.root} already holds a grid; choose another with FED_ROOT")


def _check_environments(grid: Grid) -> None:
    """Check what each of the runs needs: environments, encoders, mirrors, policies and devices."""
    checked: set[str] = set()
    for cell in grid.cells:
        try:
            preflight.check_encoders(cell.scenario)
            preflight.check_environment(cell.scenario, checked)
            preflight.check_mirrors(cell.scenario)
            preflight.check_initial(cell.scenario, RunDir(grid.root / cell.name))
        except UserError as error:
            raise UserError(f"{cell.name}: {error}") from None
        preflight.check_device(cell.scenario)


def is_sweep(directory: str | None) -> bool:
    """Return whether a directory contains a grid."""
    return directory is not None and is_file(Path(directory) / GRID)


def _new(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Grid:
    grid = load_grid(Path(arguments.grid), outside_overrides(arguments, environ))
    if "{time}" not in grid.template:
        _check_unused(grid)
    return grid


def _resumed(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Grid:
    outside_overrides(arguments, environ, of_grid=True)  # refuses any
    root = Path(arguments.resume).absolute()
    name, runs = read_grid(root)
    cells = []
    for run, settings in runs.items():
        config = RunDir(root / run).config
        if not is_file(config):
            raise UserError(f"{config}: no such file, although {root / GRID} has this run")
        scenario = read_resolved(config)
        cells.append(Cell(run, settings, scenario))
        if not arguments.changed_files and not is_complete(scenario, RunDir(root / run)):
            check_inputs(RunDir(root / run))
    return Grid(name, root, tuple(cells))


def _prepare(grid: Grid) -> None:
    """Write every run's scenario and finally the list of runs, which marks a grid's directory."""
    for cell in grid.cells:
        rundir = RunDir(grid.root / cell.name)
        rundir.root.mkdir(exist_ok=True)
        write_atomic(rundir.config, dump_scenario(cell.scenario))
    write_atomic(grid.root / GRID, write_grid(grid))


def _command(cell: Cell, root: Path, arguments: argparse.Namespace, share: int) -> list[str]:
    """Return the command line of a run; a new one is resumed before its first round."""
    words = ["--resume", str(root / cell.name), "--engine", arguments.engine]
    if arguments.changed_files:
        words.append("--changed-files")
    if arguments.tensorboard:
        words.append("--tensorboard")
    # Deployed clients all run at once.
    return words if arguments.engine == "deployment" else [*words, "--max-parallel", str(share)]


class _SweepSession(Session):
    """A session whose children are whole runs, each with children of its own."""

    def __init__(self, rundir: RunDir, table: _Table) -> None:
        super().__init__(rundir, [], generations=2)
        self._table = table

    def start_cell(self, name: str, target: CellTarget, words: list[str]) -> BaseProcess:
        """Start a run."""
        child = self.start(name, target, words)
        self._table.started(name)
        return child

    def forward(self) -> None:
        """Show the runs' progress."""
        self._table.refresh()

    def ended(self, child: BaseProcess) -> str:
        """Record the end of a run."""
        reason = super().ended(child)
        self._table.ended(child.name, reason)
        return reason


class _Table:
    """The grid's results: shown live, and written to ``results.*`` after each run."""

    def __init__(self, grid: Grid, console: Console) -> None:
        self._grid = grid
        self._console = console
        self._begun: dict[str, float] = {}  # start times of the current runs
        self._said = time.monotonic()  # when the last line was
        self._progress: dict[str, RunProgress] = {}
        self._scenarios = {cell.name: cell.scenario for cell in grid.cells}
        self.results: dict[str, Result] = {}
        seconds = earlier_seconds(grid.root)
        for cell in grid.cells:
            root = grid.root / cell.name
            status = "waiting"
            with suppress(OSError):  # what cannot be read is told by the run itself
                status = "done" if is_complete(cell.scenario, RunDir(root)) else "waiting"
            self.results[cell.name] = Result(cell.name, cell.settings, str(root), status)
            self.results[cell.name].seconds = seconds.get(cell.name, 0.0)
            self._read_afresh(cell.name)
        self._live = Live(get_renderable=self.render, console=console, transient=True)
        if console.is_terminal:
            self._live.start()

    def started(self, name: str) -> None:
        """Record the start of a run."""
        self._begun[name] = time.monotonic()
        self.results[name].status = "running"
        self._say(f"{name}: started")

    def refresh(self) -> None:
        """Read what the current runs have written."""
        for name in self._begun:
            self.results[name].measure(self._progress[name])
        if time.monotonic() - self._said >= SILENCE:
            self._say(self._running())

    def _running(self) -> str:
        """Return how far the current runs are."""
        done = sum(result.status == "done" for result in self.results.values())
        of = {
            name: f"{self.results[name].episodes}/{self._scenarios[name].episodes}"
            for name in self._begun
        }
        words = (f"{name} {episodes}" for name, episodes in of.items())
        return "  ".join([f"{done}/{len(self.results)} runs done", *words])

    def ended(self, name: str, reason: str) -> None:
        """Record the end of a run, and the reason if it failed."""
        result = self.results[name]
        self._stop(name)
        result.status = "failed" if reason else "done"
        if reason:
            log = RunDir(self._grid.root).logs / f"{name}.log"
            result.failure = _last_words(log) or reason
            line = f"run.py: {name} failed: {result.failure}; see {log}"
            self._console.out(line, highlight=False)
        else:
            self._say(f"{name}: done in {result.seconds:.1f} s")
        self._write()

    def close(self) -> None:
        """Print the table of results; runs that have not ended count as stopped."""
        for name in list(self._begun):
            self._stop(name)
            self.results[name].status = "stopped"
        if self._console.is_terminal:
            self._live.stop()
        self._write()
        print_table(self._console, self.render())
        root = self._grid.root
        lines = [
            f"Directories     {root / '<run>'}",
            f"Results         {root / 'results.csv'}, results.json",
        ]
        if any(result.status != "done" for result in self.results.values()):
            lines.append(f"To go on        {command_line(['--resume', root])}")
        for line in lines:
            self._console.out(line, highlight=False)

    def _stop(self, name: str) -> None:
        result = self.results[name]
        result.seconds += time.monotonic() - self._begun.pop(name)
        self._read_afresh(name)  # a resumed run has removed from its files what it repeated

    def _read_afresh(self, name: str) -> None:
        rundir, clients = RunDir(self._grid.root / name), self._scenarios[name].federated.clients
        self._progress[name] = RunProgress(rundir, clients)
        self.results[name].measure(self._progress[name])

    def _say(self, text: str) -> None:
        if not self._console.is_terminal:
            self._console.out(text, highlight=False)
            self._said = time.monotonic()

    def _write(self) -> None:
        write_results(self._grid.root, self._grid.name, list(self.results.values()))

    def render(self) -> Table:
        """Return the table."""
        table = Table(box=None, pad_edge=False, title=self._grid.name, title_justify="left")
        table.add_column("run", no_wrap=True)  # also the name of its directory
        table.add_column("status", no_wrap=True)
        agents = dict.fromkeys(a for cell in self._grid.cells for a in cell.scenario.learners)
        columns = [f"{agent} {what}" for agent in agents for what in ("success", "return")]
        for name in ("episodes", *columns, "seconds"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, result in self.results.items():
            begun = self._begun.get(name)
            seconds = result.seconds + (time.monotonic() - begun if begun else 0.0)
            values = []
            for agent in agents:
                known = agent in result.success_rate
                values.append(f"{result.success_rate[agent]:.0%}" if known else "-")
                values.append(f"{result.return_[agent]:.1f}" if known else "-")
            table.add_row(
                name,
                result.status,
                f"{result.episodes}/{self._scenarios[name].episodes}",
                *values,
                f"{seconds:.1f}",
                style=STYLES.get(result.status),
            )
        return whole(self._console, table)


def _last_words(log: Path) -> str:
    """Return the reason that the run gave for its failure, "" if none."""
    lines: list[str] = []
    with suppress(OSError), log.open(encoding="utf-8", errors="replace") as file:
        lines = [line.removeprefix("run.py: ").strip() for line in file if line[:8] == "run.py: "]
    causes = [line for line in lines[-8:] if not line.startswith("the run failed")]
    return causes[-1] if causes else ""
