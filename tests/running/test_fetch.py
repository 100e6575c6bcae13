"""What a run has left on a closed SuperLink's machine is fetched by its operators, whole or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from closed_superlink import LOOPBACK, served, serving
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from parts.strangers import Door, request, signed, strangers

import run
from f110_fl.engines import fetching
from f110_fl.engines.closed import files as closed_files
from f110_fl.engines.closed.files import FILE_PART, FILES, NotOfferedError, RunFiles, opened
from f110_fl.engines.closed.superlink import ClosedSuperLink
from f110_fl.engines.credentials import Credentials, make_credentials
from f110_fl.engines.fetching import RemoteFile
from f110_fl.engines.flower.internals import Nodes
from f110_fl.engines.operators import make_operator, read_token
from f110_fl.reporting import announce
from f110_fl.rundir import RunDir

NUMBER = "4711"
SECRETS = ("privacy.key", "server.safetensors", "flower/keys/client_00", "keys/client_00")
KEPT = ("clients/00/state.safetensors", "clients/00/car_0.replay", "clients/00/privacy.key")


def write_run(root: Path) -> dict[str, bytes]:
    """Write what a run of two rounds leaves, and return the files that it offers."""
    offered = {
        "identity": b"run-1234",
        "config.json": b"{}",
        "rounds.jsonl": b'{"round": 1}\n{"round": 2}\n',
        "evaluations.jsonl": b'{"round": 2}\n',
        "best.safetensors": os.urandom(300_000),
        "report.html": b"<html>",
        "manifest.json": b"{}",
        "keys/client_00.pub": b"ecdsa",
        "clients/00/episodes.jsonl": b"{}\n",
        "round_00002/global.safetensors": os.urandom(1_000_003),
        "round_00002/metrics.json": b"{}",
    }
    kept = ("round_00001/global.safetensors", "round_00001/metrics.json", "logs/server.log")
    others = dict.fromkeys((*SECRETS, *KEPT, *kept), b"nobody's")
    for name, content in (offered | others).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return offered


def log_of(root: Path) -> str:
    """Return the log of a run's server, in which a client claims another directory."""
    key = f"{announce.MARK}key"
    told = json.dumps({"event": announce.STARTED, "root": str(root), "rounds": 0})
    claimed = json.dumps({"event": announce.STARTED, "root": "/etc", "rounds": 0})
    return f"{key}\nINFO: {key} {claimed}\n{announce.MARK}other {claimed}\n{key} {told}\n"


@dataclass
class Server:
    """A closed SuperLink that knows a run.

    Attributes:
        root: The run's directory.
        offered: Its files that operators may have.
    """

    link: ClosedSuperLink
    keys: Credentials
    root: Path
    offered: dict[str, bytes] = field(default_factory=dict)

    def flags(self, operator: str = "alice") -> list[str]:
        words = ["--superlink", f"{LOOPBACK}:{self.link.port}"]
        words += ["--root-certificates", str(self.keys.ca)]
        return [*words, "--operator", str(self.keys.directory / f"operator_{operator}")]

    def fetch(self, out: Path, name: str = "") -> int:
        return run.main(["--fetch", name or str(self.root), *self.flags(), "--out", str(out)])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    keys = make_credentials(directory / "keys", (LOOPBACK,), 1)
    make_operator(keys.directory, "alice")
    of = served(keys)
    root = directory / "runs" / "20260101-120000"
    known = [(SimpleNamespace(run_id=int(NUMBER)), log_of(root))]
    with pytest.MonkeyPatch.context() as patch, serving(of):
        patch.setattr(Nodes, "runs", lambda _: iter(known))
        yield Server(of, keys, root, write_run(root))


def contents(out: Path) -> dict[str, bytes]:
    """Return all files below a directory, hidden ones too."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_what_a_run_offers_is_fetched_by_number_or_directory(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In parts smaller than the files; secrets, states and earlier rounds stay where they are."""
    monkeypatch.setattr(fetching, "PART", 65_536)
    monkeypatch.chdir(tmp_path)
    assert run.main(["--fetch", NUMBER, *server.flags()]) == 0
    assert contents(tmp_path / "20260101-120000") == server.offered
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"Fetched         {len(server.offered)} files, 1.3 MB"
    # Nothing is fetched twice.
    assert server.fetch(tmp_path / "20260101-120000") == 0
    assert capsys.readouterr().err.startswith("Fetched         0 files, 0 bytes\n")


def test_an_interrupted_fetch_goes_on_without_a_half_written_file(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The server ends the connection in the middle of the largest file."""
    monkeypatch.setattr(fetching, "PART", 65_536)
    served_part = RunFiles.part

    def cut(self: RunFiles, question: bytes) -> bytes:
        asked = json.loads(question)
        if asked["name"].startswith("round_") and asked["offset"] > 500_000:
            raise OSError("gone")
        return served_part(self, question)

    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "part", cut)
        assert server.fetch(tmp_path / "out") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    before = contents(tmp_path / "out")
    assert before
    assert before.items() < server.offered.items()
    assert server.fetch(tmp_path / "out") == 0
    assert contents(tmp_path / "out") == server.offered
    fetched = len(server.offered) - len(before)
    assert capsys.readouterr().err.startswith(f"Fetched         {fetched} files, ")


def test_a_file_that_changes_meanwhile_is_fetched_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run at work adds lines, whose beginning stays, and replaces its best model."""
    monkeypatch.setattr(fetching, "PART", 65_536)
    served_part, new = RunFiles.part, os.urandom(300_000)
    best, rounds = RunDir(server.root).best, RunDir(server.root).rounds
    after = server.offered | {"best.safetensors": new}

    def replace(self: RunFiles, question: bytes) -> bytes:
        part = served_part(self, question)
        if json.loads(question)["name"] == "best.safetensors" and best.read_bytes() != new:
            best.write_bytes(new)
            with rounds.open("ab") as file:
                file.write(b'{"round": 3}\n')
        return part

    monkeypatch.setattr(RunFiles, "part", replace)
    try:
        assert server.fetch(tmp_path / "out") == 0
    finally:
        best.write_bytes(server.offered["best.safetensors"])
        rounds.write_bytes(server.offered["rounds.jsonl"])
    found = contents(tmp_path / "out")
    assert found.pop("rounds.jsonl").startswith(after.pop("rounds.jsonl"))
    assert found == after


def test_strangers_are_refused(server: Server) -> None:
    """So is a client, whose key opens only what clients need."""
    door = Door(server.link.port, server.keys.ca)
    question = json.dumps({"run": NUMBER}).encode()
    key = load_ssh_private_key(server.keys.client_key(0).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    known = signed(key)
    for _, headers in (*strangers(), ("a client", known)):
        for path in (FILES, FILE_PART):
            head = request("POST", path, headers, len(question))
            assert door.ask(head, [question]) == 401
    token = read_token(server.keys.directory / "operator_alice")
    own = {"authorization": f"Bearer {token}"}
    assert door.ask(request("POST", FILES, own, len(question)), [question]) == 200


def test_nothing_else_is_handed_out(server: Server, tmp_path: Path) -> None:
    """Whatever name is asked for, and wherever a link leads."""
    answers = RunFiles(Nodes.__new__(Nodes))
    (tmp_path / "secret").write_text("secret")
    linked = [server.root / "report.html", server.root / "clients" / "01" / "episodes.jsonl"]
    linked[1].parent.symlink_to(tmp_path)
    (tmp_path / "episodes.jsonl").write_text("secret")
    linked[0].unlink()
    linked[0].symlink_to(tmp_path / "secret")
    try:
        listed = json.loads(answers.listing(json.dumps({"run": NUMBER}).encode()))
        names = {each["name"] for each in listed["files"]}
        assert names == set(server.offered) - {"report.html"}
        outside = ["../secret", "/etc/passwd", "keys/../privacy.key", "keys/./client_00.pub", ""]
        for name in (*outside, *SECRETS, *KEPT, "config.json\n", "report.html", None, 3):
            asked = {"run": NUMBER, "name": name, "offset": 0, "length": 10}
            with pytest.raises(NotOfferedError):
                answers.part(json.dumps(asked).encode())
        linked_file = {"run": NUMBER, "name": "clients/01/episodes.jsonl", "offset": 0, "length": 9}
        with pytest.raises(NotOfferedError):
            answers.part(json.dumps(linked_file).encode())
    finally:
        linked[0].unlink()
        linked[0].write_bytes(server.offered["report.html"])
        linked[1].parent.unlink()
    for text in (b"", b"[]", b'{"run": 1}', b'{"run": "/etc"}', b"[" * 100_000):
        with pytest.raises(NotOfferedError):
            answers.listing(text)
    wrong = {"run": NUMBER, "name": "config.json", "offset": -1, "length": 1}
    for changes in ({}, {"offset": True}, {"offset": 0, "length": "1"}):
        with pytest.raises(NotOfferedError):
            answers.part(json.dumps(wrong | changes).encode())


def test_a_part_is_bounded_and_ends_with_its_file(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_files, "PART", 100)
    answers, content = RunFiles(Nodes.__new__(Nodes)), server.offered["best.safetensors"]
    for offset, length, expected in (
        (0, 10**12, content[:100]),
        (7, 50, content[7:57]),
        (len(content) - 3, 50, content[-3:]),
        (10**30, 50, b""),
    ):
        asked = {"run": NUMBER, "name": "best.safetensors", "offset": offset, "length": length}
        assert answers.part(json.dumps(asked).encode()) == expected


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    with opened(tmp_path, "folder/file") as file:
        assert file.read() == b"x"
    for name in ("folder", "link", "link/file", "pipe", "none", "folder/none"):
        with pytest.raises(OSError, match=r"regular|No such|links|Not a directory"):
            opened(tmp_path, name)


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": name} for name in ("../x", "/x", "a/../x", "a//x", ".x", "a/.x", "a\\x", "", 1)),
        *({"size": size} for size in (-1, 2**60, 1.5, True, "1")),
        *({"sha256": text} for text in ("", "g" * 64, "A" * 64, None)),
        {"more": 1},
    ],
)
def test_a_server_that_lies_writes_nowhere_else(changes: dict[str, Any]) -> None:
    good = {"name": "round_00002/metrics.json", "size": 2, "sha256": sha256(b"{}").hexdigest()}
    assert RemoteFile.read(good).name == good["name"]
    with pytest.raises(ValueError, match=r"a file('s)? "):
        RemoteFile.read(good | changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fetch=unknown", "ALICE"], "--fetch='unknown': the server knows no such run"),
        ([f"--fetch={NUMBER}", "MALLORY"], "tells nothing (status 401)"),
        ([f"--fetch={NUMBER}", "--superlink=127.0.0.1:1", "CA"], "--operator FILE is needed"),
        ([f"--fetch={NUMBER}", "ALICE", "--superlink=127.0.0.1:1"], "no connection: "),
        ([f"--fetch={NUMBER}", "--superlink=10.0.0.1:9092", "--insecure"], "allowed on loopback"),
        ([f"--fetch={NUMBER}", "--superlink=127.0.0.1:1", "--insecure"], "closed SuperLink"),
        ([f"--fetch={NUMBER}"], "needs --superlink HOST:PORT"),
        (["--out=x", "--scenario=s"], "--out='x': needs --fetch RUN"),
        ([f"--fetch={NUMBER}", "ALICE", "--episodes=3"], "--episodes='3': not with --fetch"),
        ([f"--fetch={NUMBER}", "ALICE", "--out=FULL"], "holds something else than this run's"),
        ([f"--fetch={NUMBER}", "ALICE", "--out=TRAINED"], "a run was trained here"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_a_line(
    server: Server,
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("full/else", "trained/server.lock"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    make_operator(tmp_path, "mallory")
    mallory = [*server.flags()[:-1], str(tmp_path / "operator_mallory")]
    known = {
        "ALICE": server.flags(),
        "MALLORY": mallory,
        "CA": server.flags()[2:4],
        "--out=FULL": [f"--out={tmp_path / 'full'}"],
        "--out=TRAINED": [f"--out={tmp_path / 'trained'}"],
    }
    assert run.main([flag for word in words for flag in known.get(word, [word])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("run.py: ")
    assert message in line
