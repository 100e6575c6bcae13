"""A client on a machine of its own: ``python -m clients.process``.

It connects to a SuperLink anywhere, proves its identity with its key, and keeps its state in a
directory of this machine. It reconnects after a network failure or a restart of the server, and
continues from its state after its own restart.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from f110_fl.commandline import OneLineParser, program
from f110_fl.engines.credentials import check_client_key
from f110_fl.engines.flower.programs import (
    check_port,
    environment,
    run_supernode,
    supernode_command,
)
from f110_fl.engines.superlink import SuperLink, needed_file, resolve_superlink
from f110_fl.errors import UserError
from f110_fl.runs.logs import LOG_HELP, log_to
from f110_fl.runs.processes import Children
from f110_fl.runs.session import POLL_INTERVAL
from f110_fl.runs.startup import check_working_directory

RETRY_INTERVAL: Final = 5.0  # s from a SuperNode's end to its next start


@dataclass(frozen=True)
class Client:
    """The settings of the command line and the environment."""

    client_id: int
    total: int
    root: Path  # directory of this client's state, one folder per run
    link: SuperLink
    key: Path | None  # None without TLS
    seed: int | None
    port: int | None

    @property
    def directory(self) -> Path:
        """The directory of this process's files, which belong to no run."""
        return self.root / f"client_{self.client_id:02d}"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="python -m clients.process", description=__doc__)
    parser.add_argument("--client-id", help="zero-based index (or FED_CLIENT_ID)")
    parser.add_argument("--total-clients", help="number of clients (or FED_TOTAL_CLIENTS)")
    parser.add_argument("--fed-root", help="directory of this client's state (or FED_ROOT)")
    parser.add_argument("--superlink", required=True, metavar="HOST:PORT", help="the SuperLink")
    parser.add_argument("--root-certificates", type=Path, help="the authority's certificate, PEM")
    parser.add_argument("--key", type=Path, help="this client's private key, OpenSSH P-384")
    parser.add_argument("--port", help="port of Flower's local API (default: a free one)")
    parser.add_argument("--seed", help="seed of this client (default: the scenario's)")
    parser.add_argument("--insecure", action="store_true", help="no TLS and no key; loopback only")
    parser.add_argument("--log", type=Path, metavar="FILE", help=LOG_HELP)
    return parser


def resolve(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Client:
    """Return the settings of the client.

    Raises:
        UserError: For settings that are missing, wrong or unsafe.
        PluginError: If a plugin of this machine cannot be used.
    """
    from f110_fl.config.scenario import MAX_SEED
    from f110_fl.loading.flags import client_id as client_id_of
    from f110_fl.loading.texts import bounded

    clients = arguments.total_clients or environ.get("FED_TOTAL_CLIENTS", "")
    total = bounded("--total-clients", clients, 1, 10_000)
    own = arguments.client_id or environ.get("FED_CLIENT_ID")
    own_id = client_id_of({} if own is None else {"FED_CLIENT_ID": own}, total)
    root = arguments.fed_root or environ.get("FED_ROOT")
    if own_id is None or not root:
        raise UserError("--client-id and --fed-root (or FED_CLIENT_ID and FED_ROOT) are needed")
    if "'" in root:
        raise UserError(f"--fed-root={root!r}: Flower accepts no path with a quotation mark")
    port = None if arguments.port is None else bounded("--port", arguments.port, 1, 65535)
    seed = None if arguments.seed is None else bounded("--seed", arguments.seed, 0, MAX_SEED - 1)
    link = resolve_superlink(
        arguments.superlink, arguments.root_certificates, insecure=arguments.insecure
    )
    key = None
    if not arguments.insecure:
        key = needed_file("--key", arguments.key)
        check_client_key(key)
    elif arguments.key is not None:
        raise UserError("--insecure contradicts --key; leave one of them out")
    return Client(own_id, total, Path(root).absolute(), link, key, seed, port)


def command(client: Client) -> list[str]:
    """Return the SuperNode's command line."""
    node_config: dict[str, str | int] = {
        "partition-id": client.client_id,
        "num-partitions": client.total,
        "root": str(client.root),
    }
    if client.seed is not None:
        node_config["seed"] = client.seed
    return supernode_command(client.link, client.key, node_config)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or Ctrl-C and return 0; return 2 for wrong input, 1 if the system fails."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        check_working_directory()
        client = resolve(arguments, os.environ)
        from f110_fl.runs.directory import lock_directory

        with lock_directory(client.directory, "is this client"):
            log_to(arguments.log, os.environ)
            return _run(client)

    return program("clients.process", work)


def _run(client: Client) -> int:
    if client.port is not None:
        check_port(client.port)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    home = Path(os.environ.get("FLWR_HOME", client.directory / "flower"))
    children = Children()
    while not stopped.is_set():
        client.link.answers()  # raises if the certificate is refused, which no retry would change
        node = children.start(run_supernode, (command(client), environment(home), client.port))
        while node.is_alive() and not stopped.is_set():
            node.join(POLL_INTERVAL)
        children.stop()
        stopped.wait(RETRY_INTERVAL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
