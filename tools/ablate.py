#!/usr/bin/env python3
"""Does federating help? Compare optimizer strategies with two baselines, and say so in words.

Every arm gets the same number of training episodes in all, ``--episodes``:

* ``single``: one learner that sees them all, not federated
* ``independent-N``: N learners that never talk, each with its share
* ``local-N``, ``average-N``, ...: N federated clients, each with its share, by what a sync does
  to the optimizer moments

times the seeds 0, 1, ...; all else is the scenario's. Each is a run of a grid (docs/grids.md) in
a process of its own; the same command again does what is not complete, and may name more
seeds, clients or strategies. ``--out`` then holds ``report.md``, ``curves.svg`` and
``ablation.json`` beside the grid's files. The exit status is 2 for wrong input.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, get_args

REPOSITORY: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from f110_fl.dotted import overlaps, parse_key, set_overrides, with_implied
from f110_fl.errors import UserError
from f110_fl.federated_config import OptimizerStrategy
from f110_fl.files import write_atomic
from f110_fl.grid import GRID, Cell, Grid, write_grid
from f110_fl.launch import held
from f110_fl.loading import dump_scenario, load_scenario, parse_resolved
from f110_fl.overrides import VARIABLES, Override
from f110_fl.rundir import RunDir

STRATEGIES: Final = get_args(OptimizerStrategy)
SINGLE: Final = "single"
INDEPENDENT: Final = "independent"
NAME: Final = "ablation"  # of the grid


@dataclass(frozen=True)
class Arm:
    """One way to spend the episodes."""

    kind: str  # SINGLE, INDEPENDENT or an optimizer strategy
    clients: int

    @property
    def name(self) -> str:
        """Its name, also of its runs."""
        return SINGLE if self.kind == SINGLE else f"{self.kind}-{self.clients}"

    def cell_name(self, seed: int) -> str:
        """Return the name of its run with a seed."""
        return f"{self.name}_seed-{seed}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = _Parser(
        prog="ablate.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--scenario", type=Path, required=True, metavar="FILE", help="scenario, YAML")
    add("--out", type=Path, required=True, metavar="DIR", help="where everything is written")
    add("--episodes", type=int, required=True, metavar="N", help="of all clients together")
    add("--clients", type=int, nargs="+", default=[2, 4], metavar="N", help="default: 2 4")
    add("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 (default: 3)")
    add("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES[:3]))
    add("--evaluations", type=int, default=10, metavar="N", help="along a run (default: 10)")
    add("--metric", choices=("return", "success_rate"), default="return")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="as of run.py")
    add("--max-parallel", type=int, default=os.cpu_count() or 1, metavar="N", help="runs at a time")
    add("--doc", type=Path, metavar="FILE", help="also write the report and figure into this file")
    add("--dry-run", action="store_true", help="only print the runs")
    add("--report-only", action="store_true", help="run nothing; report what is complete")
    return parser


def check(arguments: argparse.Namespace) -> None:
    """Refuse numbers that make no plan.

    Raises:
        UserError: In one line.
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
            raise UserError(f"--{name}: names one twice; leave it out")
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
    """Return what is set in one run, by dotted key.

    Args:
        arm: Whose run.
        seed: Its seed.
        episodes: Training episodes of all clients together.
        evaluations: Evaluations of each client along the run.
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
        UserError: For anything wrong with the flags, the scenario or a run of it.
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
            layers = [Override("ablate.py", parse_key(k) or (), v, "", "") for k, v in own.items()]
            for other in chosen:
                if any(overlaps(other.path, layer.path) for layer in layers):
                    raise UserError(f"{other.name}: the ablation sets that itself; leave it out")
            scenario = load_scenario(arguments.scenario, [*chosen, *with_implied(layers)])
            cells.append(Cell(name, settings, scenario))
    first = cells[0].scenario
    if not first.learners:
        raise UserError(f"{arguments.scenario}: nothing learns")
    if not first.evaluation.episodes:
        raise UserError(f"{arguments.scenario}: evaluation.episodes is 0; nothing to compare")
    return Grid(NAME, root, tuple(cells))


def prepare(grid: Grid) -> None:
    """Write the scenarios of new runs, and the list of all, which makes the directory a grid's.

    Raises:
        UserError: If the directory holds runs of other settings, or cannot be written.
    """
    with held(RunDir(grid.root)):
        for cell in grid.cells:
            config = RunDir(grid.root / cell.name).config
            if config.is_file():
                found = parse_resolved(config.read_text(encoding="utf-8"), str(config))
                if found != cell.scenario:
                    raise UserError(f"{config}: is of other settings; choose another --out")
        for cell in grid.cells:
            rundir = RunDir(grid.root / cell.name)
            rundir.root.mkdir(exist_ok=True)
            if not rundir.config.is_file():
                write_atomic(rundir.config, dump_scenario(cell.scenario))
        write_atomic(grid.root / GRID, write_grid(grid))


def run(grid: Grid, max_parallel: int) -> int:
    """Run what is not complete, through ``run.py --resume``; return its exit status."""
    words = [sys.executable, str(REPOSITORY / "run.py"), "--resume", str(grid.root)]
    # The caller's variables would change what is asked for here.
    names = {setting.source for setting in VARIABLES}
    inherited = {key: value for key, value in os.environ.items() if key not in names}
    return subprocess.run(  # noqa: S603 - our own program
        [*words, "--max-parallel", str(max_parallel)], env=inherited, check=False
    ).returncode


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 1 runs failed, 2 wrong input, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    try:
        grid = make_plan(arguments)
        if arguments.dry_run:
            runs = {cell.name: cell.settings for cell in grid.cells}
            print(json.dumps({"out": str(grid.root), "runs": runs}, indent=2))  # noqa: T201
            return 0
        status = 0
        if not arguments.report_only:
            prepare(grid)
            status = run(grid, arguments.max_parallel)
            if status not in (0, 1):
                return status
        from tools.ablate_report import write_report

        print(write_report(grid, arguments))  # noqa: T201
    except UserError as error:
        print(f"ablate.py: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("ablate.py: interrupted; what was finished is kept", file=sys.stderr)  # noqa: T201
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
