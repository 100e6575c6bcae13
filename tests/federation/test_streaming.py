"""Replies are dealt with as they come, and lie in files until they are averaged."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_grid import sent
from flwr.app import ArrayRecord, Error, Message, MessageType, RecordDict
from strategy_cases import NAME, answer, ask, strategy

from f110_fl.engines.flower.internals import set_message_id, weighted_mean
from f110_fl.federation.arrays import to_arrays
from f110_fl.federation.messages import ARRAYS, WEIGHT
from f110_fl.tensors import write_tensors
from server import grids
from server.grids import LostActorError, OnRay, Streaming, WrappedGrid, pull
from server.rounds import stored

pytestmark = pytest.mark.usefixtures("flower_task")


class Reply:
    """As much of a message as a grid looks at."""

    def __init__(self, number: str) -> None:
        self.metadata = type("Metadata", (), {"reply_to_message_id": number})


class SlowGrid(WrappedGrid):
    """Has another batch of replies at every look for the first of those that are waited for."""

    def __init__(self, batches: list[list[str]], pushed: list[str | None]) -> None:
        self.batches, self.pushed = batches, pushed
        self.asked: list[list[str]] = []
        self.ready: set[str] = set()

    def push_messages(self, messages: Iterable[Any]) -> list[Any]:
        assert len(list(messages)) == len(self.pushed)
        return list(self.pushed)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:
        wanted = list(message_ids)
        self.asked.append(wanted)
        if self.batches and (len(self.asked) < 2 or wanted <= self.asked[-2]):  # another look
            self.ready |= set(self.batches.pop(0))
        found = sorted(self.ready & set(wanted))
        self.ready -= set(found)
        return [Reply(number) for number in found]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids.time, "sleep", lambda _: None)


def sending(names: str) -> list[Message]:
    """Return a message for each letter, whose id it is."""
    messages = [Message(RecordDict(), 7, MessageType.QUERY) for _ in names]
    for name, message in zip(names, messages, strict=True):
        set_message_id(message, name)
    return messages


def numbers(replies: Iterable[Any]) -> list[str]:
    return [reply.metadata.reply_to_message_id for reply in replies]


def test_replies_are_handed_out_when_they_are_there() -> None:
    grid = SlowGrid([["b"], [], ["a", "c"]], ["a", "b", "c"])
    replies = iter(Streaming(grid).send_and_receive(sending("abc")))
    assert grid.asked == []
    assert numbers([next(replies)]) == ["b"]
    assert grid.asked == [["a"], ["b"]]  # the others are not waited for
    assert numbers(replies) == ["a", "c"]
    assert grid.asked[-2:] == [["a"], ["c"]]


def test_messages_that_could_not_be_sent_are_not_waited_for() -> None:
    grid = SlowGrid([["a"]], ["a", None])
    assert numbers(Streaming(grid).send_and_receive(sending("ab"))) == ["a"]
    assert numbers(Streaming(SlowGrid([], [])).send_and_receive([])) == []


def test_the_wait_ends_and_what_was_there_by_then_is_handed_out() -> None:
    grid = SlowGrid([["a"]], ["a", "b"])
    assert numbers(Streaming(grid).send_and_receive(sending("ab"), timeout=0.0)) == ["a"]


@pytest.mark.parametrize("reason", ["ray.exceptions.ActorDiedError: it is gone", "no memory"])
def test_an_actor_of_ray_that_died_ends_the_run_and_no_other_failure_does(reason: str) -> None:
    order = sending("a")[0]

    class Failing(SlowGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:  # noqa: ARG002
            return [Message(Error(1, reason), reply_to=order)]

    grid = OnRay(Failing([], ["a"]))
    if "Died" in reason:
        with pytest.raises(LostActorError, match="an actor of Ray has died"):
            list(grid.send_and_receive([order]))
        with pytest.raises(LostActorError):  # as asynchronous rounds look for a reply
            pull(grid, "a", order)
    else:
        assert [reply.has_error() for reply in grid.send_and_receive([order])] == [True]


def test_bytes_that_are_no_message_cost_their_sender_the_round() -> None:
    """Flower raises when it rebuilds such a reply; those beside it must not be lost."""

    class Spoilt(SlowGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:
            found = super().pull_messages(message_ids)
            if "b" in numbers(found):
                raise KeyError("no such object")
            return found

    grid = Spoilt([["a", "b", "c"]], ["a", "b", "c"])
    orders = sending("abc")
    replies = list(Streaming(grid).send_and_receive(orders))
    assert numbers(replies) == ["a", "b", "c"]
    assert replies[1].has_error()
    assert "no message: KeyError" in replies[1].error.reason

    class Cut(SlowGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:  # noqa: ARG002
            raise ConnectionError("the SuperLink is gone")

    with pytest.raises(ConnectionError):
        list(Streaming(Cut([], ["a"])).send_and_receive(sending("a")))


def test_a_stored_record_is_what_was_sent(tmp_path: Path) -> None:
    tensors = {
        "b/step": torch.tensor(3.5),
        "a": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
        "n": torch.tensor([2**40, -1]),
        "none": torch.zeros(0, 4),
    }
    arrays = to_arrays(tensors)
    write_tensors(tmp_path / "sent", tensors, {"some": "text"})
    found = stored(arrays, tmp_path / "sent")
    assert list(found) == list(arrays)
    for name, array in found.items():
        assert array.data == b""
        assert (array.dtype, tuple(array.shape)) == (arrays[name].dtype, tuple(arrays[name].shape))
        assert array.numpy().tobytes() == arrays[name].numpy().tobytes()
        assert array.numpy().shape == arrays[name].numpy().shape


@pytest.mark.parametrize("kept", [True, False])
def test_flowers_mean_is_the_same_from_files_and_from_memory(tmp_path: Path, kept: bool) -> None:
    server = strategy(tmp_path, checkpoint_after_sync=kept, max_update_ratio=None)
    values = {0: 0.1, 1: 1e-8, 2: 3.3333}
    asked = ask(server)
    replies = [answer(asked[client], value) for client, value in values.items()]
    contents = [RecordDict(dict(reply.content)) for reply in replies]
    expected = weighted_mean(contents, WEIGHT)[NAME].numpy()
    arrays, _ = server.aggregate_train(1, replies)
    assert arrays is not None
    np.testing.assert_array_equal(arrays[NAME].numpy(), expected.astype(np.float32))


def test_a_server_holds_two_replies_at_most(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    asked = {client: sent(message) for client, message in ask(server).items()}
    held: list[weakref.ref[ArrayRecord]] = []

    def replies() -> Iterator[Message]:
        for client in (2, 0, 1):
            reply = answer(asked[client], client)
            held.append(weakref.ref(reply.content.array_records[ARRAYS]))
            yield reply
            del reply
            gc.collect()
            gone = [record() is None for record in held]
            assert all(gone[:-1])  # the last may still be on its way into its file

    arrays, _ = server.aggregate_train(1, replies())
    assert arrays is not None
    np.testing.assert_array_equal(arrays[NAME].numpy(), 1.0)


def test_what_a_failed_try_left_is_no_part_of_the_round(tmp_path: Path) -> None:
    server = strategy(tmp_path)
    left = server.recorder.rundir.client_tensors(1, 2)
    left.parent.mkdir()
    left.write_bytes(b"of the first try")
    asked = ask(server)
    server.aggregate_train(1, [answer(asked[client], client) for client in (0, 1)])
    assert sorted(path.name for path in left.parent.glob("client_*")) == [
        "client_00.safetensors",
        "client_01.safetensors",
    ]


IMPORTS = """
import sys, numpy as np
import clients.client_app
print("torch" in sys.modules)
from f110_fl.config.learners import TD3Config
from f110_fl.learners.base import LearnerSetup
from f110_fl.learners.factory import make_learner
make_learner(TD3Config(), LearnerSetup(4, 2, np.random.SeedSequence(0)))
print("torch" in sys.modules, "torch._dynamo" in sys.modules)
"""


def test_a_client_imports_what_it_needs_and_no_more() -> None:
    """Who one is, without torch; learning, without its compiler, which takes another second."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.split() == ["False", "True", "False"]
