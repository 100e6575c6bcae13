#!/usr/bin/env python3
"""Does federating help? Compare optimizer strategies with two baselines.

Every arm gets the same number of training episodes in all, ``--episodes``:

* ``single``: one learner with all episodes, not federated
* ``independent-N``: N independent learners, each with its share
* ``local-N``, ``average-N``, ...: N federated clients, each with its share, named after what a sync
  does to the optimizer moments

for each of the seeds 0, 1, ...; everything else is the scenario's. Each is a run of a grid
(docs/grids.md) in a process of its own. The same command again completes the remaining runs, and
may name more seeds, clients or strategies. ``--out`` then contains ``report.md``, ``curves.svg``
and ``ablation.json`` beside the grid's files. The exit status is 2 for wrong input.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.ablate_plan import STRATEGIES, make_plan, prepare

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError
from f110_fl.loading.flags import VARIABLES
from f110_fl.reporting.summary import is_complete
from f110_fl.rundir import RunDir
from f110_fl.sweeps.grid import Grid

REPOSITORY: Final = Path(__file__).resolve().parents[1]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="ablate.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--scenario", type=Path, required=True, metavar="FILE", help="scenario, YAML")
    add("--out", type=Path, required=True, metavar="DIR", help="directory of all files")
    add("--episodes", type=int, required=True, metavar="N", help="of all clients together")
    add("--clients", type=int, nargs="+", default=[2, 4], metavar="N", help="default: 2 4")
    add("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 (default: 3)")
    add("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES[:3]))
    add(
        "--evaluations",
        type=int,
        default=10,
        metavar="N",
        help="evaluations of a run (default: 10)",
    )
    add("--metric", choices=("return", "success_rate"), default="return")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="see run.py")
    add(
        "--max-parallel",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="runs at the same time",
    )
    add("--doc", type=Path, metavar="FILE", help="also write the report and figure into this file")
    add("--dry-run", action="store_true", help="print the runs only")
    add("--report-only", action="store_true", help="report the complete runs without running any")
    return parser


def run(grid: Grid, max_parallel: int) -> int:
    """Run the incomplete runs by ``run.py --resume``; return its exit status."""
    if all(is_complete(cell.scenario, RunDir(grid.root / cell.name)) for cell in grid.cells):
        return 0
    words = [sys.executable, str(REPOSITORY / "run.py"), "--resume", str(grid.root)]
    # The caller's variables would change the settings.
    inherited = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    return subprocess.run(  # noqa: S603 - our own program
        [*words, "--max-parallel", str(max_parallel)], env=inherited, check=False
    ).returncode


def check_plots() -> None:
    """Check that curves can be drawn.

    Raises:
        UserError: If matplotlib is missing.
    """
    if find_spec("matplotlib") is None:
        raise UserError("the curves need matplotlib: pip install -e '.[plot]'")


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 1 runs failed, 2 wrong input, 130 interrupted."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        grid = make_plan(arguments)
        if arguments.dry_run:
            runs = {cell.name: cell.settings for cell in grid.cells}
            print(json.dumps({"out": str(grid.root), "runs": runs}, indent=2))  # noqa: T201
            return 0
        check_plots()  # before all the runs
        from parts.ablate_report import place_in, write_report

        if arguments.doc is not None:
            place_in(arguments.doc, grid.cells[0].scenario.name)
        status = 0
        if not arguments.report_only:
            prepare(grid)
            status = run(grid, arguments.max_parallel)
            if status not in (0, 1):
                return status
        print(write_report(grid, arguments))  # noqa: T201
        return status

    return program("ablate.py", work, "interrupted; what was finished is kept")


if __name__ == "__main__":
    sys.exit(main())
