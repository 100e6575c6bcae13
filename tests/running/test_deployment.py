"""Deployed federations: real processes on loopback, TLS and node keys on, and what goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import verify_run
from in_process import InProcess, carry_out
from programs import call
from small import REPOSITORY, write_small
from watching import TIMEOUT, processes_of, rounds, wait_for

from clients.process import main as client_main
from f110_fl.engines.deployment import ServerWatch
from f110_fl.files import locked
from f110_fl.loading.scenarios import load_scenario
from f110_fl.rundir import RunDir


def start(scenario: Path, root: Path, *flags: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "run.py"), "--scenario", str(scenario), *flags],
        env=os.environ | {"FED_ROOT": str(root)} | variables,
        stderr=subprocess.PIPE,
        text=True,
    )


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def server_of(engine: str, process: subprocess.Popen[str], root: Path) -> int:
    """Return the id of the process that the ServerApp runs in."""
    if engine == "deployment":
        (found,) = [
            number
            for number in processes_of(root)
            if b"flwr-serverapp" in Path(f"/proc/{number}/cmdline").read_bytes()
        ]
        return found
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (found,) = [
        int(number)
        for number in children
        if b"spawn_main" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]
    return found


def state_of(rundir: RunDir) -> dict[str, bytes]:
    """Return everything of a run of two rounds that must not depend on how it was run."""
    names = [f"round_0000{r}/{n}.safetensors" for r in (1, 2) for n in ("global", "client_00")]
    names += [f"clients/0{k}/{n}" for k in (0, 1) for n in ("state.safetensors", "car_0.replay")]
    return {name: (rundir.root / name).read_bytes() for name in names}


class Killed(NamedTuple):
    """A deployed run whose server was killed after its first round, and which was resumed."""

    rundir: RunDir
    scenario: Path
    errors: str  # of the run that was killed


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    directory = tmp_path_factory.mktemp("killed")
    rundir, scenario = RunDir(directory / "run"), write_small(directory)
    process = start(scenario, rundir.root, "--engine", "deployment")
    wait_for(lambda: len(rounds(rundir)) == 1 or process.poll() is not None, "the first round")
    address = rundir.superlink.read_text()
    os.kill(server_of("deployment", process, rundir.root), signal.SIGKILL)
    errors = ended(process, rundir)
    assert not listens(address)
    resumed = [sys.executable, str(REPOSITORY / "run.py"), "--resume", str(rundir.root)]
    result = subprocess.run(
        [*resumed, "--engine", "deployment"],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr
    return Killed(rundir, scenario, errors)


def ended(process: subprocess.Popen[str], rundir: RunDir) -> str:
    """Returns the errors of a run that fails, which leaves nothing running."""
    errors = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 1, errors
    wait_for(lambda: not processes_of(rundir.root), "the run's processes end")
    return errors


def check_lines(errors: str, rundir: RunDir, why: str) -> None:
    reason, last = [line for line in errors.splitlines() if line.startswith("run.py: ")]
    assert why in reason
    assert last == f"run.py: the run failed; see {rundir.logs}"


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")


@pytest.mark.slow
@needs_proc
def test_a_killed_server_ends_the_run_with_a_line(killed: Killed) -> None:
    check_lines(killed.errors, killed.rundir, "the server ended after round 1: killed")


@pytest.mark.slow
@needs_proc
def test_the_resumed_run_leaves_what_one_without_processes_does(
    killed: Killed, tmp_path: Path
) -> None:
    """TLS and keys are on, every message starts a new ClientApp, and nothing is left running."""
    rundir = killed.rundir
    assert [line["clients"] for line in rounds(rundir)] == [[0, 1], [0, 1]]
    whole = carry_out(load_scenario(killed.scenario), tmp_path / "whole", InProcess())
    assert state_of(rundir) == state_of(whole)
    wait_for(lambda: not processes_of(rundir.root), "the run's processes end")
    keys = rundir.root / "flower" / "keys"
    for private in ("superlink.key", "client_00", "client_01"):
        assert stat.S_IMODE((keys / private).stat().st_mode) == 0o600
    # Whatever Flower keeps is in a directory that is nobody else's; a database would be.
    assert stat.S_IMODE(rundir.flower.stat().st_mode) == 0o700
    databases = [path for path in rundir.root.rglob("*.db*") if rundir.flower not in path.parents]
    assert databases == []


@pytest.mark.slow
@needs_proc
def test_what_deployed_clients_answer_is_signed(
    killed: Killed, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = killed.rundir.flower / "keys"
    assert verify_run.main([str(killed.rundir.root), "--keys", str(keys)]) == 0
    told = capsys.readouterr().out
    assert "Signatures  4 of 4 replies" in told
    assert "the same as here" in told  # Flower sends all of the code that is hashed


@pytest.mark.slow
@needs_proc
def test_a_killed_server_of_a_simulation_ends_the_run_with_a_line(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    process = start(write_small(tmp_path, episodes=100_000), rundir.root)
    wait_for(lambda: bool(rounds(rundir)) or process.poll() is not None, "the first round")
    os.kill(server_of("simulation", process, rundir.root), signal.SIGKILL)
    check_lines(ended(process, rundir), rundir, "ended by SIGKILL")


def test_a_server_is_missed_once_it_was_there(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    watch = ServerWatch(rundir)
    assert not watch.runs()
    assert not watch.ended()
    with locked(rundir.server_lock, wait=True):
        assert watch.runs()
        assert not watch.ended()
    assert watch.ended()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--insecure", "--superlink", "10.0.0.1:9092"], "plain text is allowed on loopback only"),
        (["--superlink", "127.0.0.1:9092"], "--root-certificates FILE is needed"),
        (
            ["--superlink", "127.0.0.1:9092", "--root-certificates", "no.crt"],
            "--root-certificates='no.crt': no such file",
        ),
        (["--superlink", "127.0.0.1:1", "--insecure", "--client-id", "5"], "from 0 to 1"),
        (["--superlink", "127.0.0.1:1", "--insecure", "--total-clients", "x"], "whole number"),
        (["--superlink", "https://127.0.0.1:1", "--insecure"], "allowed: HOST:PORT"),
        (["--superlink", "127.0.0.1:1", "--insecure", "--key", "k"], "contradicts --key"),
        (
            ["--superlink", "127.0.0.1:1", "--root-certificates", __file__, "--key", __file__],
            "not an OpenSSH private key",
        ),
    ],
)
def test_what_a_client_process_refuses(tmp_path: Path, flags: list[str], message: str) -> None:
    common = ["--client-id", "0", "--total-clients", "2", "--fed-root", str(tmp_path / "root")]
    result = call(client_main, REPOSITORY, *common, *flags)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
