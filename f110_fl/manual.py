"""Replicas started by hand, one process a client, joined by Flower's deployment runtime.

``FED_TOTAL_CLIENTS``, ``FED_CLIENT_ID`` and ``FED_ROOT`` say who is who. Client 0 hosts the
SuperLink, on loopback only, and submits the run; every client runs a SuperNode. They find
each other through the file ``FED_ROOT/superlink``, which is there while the run is.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from f110_fl.errors import UserError
from f110_fl.files import write_atomic
from f110_fl.launch import completed_rounds
from f110_fl.loading import parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.scenario import Scenario
from f110_fl.session import POLL_INTERVAL, Session

APP: Final = Path(__file__).resolve().parents[1]  # what `flwr run` submits
LOOPBACK: Final = "127.0.0.1"
CONNECTION: Final = "by-hand"  # name of the SuperLink in Flower's configuration


def host(session: Session, scenario: Scenario) -> int:
    """Run the SuperLink, client 0 and the run itself, to its end.

    Returns:
        Exit status: 0 if every round completed.

    Raises:
        UserError: If the SuperLink does not start.
    """
    rundir = session.rundir
    port = _free_port()
    address = f"{LOOPBACK}:{port}"
    environment = _environment(rundir, address)
    superlink = session.start("superlink", run_program, _superlink(port), environment)
    if not _listens(session, port, scenario.federated.connect_timeout):
        raise UserError(f"Flower's SuperLink did not start (exit {superlink.exitcode}); see logs/")
    meeting = _meeting(rundir)
    try:
        write_atomic(meeting, address)
        session.start("supernode_00", run_program, _supernode(scenario, address, 0), environment)
        submission = session.start("run", run_program, _submission(rundir), environment)
        session.wait(submission)
    finally:
        meeting.unlink(missing_ok=True)
    return 0 if completed_rounds(rundir) == scenario.rounds else 1


def join(session: Session, scenario: Scenario, client_id: int) -> int:
    """Run one client until client 0 has ended the run.

    Returns:
        Exit status: 0 if every round completed.

    Raises:
        UserError: If client 0 does not appear within ``connect_timeout``, or was started
            with other settings.
    """
    rundir, timeout = session.rundir, scenario.federated.connect_timeout
    meeting = _meeting(rundir)
    deadline = time.monotonic() + timeout
    while not meeting.exists():
        if time.monotonic() > deadline:
            raise UserError(
                f"FED_CLIENT_ID={client_id}: client 0, which hosts the federation in "
                f"{rundir.root}, did not appear within {timeout:g} s"
            )
        time.sleep(POLL_INTERVAL)
    _compare(scenario, parse_resolved(rundir.config.read_text(encoding="utf-8")), client_id)
    address = meeting.read_text(encoding="utf-8")
    command = _supernode(scenario, address, client_id)
    environment = _environment(rundir, address)
    node = session.start(f"supernode_{client_id:02d}", run_program, command, environment)
    session.wait(node, done=lambda: not meeting.exists())
    return 0 if completed_rounds(rundir) == scenario.rounds else 1


def run_program(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a program in this process's group, and end when it has, with its exit status."""
    # Whoever ends the group waits for this process, and so for the program to tidy up.
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.exit(subprocess.call(command, env=environment, stdin=subprocess.DEVNULL))  # noqa: S603


def _compare(own: Scenario, hosts: Scenario, client_id: int) -> None:
    """Refuse settings that the host's, which every client trains with, would silently undo."""
    ignored = {"seed", "wandb"}  # a replica's own affair
    left, right = (s.model_dump(exclude=ignored) for s in (own, hosts))
    differing = [key for key in left if left[key] != right[key]]
    if differing:
        raise UserError(
            f"FED_CLIENT_ID={client_id}: settings differ from client 0's in {', '.join(differing)}"
        )


def _meeting(rundir: RunDir) -> Path:
    return rundir.root / "superlink"


def _environment(rundir: RunDir, address: str) -> dict[str, str]:
    """Return Flower's environment, with a home of its own in the run's directory."""
    home = rundir.root / "flower" / str(os.getpid())
    home.mkdir(parents=True, exist_ok=True)
    connection = f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
    write_atomic(home / "config.toml", f'{connection}address = "{address}"\ninsecure = true\n')
    # Our own directory is found whatever the child's working directory.
    return os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _superlink(port: int) -> list[str]:
    # Plain text is acceptable because nothing but this machine can connect.
    flags = ["--insecure", "--isolation", "subprocess", "--host", LOOPBACK, "--port", str(port)]
    return [_program("flower-superlink"), *flags]


def _supernode(scenario: Scenario, address: str, client_id: int) -> list[str]:
    clients = scenario.federated.clients
    config = f"partition-id={client_id} num-partitions={clients} seed={scenario.seed}"
    return [
        _program("flower-supernode"),
        *("--insecure", "--superlink", address, "--host", LOOPBACK, "--port", str(_free_port())),
        *("--max-wait-time", str(int(scenario.federated.connect_timeout))),
        *("--node-config", config),
    ]


def _submission(rundir: RunDir) -> list[str]:
    settings = f"prepared-root='{rundir.root}'"
    return [_program("flwr"), "run", str(APP), CONNECTION, "--stream", "--run-config", settings]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _listens(session: Session, port: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return True
        session.forward()
        time.sleep(POLL_INTERVAL)
    return False
