#!/usr/bin/env python3
"""Train a scenario, or a grid of scenarios, with federated clients or independent replicas."""

from __future__ import annotations

from f110_fl.runs import interrupt

if __name__ == "__main__":
    interrupt.end_at_once()  # until there is something to tidy up

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from rich.console import Console

    from f110_fl.reporting.events import Sink
    from f110_fl.reporting.pages.live import LivePage
    from f110_fl.runs.plan import Backend, RunPlan
    from f110_fl.runs.session import Session


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    from f110_fl.commandline import OneLineParser, listed
    from f110_fl.loading.arguments import add_arguments, variables_alone

    parser = OneLineParser(
        prog="run.py",
        description=__doc__,
        epilog=f"variables without a flag:\n{listed(variables_alone())}\n\nA flag wins over a "
        "variable, and a variable over the scenario.",
    )
    add_arguments(parser)
    return parser


def simulate(root: Path, max_parallel: int, backend: Backend) -> None:
    """Run the federation in ``root`` with virtual clients, in this machine's workers or in Ray."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    from f110_fl.loading.scenarios import read_resolved
    from f110_fl.rundir import RunDir

    server_app = partial(_server_app, root, backend)
    clients = read_resolved(RunDir(root).config).federated.clients
    if backend == "ray":
        from f110_fl.engines import ray_runtime

        app = "clients.client_app:app"
        ray_runtime.simulate(server_app, app, clients, max_parallel, root)
    else:
        from f110_fl.engines import simulation

        preload = ("clients.preloaded",)
        simulation.simulate(server_app, _client_app, clients, max_parallel, preload)


def _server_app(root: Path, backend: Backend) -> ServerApp:
    from f110_fl.runs.startup import without_collections

    with without_collections():
        from server.grids import OnRay
        from server.server_app import prepared

    return prepared(root, OnRay if backend == "ray" else None)


def _client_app() -> ClientApp:
    from clients.client_app import app

    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 1 the run failed, 2 wrong input, 130 interrupted."""
    try:
        return _answered(argv)
    except KeyboardInterrupt:
        interrupt.handled()
    except Exception:
        interrupt.handled()
        if not interrupt.asked():
            raise
    print(interrupt.TOLD, file=sys.stderr)  # noqa: T201
    return interrupt.INTERRUPTED


def _answered(argv: Sequence[str] | None) -> int:
    """Run, and answer wrong input and the system's errors with one line."""
    from f110_fl.commandline import answered
    from f110_fl.runs.startup import check_working_directory, open_standard_streams

    def work() -> int:
        check_working_directory()
        return _run(build_parser().parse_args(argv))

    open_standard_streams()
    return answered("run.py", work)


def run_cell(words: Sequence[str]) -> None:
    """Run one run of a grid, whose directory is prepared, in this process."""
    from f110_fl.loading.flags import VARIABLES

    for name in VARIABLES:  # the prepared scenario already contains them
        os.environ.pop(name, None)
    sys.exit(main(words))


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from f110_fl.loading.flags import idle_variables
    from f110_fl.runs import preflight
    from f110_fl.runs.logs import largest_log
    from f110_fl.runs.plan import own_directory, resolve_plan
    from f110_fl.runs.startup import ensure_kernel_cache, without_collections
    from f110_fl.sweeps import runner

    largest_log(os.environ)  # children read it
    console = Console(stderr=True)
    if arguments.fetch is not None:
        from f110_fl.engines.fetching import fetch

        interrupt.install()
        return fetch(arguments, console)
    for line in ensure_kernel_cache():
        console.out(f"run.py: warning: {line}", highlight=False)
    if arguments.superlink is not None:
        from f110_fl.engines.submission import submit

        interrupt.install()
        return submit(arguments, os.environ, console)
    if arguments.grid is not None or runner.is_sweep(arguments.resume):
        interrupt.install()
        return runner.run_sweep(arguments, os.environ, console, run_cell)
    if arguments.mode == "eval" and arguments.stress is not None:
        from f110_fl.sweeps.stress_run import run_stress

        interrupt.install()
        return run_stress(arguments, os.environ, console)
    with without_collections():
        plan = resolve_plan(arguments, os.environ)
        preflight.check(plan)
    evaluates = plan.mode == "eval"
    lines = idle_variables(os.environ) if evaluates else preflight.warnings(plan.scenario)
    for line in lines:
        console.out(f"run.py: warning: {line}", highlight=False)
    interrupt.install()
    with own_directory(plan) as own:
        if own.mode == "eval":
            from f110_fl.runs.evaluate import evaluate

            return evaluate(own, console)
        return _train(own, console)


def _train(plan: RunPlan, console: Console) -> int:
    """Run the plan's clients, show their progress and, at the end, their files."""
    from f110_fl.federation.manifest import manifested
    from f110_fl.reporting.summary import closing_lines
    from f110_fl.runs.directory import prepare_directory
    from f110_fl.runs.session import Session

    scenario, rundir = plan.scenario, plan.rundir
    live = None
    if plan.live is not None:  # before anything is written: the port may be busy
        from f110_fl.reporting.pages.live import LivePage

        live = LivePage(scenario, rundir, plan.live)
    own: AbstractContextManager[None] = nullcontext()
    proven: AbstractContextManager[None] = nullcontext()
    if plan.hosts:
        own = prepare_directory(scenario, rundir, resumed=plan.resumed)
        # clients that were started by hand may write on for a while
        others = ("logs", "clients") if plan.client_id is not None else ()
        proven = manifested(rundir, partial(console.out, highlight=False), others)
    with own:
        sinks = _sinks(plan, console, live)
        try:
            with proven, Session(rundir, sinks, scenario.federated.clients) as session:
                status = _run_clients(session, plan)
        finally:  # also of an interrupted run
            try:
                lines = closing_lines(scenario, rundir, nodes=plan.backend == "ray")
            except Exception as error:  # what only shows a run must not end it
                lines = [f"run.py: files of {rundir.root}: {type(error).__name__}: {error}"]
            for line in lines:
                console.out(line, highlight=False)
    if status:
        for failure in session.failures:
            console.out(f"run.py: {failure}", highlight=False)
        console.out(f"run.py: the run failed; see {rundir.logs}", highlight=False)
    return status


def _sinks(plan: RunPlan, console: Console, live: LivePage | None) -> list[Sink]:
    """Return what shows or stores a run's events; the report is written before W&B takes it."""
    from f110_fl.reporting.console import ConsoleSink
    from f110_fl.reporting.pace import Pace
    from f110_fl.reporting.pages.finish import ReportSink
    from f110_fl.reporting.summary import trained_episodes
    from f110_fl.reporting.tensorboard import TensorBoardSink
    from f110_fl.reporting.tracking import WandbSink, is_tracked

    scenario, rundir = plan.scenario, plan.rundir
    pace = Pace(
        scenario,
        trained_episodes(scenario, rundir),
        parallel=None if plan.engine == "deployment" else plan.max_parallel,
        resumed=plan.resumed,
    )
    sinks: list[Sink] = [ConsoleSink(scenario, console, pace)]
    if live is not None:
        console.out(f"Live page       {live.url}", highlight=False)
        sinks.append(live)
    if plan.hosts:
        say = partial(console.out, highlight=False)
        sinks.append(ReportSink(scenario, rundir, plan.replay, say))
        sinks += [WandbSink(scenario, rundir)] if is_tracked(scenario) else []
        sinks += [TensorBoardSink(scenario, rundir)] if plan.tensorboard else []
    return sinks


def _run_clients(session: Session, plan: RunPlan) -> int:
    """Run the plan's clients with its engine and return the exit status."""
    match plan.engine:
        case "replicas":
            from f110_fl.engines.replicas import run_replicas

            return run_replicas(session, plan.scenario, plan.max_parallel)
        case "simulation":
            from f110_fl.runs.directory import spare_files

            root = session.rundir.root
            with spare_files(session.rundir):
                federation = session.start(
                    "federation", simulate, root, plan.max_parallel, plan.backend
                )
                session.wait(federation)
            return 1 if session.ended(federation) else 0
        case "deployment":
            from f110_fl.engines import deployment

            if plan.hosts:
                return deployment.host(session, plan.scenario, plan.clients)
            (client_id,) = plan.clients
            return deployment.join(session, plan.scenario, client_id)


if __name__ == "__main__":
    sys.exit(main())
