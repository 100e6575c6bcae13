"""A client on a machine of its own: ``python -m clients.process``.

It connects to a SuperLink anywhere, proves who it is with its key, and keeps its state in a
directory of this machine. It reconnects by itself after a network cut or a restart of the
server, and goes on from its state after its own restart.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from f110_fl.errors import UserError
from f110_fl.overrides import client_id as client_id_of

RETRY_INTERVAL: Final = 5.0  # s from a SuperNode's end to its next start


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m clients.process", description=__doc__)
    parser.add_argument("--client-id", help="zero-based index (or FED_CLIENT_ID)")
    parser.add_argument("--total-clients", help="number of clients (or FED_TOTAL_CLIENTS)")
    parser.add_argument("--fed-root", help="directory of this client's state (or FED_ROOT)")
    parser.add_argument("--superlink", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--root-certificates", type=Path, help="the server's authority, PEM")
    parser.add_argument("--key", type=Path, help="this client's private key, OpenSSH P-384")
    parser.add_argument("--port", default="9094", help="a free port of this machine")
    parser.add_argument("--seed", type=int, help="seed of this client (default: the scenario's)")
    parser.add_argument(
        "--insecure", action="store_true", help="plain text and no key; loopback only"
    )
    return parser


def command(arguments: argparse.Namespace, environ: Mapping[str, str]) -> list[str]:
    """Return the SuperNode's command line.

    Raises:
        UserError: For settings that are missing, wrong, or not safe.
    """
    total = _whole("--total-clients", arguments.total_clients, environ.get("FED_TOTAL_CLIENTS"))
    if total < 1:
        raise UserError(f"--total-clients={total}: allowed: a whole number from 1")
    own = arguments.client_id or environ.get("FED_CLIENT_ID")
    own_id = client_id_of({} if own is None else {"FED_CLIENT_ID": own}, total)
    root = arguments.fed_root or environ.get("FED_ROOT")
    if own_id is None or not root:
        raise UserError("--client-id and --fed-root (or FED_CLIENT_ID and FED_ROOT) are needed")
    config = f"partition-id={own_id} num-partitions={total} root={str(Path(root).absolute())!r}"
    if arguments.seed is not None:
        config += f" seed={arguments.seed}"
    return [
        str(Path(sys.executable).with_name("flower-supernode")),
        *("--superlink", arguments.superlink, "--host", "127.0.0.1", "--port", arguments.port),
        *("--node-config", config),
        *_security(arguments),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Return the SuperNode's exit status, or 2 for wrong input."""
    arguments = build_parser().parse_args(argv)
    try:
        words = command(arguments, os.environ)
    except UserError as error:
        print(f"clients.process: {error}", file=sys.stderr)  # noqa: T201
        return 2
    environment = os.environ | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    stopped = threading.Event()
    while True:
        node = subprocess.Popen(words, env=environment)  # noqa: S603
        stop = partial(_stop, node, stopped)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        status = node.wait()
        # After a crash the server keeps the place taken until it misses the former self.
        if stopped.wait(RETRY_INTERVAL):
            return status


def _stop(node: subprocess.Popen[bytes], stopped: threading.Event, *_: object) -> None:
    stopped.set()
    node.terminate()


def _security(arguments: argparse.Namespace) -> list[str]:
    if arguments.insecure:
        if not _is_loopback(arguments.superlink):
            raise UserError(
                f"--insecure: {arguments.superlink} is not on this machine; plain text is "
                "allowed on loopback only"
            )
        return ["--insecure"]
    for flag, path in (
        ("--root-certificates", arguments.root_certificates),
        ("--key", arguments.key),
    ):
        if path is None:
            raise UserError(f"{flag} FILE is needed (or --insecure, on loopback)")
        if not path.is_file():
            raise UserError(f"{flag}={str(path)!r}: no such file")
    return [
        *("--root-certificates", str(arguments.root_certificates)),
        *("--auth-supernode-private-key", str(arguments.key)),
    ]


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _whole(flag: str, *texts: str | None) -> int:
    text = next((text for text in texts if text is not None), None)
    if text is None or not text.isascii() or not text.isdigit():
        raise UserError(f"{flag}={text!r}: allowed: a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
