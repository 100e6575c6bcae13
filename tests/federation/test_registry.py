"""Finding clients among Flower's nodes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives import serialization
from fake_grid import FakeGrid
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.engines.credentials import make_credentials, public_keys
from f110_fl.errors import UserError
from f110_fl.federation.messages import Identity
from f110_fl.federation.versions import Versions
from f110_fl.rundir import RunDir
from server.registry import ClientRegistry, sample
from server.server_app import CLIENT_KEYS, known_keys

KNOWN = {"project": "0.1.0", "schema": "abc", "flower": "1.41.0"}

pytestmark = pytest.mark.usefixtures("flower_task")


def scenario(**federated: Any) -> Scenario:
    return Scenario.model_validate(merge(SMALL, {"federated": federated}))


def test_clients_are_found_whatever_their_node_ids() -> None:
    registry, grid = ClientRegistry(), FakeGrid({77: 1, 5: 0, 901: 2})
    registry.wait(grid, 3, least=3, timeout=0)
    assert registry.online(grid) == {0: 5, 1: 77, 2: 901}
    assert grid.queries == 3  # nobody is asked twice


def test_the_federation_may_say_its_own_size() -> None:
    registry = ClientRegistry()
    registry.wait(FakeGrid({1: 0, 2: 1}), None, least=1, timeout=0)
    assert registry.total == 2


def test_missing_clients_end_the_wait_by_name() -> None:
    with pytest.raises(UserError, match=r"clients \[1, 2\] of 3 did not connect within 0 s"):
        ClientRegistry().wait(FakeGrid({4: 0}, total=3), 3, least=2, timeout=0)


def test_clients_of_a_federation_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match=r"for 3 clients, .* --total-clients 2"):
        ClientRegistry().wait(FakeGrid({4: 0, 5: 1}), 3, least=1, timeout=0)


def test_of_two_nodes_of_a_client_the_later_counts() -> None:
    """A client that was killed and came back, before the SuperLink misses its former self."""
    registry, grid = ClientRegistry(), FakeGrid({9: 0}, total=1)
    assert registry.online(grid) == {0: 9}
    grid.clients = {4: 0, 9: 0}
    assert registry.online(grid) == {0: 4}


def test_enough_clients_start_without_the_rest() -> None:
    registry, grid = ClientRegistry(), FakeGrid({4: 0, 6: 2})
    registry.wait(grid, 3, least=2, timeout=0)
    assert registry.online(grid) == {0: 4, 2: 6}


def test_a_client_that_returns_as_another_node_takes_part_again() -> None:
    registry, grid = ClientRegistry(), FakeGrid({10: 0, 11: 1})
    registry.wait(grid, 2, least=2, timeout=0)
    del grid.clients[11]
    assert registry.online(grid) == {0: 10}
    grid.clients[99] = 1
    assert registry.online(grid) == {0: 10, 1: 99}


@pytest.mark.parametrize(
    "said",
    [
        {"client-id": -3, "num-clients": 2, **KNOWN},
        {"client-id": 2, "num-clients": 2, **KNOWN},
        {"client-id": "0", "num-clients": 2, **KNOWN},
        {"client-id": 0, "num-clients": 2, **KNOWN, "project": "1" * 1000},
        {"client-id": 0, "num-clients": 2},
        {"client-id": 0, **KNOWN},
        {},
    ],
)
def test_nonsense_is_not_a_client(said: dict[str, Any]) -> None:
    class Liar(FakeGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            replies = list(super().send_and_receive(messages, timeout=timeout))
            for reply in replies:
                reply.content = RecordDict({"config": ConfigRecord(said)})
            return replies

    registry = ClientRegistry()
    assert registry.online(Liar({1: 0})) == {}
    assert registry.total is None


@given(
    clients=st.integers(1, 30),
    fraction=st.floats(0.01, 1.0),
    server_round=st.integers(1, 1000),
    data=st.data(),
)
def test_samples(clients: int, fraction: float, server_round: int, data: st.DataObject) -> None:
    least = data.draw(st.integers(1, clients))
    chosen = scenario(clients=clients, fraction=fraction, min_clients=least)
    everyone = list(range(clients))
    drawn = sample(chosen, everyone, server_round)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == max(round(fraction * clients), least)
    missing = data.draw(st.sampled_from(everyone))
    again = sample(chosen, [k for k in everyone if k != missing], server_round)
    assert missing not in again
    # Everyone who was asked before still is; at most one steps in for the missing client.
    assert set(drawn) - {missing} <= set(again)
    assert len(set(again) - set(drawn)) <= 1


class Known(FakeGrid):
    """A SuperLink that knows each node's key."""

    def __init__(self, clients: dict[int, int], keys: dict[int, bytes], total: int) -> None:
        super().__init__(clients, total)
        self.keys = keys

    def get_nodes(self) -> list[Any]:
        return [SimpleNamespace(node_id=n, public_key=self.keys[n]) for n in self.clients]


def test_a_client_is_who_has_its_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A later node with a key of its own, or another client's, does not displace it."""
    made = make_credentials(tmp_path / "keys", ("localhost",), 4)
    strange = make_credentials(tmp_path / "strange", ("localhost",), 1)
    for client_id in (2, 3):  # they have a key, and the run does not know it
        made.client_public_key(client_id).rename(tmp_path / f"{client_id}.pub")

    def pem(path: Path) -> bytes:
        key = serialization.load_ssh_public_key(path.read_bytes())
        return key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    own = [pem(made.client_public_key(k)) for k in (0, 1)]
    unknown = pem(strange.client_public_key(0))
    grid = Known(
        {10: 0, 11: 1, 12: 0, 13: 0, 14: 1},
        {10: own[0], 11: own[1], 12: unknown, 13: own[1], 14: b"no key"},
        total=2,
    )
    registry = ClientRegistry(public_keys(made.directory))
    registry.wait(grid, 2, least=2, timeout=0)
    assert registry.online(grid) == {0: 10, 1: 11}
    named = {r.args[0]: r.args[1] for r in caplog.records if isinstance(r.args, tuple)}
    assert named["node 12"] == "its key is none of a client's"
    assert named["node 13"] == "it says that it is client 0, but has the key of client 1"
    assert named["node 14"] == "its key is none of a client's"
    assert grid.queries == 3  # strangers are not asked at all


def test_keys_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no public key of a client"):
        public_keys(tmp_path)
    made = make_credentials(tmp_path / "keys", ("localhost",), 2)
    assert sorted(public_keys(made.directory).values()) == [0, 1]
    made.client_public_key(1).write_bytes(made.client_public_key(0).read_bytes())
    with pytest.raises(UserError, match=r"client_01.pub: client 0 has the same key"):
        public_keys(made.directory)
    made.client_public_key(1).write_bytes(b"ssh-rsa nonsense")
    with pytest.raises(UserError, match=r"client_01.pub: not an OpenSSH public key"):
        public_keys(made.directory)


def test_one_started_for_another_size_costs_the_others_nothing() -> None:
    """Client 5 of 9 is no client of a run for three."""

    class Mixed(FakeGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            for reply in super().send_and_receive(messages, timeout=timeout):
                if reply.metadata.src_node_id == 4:
                    reply.content = Identity(5, 9).to_content()
                yield reply

    for total in (3, None):
        registry, grid = ClientRegistry(), Mixed({1: 0, 2: 1, 4: 2, 3: 2}, total=3)
        registry.wait(grid, total, least=3, timeout=0)
        assert registry.online(grid) == {0: 1, 1: 2, 2: 3}
        assert registry.total == 3


def test_virtual_clients_have_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployed run leaves keys in its directory; simulated, it goes on without them."""
    rundir = RunDir(tmp_path)
    made = make_credentials(rundir.flower / "keys", ("localhost",), 2)
    virtual, deployed = FakeGrid({1: 0, 2: 1}), Known({}, {}, total=2)
    assert known_keys(virtual, rundir) is None
    assert known_keys(deployed, rundir) == public_keys(made.directory)
    assert known_keys(deployed, RunDir(tmp_path / "other")) is None
    one = make_credentials(tmp_path / "one", ("localhost",), 1)
    monkeypatch.setenv(CLIENT_KEYS, str(one.directory))
    assert known_keys(deployed, rundir) == public_keys(one.directory)
    assert known_keys(virtual, rundir) is None


def test_a_client_with_other_versions_is_left_out_until_it_has_the_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []

    class Installed(FakeGrid):
        said: ClassVar[dict[str, str]] = {**KNOWN, "project": "0.2.0"}

        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            for reply in super().send_and_receive(messages, timeout=timeout):
                if reply.metadata.src_node_id == 2:
                    reply.content = Identity(1, 2, **self.said).to_content()
                yield reply

    registry = ClientRegistry(None, lambda _, note: told.append(note["message"]), Versions(**KNOWN))
    grid = Installed({1: 0, 2: 1}, total=2)
    for _ in range(2):
        assert registry.online(grid) == {0: 1}
    line = (
        "node 2 is left out: client 1's versions differ: project 0.1.0 in the run, 0.2.0 there; "
        "install the same version on both machines"
    )
    assert told == [line]
    assert [record.getMessage() for record in caplog.records] == [line]
    del grid.clients[2]
    assert registry.online(grid) == {0: 1}
    grid.said, grid.clients[2] = KNOWN, 1
    registry._failed.clear()  # as if the time until it is asked again had passed
    assert registry.online(grid) == {0: 1, 1: 2}
