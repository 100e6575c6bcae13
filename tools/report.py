#!/usr/bin/env python3
"""Write the report of a run, or of several beside each other, as one HTML file.

A RUN_DIR is the directory (FED_ROOT) of a run, whole or not, or that of a grid, which stands for
all its runs. Runs that differ in the seed only are a group: their curves have bands over the seeds
(interquartile mean, 95 % bootstrap interval), and groups are compared in pairs of the same seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="report.py", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page (default: report.html in the run's directory, of several runs here)",
    )
    parser.add_argument(
        "--replay",
        type=int,
        default=10,
        metavar="N",
        help="rounds whose policies drive in the page; 0: none (default: 10)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        print(_write(arguments.runs, arguments.out, arguments.replay))  # noqa: T201
        return 0

    return program("report.py", work)


def _write(directories: Sequence[Path], out: Path | None, rounds: int) -> Path:
    from f110_fl.reporting.pages.history import read_history
    from f110_fl.reporting.pages.report import report, write_report
    from f110_fl.reporting.pages.time_machine import Replays, replays
    from f110_fl.rundir import RunDir

    if rounds < 0:
        raise UserError(f"--replay={rounds}: allowed: 0 or more")
    rundirs = [RunDir(root.absolute()) for root in _runs(directories)]
    path = out or (rundirs[0].report if len(rundirs) == 1 else Path("report.html"))
    if not path.parent.is_dir():
        raise UserError(f"--out={str(path)!r}: no such folder")
    histories = [read_history(rundir) for rundir in rundirs]
    found = Replays(missing="left out: --replay 0")
    if rounds:
        found = replays([(h.scenario, h.rundir) for h in histories], rounds)
    try:
        write_report(path, report(histories, found))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from None
    return path


def _runs(directories: Sequence[Path]) -> list[Path]:
    """The runs' directories, those of a grid in its order, each once."""
    from f110_fl.sweeps.grid import GRID, read_grid

    found: dict[Path, None] = {}
    for root in directories:
        if not root.is_dir():
            raise UserError(f"{root}: no such directory")
        if (root / GRID).is_file():
            found |= dict.fromkeys(root / name for name in read_grid(root)[1])
        else:
            found[root] = None
    return list(found)


if __name__ == "__main__":
    sys.exit(main())
