#!/usr/bin/env python3
"""Train a scenario: federated clients in one Flower simulation, or independent replicas.

Or a grid of scenarios, each as above.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    from f110_fl.runs.plan import Settled
    from f110_fl.runs.session import Session

INTERRUPTED = 130  # exit status


class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one line, as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    from f110_fl.loading.flags import add_arguments

    parser = _Parser(
        prog="run.py",
        description=__doc__,
        epilog="Command-line flags win over FED_* variables, these over the scenario.",
    )
    parser.add_argument("--scenario", metavar="FILE", help="scenario, YAML")
    parser.add_argument("--grid", metavar="FILE", help="many runs, YAML: base, matrix, runs")
    parser.add_argument(
        "--resume",
        metavar="RUN_DIR",
        help="go on with a run, exactly; --episodes may extend it; or with a grid",
    )
    parser.add_argument(
        "--mode",
        choices=("train", "eval"),
        default="train",
        help="learn, or run evaluation.episodes greedily and report (default: train)",
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="models to evaluate: best, state or global.safetensors"
    )
    parser.add_argument(
        "--max-parallel",
        metavar="N",
        help="clients, replicas or runs of a grid at a time (default: cores)",
    )
    parser.add_argument(
        "--engine",
        choices=("simulation", "deployment"),
        default="simulation",
        help="clients in one simulation, or a process each with TLS and keys (default: simulation)",
    )
    parser.add_argument(
        "--superlink",
        metavar="HOST:PORT",
        help="run on the clients that are connected to this SuperLink; files are left there",
    )
    parser.add_argument(
        "--root-certificates", metavar="FILE", help="the SuperLink's authority, PEM"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="plain text to the SuperLink; loopback only"
    )
    add_arguments(parser)
    return parser


def simulate(root: Path, max_parallel: int) -> None:
    """Run the federation prepared in ``root`` with virtual clients on this machine."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    from f110_fl.engines import simulation
    from f110_fl.loading.scenarios import parse_resolved
    from f110_fl.rundir import RunDir

    scenario = parse_resolved(RunDir(root).config.read_text(encoding="utf-8"))
    clients = scenario.federated.clients
    simulation.simulate(partial(_server_app, root), _client_app, clients, max_parallel)


def _server_app(root: Path) -> ServerApp:
    from f110_fl.runs.startup import without_collections

    with without_collections():
        from server.server_app import prepared

    return prepared(root)


def _client_app() -> ClientApp:
    from clients.client_app import app

    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 1 the run failed, 2 wrong input, 130 interrupted."""
    from f110_fl.errors import UserError
    from f110_fl.runs import interrupt
    from sim.plugins import PluginError

    try:
        arguments = build_parser().parse_args(argv)
        interrupt.install()
        return _run(arguments)
    except (UserError, PluginError) as error:
        print(f"run.py: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("run.py: interrupted; what was finished is kept", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def run_cell(words: Sequence[str]) -> None:
    """Do one run of a grid, which is prepared in its directory, in this process."""
    from f110_fl.loading.flags import VARIABLES

    for setting in VARIABLES:  # they are in the prepared scenario already
        os.environ.pop(setting.source, None)
    sys.exit(main(words))


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from f110_fl.errors import UserError
    from f110_fl.reporting.console import ConsoleSink
    from f110_fl.reporting.events import Sink
    from f110_fl.reporting.tracking import WandbSink, wandb_mode
    from f110_fl.runs import directory, preflight
    from f110_fl.runs.plan import settle
    from f110_fl.runs.session import Session
    from f110_fl.runs.startup import without_collections
    from f110_fl.sweeps import runner

    if arguments.superlink is not None:
        from f110_fl.engines.submission import submit

        return submit(arguments, os.environ, Console(stderr=True))
    if arguments.root_certificates is not None or arguments.insecure:
        flag = "--insecure" if arguments.insecure else "--root-certificates"
        raise UserError(f"{flag}: needs --superlink HOST:PORT")
    if arguments.grid is not None or runner.is_grid(arguments.resume):
        return runner.run_grid(arguments, os.environ, Console(stderr=True), run_cell)
    with without_collections():
        settled = settle(arguments, os.environ)
        scenario, rundir = settled.scenario, settled.rundir
        if settled.hosts and arguments.resume is None:
            directory.refuse_used(rundir.root)
        if settled.mode == "train":
            preflight.check_device(scenario)
        preflight.check_environment(scenario)
    if settled.mode == "eval":
        from f110_fl.runs.evaluate import evaluate

        return evaluate(scenario, rundir, settled.checkpoint, Console(stderr=True))
    with ExitStack() as stack:
        if settled.hosts:
            resumed = arguments.resume is not None
            stack.enter_context(directory.claimed(scenario, rundir, resumed=resumed))
        console = Console(stderr=True)
        sinks: list[Sink] = [ConsoleSink(scenario, console)]
        if settled.hosts and scenario.wandb.enabled and wandb_mode() != "disabled":
            sinks.append(WandbSink(scenario, rundir))
        try:
            with Session(rundir, sinks) as session:
                status = _engine(session, settled)
        finally:  # an interrupted run, too, has left something behind
            for line in directory.summary(scenario, rundir):
                console.out(line, highlight=False)
    if status:
        for failure in session.failures:
            console.out(f"run.py: {failure}", highlight=False)
        console.out(f"run.py: the run failed; see {rundir.logs}", highlight=False)
    return status


def _engine(session: Session, settled: Settled) -> int:
    """Run what was settled and return the exit status."""
    from f110_fl.engines import replicas

    scenario = settled.scenario
    if not scenario.federated.enabled:
        return replicas.run_replicas(session, scenario, settled.max_parallel)
    if settled.client_id is not None or settled.engine == "deployment":
        from f110_fl.engines import deployment

        if settled.client_id is None:
            return deployment.host(session, scenario, range(scenario.federated.clients))
        if settled.client_id == 0:
            return deployment.host(session, scenario, [0])
        return deployment.join(session, scenario, settled.client_id)
    federation = session.start("federation", simulate, session.rundir.root, settled.max_parallel)
    session.wait(federation)
    return 1 if session.ended(federation) else 0


if __name__ == "__main__":
    sys.exit(main())
