"""The Flower ServerApp: resolves the scenario, waits for the clients, runs the rounds."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from f110_fl.errors import UserError
from f110_fl.files import locked, write_atomic
from f110_fl.reporting import announce
from f110_fl.reporting.announce import Tell, silent
from f110_fl.rundir import RunDir

with announce.failure_announced():  # plugins are imported with the settings: one may be broken
    from f110_fl.config.scenario import Scenario
    from f110_fl.engines.credentials import public_key_path, public_keys
    from f110_fl.federation.arrays import to_arrays
    from f110_fl.federation.manifest import manifested
    from f110_fl.federation.signing import openssh
    from f110_fl.federation.versions import Versions, here
    from f110_fl.loading.scenarios import dump_scenario, read_resolved
    from f110_fl.reporting.pages.finish import reported
    from f110_fl.reporting.summary import completed_rounds
    from f110_fl.reporting.tracking import recorded
    from f110_fl.runs.directory import claimed, prepare_directory
    from f110_fl.runs.preflight import check_environment, check_initial
    from server.asynchronous.strategy import AsynchronousStrategy
    from server.grids import Streaming
    from server.privacy import BudgetReachedError
    from server.registry import ClientRegistry
    from server.rounds import RoundRecorder
    from server.run_config import patience, resolve, resolve_submitted
    from server.strategy import FederatedStrategy

log = logging.getLogger("flwr")

CLIENT_KEYS: Final = "FED_CLIENT_KEYS"  # variable: directory of the clients' public keys

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the app as ``flwr run`` asks; see ``[tool.flwr.app.config]`` in pyproject.toml."""
    announce.begin()
    prepared_root = str(context.run_config["prepared-root"])
    if prepared_root:
        with announce.failure_announced():
            run_prepared(Streaming(grid), Path(prepared_root))
        return
    if context.run_config["submitted"] or context.run_config["submitted-resume"]:
        run_submitted(grid, context.run_config)
        return
    grid = Streaming(grid)
    try:
        registry = ClientRegistry(known_keys(grid), versions=here())
        registry.wait(grid, None, *patience(context.run_config))
        scenario, rundir = resolve(context.run_config, registry.total or 1)
        check_initial(scenario, rundir)
    except UserError as error:
        log.error("%s", error)  # noqa: TRY400 - a user's mistake needs no traceback
        raise
    with claimed(rundir.root, scenario.federated.root) as root:
        rundir = RunDir(root)
        log.info("Run directory: %s", root)
        own = prepare_directory(scenario, rundir)
        proven = manifested(rundir, log.warning)
        with own, proven, recorded(scenario, rundir), reported(scenario, rundir, log.warning):
            serve(grid, scenario, rundir, registry)


def run_submitted(grid: Grid, run_config: Mapping[str, Any]) -> None:
    """Run what ``run.py --superlink`` submitted, and announce its progress.

    Raises:
        UserError: For invalid settings, or if too few clients connect.
        RuntimeError: If a round ends with too few usable replies.
    """
    with announce.failure_announced():
        scenario, rundir, resumed = resolve_submitted(run_config)
        check_environment(scenario)
        check_initial(scenario, rundir)
        template = "" if resumed else scenario.federated.root
        with claimed(rundir.root, template) as root:
            _run_submitted(grid, scenario, RunDir(root), resumed=resumed)


def _run_submitted(grid: Grid, scenario: Scenario, rundir: RunDir, *, resumed: bool) -> None:
    """Run in a directory that no other run has; see `run_submitted`."""
    own = prepare_directory(scenario, rundir, resumed=resumed)
    proven = manifested(rundir, log.warning)
    with own, proven, recorded(scenario, rundir), reported(scenario, rundir, log.warning):
        started = {"root": str(rundir.root), "rounds": completed_rounds(rundir)}
        started["scenario"] = dump_scenario(scenario)
        announce.announce(announce.STARTED, started)
        run_prepared(Streaming(grid), rundir.root, announce.announce)


def prepared(root: Path, wrapped: Callable[[Grid], Grid] | None = None) -> ServerApp:
    """Return a ServerApp for a run whose directory already contains its ``config.json``.

    Args:
        root: The run's directory.
        wrapped: Returns the grid to use instead of Flower's.
    """
    prepared_app = ServerApp()

    @prepared_app.main()
    def _main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        run_prepared(grid if wrapped is None else wrapped(grid), root)

    return prepared_app


def run_prepared(grid: Grid, root: Path, tell: Tell = silent) -> None:
    """Wait for the clients of the run in ``root``, and run its remaining rounds.

    Raises:
        UserError: If too few clients connect in time.
    """
    rundir = RunDir(root)
    # A killed run's server lives until it notices; two must not write here. The lock ends with this
    # process, in whatever way, by which a deployment's host notices the end.
    with locked(rundir.server_lock, wait=True):
        scenario = read_resolved(rundir.config)
        federated = scenario.federated
        versions = Versions() if is_virtual(grid) else here()
        registry = ClientRegistry(known_keys(grid, rundir), tell, versions)
        registry.wait(grid, federated.clients, federated.min_clients, federated.connect_timeout)
        serve(grid, scenario, rundir, registry, tell)


def known_keys(grid: Grid, rundir: RunDir | None = None) -> dict[bytes, int] | None:
    """Return the client id of each public key that the server knows; None: it knows no keys.

    Virtual clients have none, in a run that was deployed before, too. Others' are those in
    ``CLIENT_KEYS``, which whoever starts the SuperLink sets, or else those that ``run.py --engine
    deployment`` made for this run.

    Raises:
        UserError: If the directory does not hold the clients' public keys.
    """
    if is_virtual(grid):
        return None
    directory = os.environ.get(CLIENT_KEYS)
    if directory:
        return public_keys(Path(directory))
    made = None if rundir is None else rundir.flower / "keys"
    return public_keys(made) if made is not None and made.is_dir() else None


def is_virtual(grid: Grid) -> bool:
    """Return whether clients are a simulation's, of which ids are all that the grid has."""
    return type(grid).get_nodes is Grid.get_nodes


def serve(
    grid: Grid, scenario: Scenario, rundir: RunDir, registry: ClientRegistry, tell: Tell = silent
) -> None:
    """Run the remaining rounds and write their files into ``rundir``.

    Raises:
        RuntimeError: If a round ends with too few usable replies.
    """
    from server.averaging import starting_tensors
    from server.evaluation import GlobalEvaluation

    federated = scenario.federated
    begun = rundir.server.exists()  # then its tensors are what counts, and files may be gone
    averaged, imposed = starting_tensors(scenario, read=not begun)
    recorder = RoundRecorder(scenario, rundir, imposed, tell)
    evaluation = None
    if federated.evaluate_on != "none":
        evaluation = GlobalEvaluation(scenario, rundir, recorder.resumed_from, tell)
    _write_keys(rundir, registry, federated.clients)
    parts = scenario, registry, recorder, evaluation
    strategy: FederatedStrategy
    if federated.mixed is None:
        strategy = FederatedStrategy(*parts)
    else:
        clock = is_virtual(grid) or bool(federated.mixed.speeds)
        strategy = AsynchronousStrategy(*parts, mixed=federated.mixed, clock=clock)
    run_rounds(grid, strategy, to_arrays(averaged))


def run_rounds(grid: Grid, strategy: FederatedStrategy, initial: ArrayRecord) -> None:
    """Run the rounds that a run has left, to its last or to the end of its privacy budget.

    Args:
        grid: The clients.
        strategy: The run's.
        initial: Global arrays of a new run.
    """
    recorder, federated = strategy.recorder, strategy.scenario.federated
    arrays = strategy.restore(initial)
    recorder.prune()  # a crash may have cut that off
    try:
        strategy.start(
            grid=grid,
            initial_arrays=arrays,
            num_rounds=max(strategy.scenario.rounds - recorder.resumed_from, 0),
            timeout=federated.timeout,  # type: ignore[arg-type]  # grids know what None means
            evaluate_fn=strategy.evaluate_on_server if federated.evaluated_on_server else None,
        )
    except BudgetReachedError as end:
        log.warning("The privacy budget ends the run: %s", end)
    finally:  # whatever happened, nobody writes after this
        recorder.written()
    recorder.prune()


def _write_keys(rundir: RunDir, registry: ClientRegistry, clients: int) -> None:
    """Write the public keys by which replies are checked, so that they can be checked again."""
    for client_id in range(clients):
        key = registry.key_of(client_id)
        if key:
            rundir.keys.mkdir(exist_ok=True)
            write_atomic(public_key_path(rundir.keys, client_id), openssh(key) + b"\n")
