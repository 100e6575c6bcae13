"""Rounds of one reply: whose is next, how much it counts, what is left by a server that ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_grid import FakeGrid
from flwr.app import ConfigRecord, Error, Message
from in_process import InProcess, Keyed, carry_out, credentials
from small import SMALL, merge
from strategy_cases import NAME, NODES, RETURN, SHAPE
from strategy_cases import scenario as of_three
from verify_run import main

from f110_fl.config.scenario import Scenario
from f110_fl.federation.arrays import to_arrays
from f110_fl.federation.messages import TrainOrder, TrainReply
from f110_fl.rundir import RunDir
from f110_fl.tensors import read_tensors
from f110_fl.training.metrics import summarise
from server.asynchronous.strategy import AsynchronousStrategy
from server.registry import ClientRegistry
from server.rounds import RoundRecorder

pytestmark = pytest.mark.usefixtures("flower_task")
SLOW = {"mixing": 0.5, "power": 1.0, "speeds": [1.0, 1.0, 0.25]}
MODES: dict[str, Any] = {"mode": "asynchronous", "asynchronous": SLOW}


class Mailbox(FakeGrid):
    """Clients that answer an order with its round's number, or as they are told to.

    Args:
        late: How often each client's replies are looked for before they are there.
        instead: By client and round of the order, what comes instead: an error, or nothing.
    """

    def __init__(
        self,
        late: Mapping[int, int] | None = None,
        instead: Callable[[int, int], str | None] = lambda *_: "",
    ) -> None:
        super().__init__(NODES)
        self._late, self._instead = late or {}, instead
        self._looks: dict[str, int] = {}

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        (number,) = message_ids
        message = self.pushed[number]
        client_id = NODES[message.metadata.dst_node_id]
        order = TrainOrder.from_content(message.content)
        self._looks[number] = self._looks.get(number, 0) + 1
        instead = self._instead(client_id, order.server_round)
        if instead is None or self._looks[number] <= self._late.get(client_id, 0):
            return []
        if instead:
            return [Message(Error(1, instead), reply_to=message)]
        value = float(order.server_round)
        metrics = summarise((), ["car_0"]) | {RETURN: value}
        reply = TrainReply(to_arrays({NAME: torch.full(SHAPE, value)}), metrics, client_id)
        return [Message(reply.to_content(), reply_to=message)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.grids.time.sleep", lambda _: None)


def rounds(
    root: Path, grid: Mailbox, number: int, *, clock: bool = True, **federated: Any
) -> tuple[list[dict[str, Any]], bytes]:
    """Run some rounds; return their lines and the bytes of the global model."""
    chosen = of_three(**MODES | federated)
    recorder = RoundRecorder(chosen, RunDir(root), imposed={})
    mixed = chosen.federated.mixed
    assert mixed is not None
    server = AsynchronousStrategy(chosen, ClientRegistry(), recorder, mixed=mixed, clock=clock)
    arrays = server.restore(to_arrays({NAME: torch.zeros(SHAPE)}))
    for server_round in range(1, number + 1):
        assert not list(server.configure_train(server_round, arrays, ConfigRecord(), grid))
        found, _ = server.aggregate_train(server_round, [])
        assert found is not None
        arrays = found
    lines = RunDir(root).rounds.read_text().splitlines()
    return [json.loads(line) for line in lines], arrays[NAME].numpy().tobytes()


def test_a_slow_client_holds_up_nobody_and_counts_by_its_age(tmp_path: Path) -> None:
    """All by hand: three clients, of which the last works four times as long."""
    lines, model = rounds(tmp_path, Mailbox(), 9)
    ages = [line["asynchronous"] for line in lines]
    assert [line["clients"] for line in lines] == [[0], [1], [0], [1], [0], [1], [0], [1], [2]]
    assert [age["time"] for age in ages] == [1, 1, 2, 2, 3, 3, 4, 4, 4]
    assert [age["order"] for age in ages] == [1, 1, 2, 3, 4, 5, 6, 7, 1]
    assert [age["staleness"] for age in ages] == [0, 1, 1, 1, 1, 1, 1, 1, 8]
    assert lines[8]["chain"]["orders"] == {"02": 1}
    expected = 0.0
    for age in ages:
        weight = 0.5 / (1 + age["staleness"])
        assert age["weight"] == pytest.approx(weight)
        expected += weight * (age["order"] - expected)
    np.testing.assert_allclose(np.frombuffer(model, np.float32), expected, rtol=1e-6)


def test_when_replies_arrive_does_not_change_a_bit(tmp_path: Path) -> None:
    plain = rounds(tmp_path / "a", Mailbox(), 9)
    lines, model = rounds(tmp_path / "b", Mailbox({0: 7, 1: 3}), 9)
    assert model == plain[1]
    assert [line["chain"]["link"] for line in lines] == [x["chain"]["link"] for x in plain[0]]


def test_a_resumed_server_sends_the_orders_again_that_were_not_answered(tmp_path: Path) -> None:
    straight = rounds(tmp_path / "straight", Mailbox(), 12)
    for done in (1, 4, 5, 2):  # after 1, 5, 10 and 12 rounds
        grid = Mailbox()
        resumed = rounds(tmp_path / "resumed", grid, done)
    assert resumed[1] == straight[1]
    assert [x["chain"] for x in resumed[0]] == [x["chain"] for x in straight[0]]
    again = [TrainOrder.from_content(m.content).server_round for m in grid.pushed.values()]
    assert again[:3] == [11, 9, 10]  # clients 1 and 2 had theirs before


def test_as_many_orders_as_rounds_so_that_each_is_used(tmp_path: Path) -> None:
    grid = Mailbox()
    lines, _ = rounds(tmp_path, grid, 15)  # 5 episodes each
    assert len(grid.pushed) == len(lines) == lines[-1]["rounds"] == 15
    assert set(read_tensors(RunDir(tmp_path).server)) == {
        *(f"orders/{name}" for name in ("clients", "rounds", "due", "now")),
        f"global/{NAME}",
    }


@pytest.mark.parametrize("clock", [True, False])
def test_who_fails_is_named_and_gets_the_next_order(tmp_path: Path, clock: bool) -> None:
    def fails(client_id: int, number: int) -> str:
        return "the disk is full" if (client_id, number) == (0, 1) else ""

    grid = Mailbox(instead=fails)
    lines, _ = rounds(tmp_path, grid, 4, clock=clock)
    assert lines[0]["dropped"] == {"0": "the disk is full"}
    assert (lines[0]["asked"], lines[0]["clients"]) == ([0, 1], [1])
    assert all(not line["dropped"] for line in lines[1:])
    assert any(0 in line["clients"] and line["asynchronous"]["order"] == 2 for line in lines)


def test_a_run_in_which_nobody_answers_ends(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"round 1: no client .*client 1: no more memory"):
        rounds(tmp_path, Mailbox(instead=lambda *_: "no more memory"), 1)


def test_replies_are_taken_as_they_arrive_where_no_clock_says_otherwise(tmp_path: Path) -> None:
    grid = Mailbox({0: 2}, instead=lambda client, _: None if client == 1 else "")
    lines, _ = rounds(tmp_path, grid, 6, clock=False, asynchronous=None)
    assert [line["clients"] for line in lines] == [[2], [2], [0], [2], [2], [0]]
    assert "time" not in lines[0]["asynchronous"]


def test_who_is_waited_for_and_never_answers_is_left_out(tmp_path: Path) -> None:
    grid = Mailbox(instead=lambda client, _: None if client == 1 else "")
    lines, _ = rounds(tmp_path, grid, 3, timeout=1e-9)
    assert [line["clients"] for line in lines] == [[0], [0], [0]]
    assert lines[1]["dropped"] == {"1": "no answer in time"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": {"name": "krum"}}, "strategy 'krum': .*; allowed: 'fedavg', 'fedprox'"),
        ({"fraction": 0.5}, "fraction 0.5: .*; allowed: 1.0"),
        ({"min_clients": 2}, "min_clients 2: .*; allowed: 1"),
        ({"weighting": "env_steps"}, "weighting 'env_steps': .*; allowed: 'equal'"),
        ({"privacy": {"kind": "central"}}, "privacy 'central': .*; allowed: null"),
        ({"evaluate_on": "both"}, "evaluate_on 'both': .*; allowed: 'none', 'server'"),
        ({"keep_states": 2}, "keep_states 2: .*; allowed: 0"),
        ({"optimizer_strategy": "average"}, "'average': .*; allowed: 'local', 'reset'"),
        ({"asynchronous": {"speeds": [1, 2]}}, "speeds lists 2, but clients is 3"),
        ({"mode": "synchronous"}, "asynchronous with mode 'synchronous'"),
    ],
)
def test_what_needs_a_round_of_several_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        of_three(**MODES | settings)


# ---------------------------------------------------------------------- with clients that learn


LEARNING = Scenario.model_validate(
    merge(
        SMALL,
        {
            "episodes": 3,
            "env": {"max_steps": 30},
            "evaluation": {"episodes": 0},
            "federated": {
                "mode": "asynchronous",
                "asynchronous": {"speeds": [1.0, 0.4]},
                "optimizer_strategy": "reset",
                "strategy": {"name": "fedprox"},
                "compression": "float16",
                "average_decay": 0.5,
            },
        },
    )
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Six rounds of two clients with keys; the server was lost twice and went on."""
    root = tmp_path_factory.mktemp("asynchronous") / "run"
    made = credentials(root)
    for cut in (1, 3, 0):
        rundir = carry_out(LEARNING, root, Keyed(made, cut), resumed=cut != 1)
    return rundir


def test_a_run_can_be_verified(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run.root), "--keys", str(run.flower / "keys"), "--recompute"]) == 0
    told = capsys.readouterr().out
    assert "Signatures  6 of 6 replies" in told
    assert "averages of rounds 1 to 6 made again" in told


def test_a_slow_clients_round_can_be_computed_again(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run.root), "--recompute", "--client", "1"]) == 0
    assert "metrics and state byte-equal, 2 rounds trained again" in capsys.readouterr().out


def test_a_false_age_is_found(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    text = run.rounds.read_text()
    changed = text.replace('"orders": {"01": 1}', '"orders": {"01": 2}')
    assert changed != text
    run.rounds.write_text(changed)
    try:
        assert main([str(run.root)]) == 1
    finally:
        run.rounds.write_text(text)
    assert "its hashes do not give its link" in capsys.readouterr().out


def test_a_cut_run_has_the_bytes_of_a_straight_one(run: RunDir, tmp_path: Path) -> None:
    straight = carry_out(LEARNING, tmp_path, InProcess())
    links = [
        [json.loads(line)["chain"]["link"] for line in found.rounds.read_text().splitlines()]
        for found in (run, straight)
    ]
    assert links[0] == links[1]
    assert len(links[0]) == 6
    for client_id in (0, 1):
        assert run.state(client_id).read_bytes() == straight.state(client_id).read_bytes()
