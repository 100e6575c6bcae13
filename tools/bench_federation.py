#!/usr/bin/env python3
"""Measure the cost of the federation: time, bytes and memory of rounds with little training.

round_overhead_s is the median wall time of a round, with a single training episode of ``--steps``
steps, too few for an update, and without evaluation. Nothing is subtracted, so that it includes
opening and saving a client, which a client does not report as training. A round ends when the next
one's messages are sent; the first round warms up and is not counted.

bytes_per_client and bytes_to_client are the sizes of all objects that Flower sends for a training
message; tensor_bytes is the size of the arrays in a client's. server_peak_mib is the largest
resident memory of the process with the ServerApp. client_start_s, for deployments only, is the age
of a ClientApp's process when training starts, in the last rounds.

With ``--memory``, memory_mib is what each kind of process holds in each round, disk_mb what each
round's tensors, and the run's directory at the end, take on the disk, and processor_s what all
processes together take of any core in a timed round, which tells more where others are at work.

``--peer`` runs a bare Flower app in turns with ours: Flower's FedAvg, and a ClientApp that returns
the arrays it receives, which have the names, shapes and types of ours. In a simulation, it runs in
Flower's own runtime and ours as in run.py. Ratios are medians, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.process_memory import Sampler

from f110_fl.commandline import OneLineParser, program
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import complete_lines
from f110_fl.loading.overrides import set_overrides
from f110_fl.loading.scenarios import load_scenario
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import prepare_directory, spare_files
from f110_fl.runs.preflight import check_environment
from f110_fl.runs.session import Session
from f110_fl.runs.startup import KERNEL_CACHE
from f110_fl.tensors import TensorName

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp

REPOSITORY: Final = Path(__file__).resolve().parents[1]
Result = dict[str, Any]
RATIOS: Final = (
    "round_overhead_s",
    "processor_s",
    "bytes_per_client",
    "bytes_to_client",
    "server_peak_mib",
)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="bench_federation.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, default=2, help="clients (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--engine", choices=("simulation", "deployment"), default="simulation")
    parser.add_argument("--max-parallel", type=int, default=2, help="clients at once (default: 2)")
    parser.add_argument(
        "--scenario",
        type=Path,
        default=REPOSITORY / "scenarios" / "convoy_lock_td3_original.yaml",
        help="scenario with the tensors (default: convoy_lock_td3_original)",
    )
    parser.add_argument("--steps", type=int, default=10, help="steps of an episode (default: 10)")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="see run.py")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each app (default: 1)")
    parser.add_argument("--peer", action="store_true", help="also run a bare Flower app")
    parser.add_argument("--memory", action="store_true", help="memory of every process, by round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def resolve(arguments: argparse.Namespace) -> Scenario:
    """Return the scenario that is measured.

    Raises:
        UserError: If the flags are invalid, or do not suit the scenario.
    """
    for name in ("clients", "rounds", "max_parallel", "repeats", "steps"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be positive")
    settings = {
        "episodes": arguments.rounds + 1,
        "env.max_steps": arguments.steps,
        "evaluation.episodes": 0,
        "federated.clients": arguments.clients,
        "federated.round_interval": 1,
        "wandb.enabled": "false",
    }
    own = arguments.set or []
    named = {text.partition("=")[0] for text in own}
    texts = [f"{key}={value}" for key, value in settings.items() if key not in named]
    return load_scenario(arguments.scenario, set_overrides([*texts, *own], []))


# ------------------------------------------------------------------ one run


def simulate_own(root: Path, clients: int, parallel: int) -> None:
    """Simulate our app, as run.py does, in a process of its own."""
    from functools import partial

    from parts.bench_federation_apps import own_server

    from f110_fl.engines.simulation import simulate

    simulate(partial(own_server, root), plain_client, clients, parallel, ["clients.preloaded"])


def plain_client() -> ClientApp:
    """Return our ClientApp."""
    from clients.client_app import app

    return app


def simulate_bare(root: Path, clients: int, parallel: int) -> None:
    """Run the bare app in Flower's own simulation, in a process of its own."""
    from flwr.simulation import run_simulation
    from parts.bench_federation_apps import bare_client, bare_server

    # Else Ray joins the cluster of a file that another one left, and waits for ever if it is gone;
    # and its actors have niceness 15, with which a busy machine hardly runs them.
    os.environ.update({"RAY_ADDRESS": "local", "RAY_worker_niceness": "0"})
    run_simulation(
        server_app=bare_server(root),
        client_app=bare_client(),
        num_supernodes=clients,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": min(parallel, clients), "include_dashboard": False},
        },
    )


def bundle(folder: Path, *, own: bool) -> Path:
    """Return a Flower app's directory, made in ``folder``: ours or the bare one."""
    app = folder / ("own" if own else "bare")
    app.mkdir()
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for kind in ("server", "client"):
        text = text.replace(f'"{kind}.{kind}_app:app"', f'"bench_{kind}:app"')
        text = text.replace(f'"{kind}s.{kind}_app:app"', f'"bench_{kind}:app"')
        made = f"own_{kind}" if own else f"bare_{kind}"
        line = f"from bench_federation_apps import {made}\n\napp = {made}()\n"
        (app / f"bench_{kind}.py").write_text(line, encoding="utf-8")
    text = text.replace("fab-include = [", 'fab-include = ["bench_*.py",')
    (app / "pyproject.toml").write_text(text, encoding="utf-8")
    for name in ("LICENSE", "README.md", "tools/parts/bench_federation_apps.py"):
        shutil.copy(REPOSITORY / name, app)
    for name in ("f110_fl", "sim", "clients", "server", "scenarios"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, app / name, ignore=ignored)
    return app


def run_once(arguments: argparse.Namespace, scenario: Scenario, root: Path, *, own: bool) -> Result:
    """Run ours or the bare app in ``root``, and return the measurements.

    Raises:
        UserError: If the run fails.
    """
    from parts.bench_federation_apps import FOUND, PLAN, STARTS

    rundir = RunDir(root)
    with ExitStack() as stack:
        stack.enter_context(prepare_directory(scenario, rundir))
        if not own:
            plan = {"rounds": scenario.rounds, "clients": scenario.federated.clients}
            (root / PLAN).write_text(json.dumps(plan | {"tensors": shared(scenario)}))
        session = stack.enter_context(Session(rundir, [], generations=2))
        sampler = stack.enter_context(Sampler()) if arguments.memory else None
        if arguments.engine == "deployment":
            from f110_fl.engines import deployment

            app = bundle(root, own=own)
            clients = range(scenario.federated.clients)
            deployment.host(session, scenario, clients, app)
        else:
            stack.enter_context(spare_files(rundir))
            target = simulate_own if own else simulate_bare
            child = session.start("run", target, root, arguments.clients, arguments.max_parallel)
            session.wait(child)
            session.ended(child)
    if not (root / FOUND).exists():
        raise UserError(f"the run failed: {'; '.join(session.failures)}; see {rundir.logs}")
    found: Result = json.loads((root / FOUND).read_text(encoding="utf-8"))
    if arguments.engine == "deployment":
        found["starts"] = [float(line) for line in (root / STARTS).read_text().splitlines()]
    if sampler is not None:
        found["memory_mib"] = sampler.by_round(found["marks"])
        first, last = found["marks"][1], found["marks"][-1]  # the timed rounds
        found["processor_s"] = sampler.seconds(first, last) / arguments.rounds
        found["disk"] = disk(rundir) if own else {}
    return found


def disk(rundir: RunDir) -> dict[str, list[float]]:
    """Return what each round leaves on the disk, and what the run's directory takes, MB."""
    rounds = [record["bytes"] / 1e6 for record in complete_lines(rundir.rounds)]
    taken = sum(path.lstat().st_blocks * 512 for path in rundir.root.rglob("*"))
    return {"each_round": rounds, "in_all": [taken / 1e6]}


def shared(scenario: Scenario) -> dict[str, tuple[str, list[int]]]:
    """Return type and shape of every tensor that the scenario's clients send, by name."""
    from f110_fl.federation import sharing
    from f110_fl.training.agents import initial_tensors

    tensors = {
        name: tensor
        for name, tensor in initial_tensors(scenario).items()
        if TensorName.parse(name).agent in scenario.federated_agents
    }
    names = sorted(sharing.averaged_names(tensors, scenario))
    return {name: (str(tensors[name].numpy().dtype), list(tensors[name].shape)) for name in names}


# ------------------------------------------------------------------ all runs


def figures(runs: Sequence[Result], clients: int) -> Result:
    """Return the medians over an app's runs.

    Args:
        runs: Results of `run_once`.
        clients: Number of clients in each of them.
    """
    rounds = [statistics.median(durations(run)[1:]) for run in runs]
    result: Result = {"round_overhead_s": statistics.median(rounds)}
    result["first_round_s"] = statistics.median(durations(run)[0] for run in runs)
    for name in ("bytes_per_client", "bytes_to_client", "tensor_bytes", "server_peak_mib"):
        result[name] = statistics.median(run[name] for run in runs)
    if "processor_s" in runs[0]:
        result["processor_s"] = statistics.median(run["processor_s"] for run in runs)
    result["bytes_ratio"] = result["bytes_per_client"] / result["tensor_bytes"]
    starts = [age for run in runs for age in run.get("starts", ())[clients:]]
    if starts:
        result["client_start_s"] = statistics.median(starts)
    return {name: round(value, 4) for name, value in result.items()}


def durations(run: Result) -> list[float]:
    """Return the duration of each round, s."""
    marks = run["marks"]
    return [end - begin for begin, end in pairwise(marks)]


def measure(arguments: argparse.Namespace, folder: Path) -> Result:
    """Return all figures by name.

    Args:
        arguments: The result of the parser.
        folder: Directory for the files of runs.

    Raises:
        UserError: If the measurement cannot be run.
    """
    scenario = resolve(arguments)
    check_environment(scenario)
    runs: dict[bool, list[Result]] = {True: [], False: []}
    for repeat in range(arguments.repeats):
        for own in (True, False) if arguments.peer else (True,):
            root = folder / f"{'own' if own else 'bare'}_{repeat}"
            runs[own].append(run_once(arguments, scenario, root, own=own))
            shutil.rmtree(root)
    result = {"clients": arguments.clients, "rounds": arguments.rounds, "engine": arguments.engine}
    result |= figures(runs[True], arguments.clients)
    if arguments.memory:
        found = runs[True][-1]["memory_mib"]
        result["memory_mib"] = {role: [round(mib) for mib in row] for role, row in found.items()}
        left = runs[True][-1]["disk"]
        result["disk_mb"] = {what: [round(mb, 3) for mb in row] for what, row in left.items()}
    if arguments.peer:
        result["peer"] = figures(runs[False], arguments.clients)
        pairs = [(figures([a], 0), figures([b], 0)) for a, b in zip(*runs.values(), strict=True)]
        result["ratio"] = {
            name: round(statistics.median(a[name] / b[name] for a, b in pairs), 3)
            for name in RATIOS
            if name in pairs[0][0] and all(b[name] > 0 for _, b in pairs)  # too short to tell
        }
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 if the measurement cannot be run."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        os.environ.update(KERNEL_CACHE)  # before numba is imported
        with tempfile.TemporaryDirectory(prefix="bench-federation-") as folder:
            result = measure(arguments, Path(folder))
        print(json.dumps(result, indent=None if arguments.json else 2))  # noqa: T201
        return 0

    return program("bench_federation.py", work)


if __name__ == "__main__":
    sys.exit(main())
