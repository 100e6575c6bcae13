"""Who is connected to a closed SuperLink, and how its runs are getting on.

First its own versions, then a line for each client: since when it is connected, when it was last
heard of, its address and its version of Flower; and for each run: its round, and the last error of
each client.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from f110_fl.commandline import OneLineParser, program
from f110_fl.engines.closed.gate import STATUS
from f110_fl.engines.operator_requests import OperatorRequests
from f110_fl.engines.superlink import SuperLink, resolve_superlink
from f110_fl.federation.versions import read

MOST_RUNS: Final = 5  # the last ones are shown


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="python -m server.status", description=__doc__)
    parser.add_argument("--superlink", required=True, metavar="HOST:PORT")
    parser.add_argument("--root-certificates", required=True, metavar="FILE")
    parser.add_argument("--operator", required=True, metavar="FILE", help="the operator's token")
    parser.add_argument("--json", action="store_true", help="as JSON")
    return parser


def ask(link: SuperLink) -> dict[str, Any]:
    """Return what a closed SuperLink tells an operator, see `f110_fl.engines.closed.status`.

    Raises:
        UserError: If it cannot be reached or trusted, or tells this operator nothing.
    """
    with OperatorRequests(link) as requests:
        told: dict[str, Any] = json.loads(requests.ask(STATUS))
    return told


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was told, in words."""
    own = read(told.get("versions"))
    yield f"server     project {own.project}, scenario schema {own.schema}, Flower {own.flower}"
    for client in told["clients"]:
        state = "connected" if client["connected"] else "away"
        since = f" since {client['since'][:19]}" if client["since"] else ""
        heard = "" if client["heard"] is None else f", heard of {client['heard']:g} s ago"
        origin = f" from {client['address']}" if client["address"] else ""
        version = f", Flower {client['version']}" if client["version"] else ""
        yield f"{client['name']}  {state}{since}{heard}{origin}{version}"
    for run in told["runs"][-MOST_RUNS:]:
        rounds = f" of {run['rounds']}" if run["rounds"] else ""
        by = f"  by {run['operator']}" if run["operator"] else ""
        yield (
            f"run {run['run']}  {run['status']} since {run['since'][:19]}  round {run['round']}"
            f"{rounds}{by}  {run['root']}".rstrip()
        )
        yield from (f"  client {k}: {why}" for k, why in sorted(run["errors"].items()))
        if run["note"]:
            yield f"  {run['note']}"


def main(argv: Sequence[str] | None = None) -> int:
    """Show it, and return the exit status: 0, or 2 if nothing could be learnt."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        link = resolve_superlink(
            arguments.superlink,
            arguments.root_certificates,
            insecure=False,
            operator=arguments.operator,
        )
        told = ask(link)
        print(json.dumps(told) if arguments.json else "\n".join(lines(told)))  # noqa: T201
        return 0

    return program("server.status", work)


if __name__ == "__main__":
    sys.exit(main())
