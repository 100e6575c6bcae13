"""The plan of an ablation: its arms, their settings, and the runs as a grid."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from f110_fl.config.federated import OptimizerStrategy
from f110_fl.config.keys import overlaps, parse_key
from f110_fl.errors import UserError
from f110_fl.files import write_atomic
from f110_fl.loading.overrides import Override, set_overrides
from f110_fl.loading.scenarios import dump_scenario, load_scenario, parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import lock_directory
from f110_fl.sweeps.grid import GRID, Cell, Grid, write_grid

STRATEGIES: Final = get_args(OptimizerStrategy)
SINGLE: Final = "single"
INDEPENDENT: Final = "independent"
NAME: Final = "ablation"  # of the grid


@dataclass(frozen=True)
class Arm:
    """One way to distribute the episodes."""

    kind: str  # SINGLE, INDEPENDENT or an optimizer strategy
    clients: int

    @property
    def name(self) -> str:
        """The name, with which the names of its runs begin."""
        return SINGLE if self.kind == SINGLE else f"{self.kind}-{self.clients}"

    def cell_name(self, seed: int) -> str:
        """Return the name of its run with a seed."""
        return f"{self.name}_seed-{seed}"


def check(arguments: argparse.Namespace) -> None:
    """Check the numbers of the flags.

    Raises:
        UserError: If one is invalid.
    """
    for name, least in {"episodes": 1, "seeds": 1, "evaluations": 1, "max_parallel": 1}.items():
        if getattr(arguments, name) < least:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag}={getattr(arguments, name)}: allowed: from {least}")
    for clients in arguments.clients:
        if clients < 2:
            raise UserError(f"--clients={clients}: allowed: from 2; one client is a baseline")
    for name in ("clients", "strategies"):
        values = getattr(arguments, name)
        if len(set(values)) < len(values):
            raise UserError(f"--{name}: names one twice; leave one out")
    parts = math.lcm(*arguments.clients) * arguments.evaluations
    if arguments.episodes % parts:
        raise UserError(
            f"--episodes={arguments.episodes}: cannot be shared out evenly between clients and "
            f"{arguments.evaluations} evaluations; allowed: multiples of {parts}"
        )


def make_arms(clients: Sequence[int], strategies: Sequence[str]) -> list[Arm]:
    """Return the baselines and the strategies for each number of clients, in table order."""
    kinds = [INDEPENDENT, *strategies]
    return [Arm(SINGLE, 1), *(Arm(kind, number) for number in clients for kind in kinds)]


def settings_of(arm: Arm, seed: int, episodes: int, evaluations: int) -> dict[str, Any]:
    """Return the settings of one run, by dotted key.

    Args:
        arm: The run's arm.
        seed: The run's seed.
        episodes: Training episodes of all clients together.
        evaluations: Evaluations of each client during the run.
    """
    federated = arm.kind in STRATEGIES
    share = episodes // arm.clients
    return {
        "seed": seed,
        "episodes": share,
        "evaluation.every": share // evaluations,
        "federated.clients": arm.clients,
        "federated.enabled": federated,
        **({"federated.optimizer_strategy": arm.kind} if federated else {}),
    }


def make_plan(arguments: argparse.Namespace) -> Grid:
    """Return the runs as a grid, seed by seed, so that the first seeds are complete first.

    Raises:
        UserError: For any mistake in the flags, the scenario or one of its runs.
    """
    check(arguments)
    root = arguments.out.absolute()
    chosen = set_overrides(arguments.set, [])
    cells = []
    for seed in range(arguments.seeds):
        for arm in make_arms(arguments.clients, arguments.strategies):
            name = arm.cell_name(seed)
            settings = settings_of(arm, seed, arguments.episodes, arguments.evaluations)
            own = settings | {
                "wandb.enabled": False,
                "federated.root": str(root / name).replace("{", "{{").replace("}", "}}"),
            }
            layers = [Override("ablate.py", parse_key(k) or (), v) for k, v in own.items()]
            for other in chosen:
                if any(overlaps(other.path, layer.path) for layer in layers):
                    raise UserError(f"{other.name}: the ablation sets that itself; leave it out")
            scenario = load_scenario(arguments.scenario, [*chosen, *layers])
            cells.append(Cell(name, settings, scenario))
    first = cells[0].scenario
    if not first.learners:
        raise UserError(f"{arguments.scenario}: nothing learns")
    if not first.evaluation.episodes:
        raise UserError(f"{arguments.scenario}: evaluation.episodes is 0; nothing to compare")
    if first.federated.vary:
        raise UserError(
            f"{arguments.scenario}: federated.vary: one learner cannot see what every client "
            "sees; leave it out"
        )
    return Grid(NAME, root, tuple(cells))


def prepare(grid: Grid) -> None:
    """Write the scenarios of new runs, and the list of all runs, which marks a grid's directory.

    Raises:
        UserError: If the directory contains runs of other settings, or cannot be written.
    """
    with lock_directory(grid.root):
        for cell in grid.cells:
            config = RunDir(grid.root / cell.name).config
            if config.is_file():
                found = parse_resolved(config.read_text(encoding="utf-8"), str(config))
                if found != cell.scenario:
                    raise UserError(f"{config}: has other settings; choose another --out")
        for cell in grid.cells:
            rundir = RunDir(grid.root / cell.name)
            rundir.root.mkdir(exist_ok=True)
            if not rundir.config.is_file():
                write_atomic(rundir.config, dump_scenario(cell.scenario))
        write_atomic(grid.root / GRID, write_grid(grid))
