"""Flower's own simulation runtime: the ServerApp in this process, its clients in Ray's actors.

On one machine `f110_fl.engines.simulation` does the same faster. Ray can have more machines: with
``RAY_ADDRESS`` clients run on a cluster that is there already. Any actor may serve any client in
any round, so all nodes have to see the run's directory at the same path. What a client learns does
not depend on where it is, and results are the same bytes.

Flower hands messages to an actor that has died, too, and each costs a client the round; so a run
ends with the first one, and is resumed (`server.grids.OnRay`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation

from f110_fl.engines.flower.internals import PARTITION_ID_KEY, plain_log
from f110_fl.files import write_atomic
from f110_fl.rundir import RunDir
from f110_fl.runs.machine import seen_by_node

ADDRESS: Final = "RAY_ADDRESS"  # Ray's own variable: where the cluster's head is
# Of this process's environment, for actors: a cluster was started with another one.
PASSED: Final = ("NUMBA_CACHE_DIR", "NUMBA_CACHE_LOCATOR_CLASSES", "FLWR_TELEMETRY_ENABLED")


class ClusterError(RuntimeError):
    """A cluster cannot be used, and why."""


class NotedApp(ClientApp):
    """The clients' app, which notes in each client's directory on which node it trained.

    Args:
        app: Module and name of the app, which every actor imports: ``module:name``.
        root: The run's directory.
    """

    def __init__(self, app: str, root: Path) -> None:
        super().__init__()
        self._app, self._root = app, root

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message."""
        import ray

        module, name = self._app.split(":")
        app: ClientApp = getattr(import_module(module), name)
        reply = app(message, context)
        note = RunDir(self._root).node(int(context.node_config[PARTITION_ID_KEY]))
        if note.parent.is_dir():
            found = ray.get_runtime_context()
            address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
            where = {"node": found.get_node_id()[:8], "address": address}
            write_atomic(note, json.dumps(where).encode() + b"\n")
        return reply


def simulate(
    server_app: Callable[[], ServerApp],
    client_app: str,
    clients: int,
    max_parallel: int,
    root: Path,
) -> None:
    """Run a ServerApp with virtual clients, and return when it is done.

    Args:
        server_app: Returns the server's app.
        client_app: Module and name of the clients' app, ``module:name``.
        clients: K; their ids, Flower's ``partition-id``, are 0 to K - 1.
        max_parallel: Largest number of clients at work at a time. A cluster has a client a core.
        root: The run's directory.

    Raises:
        ClusterError: If there is no cluster at ``RAY_ADDRESS``, or a node has other code or does
            not see the run's directory.
        Exception: What the ServerApp raises.
    """
    plain_log()
    with _connected(max_parallel):
        _check_nodes(root)
        run_simulation(
            server_app=server_app(),
            client_app=NotedApp(client_app, root),
            num_supernodes=clients,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )


@contextmanager
def _connected(cores: int) -> Iterator[None]:
    """Have a cluster of this machine's cores, or the one that is asked for, while it lasts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    address = os.environ.get(ADDRESS)
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    passed["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    own: dict[str, Any] = {} if address else {"num_cpus": cores, "include_dashboard": False}
    try:
        ray.init(address=address or "local", runtime_env={"env_vars": passed}, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"{ADDRESS}={address!r}: no cluster: {reason}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_nodes(root: Path) -> None:
    """Let each node say what it sees, before it serves clients."""
    import ray
    from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here, seen = seen_by_node(root), ray.remote(num_cpus=0)(seen_by_node)
    known = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = {node["NodeID"]: node for node in known if node["Alive"]}
    asked = {
        number: seen.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(number, soft=False)
        ).remote(root)
        for number in nodes
    }
    for number, answer in asked.items():
        try:
            there = ray.get(answer)
        except (NodeDiedError, TaskUnschedulableError, WorkerCrashedError):
            continue  # it is dead; for some seconds Ray goes on taking it for alive
        wrong = [name for name, value in here.items() if there.get(name) != value]
        if wrong:
            node = f"{number[:8]} at {nodes[number]['NodeManagerAddress']}"
            raise ClusterError(
                f"Ray's node {node}: {wrong[0]}: {there[wrong[0]]}, here {here[wrong[0]]}; every "
                "node needs the same code and sees the run's directory at the same path"
            )
