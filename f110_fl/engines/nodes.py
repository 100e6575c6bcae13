"""Which of Flower's nodes is which client.

Flower gives every registered key a node of its own, and lets nobody be that node without the key.
The file ``nodes.json`` says which client it belongs to: from then on, a node is the client whose
key it has, whatever it says of itself.

``run.py --engine deployment`` registers the clients of one run; ``python -m f110_fl.engines.nodes``
those of a lasting federation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from f110_fl.engines.credentials import Credentials
from f110_fl.engines.flower_programs import program
from f110_fl.errors import UserError
from f110_fl.files import json_objects, write_atomic

VARIABLE: Final = "F110_FL_NODES"  # the file's path, in the environment of a SuperLink
NODES: Final = "nodes.json"  # client ids by node id


def register(public_key: Path, connection: str, environment: Mapping[str, str] | None) -> int:
    """Make a client's key known to a SuperLink.

    Args:
        public_key: OpenSSH.
        connection: The SuperLink's name in Flower's configuration.
        environment: Variables, of which ``FLWR_HOME`` leads to the configuration; None: this
            process's.

    Returns:
        The id of the key's node.

    Raises:
        UserError: If the SuperLink is not reached, or has the key already.
    """
    command = [program("flwr"), "supernode", "register", str(public_key), connection]
    result = subprocess.run(  # noqa: S603 - our own program
        [*command, "--format", "json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    text = result.stdout
    answers = json_objects([text[text.find("{") : text.rfind("}") + 1].replace("\n", " ")])
    if result.returncode or not answers or not str(answers[0].get("node-id", "")).isdigit():
        said = answers[0].get("error-message") if answers else None
        words = " ".join(f"{said or text + result.stderr}".split())
        raise UserError(f"{public_key.name} cannot be registered: {words[:300] or 'no reason'}")
    return int(answers[0]["node-id"])


def write_nodes(path: Path, client_of: Mapping[int, int]) -> None:
    """Write a file of client ids by node id."""
    write_atomic(path, json.dumps({str(n): c for n, c in client_of.items()}, indent=2) + "\n")


def read_nodes(path: Path) -> dict[int, int]:
    """Read a file of client ids by node id.

    Raises:
        UserError: If it cannot be read, or is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        clients = {int(node): int(client) for node, client in dict(found).items()}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"{path}: {words}; client ids by node id are needed") from None
    if sorted(clients.values()) != list(range(len(clients))):
        raise UserError(f"{path}: ids of clients are {sorted(clients.values())}; each from 0, once")
    return clients


def register_all(
    directory: Path, connection: str, environment: Mapping[str, str] | None = None
) -> dict[int, int]:
    """Register the clients whose keys are in a directory, and write ``nodes.json`` there.

    Clients that the file names already are not registered again. ``connection`` and
    ``environment`` are those of `register`.

    Returns:
        Client ids by node id.

    Raises:
        UserError: If there is no key, or one cannot be registered.
    """
    path, credentials = directory / NODES, Credentials(directory)
    client_of = read_nodes(path) if path.exists() else {}
    if not credentials.client_public_key(0).exists():
        raise UserError(f"{directory}: no {credentials.client_public_key(0).name}")
    while (key := credentials.client_public_key(len(client_of))).exists():
        node = register(key, connection, environment)
        client_of[node] = len(client_of)
        write_nodes(path, client_of)  # at once: a key cannot be registered again
    return client_of


def main(argv: Sequence[str] | None = None) -> int:
    """Register the clients whose keys are in a directory, and print their nodes; return 0 or 2."""
    parser = argparse.ArgumentParser(prog="python -m f110_fl.engines.nodes", description=__doc__)
    parser.add_argument("directory", type=Path, help="of the keys; it gets nodes.json")
    parser.add_argument("connection", help="the SuperLink's name in Flower's config.toml")
    arguments = parser.parse_args(argv)
    path = arguments.directory / NODES
    try:
        client_of = register_all(arguments.directory, arguments.connection)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    for node, client in sorted(client_of.items(), key=lambda entry: entry[1]):
        print(f"client {client:<5} node {node}")  # noqa: T201
    print(f"for the server {path}  ({VARIABLE}={path.resolve()})")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
