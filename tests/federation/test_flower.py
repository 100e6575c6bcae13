"""Flower's deployment runtime and its command line, with real processes on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import call
from small import REPOSITORY, write_small
from watching import TIMEOUT

from f110_fl.engines.flower.programs import bundled
from f110_fl.rundir import RunDir
from f110_fl.training.trainer import Trainer
from run import main

LOOPBACK = "127.0.0.1"


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A SuperLink that simulates, and the environment in which ``flwr run`` uses it."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    home = tmp_path / "flower"
    home.mkdir()
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "test"\n\n[superlink.test]\n'
        f'address = "{LOOPBACK}:{port}"\ninsecure = true\n'
    )
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_ADDRESS": "local",  # else Ray asks after a cluster that another program has left
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    flags = ["--insecure", "--simulation", "--isolation", "subprocess", "--host", LOOPBACK]
    process = subprocess.Popen(
        [program("flower-superlink"), *flags, "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_listening(port, process)
        yield environment
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"the SuperLink does not listen; exit status {process.poll()}")


def flwr_run(environment: dict[str, str], settings: dict[str, str]) -> str:
    words = " ".join(f"{key}={value!r}" for key, value in settings.items())
    app = str(bundled(Path(environment["FLWR_HOME"])))
    command = [program("flwr"), "run", app, "test", "--stream", "--run-config", words]
    result = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return result.stdout


@pytest.mark.slow
def test_flwr_run(superlink: dict[str, str], tmp_path: Path) -> None:
    """The app runs from its bundle, adapts to the federation's size and takes run configs."""
    rundir = RunDir(tmp_path / "run")
    settings = {
        "scenario": str(write_small(tmp_path, federated={"clients": 5})),
        "fed-root": str(rundir.root),
        "episodes": "1",
        "round-interval": "1",
        "optimizer-strategy": "average",
    }
    output = flwr_run(superlink, settings)
    assert rundir.rounds.exists(), output
    (line,) = rundir.rounds.read_text().splitlines()
    assert json.loads(line)["clients"] == [0, 1]  # Flower simulates two SuperNodes by default
    resolved = json.loads(rundir.config.read_text())
    assert resolved["federated"]["clients"] == 2
    assert resolved["federated"]["optimizer_strategy"] == "average"
    assert "<html" in (rundir.root / "report.html").read_text(encoding="utf-8")[:200]


def replica(scenario: Path, root: Path, client_id: int, seed: int) -> subprocess.Popen[str]:
    variables = {
        "FED_ROOT": str(root),
        "FED_TOTAL_CLIENTS": "2",
        "FED_CLIENT_ID": str(client_id),
        "RUN_SEED": str(seed),
    }
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "run.py"), "--scenario", str(scenario)],
        env=os.environ | variables,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_replicas_started_by_hand(tmp_path: Path) -> None:
    """Two processes that share FED_ROOT federate; each message starts a new ClientApp."""
    rundir = RunDir(tmp_path / "run")
    scenario = write_small(tmp_path, episodes=1)
    # Client 1 first: it waits for the host.
    replicas = [replica(scenario, rundir.root, k, seed=100 + k) for k in (1, 0)]
    try:
        errors = [process.communicate(timeout=TIMEOUT)[1] for process in replicas]
    finally:
        for process in replicas:
            process.kill()
    assert [process.returncode for process in replicas] == [0, 0], errors
    lines = [json.loads(line) for line in rundir.rounds.read_text().splitlines()]
    assert [line["clients"] for line in lines] == [[0, 1]]
    assert not (rundir.root / "superlink").exists()
    # Every client trained an episode, on the seed that its own process was given.
    for client_id in (0, 1):
        seeded = Trainer(
            load(rundir, seed=100 + client_id), client_id, tmp_path / f"reference_{client_id}"
        )
        seeded.train(1)
        reference = (tmp_path / f"reference_{client_id}" / "episodes.jsonl").read_text()
        deployed = rundir.episodes(client_id).read_text()
        first, again = (json.loads(text.splitlines()[0]) for text in (reference, deployed))
        assert first["steps"] == again["steps"]
        assert len(deployed.splitlines()) == 2  # the episode, and its evaluation


def load(rundir: RunDir, seed: int) -> Any:
    from f110_fl.loading.scenarios import parse_resolved

    return parse_resolved(rundir.config.read_text()).model_copy(update={"seed": seed})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "share one directory; set the same FED_ROOT"),
        ({"FED_ROOT": "run", "FED_ENABLED": "0"}, "the scenario is not federated"),
    ],
)
def test_by_hand_needs_a_meeting_place(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    variables = {"FED_TOTAL_CLIENTS": "2", "FED_CLIENT_ID": "1"} | variables
    result = call(main, tmp_path, "--scenario", write_small(tmp_path), **variables)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
