"""Federations of processes: Flower's SuperLink and SuperNodes, with TLS and node keys.

``host`` runs the SuperLink, the run itself and any number of clients; ``join`` runs one more
client, which shares ``FED_ROOT`` with the host. Both use the loopback interface only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from f110_fl.config.scenario import Scenario
from f110_fl.engines.closed.superlink import ClosedSuperLink, serve
from f110_fl.engines.credentials import Credentials, make_credentials
from f110_fl.engines.flower.programs import (
    APP,
    bundled,
    connected,
    free_port,
    run_command,
    run_program,
    run_supernode,
    supernode_command,
)
from f110_fl.engines.operators import make_operator
from f110_fl.engines.superlink import SuperLink
from f110_fl.errors import UserError
from f110_fl.files import is_locked, write_atomic
from f110_fl.loading.scenarios import read_resolved
from f110_fl.reporting.announce import FAILED, Announcements
from f110_fl.reporting.summary import completed_rounds, is_complete
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import lock_directory
from f110_fl.runs.logs import LogReader
from f110_fl.runs.session import Session

LOOPBACK: Final = "127.0.0.1"
OPERATOR: Final = "run"  # who submits the run
RUN: Final = "run"  # name of the child process that submits and follows the run
RETRY_INTERVAL: Final = 3.0  # s from a client's end to its next start
END_GRACE: Final = 5.0  # s that Flower has for its last output after the server's end


def host(session: Session, scenario: Scenario, clients: Iterable[int], app: Path = APP) -> int:
    """Run the SuperLink, the given clients and the run itself, to its end.

    Args:
        session: Starts the processes.
        scenario: The run's, as stored in its directory.
        clients: Ids of the clients that run here.
        app: Directory of the Flower app.

    Returns:
        Exit status: 0 if every round completed, or the privacy budget ended the run.

    Raises:
        UserError: If the SuperLink does not start.
    """
    rundir, timeout = session.rundir, scenario.federated.connect_timeout
    hosts = (LOOPBACK, "localhost")
    rundir.flower.mkdir(parents=True, exist_ok=True)
    rundir.flower.chmod(0o700)  # whatever Flower's programs keep there is nobody else's
    keys = rundir.flower / "keys"
    credentials = make_credentials(keys, hosts, scenario.federated.clients)
    token = make_operator(keys, OPERATOR)
    link = SuperLink(f"{LOOPBACK}:{free_port()}", credentials.ca, token)
    environment = _connected(rundir, link)
    home = Path(environment["FLWR_HOME"])
    served = ClosedSuperLink(link.host, link.port, keys, credentials.operators, home=home)
    superlink = session.start("superlink", serve, served)
    session.pause(timeout, done=lambda: link.answers() or not superlink.is_alive())
    if not link.answers():
        raise UserError(f"Flower's SuperLink did not start (exit {superlink.exitcode}); see logs/")
    try:
        write_atomic(rundir.superlink, link.address)
        for client_id in clients:
            _start_client(session, scenario, link, credentials.client_key(client_id), client_id)
        watch = ServerWatch(rundir)
        session.pause(timeout, done=lambda: not watch.runs())
        if watch.runs():
            raise UserError(f"{rundir.root}: the server of a killed run still runs")
        failure = FailureWatch(rundir.logs / f"{RUN}.log")
        command = run_command({"prepared-root": str(rundir.root)}, bundled(home, app))
        submission = session.start(RUN, run_program, command, environment)
        session.wait(submission, done=lambda: failure.look() or watch.ended())
        session.pause(END_GRACE, done=lambda: failure.look() or not submission.is_alive())
    finally:
        rundir.superlink.unlink(missing_ok=True)
    if is_complete(scenario, rundir):
        return 0
    completed = completed_rounds(rundir)
    failure.look()
    reason = failure.reason or "killed, or it could not start"
    session.failures.append(f"the server ended after round {completed}: {reason}")
    return 1


def join(session: Session, scenario: Scenario, client_id: int) -> int:
    """Run one client until the host has ended the run.

    Returns:
        Exit status: 0 if every round completed, or the privacy budget ended the run.

    Raises:
        UserError: If the host does not appear within ``connect_timeout``, or was started
            with other settings.
    """
    rundir, timeout = session.rundir, scenario.federated.connect_timeout
    meeting = rundir.superlink
    session.pause(timeout, done=meeting.exists)
    if not meeting.exists():
        raise UserError(
            f"FED_CLIENT_ID={client_id}: client 0, which hosts the federation in "
            f"{rundir.root}, did not appear within {timeout:g} s"
        )
    _compare(scenario, read_resolved(rundir.config), client_id)
    credentials = Credentials(rundir.flower / "keys")
    link = SuperLink(meeting.read_text(encoding="utf-8"), credentials.ca)
    with lock_directory(rundir.client(client_id), "is this client"):
        # A client that ends is started again for as long as the run lasts. The SuperLink lets it
        # wait some seconds, to see that nothing is heard of its predecessor.
        while meeting.exists():
            key = credentials.client_key(client_id)
            node = _start_client(session, scenario, link, key, client_id)
            session.wait(node, done=lambda: not meeting.exists())
            session.pause(RETRY_INTERVAL, done=lambda: not meeting.exists())
    return 0 if is_complete(scenario, rundir) else 1


class ServerWatch:
    """Notices that the server's process has ended, which takes Flower a minute."""

    def __init__(self, rundir: RunDir) -> None:
        self._lock = rundir.server_lock
        self._begun = False

    def ended(self) -> bool:
        """Return whether a server was seen to run and no longer does."""
        runs = self.runs()
        self._begun = self._begun or runs
        return self._begun and not runs

    def runs(self) -> bool:
        """Return whether a server runs."""
        return is_locked(self._lock)


class FailureWatch:
    """Finds the failures that a run's server announces in its log, from now on.

    Args:
        log: The log.

    Attributes:
        reason: The last failure's, "" if there was none.
    """

    def __init__(self, log: Path) -> None:
        self._log = LogReader(log)
        self._announcements = Announcements()
        self.reason = ""

    def look(self) -> bool:
        """Read what was added to the log; return False, so that it can be called while waiting."""
        for line in self._log.lines():
            event = self._announcements.read(line)
            if event is not None and event["event"] == FAILED:
                self.reason = str(event["message"])
        return False


def _start_client(
    session: Session, scenario: Scenario, link: SuperLink, key: Path, client_id: int
) -> BaseProcess:
    node_config = {
        "partition-id": client_id,
        "num-partitions": scenario.federated.clients,
        "seed": scenario.client_seed(client_id),
    }
    max_wait = scenario.federated.connect_timeout
    command = supernode_command(link, key, node_config, max_wait=max_wait)
    environment = _connected(session.rundir, link)
    return session.start(f"supernode_{client_id:02d}", run_supernode, command, environment)


def _compare(own: Scenario, hosts: Scenario, client_id: int) -> None:
    """Refuse settings other than the host's, with which every client trains."""
    ignored = {"seed", "wandb"}  # which each client may choose
    left, right = (s.model_dump(exclude=ignored) for s in (own, hosts))
    differing = [key for key in left if left[key] != right[key]]
    if differing:
        raise UserError(
            f"FED_CLIENT_ID={client_id}: settings differ from client 0's in {', '.join(differing)}"
        )


def _connected(rundir: RunDir, link: SuperLink) -> dict[str, str]:
    """Return Flower's environment, with a home in the run's directory for this process."""
    return connected(rundir.flower / f"home_{os.getpid()}", link)
