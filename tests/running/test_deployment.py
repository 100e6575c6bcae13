"""Deployed federations: real processes on loopback, TLS and node keys on, and what goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import verify_run
from small import REPOSITORY, write_small
from watching import TIMEOUT, processes_of, rounds, wait_for

from f110_fl.engines.deployment import ServerWatch
from f110_fl.files import locked
from f110_fl.rundir import RunDir
from f110_fl.training.state_file import saved_progress


def start(scenario: Path, root: Path, *flags: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "run.py"), "--scenario", str(scenario), *flags],
        env=os.environ | {"FED_ROOT": str(root)} | variables,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_training(log: Path) -> bool:
    """Return whether a SuperNode has been asked to train and has not answered yet."""
    text = log.read_text()
    return text.count("Receiving: train message") > text.count("Sending: train message")


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


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A deployed run of two rounds that nothing happened to."""
    directory = tmp_path_factory.mktemp("deployed")
    rundir = RunDir(directory / "run")
    process = start(write_small(directory), rundir.root, "--engine", "deployment")
    errors = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 0, errors
    return rundir


@pytest.mark.slow
def test_two_rounds_deployed(deployed: RunDir) -> None:
    """TLS and keys are on, every message starts a new ClientApp, and nothing is left running."""
    rundir = deployed
    assert [line["clients"] for line in rounds(rundir)] == [[0, 1], [0, 1]]
    wait_for(lambda: not processes_of(rundir.root), "the run's processes end")
    keys = rundir.root / "flower" / "keys"
    for private in ("superlink.key", "client_00", "client_01"):
        assert stat.S_IMODE((keys / private).stat().st_mode) == 0o600
    # Whatever Flower keeps is in a directory that is nobody else's; a database would be.
    assert stat.S_IMODE(rundir.flower.stat().st_mode) == 0o700
    databases = [path for path in rundir.root.rglob("*.db*") if rundir.flower not in path.parents]
    assert databases == []


@pytest.mark.slow
def test_what_deployed_clients_answer_is_signed(
    deployed: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = deployed.flower / "keys"
    assert verify_run.main([str(deployed.root), "--keys", str(keys)]) == 0
    told = capsys.readouterr().out
    assert "Signatures  4 of 4 replies" in told
    assert "the same as here" in told  # Flower sends all of the code that is hashed


def test_a_server_is_missed_once_it_was_there(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    watch = ServerWatch(rundir)
    assert not watch.runs()
    assert not watch.ended()
    with locked(rundir.server_lock, wait=True):
        assert watch.runs()
        assert not watch.ended()
    assert watch.ended()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
@pytest.mark.parametrize("engine", ["deployment", "simulation"])
def test_a_killed_server_ends_the_run_which_goes_on(
    deployed: RunDir, tmp_path: Path, engine: str
) -> None:
    """One line says so, nothing is left running, and a resumed run ends with the same bytes."""
    rundir = RunDir(tmp_path / "run")
    process = start(write_small(tmp_path), rundir.root, "--engine", engine)
    wait_for(lambda: len(rounds(rundir)) == 1 or process.poll() is not None, "the first round")
    meeting = rundir.root / "superlink"
    address = meeting.read_text() if meeting.exists() else None
    os.kill(server_of(engine, process, rundir.root), signal.SIGKILL)
    errors = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 1, errors
    reason, last = [line for line in errors.splitlines() if line.startswith("run.py: ")]
    assert "the server ended after round 1: killed" in reason or "ended by SIGKILL" in reason
    assert last == f"run.py: the run failed; see {rundir.logs}"
    wait_for(lambda: not processes_of(rundir.root), "the run's processes end")
    assert address is None or not listens(address)
    resumed = [sys.executable, str(REPOSITORY / "run.py"), "--resume", str(rundir.root)]
    result = subprocess.run(
        [*resumed, "--engine", engine], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert result.returncode == 0, result.stderr
    assert [line["clients"] for line in rounds(rundir)] == [[0, 1], [0, 1]]
    assert state_of(rundir) == state_of(deployed)
    wait_for(lambda: not processes_of(rundir.root), "the resumed run's processes end")


@pytest.mark.slow
def test_a_killed_client_costs_its_round_and_comes_back(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    scenario = write_small(
        tmp_path,
        episodes=400,
        federated={"timeout": 60, "round_interval": 1, "min_clients": 1},
        evaluation={"episodes": 0},
    )
    names = {"FED_TOTAL_CLIENTS": "2"}
    host = start(scenario, rundir.root, FED_CLIENT_ID="0", **names)
    other = start(scenario, rundir.root, FED_CLIENT_ID="1", **names)
    try:
        # The first round compiles the kernels, and may be over before both clients have.
        wait_for(
            lambda: any(line["clients"] == [0, 1] for line in rounds(rundir)),
            "a round with both clients",
        )
        log = rundir.logs / "supernode_01.log"
        wait_for(lambda: is_training(log), "client 1 in the middle of a round")
        other.send_signal(signal.SIGKILL)
        other.wait()
        before = len(rounds(rundir))
        trained = saved_progress(rundir.client(1)).episodes
        other = start(scenario, rundir.root, FED_CLIENT_ID="1", **names)
        wait_for(
            lambda: any("1" in line["dropped"] for line in rounds(rundir)[before:]),
            "a round without client 1, which is named",
        )
        wait_for(lambda: 1 in rounds(rundir)[-1]["clients"], "client 1 takes part again")
        assert saved_progress(rundir.client(1)).episodes > trained >= 1
    finally:
        for process in (host, other):
            process.send_signal(signal.SIGINT)
        for process in (host, other):
            process.communicate(timeout=TIMEOUT)
    wait_for(lambda: not processes_of(rundir.root), "the run's processes end")


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
    result = subprocess.run(
        [sys.executable, "-m", "clients.process", *common, *flags],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
