"""A scenario small enough to federate in seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from pygame_stand_in import make_pygame

from f110_fl import exchange
from f110_fl.launch import KERNEL_CACHE

REPOSITORY = Path(__file__).parents[1]

os.environ |= KERNEL_CACHE  # kernels are compiled once, for the tests and for what they start

# Nothing that a test starts may record anything outside its own directory.
os.environ["WANDB_MODE"] = "disabled"
for variable in [name for name in os.environ if name.startswith(("FED_", "COLLECT_", "RUN_SEED"))]:
    del os.environ[variable]

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 7,
    "episodes": 2,
    "env": {
        "max_steps": 40,
        "lidar": {"beams": 8, "noise_std": 0.01},
        "spawn_sets": [["spawn_3", "spawn_1"], ["spawn_2", "spawn_1"]],
        "cars": [
            {"name": "car_0", "task": {"kind": "convoy_lock", "target": "car_1"}},
            {"name": "car_1", "driver": {"kind": "secondary_vicon", "target": "car_0"}},
        ],
    },
    "learners": {
        "car_0": {
            "algorithm": "td3",
            "hidden": [16, 16],
            "batch_size": 16,
            "warmup_steps": 20,
            "replay": {"capacity": 100, "alpha": 0.6},
        }
    },
    "evaluation": {"every": 1, "episodes": 1},
    "federated": {"clients": 2, "round_interval": 1},
}


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns ``base`` with nested ``changes`` over it."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        merged[key] = merge(inner, value) if both else value
    return merged


# Whole runs in processes of their own, longest first: with several workers the short tests
# fill the time that these wait.
LONG = [
    "test_resume",
    "test_deployment",
    "test_superlink",
    "test_federation",
    "test_flower",
    "test_run",
    "test_smoke",
    "test_grid",
    "test_ablate",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long tests first, and otherwise changes nothing."""
    places = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture
def write_scenario(tmp_path: Path) -> Callable[..., Path]:
    """Writes the small scenario, with changes, and returns its path."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(merge(SMALL, changes)))
        return path

    return write


@pytest.fixture
def flower_task() -> Iterator[None]:
    """Gives this process the identity without which Flower builds no messages."""
    from flwr.supercore.task_identity import TaskIdentity

    before = TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    yield
    TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


def sent(message: Message) -> Message:
    """Give a message the id that Flower gives it on sending, so that it can be replied to."""
    message.metadata.__dict__["_message_id"] = f"message-{message.metadata.dst_node_id}"
    return message


class FakeGrid(Grid):
    """Nodes that answer the query for their client id at once, and nothing else.

    Args:
        clients: Client id of each node id.
        total: Number of clients that they say there are; one more than the highest id.
    """

    def __init__(self, clients: dict[int, int], total: int | None = None) -> None:
        self.clients = clients
        self.total = total or max(clients.values()) + 1
        self.queries = 0

    def get_node_ids(self) -> list[int]:
        return list(self.clients)

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002
    ) -> list[Message]:
        replies = []
        for message in messages:
            self.queries += 1
            node = message.metadata.dst_node_id
            answer = {exchange.CLIENT_ID: self.clients[node], exchange.NUM_CLIENTS: self.total}
            content = RecordDict({exchange.CONFIG: ConfigRecord(answer)})
            reply = Message(content, reply_to=sent(message))
            reply.metadata.__dict__["_src_node_id"] = node
            replies.append(reply)
        return replies

    @property
    def run(self) -> Any:
        raise NotImplementedError

    set_run = create_message = push_messages = pull_messages = None  # type: ignore[assignment]


@pytest.fixture
def pygame(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives pygame without a display; where it is not installed, a stand-in."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    try:
        import pygame
    except ImportError:
        pygame = make_pygame()
        monkeypatch.setitem(sys.modules, "pygame", pygame)
    yield pygame
    sys.modules.pop("sim.rendering.window", None)  # it holds on to the stand-in
