"""The two Flower apps that ``bench_federation.py`` compares, under one stopwatch."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from f110_fl.engines.flower.internals import size_on_wire
from f110_fl.federation.messages import Order
from server.grids import Streaming, WrappedGrid

if TYPE_CHECKING:  # the bare app needs no torch
    from f110_fl.training.trainer import Trainer

PLAN: Final = "plan.json"  # in a run's directory: the plan of a bare app
FOUND: Final = "stopwatch.json"  # in a run's directory: the measurements
STARTS: Final = "starts"  # in a run's directory: ages of ClientApp processes at training, s
ROOT: Final = "root"  # key of a training message's config: the run's directory


class Stopwatch(WrappedGrid):
    """A grid that records when rounds begin, and the sizes of their messages.

    A round begins when its training messages are sent and ends when the next round's are, so that
    it includes everything that a server does between two rounds.

    Args:
        grid: Flower's grid.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self.marks: list[float] = []  # beginnings of rounds, and the end of the last, s
        self.sizes: dict[str, int] = {}

    def _note(self, messages: Iterable[Message]) -> list[Message]:
        messages = list(messages)
        if messages and messages[0].metadata.message_type == MessageType.TRAIN:
            self.marks.append(time.monotonic())
        return messages

    def _weigh(self, name: str, messages: Iterable[Message]) -> Iterator[Message]:
        """Forward messages, and measure one of the first round, which is not timed."""
        for message in messages:
            known = name in self.sizes or not message.has_content()
            if not known and message.content.array_records:
                self.sizes[name], self.sizes["tensor_bytes"] = _sizes(message.content)
            yield message

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Flower."""
        messages = list(self._weigh("bytes_to_client", self._note(messages)))
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Flower."""
        return self._weigh("bytes_per_client", self._grid.pull_messages(message_ids))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Flower."""
        messages = list(self._weigh("bytes_to_client", self._note(messages)))
        replies = self._grid.send_and_receive(messages, timeout=timeout)
        return self._weigh("bytes_per_client", replies)

    def finish(self, root: Path) -> None:
        """Write the measurements into the run's directory."""
        self.marks.append(time.monotonic())
        found = {"marks": self.marks, "server_peak_mib": peak_mib(), **self.sizes}
        (root / FOUND).write_text(json.dumps(found))


def _sizes(sent: RecordDict) -> tuple[int, int]:
    """Return the bytes that Flower sends for a message's content, and the bytes of its arrays.

    Flower sends equal arrays once, and initially target networks equal the others. Later they
    differ, so other numbers are measured in their place.
    """
    (name, arrays), *_ = sent.array_records.items()
    rng = np.random.default_rng(0)
    values = {}
    for key, array in arrays.items():
        kind = np.dtype(array.dtype)
        content = rng.bytes(math.prod(array.shape) * kind.itemsize)
        values[key] = np.frombuffer(content, kind).reshape(array.shape)
    records = {key: record for key, record in sent.items() if key != name}
    weighed = RecordDict(records | {name: ArrayRecord({k: Array(v) for k, v in values.items()})})
    return size_on_wire(weighed), sum(value.nbytes for value in values.values())


def peak_mib() -> float:
    """Return this process's largest resident memory so far, MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def own_server(root: Path | None = None) -> ServerApp:
    """Return our ServerApp under the stopwatch.

    Args:
        root: Directory of the prepared run; None: as in Flower's run config.
    """
    server = ServerApp()

    @server.main()
    def _main(grid: Grid, context: Context) -> None:
        from server.server_app import run_prepared

        directory = root or _prepared_root(context)
        watch = Stopwatch(grid)
        run_prepared(watch if root is not None else Streaming(watch), directory)
        watch.finish(directory)

    return server


def bare_server(root: Path | None = None) -> ServerApp:
    """Return the bare app's ServerApp: Flower's FedAvg on tensors as in the plan in ``root``.

    Args:
        root: Directory of the plan; None: as in Flower's run config.
    """
    server = ServerApp()

    @server.main()
    def _main(grid: Grid, context: Context) -> None:
        directory = root or _prepared_root(context)
        plan: dict[str, Any] = json.loads((directory / PLAN).read_text(encoding="utf-8"))
        rng = np.random.default_rng(0)
        arrays = {
            name: Array(np.asarray(rng.standard_normal(shape), kind))
            for name, (kind, shape) in plan["tensors"].items()
        }
        watch, clients = Stopwatch(grid), plan["clients"]
        strategy = FedAvg(
            fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
        )
        config = ConfigRecord({ROOT: str(directory)})
        strategy.start(watch, ArrayRecord(arrays), plan["rounds"], 600.0, config)
        watch.finish(directory)

    return server


def _prepared_root(context: Context) -> Path:
    return Path(str(context.run_config["prepared-root"]))


def bare_client() -> ClientApp:
    """Return the bare app's ClientApp, which returns the arrays that it receives."""
    client = ClientApp()

    @client.train()
    def _train(message: Message, context: Context) -> Message:  # noqa: ARG001
        arrays = message.content.array_records["arrays"]
        _note_start(Path(str(message.content.config_records["config"][ROOT])))
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1.0})})
        return Message(content, reply_to=message)

    return client


def own_client() -> ClientApp:
    """Return our ClientApp, for a deployment."""
    return TimedClient()


class TimedClient(ClientApp):
    """Our ClientApp, which records how long its process took until it can train."""

    def __call__(self, message: Message, context: Context) -> Message:
        """See Flower."""
        from clients import client_app

        if message.metadata.message_type == MessageType.TRAIN:
            open_client = client_app._open

            def timed(order: Order, context: Context) -> Trainer:
                opened = open_client(order, context)
                _note_start(Path(order.root))
                return opened

            client_app._open = timed  # until the process ends, which is after this message
        return client_app.app(message, context)


def _note_start(root: Path) -> None:
    """Append the age of this process, s."""
    ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    with (root / STARTS).open("a", encoding="ascii") as file:
        file.write(f"{age:.3f}\n")
