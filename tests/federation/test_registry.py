"""Finding clients among Flower's nodes."""

from __future__ import annotations

from typing import Any

import pytest
from fake_grid import FakeGrid
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from server.registry import ClientRegistry, sample

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
        {"client-id": -3, "num-clients": 2},
        {"client-id": 2, "num-clients": 2},
        {"client-id": "0", "num-clients": 2},
        {"client-id": 0},
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
