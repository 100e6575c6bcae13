"""A federation that is there before and after its runs: SuperLink and clients on loopback, TLS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY
from test_deployment import TIMEOUT, processes_of, rounds, wait_for, write

from f110_fl.credentials import Credentials, make_credentials
from f110_fl.flower_programs import CONNECTION, connected, free_port, program
from f110_fl.places import hold_place, release_place
from f110_fl.rundir import RunDir
from f110_fl.superlink import SuperLink, UnreachableError

LOOPBACK = "127.0.0.1"


class Federation:
    """A SuperLink with a database, and two clients that know it by its address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.keys = make_credentials(directory / "keys", (LOOPBACK,), 2)
        self.link = SuperLink(f"{LOOPBACK}:{free_port()}", self.keys.ca)
        self.environment = connected(directory / "home", self.link)
        self.superlink = self.start_superlink()
        for client_id in range(2):
            register = ["supernode", "register", str(self.keys.client_public_key(client_id))]
            subprocess.run(
                [program("flwr"), *register, CONNECTION],
                env=self.environment,
                check=True,
                capture_output=True,
            )
        self.clients = [self.start_client(client_id) for client_id in range(2)]

    def start_superlink(self) -> subprocess.Popen[bytes]:
        command = [program("flower-superlink"), "--enable-supernode-auth", "--host", LOOPBACK]
        command += ["--port", str(self.link.port), "--database", str(self.directory / "db")]
        command += ["--ssl-ca-certfile", str(self.keys.ca), "--ssl-keyfile", str(self.keys.key)]
        command += ["--ssl-certfile", str(self.keys.certificate)]
        process = self._start(command, "superlink")
        wait_for(self.answers, "the SuperLink answers")
        return process

    def answers(self) -> bool:
        try:
            self.link.probe()
        except UnreachableError:
            return False
        return True

    def start_client(self, client_id: int, **flags: str) -> subprocess.Popen[bytes]:
        own = {
            "--client-id": str(client_id),
            "--total-clients": "2",
            "--fed-root": str(self.directory / f"state_{client_id}"),
            "--superlink": self.link.address,
            "--root-certificates": str(self.keys.ca),
            "--key": str(self.keys.client_key(client_id)),
        } | {f"--{name.replace('_', '-')}": value for name, value in flags.items()}
        words = [word for flag in own.items() for word in flag]
        command = [sys.executable, "-m", "clients.process", *words]
        return self._start(command, f"client_{client_id}")

    def _start(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def submit(self, *flags: str, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(REPOSITORY / "run.py"), "--superlink", self.link.address]
        return subprocess.Popen(
            [*command, "--root-certificates", str(self.keys.ca), *flags],
            env=os.environ | variables,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        for process in (*self.clients, self.superlink):
            process.terminate()
        for process in (*self.clients, self.superlink):
            process.wait(TIMEOUT)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    federation = Federation(tmp_path_factory.mktemp("federation"))
    yield federation
    federation.end()
    wait_for(lambda: not processes_of(federation.directory), "all its processes end")


def test_a_run_survives_the_superlink(federation: Federation, tmp_path: Path) -> None:
    """Kill the SuperLink in the middle of a run; start it again; go on; the bytes are the same."""
    scenario = write(tmp_path, episodes=3)
    roots = [RunDir(tmp_path / name) for name in ("broken", "whole")]
    run = federation.submit("--scenario", str(scenario), FED_ROOT=str(roots[0].root))
    assert run.stderr is not None
    assert any(line.startswith("round 1/3") for line in run.stderr)
    federation.superlink.send_signal(signal.SIGKILL)
    federation.superlink.wait()
    errors = run.communicate(timeout=TIMEOUT)[1]
    assert run.returncode == 1, errors
    assert "after round 1" in errors.splitlines()[-1]
    federation.superlink = federation.start_superlink()
    run = federation.submit("--resume", str(roots[0].root))
    errors = run.communicate(timeout=TIMEOUT)[1]
    assert run.returncode == 0, errors
    # The clients are those that were there before.
    assert all(client.poll() is None for client in federation.clients)
    run = federation.submit("--scenario", str(scenario), FED_ROOT=str(roots[1].root))
    errors = run.communicate(timeout=TIMEOUT)[1]
    assert run.returncode == 0, errors
    for root in roots:
        assert [line["clients"] for line in rounds(root)] == [[0, 1]] * 3
    broken, whole = (root.global_tensors(3).read_bytes() for root in roots)
    assert broken == whole
