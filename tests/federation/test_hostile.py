"""Hostile replies: each is dropped and named, and the model is as if it had not come."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_grid import FakeGrid, sent
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from hostile_replies import IDENTITIES, MARKED, REPLIES, honest_arrays
from strategy_cases import RETURN, scenario

from f110_fl.federation.messages import (
    MAX_REASON,
    METRICS,
    EvaluateReply,
    Identity,
    TrainReply,
)
from f110_fl.reporting.announce import MARK, Announcements, silent
from f110_fl.rundir import RunDir
from f110_fl.training.metrics import evaluation_names, summarise
from server.evaluation import GlobalEvaluation
from server.registry import ClientRegistry
from server.rounds import RoundRecorder
from server.strategy import FederatedStrategy
from server.validation import ENV_STEPS

pytestmark = pytest.mark.usefixtures("flower_task")

HONEST, EACH = 4, 5  # clients 0 to 3 are honest, 4 is not; replies of each kind
CHOSEN: dict[str, Any] = {
    "share": "all",
    "optimizer_strategy": "average",
    "weighting": "env_steps",
    "clients": HONEST + 1,
    "checkpoint_after_sync": False,
}


class Round:
    """A first round, and honest replies to it that depend on the seed only."""

    def __init__(self, root: Path, seed: int) -> None:
        root.mkdir(exist_ok=True)
        self.rundir, self.seed = RunDir(root), seed
        chosen = scenario(**CHOSEN)
        self.server = FederatedStrategy(
            chosen, ClientRegistry(), RoundRecorder(chosen, self.rundir, imposed={})
        )
        start = record(honest_arrays(np.random.default_rng(0), 0.0))
        grid = FakeGrid({100 + k: k for k in range(HONEST + 1)})
        messages = self.server.configure_train(1, start, ConfigRecord(), grid)
        self.asked = [sent(message) for message in messages]

    def content(self, client_id: int) -> RecordDict:
        arrays = honest_arrays(np.random.default_rng([self.seed, client_id]), 0.01)
        metrics = summarise((), ["car_0"]) | {ENV_STEPS: 10.0 + client_id, RETURN: 1.0}
        return TrainReply(record(arrays), metrics, client_id).to_content()

    def reply(self, client_id: int, content: RecordDict | Error | None = None) -> Message:
        sends = self.content(client_id) if content is None else content
        return Message(sends, reply_to=self.asked[client_id])

    def average(self, replies: Iterable[Message]) -> dict[str, bytes]:
        arrays, _ = self.server.aggregate_train(1, replies)
        assert arrays is not None
        assert all(np.isfinite(array.numpy()).all() for array in arrays.values())
        return {name: array.numpy().tobytes() for name, array in arrays.items()}

    @property
    def line(self) -> str:
        return self.rundir.rounds.read_text(encoding="utf-8")


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in arrays.items()})


def test_there_are_enough_kinds() -> None:
    assert len(REPLIES) + len(IDENTITIES) >= 40
    assert len(REPLIES) * EACH >= 200


@pytest.mark.parametrize("kind", REPLIES)
def test_a_hostile_reply_changes_nothing(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in range(EACH):
        caplog.clear()
        rng = np.random.default_rng([seed, len(kind)])
        attacked = Round(tmp_path / f"attacked_{seed}", seed)
        content = attacked.content(HONEST)
        changed = REPLIES[kind](rng, content)
        hostile = attacked.reply(HONEST, content if changed is None else changed)
        order = rng.permutation(HONEST + 1)
        replies = [hostile if k == HONEST else attacked.reply(int(k)) for k in order]
        found = attacked.average([*replies, hostile])  # twice
        quiet = Round(tmp_path / f"quiet_{seed}", seed)
        assert found == quiet.average([quiet.reply(k) for k in range(HONEST)])
        told = json.loads(attacked.line)
        assert told["clients"] == list(range(HONEST))
        assert list(told["dropped"]) == [str(HONEST)]
        reason = told["dropped"][str(HONEST)]
        assert 0 < len(reason) <= MAX_REASON
        assert reason.isprintable()
        assert f"without client {HONEST}: {reason}" in caplog.text
        assert MARK not in caplog.text
        assert len(attacked.line) < 10 * MAX_REASON


def test_honest_replies_of_the_same_kind_are_used(tmp_path: Path) -> None:
    """What the table changes is good before: else the test above would show nothing."""
    for seed in range(EACH):
        everyone = Round(tmp_path / f"all_{seed}", seed)
        everyone.average([everyone.reply(k) for k in range(HONEST + 1)])
        assert json.loads(everyone.line)["dropped"] == {}


def test_without_others_to_compare_with_a_reply_is_held_to_the_global_model(
    tmp_path: Path,
) -> None:
    chosen = Round(tmp_path, 0)
    content = chosen.content(HONEST)
    REPLIES["scaled"](np.random.default_rng(0), content)
    chosen.average([chosen.reply(0), chosen.reply(HONEST, content)])
    reason = json.loads(chosen.line)["dropped"][str(HONEST)]
    assert "exceeds 30 times the global model's" in reason


class Nodes(FakeGrid):
    """Node 66 answers queries with given contents; node 67 never does."""

    def __init__(self, clients: dict[int, int], content: RecordDict | Error | None) -> None:
        super().__init__({**clients, 66: 0, 67: 0}, total=3)
        self.content = content

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
        for reply in super().send_and_receive(messages, timeout=timeout):
            if reply.metadata.src_node_id == 66:
                asked = next(m for m in messages if m.metadata.dst_node_id == 66)
                if self.content is not None:
                    yield Message(self.content, reply_to=asked)
            elif reply.metadata.src_node_id != 67:
                yield reply
                yield reply  # twice


@pytest.mark.parametrize("kind", IDENTITIES)
def test_a_hostile_identity_changes_nothing(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(EACH):
        caplog.clear()
        content = IDENTITIES[kind](np.random.default_rng(seed), RecordDict())
        registry, grid = ClientRegistry(), Nodes({5: 0, 77: 1, 901: 2}, content)
        registry.wait(grid, 3, least=3, timeout=0)
        assert registry.total == 3
        for _ in range(3):
            assert registry.online(grid) == {0: 5, 1: 77, 2: 901}
        assert grid.queries == 5  # who gave no usable answer is not asked again at once
        (named,) = [r.getMessage() for r in caplog.records if "node 66" in r.getMessage()]
        assert "node 66 is left out: " in named
        assert named.isprintable()
        assert len(named) < 2 * MAX_REASON
        assert any("node 67 is left out" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("evaluate/car_0/success-rate", 7.0),
        ("evaluate/car_0/crash-rate", -1e300),
        ("evaluate/car_0/return", 1.7e308),
        ("evaluate/car_0/return", float("nan")),
        ("evaluate/car_0/return", [1.0]),
        ("evaluate/car_0/laps", -1.0),
        ("evaluate/episodes", 0.5),
        ("evaluate/episodes", -1.0),
        ("evaluate/extra\x1b[2J", 1.0),
        ("evaluate/car_0/return", None),
    ],
)
def test_a_hostile_evaluation_is_left_out(tmp_path: Path, name: str, value: Any) -> None:
    root = tmp_path / "run"
    root.mkdir()
    chosen, rundir = scenario(clients=2, evaluate_on="clients"), RunDir(root)
    evaluation = GlobalEvaluation(chosen, rundir, 0, silent)
    recorder = RoundRecorder(chosen, rundir, imposed={})
    server = FederatedStrategy(chosen, ClientRegistry(), recorder, evaluation)
    grid, start = FakeGrid({100: 0, 101: 1}), record(honest_arrays(np.random.default_rng(0), 0.0))
    trained = [sent(m) for m in server.configure_train(1, start, ConfigRecord(), grid)]
    metrics = summarise((), ["car_0"])
    arrays, _ = server.aggregate_train(
        1,
        [
            Message(TrainReply(start, metrics, client).to_content(), reply_to=asked)
            for client, asked in enumerate(trained)
        ],
    )
    assert arrays is not None
    asked = [sent(m) for m in server.configure_evaluate(1, arrays, ConfigRecord(), grid)]
    said = dict.fromkeys(evaluation_names(["car_0"]), 0.0) | {"evaluate/episodes": 1.0}
    honest, hostile = (EvaluateReply(said).to_content() for _ in range(2))
    if value is None:
        del hostile.metric_records[METRICS][name]
    else:
        hostile.metric_records[METRICS][name] = value
    replies = [Message(c, reply_to=m) for c, m in zip((honest, hostile), asked, strict=True)]
    server.aggregate_evaluate(1, replies)
    (line,) = [json.loads(text) for text in rundir.evaluations.read_text().splitlines()]
    assert line["by_client"] == {"00": said}
    assert line["metrics"] == said
    assert list(line["dropped"]) == ["1"]
    assert line["dropped"]["1"].isprintable()


def test_most_nodes_say_how_many_there_are() -> None:
    content = Identity(5, 9).to_content()
    registry = ClientRegistry()
    registry.wait(Nodes({5: 0, 77: 1, 901: 2}, content), None, least=3, timeout=0)
    assert registry.total == 3


def test_a_reason_is_not_taken_for_an_event(tmp_path: Path, caplog: Any) -> None:
    chosen = Round(tmp_path, 0)
    chosen.average([chosen.reply(0), chosen.reply(HONEST, Error(0, MARKED))])
    text = caplog.text + chosen.line
    assert "owned" in text
    assert [e for line in text.splitlines() if (e := Announcements().read(line))] == []
    assert Announcements().read(MARKED) == {"event": "failed", "message": "owned"}
