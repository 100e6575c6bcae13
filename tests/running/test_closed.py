"""At a closed SuperLink strangers can do nothing; at a bare one they can."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from closed_superlink import GENEROUS, LOOPBACK, SECRET, served, serving
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)
from parts.strangers import (
    NO_ANSWER,
    REFUSALS,
    Door,
    crowd,
    every_route,
    large_bodies,
    polls,
    request,
    signed,
    strangers,
    tricks,
)
from small import write_small

import run
from f110_fl.engines import operator_login
from f110_fl.engines.closed import status as closed_status
from f110_fl.engines.closed.files import FILE_PART, FILES
from f110_fl.engines.closed.gate import CONTROL, FLEET, OWN, RUNTIME, STATUS
from f110_fl.engines.closed.listener import Listener, is_own, listening_socket
from f110_fl.engines.closed.superlink import ClosedSuperLink, Opened, _context, check
from f110_fl.engines.closed.visitors import Bounds, Rates, Visitors, network
from f110_fl.engines.credentials import Credentials, main, make_credentials
from f110_fl.engines.flower.internals import routes, superlink_app
from f110_fl.engines.operators import make_operator, read_operators, read_token
from f110_fl.errors import UserError
from f110_fl.federation.versions import PROJECT, here
from server import status as server_status

TIGHT = Bounds(strangers=24, strangers_address=16, prove_within=0.5, new_rate=1e6, new_burst=1e6)


@contextmanager
def bare(credentials: Credentials) -> Iterator[Door]:
    """Serve Flower's application as its own command does, without a gate."""
    loop, begun, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    app = superlink_app(":flwr-in-memory:", lambda _: "anybody", SECRET)
    app.state.superexec_auth_secret = None
    listener_port: list[int] = []

    async def run() -> None:
        bound = listening_socket(LOOPBACK, 0)
        listener_port.append(int(bound.getsockname()[1]))
        listener = Listener(bound, _context(credentials), app, Visitors(GENEROUS), GENEROUS)
        listener.start()
        begun.set()
        await ended.wait()
        await listener.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert begun.wait(60.0)
        yield Door(listener_port[0], credentials.ca)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    made = make_credentials(tmp_path_factory.mktemp("keys"), (LOOPBACK,), 2)
    make_operator(made.directory, "alice")
    return made


@pytest.fixture(scope="module")
def closed(keys: Credentials) -> Iterator[tuple[ClosedSuperLink, Opened]]:
    of = served(keys)
    with serving(of) as opened:
        yield of, opened


def door(of: ClosedSuperLink, port: int | None = None) -> Door:
    return Door(port or of.port, of.credentials.ca)


def private(keys: Credentials, client_id: int) -> ec.EllipticCurvePrivateKey:
    key = load_ssh_private_key(keys.client_key(client_id).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def activation(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the body (protobuf) with which a SuperNode connects: its key, heartbeats of 30 s."""
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    size = len(public)
    length = bytes([size & 0x7F | 0x80, size >> 7]) if size > 0x7F else bytes([size])
    return b"\x0a" + length + public + b"\x11\x00\x00\x00\x00\x00\x00\x3e\x40"


def connect(of: Door, key: ec.EllipticCurvePrivateKey) -> int:
    body = activation(key)
    return of.ask(request("POST", "/v1/fleet/activate-node", signed(key), len(body)), [body])


def as_operator(keys: Credentials, path: str = "list-runs") -> bytes:
    token = read_token(keys.directory / "operator_alice")
    return request("POST", f"{CONTROL}{path}", {"authorization": f"Bearer {token}"})


def test_every_route_refuses_strangers(closed: tuple[ClosedSuperLink, Opened]) -> None:
    """Whatever routes the installed Flower has, at both ports."""
    of, opened = closed
    known = routes(opened.app) | OWN
    assert {path for _, path in known} >= {
        *("/docs", "/openapi.json", "/health", f"{FLEET}pull-messages", f"{FLEET}register-node"),
        *(f"{CONTROL}start-run", f"{CONTROL}register-node", f"{RUNTIME}acquire-task"),
        *(STATUS, FILES, FILE_PART),
    }
    for name, headers in strangers():
        answers = every_route(door(of), known, headers)
        assert set(answers.values()) <= {401, 403, 404, 412}, name
    # At the second port nobody is let in who only is on this machine; it also serves no clients.
    answers = every_route(door(of, opened.local_port), known, headers)
    assert {route for route, status in answers.items() if status not in {401, 403, 404}} == {
        ("GET", "/health"),
        ("HEAD", "/health"),
    }


def test_the_same_strangers_succeed_at_a_bare_superlink(keys: Credentials) -> None:
    """So what the other tests look for can be found."""
    with bare(keys) as of:
        wanted = {
            *(("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/health")),
            *(("POST", f"{CONTROL}list-runs"), ("POST", f"{CONTROL}list-nodes")),
            ("POST", f"{RUNTIME}acquire-task"),
        }
        answers = every_route(of, wanted, {})
        assert set(answers.values()) == {200}, answers
        assert set(polls(of, 3)) == {200}
        own = ec.generate_private_key(ec.SECP384R1())
        registration = activation(own)[:-9]
        assert of.ask(request("POST", f"{CONTROL}register-node", {}, len(registration)), [
            registration
        ]) == 200  # fmt: skip
        assert connect(of, own) == 200
        assert large_bodies(of, [f"{CONTROL}list-runs"], 1_000_000)[f"{CONTROL}list-runs"] == 400


def test_tricks_and_large_bodies_are_refused(closed: tuple[ClosedSuperLink, Opened]) -> None:
    of, _ = closed
    answers = tricks(door(of))
    assert {path: status for path, status in answers.items() if status not in REFUSALS} == {}
    # Refused by the header alone, so the connection may end before the answer is read.
    sent = large_bodies(
        door(of), ["/docs", f"{CONTROL}start-run", f"{FLEET}push-object"], 4_000_000
    )
    assert set(sent.values()) <= REFUSALS | {NO_ANSWER}


def test_clients_and_operators_are_let_in(
    closed: tuple[ClosedSuperLink, Opened], keys: Credentials
) -> None:
    of, opened = closed
    assert door(of).ask(as_operator(keys)) == 200
    # A client's key opens nothing else, nor an operator's token.
    token = {"authorization": f"Bearer {read_token(keys.directory / 'operator_alice')}"}
    both = {**token, **signed(private(keys, 1))}
    for path in ("/docs", "/openapi.json", f"{RUNTIME}acquire-task", "/health"):
        for port in (of.port, opened.local_port):
            if path != "/health":
                assert door(of, port).ask(request("POST", path, both)) in {401, 403, 404}
    assert door(of).ask(request("POST", f"{FLEET}pull-messages", token)) == 401
    # Their bodies are bounded as well.
    large = request("POST", f"{CONTROL}start-run", token, length=of.bounds.body + 1)
    assert door(of).ask(large) == 413


def test_a_crowd_ends_and_whoever_is_known_gets_through_it(keys: Credentials) -> None:
    of = served(keys, TIGHT)
    with serving(of), ThreadPoolExecutor(2) as pool:
        many = [
            pool.submit(crowd, door(of), 60, 30.0, b"POST /v1/control/list-runs HTTP/1.1\r\n"),
            pool.submit(polls, door(of), 30),
        ]
        known = [door(of).insist(as_operator(keys)) for _ in range(5)]
        assert known == [200] * 5
        assert many[0].result() == 0
        assert set(many[1].result()) <= {403, NO_ANSWER}


def test_too_many_connections_from_one_address_are_not_taken(keys: Credentials) -> None:
    of = served(keys, Bounds(new_rate=1e-6, new_burst=4))
    with serving(of):
        answers = Counter(polls(door(of), 8))
    assert answers == {403: 4, NO_ANSWER: 4}


def test_a_client_that_was_killed_is_back_and_a_copy_of_it_is_not(keys: Credentials) -> None:
    """The successor gets its place once nothing was heard of the predecessor for some seconds."""
    of = served(keys)
    with serving(of), ThreadPoolExecutor(1) as pool:
        key = private(keys, 0)
        assert connect(door(of), key) == 200
        copy = pool.submit(connect, door(of), key)
        # The first one is alive: it asks for work (and is told that it names no node).
        asked = request("POST", f"{FLEET}pull-messages", signed(key))
        while not copy.done():
            assert door(of).ask(asked) == 401
        assert copy.result() not in {200, NO_ANSWER}
        assert connect(door(of), key) == 200


def test_who_may_come_changes_without_a_restart(tmp_path: Path) -> None:
    keys = make_credentials(tmp_path / "keys", (LOOPBACK,), 1)
    make_operator(keys.directory, "alice")
    of = served(keys)
    with serving(of) as opened:
        assert connect(door(of), private(keys, 0)) == 200
        make_credentials(keys.directory, (LOOPBACK,), 2)
        assert connect(door(of), private(keys, 1)) == 412
        opened.look()
        assert connect(door(of), private(keys, 1)) == 200
        kept = door(of).connect()  # and not closed by its owner
        kept.sendall(as_operator(keys))
        assert kept.recv(16).startswith(b"HTTP/1.1 200")
        keys.client_public_key(0).unlink()
        keys.operators.write_text("")
        opened.look()
        assert connect(door(of), private(keys, 0)) == 412
        assert door(of).ask(as_operator(keys)) == 401
        with kept:
            while kept.recv(4096):
                pass  # until the server ends it


def test_operators_learn_who_is_connected(
    keys: Credentials, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = served(keys)
    words = ["--superlink", f"{LOOPBACK}:{of.port}", "--root-certificates", str(keys.ca)]
    words += ["--operator", str(keys.directory / "operator_alice")]
    with serving(of):
        assert connect(door(of), private(keys, 1)) == 200
        assert server_status.main(words) == 0
        own, away, here = capsys.readouterr().out.splitlines()
        assert server_status.main([*words, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        stranger = make_operator(tmp_path, "mallory")
        assert server_status.main([*words, "--operator", str(stranger)]) == 2
        assert "tells nothing (status 401)" in capsys.readouterr().err
        assert door(of).ask(request("GET", STATUS, signed(private(keys, 1)))) == 401
    assert own.startswith(f"server     project {PROJECT}, scenario schema ")
    assert away == "client_00  away"
    assert here.startswith("client_01  connected since 2")
    assert [client["connected"] for client in told["clients"]] == [False, True]
    assert told["clients"][1]["address"] == LOOPBACK
    assert told["runs"] == []


def test_a_run_is_not_submitted_to_a_superlink_with_other_versions(
    keys: Credentials,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    of = served(keys)
    words = ["--superlink", f"{LOOPBACK}:{of.port}", "--root-certificates", str(keys.ca)]
    words += ["--operator", str(keys.directory / "operator_alice")]
    words += ["--scenario", str(write_small(tmp_path))]
    theirs = replace(here(), project="0.0.9", flower="1.40.2")
    monkeypatch.setattr(closed_status, "here", lambda: theirs)
    with serving(of):
        assert run.main(words) == 2
        differing = capsys.readouterr().err
        stranger = make_operator(tmp_path, "mallory")
        assert run.main([*words, "--operator", str(stranger)]) == 2
        refused = capsys.readouterr().err
    assert differing == (
        f"run.py: --superlink='{LOOPBACK}:{of.port}': versions differ: project {PROJECT} here, "
        f"0.0.9 there; Flower {here().flower} here, 1.40.2 there; install the same version on both "
        "machines\n"
    )
    assert refused.startswith(f"run.py: --superlink='{LOOPBACK}:{of.port}': tells nothing (status")
    assert len(refused.splitlines()) == 1


def test_tokens_are_nobody_elses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path), "--host", LOOPBACK, "--clients", "1", "--operator", "bob"]
    assert main([*words, "--operator", "carol"]) == 0
    token = read_token(tmp_path / "operator_bob")
    assert token not in capsys.readouterr().out
    for name in ("operator_bob", "operator_carol", "operators", "superlink.key", "client_00"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert token not in (tmp_path / "operators").read_text()
    known = read_operators(tmp_path / "operators")
    assert known.name_of(token) == "bob"
    assert [known.name_of(wrong) for wrong in ("", token[:-1], token + "A", "ü")] == [None] * 4
    assert main(words) == 0  # he keeps his
    assert read_token(tmp_path / "operator_bob") == token
    (tmp_path / "operator_bob").chmod(0o644)
    with pytest.raises(UserError, match="others can read it; chmod 600"):
        read_token(tmp_path / "operator_bob")
    (tmp_path / "operators").write_text("bob 12\n")
    with pytest.raises(UserError, match="line 1: allowed: NAME and the SHA-256"):
        read_operators(tmp_path / "operators")


def test_flowers_own_command_is_given_a_token(
    keys: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else in its files changes, and others cannot read the token."""
    home = tmp_path / "flwr"
    home.mkdir()
    (home / "config.toml").write_text("[superlink.other]\naddress = 'elsewhere:1'\n")
    monkeypatch.setenv("FLWR_HOME", str(home))
    words = ["--superlink", "127.0.0.1:9092", "--root-certificates", str(keys.ca)]
    words += ["--operator", str(keys.directory / "operator_alice")]
    assert [operator_login.main(words) for _ in range(2)] == [0, 0]
    known = tomllib.loads((home / "config.toml").read_text())["superlink"]
    assert known == {
        "other": {"address": "elsewhere:1"},
        "field": {"address": "127.0.0.1:9092", "root-certificates": str(keys.ca)},
    }
    credentials = home / "credentials.yaml"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    token = read_token(keys.directory / "operator_alice")
    assert base64.b64encode(token.encode()).decode() in credentials.read_text()
    assert operator_login.main([*words, "--name", "other"]) == 2
    assert operator_login.main([*words, "--name", "a b"]) == 2


def test_what_is_not_served(tmp_path: Path) -> None:
    keys = make_credentials(tmp_path / "keys", (LOOPBACK,), 1)
    of = served(keys)
    with pytest.raises(UserError, match=r"operators.*cannot be read"):
        check(of)
    keys.operators.write_text("")
    keys.operators.chmod(0o666)
    with pytest.raises(UserError, match="others can write to it"):
        check(of)
    keys.operators.chmod(0o600)
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        taken = ClosedSuperLink(LOOPBACK, other.getsockname()[1], keys.directory)
        with pytest.raises(UserError, match="--port="):
            check(taken)
    keys.key.chmod(0o640)
    with pytest.raises(UserError, match=r"superlink.key: others can read it"):
        check(of)
    key = ec.generate_private_key(ec.SECP384R1())
    keys.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UserError, match="no certificate and key"):
        check(of)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells whose a socket is")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("user", [0, 65534])
def test_other_users_of_the_machine_are_not_let_in(user: int) -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        server.settimeout(60.0)
        code = f"import os, socket; os.setuid({user}); made = socket.socket(); "
        code += f"made.connect(('{LOOPBACK}', {server.getsockname()[1]})); made.recv(1)"
        with subprocess.Popen([sys.executable, "-S", "-c", code]) as process:
            connection, _ = server.accept()
            with connection:
                assert is_own(connection) is (user == 0)
        assert process.returncode == 0


def test_addresses_are_counted_as_networks() -> None:
    assert network("2001:db8:1:2:3::4") == network("2001:db8:1:2::9") == "2001:db8:1:2::"
    assert network("::ffff:10.0.0.1") == network("10.0.0.1") == "10.0.0.1"
    assert network("fe80::1%eth0") == "fe80::"


def test_an_allowance_fills_at_its_rate_and_forgets_the_oldest_name() -> None:
    rates = Rates(rate=2.0, burst=3.0, most=2)
    assert [rates.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [rates.take("a", 0.5), rates.take("a", 0.5)] == [True, False]
    assert [rates.take("a", 9.0) for _ in range(4)] == [True, True, True, False]
    assert rates.take("b", 9.0)
    assert rates.take("c", 9.0)
    assert rates.take("a", 9.0)  # forgotten, so it begins anew


def test_of_too_many_the_oldest_ends() -> None:
    bounds = Bounds(strangers=3, strangers_address=2, connections_each=1, prove_within=5.0)
    visitors, ended = Visitors(bounds), []

    def come(address: str, now: float) -> None:
        visitor = visitors.admit(address, now)
        assert visitor is not None
        visitor.close = lambda: ended.append((address, now))

    for now in (0.0, 1.0, 2.0):
        come("10.0.0.1", now)
    assert ended == [("10.0.0.1", 0.0)]
    come("10.0.0.2", 3.0)
    come("10.0.0.3", 4.0)
    assert ended[1:] == [("10.0.0.1", 1.0)]
    visitors.end_unproved(7.5)
    assert ended[2:] == [("10.0.0.1", 2.0)]
    assert len(visitors) == 2
