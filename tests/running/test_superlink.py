"""A federation that is there before and after its runs: SuperLink and clients on loopback, TLS."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from small import REPOSITORY, write_small
from watching import TIMEOUT, processes_of, rounds, wait_for

from clients.process import build_parser, resolve
from f110_fl.engines.credentials import make_credentials
from f110_fl.engines.flower.internals import client_tasks
from f110_fl.engines.flower.programs import CONNECTION, connected, free_port, program
from f110_fl.engines.operators import make_operator, read_token
from f110_fl.engines.superlink import SuperLink, resolve_superlink
from f110_fl.errors import UserError
from f110_fl.federation.versions import PROJECT
from f110_fl.rundir import RunDir
from run import main

LOOPBACK = "127.0.0.1"


class Federation:
    """A closed SuperLink with a database, and two clients that know it by its address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.keys = make_credentials(directory / "keys", (LOOPBACK,), 2)
        self.token = make_operator(directory / "keys", "alice")
        self.link = SuperLink(f"{LOOPBACK}:{free_port()}", self.keys.ca, self.token)
        self.environment = connected(directory / "home", self.link)
        self.superlink = self.start_superlink()
        self.port = free_port()  # of client 0's SuperNode
        port = ("--port", str(self.port))
        self.clients = [self.start_client(0, flags=port), self.start_client(1)]

    def register(self, key: Path) -> None:
        command = [program("flwr"), "supernode", "register", str(key), CONNECTION]
        subprocess.run(command, env=self.environment, check=True, capture_output=True)

    def start_superlink(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "server.superlink", "--port", str(self.link.port)]
        command += ["--keys", str(self.keys.directory), "--database", str(self.directory / "db")]
        process = self._start(command, "superlink")
        wait_for(self.link.answers, "the SuperLink answers")
        return process

    def start_client(
        self,
        client_id: int,
        name: str = "",
        *,
        key: Path | None = None,
        ca: Path | None = None,
        total: int = 2,
        program: Sequence[str] = ("-m", "clients.process"),
        flags: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        name = name or f"client_{client_id}"
        command = [sys.executable, *program, "--client-id", str(client_id)]
        command += [
            "--total-clients",
            str(total),
            "--fed-root",
            str(self.directory / f"state_{name}"),
        ]
        command += [*flags, "--superlink", self.link.address]
        command += ["--root-certificates", str(ca or self.keys.ca)]
        command += ["--key", str(key or self.keys.client_key(client_id))]
        return self._start(command, name)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

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

    def submit(
        self, *flags: str, ca: Path | None = None, operator: bool = True, **variables: str
    ) -> subprocess.Popen[str]:
        command = [sys.executable, str(REPOSITORY / "run.py"), "--superlink", self.link.address]
        command += ["--root-certificates", str(ca or self.keys.ca)]
        if operator:
            command += ["--operator", str(self.token)]
        return subprocess.Popen(
            [*command, *flags],
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


@pytest.mark.slow
def test_a_killed_client_comes_back(federation: Federation) -> None:
    """Its successor waits at the SuperLink until nothing was heard of it for some seconds."""

    def connections() -> int:
        return federation.log("client_1").count("SuperNode ID")

    wait_for(lambda: connections() == 1, "it is there")
    federation.clients[1].kill()
    federation.clients[1].wait()
    federation.clients[1] = federation.start_client(1)
    wait_for(lambda: connections() == 2, "it is back")
    # It was not turned away before.
    assert "Failed to initialize the connection" not in federation.log("client_1")


@pytest.mark.slow
def test_one_process_a_client(federation: Federation) -> None:
    federation.start_client(0, "client_0").wait(TIMEOUT)
    assert "another process is this client" in federation.log("client_0")


@pytest.mark.slow
def test_a_client_gives_its_tasks_to_nobody_else_on_its_machine(federation: Federation) -> None:
    wait_for(lambda: "SuperNode ID" in federation.log("client_0"), "it is there")
    stranger = client_tasks(f"{LOOPBACK}:{federation.port}", b"a guess")
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        stranger()


@pytest.mark.slow
def test_strangers_are_refused(federation: Federation, tmp_path: Path) -> None:
    """An unregistered key and a certificate of another authority: neither gets in."""
    strangers = make_credentials(tmp_path / "strangers", (LOOPBACK,), 2)
    unknown = federation.start_client(1, "unknown", key=strangers.client_key(1))
    wait_for(
        lambda: "not signed with the key of a registered client" in federation.log("unknown"),
        "its refusal",
    )
    unknown.terminate()
    assert unknown.wait(TIMEOUT) == 0
    assert "SuperNode ID" not in federation.log("unknown")
    distrustful = federation.start_client(1, "distrustful", ca=strangers.ca)
    assert distrustful.wait(TIMEOUT) == 2
    assert "its certificate is refused" in federation.log("distrustful")
    run = federation.submit("--scenario", str(write_small(tmp_path)), ca=strangers.ca)
    errors = run.communicate(timeout=TIMEOUT)[1]
    assert run.returncode == 2
    assert "its certificate is refused" in errors
    assert len(errors.splitlines()) == 1
    run = federation.submit("--scenario", str(write_small(tmp_path)), operator=False)
    errors = run.communicate(timeout=TIMEOUT)[1]
    assert run.returncode == 1
    assert "Refused: an operator's token is needed (run.py --operator FILE)" in errors


OUTDATED = """
import sys
from f110_fl.federation import versions
versions.PROJECT = "0.0.9"
from clients.process import main
sys.exit(main())
"""


@pytest.mark.slow
def test_who_is_no_client_is_left_out_of_a_run(federation: Federation, tmp_path: Path) -> None:
    """Registered keys of strangers: one says that it is client 0, one that there are nine.

    And client 1 has another version, which both sides say in a line.
    """
    strangers = make_credentials(tmp_path / "strangers", (LOOPBACK,), 2)
    said = {"false": (0, 2), "ninth": (5, 9)}
    processes = []
    for index, (name, (client_id, total)) in enumerate(said.items()):
        federation.register(strangers.client_public_key(index))
        key = strangers.client_key(index)
        processes.append(federation.start_client(client_id, name, key=key, total=total))
    federation.clients[1].terminate()
    federation.clients[1].wait(TIMEOUT)
    processes.append(federation.start_client(1, "outdated", program=["-c", OUTDATED]))
    for name in (*said, "outdated"):
        wait_for(lambda name=name: "SuperNode ID" in federation.log(name), "it is connected")
    scenario = write_small(tmp_path, episodes=1, federated={"connect_timeout": 1})
    run = federation.submit("--scenario", str(scenario), FED_ROOT=str(tmp_path / "r"))
    errors = run.communicate(timeout=TIMEOUT)[1]
    for process in processes:
        process.terminate()
        process.wait(TIMEOUT)
    assert run.returncode == 0, errors
    assert errors.count(" is left out: ") == 3
    told = f"client 1's versions differ: project {PROJECT} in the run, 0.0.9 there; install the "
    assert f" is left out: {told}same version on both machines\n" in errors
    said_there = f"Client 1 is left out of the run: project 0.0.9 here, {PROJECT} in the run"
    assert said_there in federation.log("outdated")
    (line,) = rounds(RunDir(tmp_path / "r"))
    assert (line["clients"], line["dropped"]) == ([0], {})
    for name in ("false", "outdated"):
        assert not (federation.directory / f"state_{name}" / "r").exists()
    # The operator, elsewhere, has its files without a login.
    out = tmp_path / "fetched"
    run = federation.submit("--fetch", str(tmp_path / "r"), "--out", str(out))
    errors = run.communicate(timeout=TIMEOUT)[1]
    assert run.returncode == 0, errors
    for name in ("config.json", "rounds.jsonl", "report.html", "manifest.json", "identity"):
        assert (out / name).read_bytes() == (tmp_path / "r" / name).read_bytes()
    ours, theirs = (RunDir(root).global_tensors(1) for root in (tmp_path / "r", out))
    assert ours.read_bytes() == theirs.read_bytes()
    assert not list(out.rglob("*.key"))
    assert "\x1b" not in federation.log("superlink") + federation.log("client_0")
    secrets = [read_token(federation.token).encode()]
    secrets += [federation.keys.client_key(k).read_bytes().splitlines()[1] for k in range(2)]
    for log in federation.directory.glob("*.log"):
        assert [secret for secret in secrets if secret in log.read_bytes()] == []
    assert stat.S_IMODE((federation.directory / "db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--superlink", "10.0.0.1:9092", "--insecure"], "plain text is allowed on loopback only"),
        (["--superlink", "127.0.0.1:1", "--insecure"], "no connection: "),
        (["--superlink", "127.0.0.1:9092"], "--root-certificates FILE is needed"),
        (["--superlink", "nowhere"], "allowed: HOST:PORT"),
        (["--superlink", "127.0.0.1:1", "--insecure", "--max-parallel", "1"], "--max-parallel"),
        (["--insecure"], "needs --superlink"),
    ],
)
def test_what_run_refuses(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--scenario", str(write_small(tmp_path)), *flags]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"--total-clients": "0"}, "--total-clients='0': allowed: a whole number from 1 to 10000"),
        ({"--total-clients": ""}, "--total-clients='': allowed: a whole number from 1 to 10000"),
        ({"--client-id": "2"}, "FED_CLIENT_ID='2': allowed: a whole number from 0 to 1, as there"),
        ({"--port": "65536"}, "--port='65536': allowed: a whole number from 1 to 65535"),
        ({"--seed": "x"}, "--seed='x': allowed: a whole number from 0 to 9223372036854775807"),
    ],
)
def test_what_a_client_refuses(flags: dict[str, str], message: str) -> None:
    given = {"--client-id": "1", "--total-clients": "2", "--fed-root": "there", **flags}
    words = [f"{flag}={text}" for flag, text in given.items()]
    arguments = build_parser().parse_args([*words, "--superlink=127.0.0.1:1", "--insecure"])
    with pytest.raises(UserError) as caught:
        resolve(arguments, {})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "[::1]", "localhost"])
def test_plain_text_is_for_loopback(host: str) -> None:
    link = resolve_superlink(f"{host}:9092", None, insecure=True)
    assert (link.host, link.port) == (host.strip("[]"), 9092)


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.0.1", "[2001:db8::1]", "localhost.example"])
def test_plain_text_is_for_nothing_else(host: str) -> None:
    with pytest.raises(UserError, match="loopback only"):
        resolve_superlink(f"{host}:9092", None, insecure=True)
