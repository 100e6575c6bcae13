"""The plan of a run, from a scenario, the environment and the command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypedDict

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.flags import client_id, outside_overrides
from f110_fl.loading.overrides import Override, refuse_varied
from f110_fl.loading.scenarios import load_scenario
from f110_fl.loading.texts import bounded, decimal
from f110_fl.reporting.summary import removed
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import claimed, run_root
from f110_fl.runs.inputs import check_inputs
from f110_fl.runs.pictures import NO_PICTURES, Pictures, resolve_pictures
from f110_fl.runs.resume import resumed_scenario
from f110_fl.training.shipped import shipped_path
from sim.settings import find_file

Engine: TypeAlias = Literal["replicas", "simulation", "deployment"]
Backend: TypeAlias = Literal["workers", "ray"]

_ENGINES: Final = {"replicas": "replicas, which are not federated", "deployment": "a deployment"}

REPORT: Final = "evaluation.json"
REPLAYED: Final = 20  # episodes of an evaluation
MAX_PORT: Final = 2**16 - 1


@dataclass(frozen=True)
class RunPlan:
    """What this process shall run."""

    scenario: Scenario
    rundir: RunDir
    mode: Literal["train", "eval"] = "train"
    engine: Engine = "simulation"  # how clients are run
    backend: Backend = "workers"  # what a simulation runs them in
    max_parallel: int = 1  # clients that work at the same time
    client_id: int | None = None  # FED_CLIENT_ID: the only client of this process
    resumed: bool = False  # the directory already contains the run
    checkpoint: Path | None = None  # to evaluate
    shipped: bool = False  # whether the checkpoint, if any, is the one that the scenario brings
    replay: int | None = None  # episodes, or rounds, that the page replays; None: the default
    live: int | None = None  # TCP port of the live page, 0 for any; None: there is none
    pictures: Pictures = NO_PICTURES  # of an evaluation
    until: float | None = None  # half width of rates at which an evaluation ends; None: never
    wandb: bool = False  # whether to record an evaluation with W&B
    tensorboard: bool = False  # whether to write TensorBoard's files

    @property
    def hosts(self) -> bool:
        """Whether this process creates the run's directory."""
        return self.client_id in (None, 0)

    @property
    def clients(self) -> Sequence[int]:
        """Ids of the clients that this process runs."""
        everyone = range(self.scenario.federated.clients)
        return everyone if self.client_id is None else [self.client_id]


def resolve_plan(arguments: argparse.Namespace, environ: Mapping[str, str]) -> RunPlan:
    """Read the scenario and lay variables and flags over it.

    Raises:
        UserError: For any mistake in them, in one line.
    """
    if arguments.resume is not None:
        return _resolve_resumed(arguments, environ)
    if arguments.scenario is None:
        raise UserError("--scenario FILE is missing (or --grid FILE, or --resume RUN_DIR)")
    overrides = outside_overrides(arguments, environ)
    scenario = load_scenario(Path(arguments.scenario), overrides)
    if arguments.mode == "eval":
        return _resolve_evaluation(arguments, on_asked_track(scenario, overrides))
    refuse_varied(overrides, scenario)
    if not scenario.learners:
        raise UserError(f"{arguments.scenario}: nothing learns; allowed: --mode eval")
    clients = scenario.federated.clients
    own_id = client_id(environ, clients)
    if own_id is not None:
        _check_by_hand(scenario, own_id)
    engine = resolve_engine(arguments.engine, scenario)
    by_flower = own_id is not None or engine == "deployment"
    if by_flower and "'" in str(run_root(scenario)):
        raise UserError(
            f"FED_ROOT={scenario.federated.root!r}: Flower accepts no path with a quotation mark"
        )
    return RunPlan(
        scenario,
        RunDir(run_root(scenario)),
        # A client that is started by hand connects to the host's SuperLink.
        engine="deployment" if own_id is not None else engine,
        backend=resolve_backend(arguments, environ, engine),
        max_parallel=resolve_parallel(arguments.max_parallel, scenario, engine),
        client_id=own_id,
        tensorboard=arguments.tensorboard,
        **_pages(arguments),
    )


def on_asked_track(scenario: Scenario, overrides: Sequence[Override]) -> Scenario:
    """Return the scenario, evaluated on the track that was asked for, whatever the file says.

    ``env.track`` from outside names the track of this evaluation, unless ``evaluation.track`` is
    from outside, too.
    """
    asked = {override.path[:2] for override in overrides}
    own = scenario.evaluation
    whole = any(("evaluation", "track")[: len(path)] == path for path in asked)
    if ("env", "track") not in asked or whole or own.track is None:
        return scenario
    return scenario.model_copy(update={"evaluation": own.model_copy(update={"track": None})})


def _resolve_evaluation(arguments: argparse.Namespace, scenario: Scenario) -> RunPlan:
    """Return the plan of an evaluation."""
    if scenario.evaluation.episodes < 1:
        raise UserError("--mode eval: evaluation.episodes is 0; set it, or --eval-episodes")
    return RunPlan(
        scenario,
        RunDir(run_root(scenario)),
        mode="eval",
        checkpoint=_resolve_checkpoint(arguments, scenario),
        shipped=arguments.checkpoint is None,
        pictures=resolve_pictures(arguments, scenario.evaluation.episodes),
        until=_resolve_until(arguments),
        wandb=arguments.wandb,
        **_pages(arguments),
    )


def _resolve_until(arguments: argparse.Namespace) -> float | None:
    """Return the half width of rates at which an evaluation ends; None: it never ends early."""
    text = arguments.until
    if text is None:
        return None
    if arguments.video_episode is not None:
        raise UserError(f"--video-episode={arguments.video_episode!r}: not with --until")
    with suppress(ValueError):
        half = decimal(text)
        if 0 < half < 1:
            return half
    raise UserError(f"--until={text!r}: allowed: a number above 0, below 1, such as 0.02")


def _resolve_checkpoint(arguments: argparse.Namespace, scenario: Scenario) -> Path | None:
    """Return the models to evaluate: those that are named, or that come with the scenario."""
    name = arguments.checkpoint
    if not scenario.learners:
        if name is not None:
            raise UserError(f"--checkpoint={name!r}: nothing in the scenario learns")
        return None
    if name is not None:
        checkpoint = find_file(name, Path.cwd())
        if checkpoint is None:
            raise UserError(f"--checkpoint={name!r}: no such file{removed(Path(name))}")
        return checkpoint
    shipped = shipped_path(Path(arguments.scenario), scenario.name)
    checkpoint = find_file(str(shipped), Path.cwd())
    if checkpoint is None:
        agents = ", ".join(scenario.learners)
        raise UserError(
            f"--checkpoint FILE is missing: the models of {agents}, of which the scenario brings "
            f"none ({shipped})"
        )
    return checkpoint


class _Pages(TypedDict):
    replay: int | None
    live: int | None


def _pages(arguments: argparse.Namespace) -> _Pages:
    """Read what a run's pages shall show."""
    replay, live = arguments.replay, arguments.live
    return {
        "replay": None if replay is None else bounded("--replay", replay, 0),
        "live": None if live is None else bounded("--live", live or "0", 0, MAX_PORT),
    }


def _check_by_hand(scenario: Scenario, own_id: int) -> None:
    if not scenario.federated.enabled:
        raise UserError(f"FED_CLIENT_ID={own_id}: the scenario is not federated")
    if "{time}" in scenario.federated.root:
        raise UserError(
            f"FED_CLIENT_ID={own_id}: clients started by hand share one directory; "
            "set the same FED_ROOT for all of them"
        )


def _resolve_resumed(arguments: argparse.Namespace, environ: Mapping[str, str]) -> RunPlan:
    """Return the plan of a resumed run; only its length may change."""
    rundir = RunDir(Path(arguments.resume).absolute())
    scenario = resumed_scenario(rundir, outside_overrides(arguments, environ))
    if not arguments.changed_files:
        check_inputs(rundir)
    engine = resolve_engine(arguments.engine, scenario)
    parallel = resolve_parallel(arguments.max_parallel, scenario, engine)
    return RunPlan(
        scenario,
        rundir,
        engine=engine,
        backend=resolve_backend(arguments, environ, engine),
        max_parallel=parallel,
        resumed=True,
        tensorboard=arguments.tensorboard,
        **_pages(arguments),
    )


@contextmanager
def own_directory(plan: RunPlan) -> Iterator[RunPlan]:
    """Give a new run, whose directory is named by the time, one that no other process has.

    Raises:
        UserError: If it cannot be created; see `claimed`.
    """
    if plan.resumed or not plan.hosts:
        yield plan
        return
    with claimed(plan.rundir.root, plan.scenario.federated.root) as root:
        yield replace(plan, rundir=RunDir(root))


def resolve_engine(name: str, scenario: Scenario) -> Engine:
    """Return the engine that runs the scenario's clients.

    Raises:
        UserError: If the engine cannot run the scenario.
    """
    if name == "deployment":
        if not scenario.federated.enabled:
            raise UserError("--engine='deployment': the scenario is not federated")
        return "deployment"
    return "simulation" if scenario.federated.enabled else "replicas"


def resolve_backend(
    arguments: argparse.Namespace, environ: Mapping[str, str], engine: Engine
) -> Backend:
    """Return what a simulation runs its clients in.

    Raises:
        UserError: If nothing is simulated, or a cluster's size is to be changed.
    """
    if arguments.backend != "ray":
        return "workers"
    if engine != "simulation":
        raise UserError(f"--backend='ray': not with {_ENGINES[engine]}; leave it out")
    if environ.get("RAY_ADDRESS") and arguments.max_parallel is not None:
        raise UserError(
            f"--max-parallel={arguments.max_parallel!r}: the cluster at RAY_ADDRESS runs a client "
            "on each of its cores; leave it out"
        )
    return "ray"


def resolve_parallel(text: str | None, scenario: Scenario, engine: Engine) -> int:
    """Return how many of the scenario's clients run at the same time.

    Raises:
        UserError: If the number is invalid, or the engine does not support it.
    """
    number, clients = parallel_number(text), scenario.federated.clients
    if engine == "deployment" and text is not None and number < clients:
        raise UserError(
            f"--max-parallel={text!r}: with --engine deployment all {clients} clients run at once"
        )
    return min(number, clients)


def parallel_number(text: str | None) -> int:
    """Read the value of ``--max-parallel``; without it, return the number of cores.

    Raises:
        UserError: If it is not a whole number from 1.
    """
    return os.cpu_count() or 1 if text is None else bounded("--max-parallel", text, 1)
