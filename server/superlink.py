"""A SuperLink at which strangers can do nothing: ``python -m server.superlink``.

Clients are let in by their keys, operators by their tokens, and everybody else not at all. What it
serves is Flower's SuperLink, behind a gate: see `f110_fl.engines.closed`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from f110_fl.commandline import OneLineParser, program
from f110_fl.engines.closed.superlink import ClosedSuperLink, serve
from f110_fl.errors import UserError
from f110_fl.runs.logs import LOG_HELP, log_to


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="python -m server.superlink", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", default="9092", help="its port (9092)")
    parser.add_argument(
        "--keys",
        type=Path,
        required=True,
        help="directory with superlink.crt, superlink.key and the clients' client_NN.pub, made by "
        "python -m f110_fl.engines.credentials",
    )
    parser.add_argument(
        "--operators",
        type=Path,
        help="who may start and stop runs (default: the file operators in --keys, if there is one)",
    )
    parser.add_argument(
        "--database", default="", help="file that remembers runs over a restart (default: none)"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help=LOG_HELP)
    return parser


def resolve(arguments: argparse.Namespace) -> ClosedSuperLink:
    """Return what is to be served.

    Raises:
        UserError: For settings that are wrong.
    """
    from f110_fl.loading.texts import bounded

    keys: Path = arguments.keys
    if not keys.is_dir():
        raise UserError(f"--keys={str(keys)!r}: no such directory")
    operators: Path | None = arguments.operators
    if operators is None and (keys / "operators").exists():
        operators = keys / "operators"
    port = bounded("--port", arguments.port, 1, 65535)
    return ClosedSuperLink(
        arguments.host, port, keys.absolute(), operators, database=arguments.database
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C and return 0; return 2 for wrong input, 1 if refused."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        served = resolve(arguments)
        if served.operators is None:
            print(  # noqa: T201
                "server.superlink: warning: no operators: nobody can start a run; see --operators",
                file=sys.stderr,
            )
        os.umask(0o077)  # the database, logs and what runs write are nobody else's
        log_to(arguments.log, os.environ)
        serve(served)
        return 0

    return program("server.superlink", work)


if __name__ == "__main__":
    sys.exit(main())
