"""The files of the rounds, and the server's state from which a resumed run continues."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from f110_fl.config.federated import KeepRounds
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError, system_error
from f110_fl.federation.accounting import PrivacyAccount
from f110_fl.federation.arrays import to_arrays, to_tensors, value
from f110_fl.files import append_line, complete_lines, write_atomic
from f110_fl.reporting import announce
from f110_fl.reporting.announce import Tell, silent
from f110_fl.rundir import RunDir
from f110_fl.tensors import (
    map_arrays,
    prefixed,
    read_metadata,
    read_tensors,
    tensors_digest,
    unprefixed,
    write_tensors,
)
from f110_fl.training.checkpoint import checkpoint_metadata
from server.aggregation import aggregation_state, load_aggregation_state
from server.averaging import RunningAverage
from server.chain import RoundChain

log = logging.getLogger("flwr")

TENSORS: Final = "*.safetensors"


class RoundRecorder:
    """Writes the files of rounds.

    ``server.safetensors`` is the commit: the global arrays, the state of the aggregation strategy,
    the running average and the privacy account, if there are any, and, as metadata, the round's
    summary. The round's line in
    ``rounds.jsonl`` follows; after a crash in between, the line is added on the next start.

    Args:
        scenario: The run's scenario.
        rundir: The run's directory.
        imposed: Tensors that a sync sets on every client without sending them (the zeroed
            moments); they complete ``global.safetensors``.
        tell: Called after each round with ``announce.ROUND`` and the content of ``metrics.json``.

    Attributes:
        resumed_from: The last completed round when the run was opened, 0 for a new one.
        chain: Makes the rounds' links.
        account: What clients' privacy has cost so far; None without ``federated.privacy``.
        orders: What the server has to know of orders that are not answered yet, as tensors, which
            each round's commit keeps; see `server.asynchronous.orders`.
    """

    def __init__(
        self,
        scenario: Scenario,
        rundir: RunDir,
        imposed: Mapping[str, torch.Tensor],
        tell: Tell = silent,
    ) -> None:
        self.scenario = scenario
        self.rundir = rundir
        self.imposed = dict(imposed)
        self._tell = tell
        self._files = RoundFiles(rundir, scenario.federated.keep_rounds)
        decay = scenario.federated.average_decay
        self._average = RunningAverage(decay) if decay else None
        privacy = scenario.federated.privacy
        self.account = PrivacyAccount(privacy, scenario.federated.clients) if privacy else None
        # While one reply is written, the next is received; so at most two are in memory.
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self.orders: Mapping[str, torch.Tensor] = {}
        self.resumed_from = self._last = 0
        summary: dict[str, Any] = {}
        if rundir.server.exists():
            summary = json.loads(read_metadata(rundir.server)["summary"])
            self.resumed_from = self._last = int(summary["round"])
            self._mend_rounds(summary)
        self.chain = RoundChain(scenario, rundir, summary)

    def restore(self, aggregation: FedAvg, initial: ArrayRecord) -> ArrayRecord:
        """Return the arrays to continue from, and restore what else the last commit kept."""
        if not self.resumed_from:
            return initial
        tensors = read_tensors(self.rundir.server)
        state = {k: np.asarray(v) for k, v in unprefixed("rule", tensors).items()}
        load_aggregation_state(aggregation, state)
        if self._average:
            self._average.tensors = unprefixed("average", tensors)
        if self.account:
            self.account.load({k: v.numpy() for k, v in unprefixed("account", tensors).items()})
        self.orders = unprefixed("orders", tensors)
        return to_arrays(unprefixed("global", tensors))

    def evaluated(self, arrays: ArrayRecord) -> ArrayRecord:
        """Return what is evaluated of the last round's global arrays: the average, if there is one.

        Args:
            arrays: The global arrays.
        """
        return self._average.over(arrays) if self._average else arrays

    def begin(
        self, number: int, arrays: ArrayRecord, ordered: Collection[int] | None = None
    ) -> None:
        """Begin a round from these tensors: delete what a failed attempt left of it.

        Args:
            number: The round.
            arrays: The global tensors.
            ordered: See `server.chain.RoundChain.begin`.
        """
        self.chain.begin(number, arrays, ordered)
        directory = self.rundir.round(number)
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob("client_*.safetensors"):
            path.unlink()

    def keep(self, number: int, client_id: int, arrays: ArrayRecord) -> ArrayRecord:
        """Write what a client sent, and return arrays that are read from the file.

        Without ``checkpoint_after_sync``, nothing is written and they stay in memory.
        """
        if not self.scenario.federated.checkpoint_after_sync:
            return arrays
        path = self.rundir.client_tensors(number, client_id)
        tensors = {name: value(array) for name, array in arrays.items()}
        self.written()
        # writing metrics.json later makes the name durable
        self._writing = self._writer.submit(write_tensors, path, tensors, sync_name=False)
        return stored(arrays, path)

    def discard(self, number: int, client_id: int) -> None:
        """Delete what was kept of a client, which is left out after all."""
        self.rundir.client_tensors(number, client_id).unlink(missing_ok=True)

    def written(self) -> None:
        """Wait until everything kept is in its files.

        Raises:
            OSError: If one of them could not be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def complete(
        self,
        number: int,
        arrays: ArrayRecord,
        aggregation: FedAvg,
        summary: dict[str, Any],
        by_client: Mapping[int, dict[str, Any]],
    ) -> None:
        """Write the round's files and commit it."""
        summary = {"round": number, "rounds": self.scenario.rounds} | summary
        tensors = to_tensors(arrays)
        averaged: Mapping[str, torch.Tensor] = {}
        if self._average:
            self._average.update(number, tensors)
            averaged = self._average.tensors
        results = {"result": tensors_digest(tensors)}
        if self.scenario.federated.checkpoint_after_sync:
            results |= self._write_averages(number, tensors, averaged)
        summary["bytes"] = self._files.size(number)
        if self.account:
            self.account.count(summary["asked"])
            summary["privacy"] = self.account.spent()
        kept = prefixed("rule", aggregation_state(aggregation))
        state = prefixed("global", tensors) | prefixed("average", averaged) | kept
        if self.account:
            state |= prefixed("account", self.account.state())
        state |= prefixed("orders", self.orders)
        results["server"] = tensors_digest(state)
        details = summary | {"by_client": {f"{k:02d}": v for k, v in by_client.items()}}
        text = json.dumps(details, indent=2, sort_keys=True) + "\n"
        summary = self.chain.sealed(summary | self.chain.link(by_client, results), text)
        write_atomic(self.rundir.metrics(number), text)
        write_tensors(self.rundir.server, state, {"summary": json.dumps(summary)})
        append_line(self.rundir.rounds, json.dumps(summary))
        self._tell(announce.ROUND, details)
        self._last = number
        self.prune()

    def prune(self) -> None:
        """Remove old rounds' tensors; an evaluation may have decided which is the best."""
        if self._last:
            self._files.prune(self._last)

    def _write_averages(
        self,
        number: int,
        tensors: Mapping[str, torch.Tensor],
        averaged: Mapping[str, torch.Tensor],
    ) -> dict[str, str]:
        """Write the global model and the running average; return their files' digests."""
        metadata = checkpoint_metadata(self.scenario)
        files = {self.rundir.global_tensors(number): {**tensors, **self.imposed}}
        if averaged:
            files[self.rundir.average(number)] = dict(averaged)
        for path, content in files.items():
            write_tensors(path, content, metadata, sync_name=False)
        return {path.name: tensors_digest(found, metadata) for path, found in files.items()}

    def _mend_rounds(self, last: dict[str, Any]) -> None:
        """Make the last committed round the last line of ``rounds.jsonl``."""
        lines = complete_lines(self.rundir.rounds)
        kept = [line for line in lines if line.get("round", last["round"]) < last["round"]]
        text = "".join(f"{json.dumps(line)}\n" for line in [*kept, last])
        write_atomic(self.rundir.rounds, text)


class RoundFiles:
    """Removes the tensors of old rounds; ``metrics.json`` of every round stays.

    Nothing that is removed is needed to go on: that is in ``server.safetensors`` and in the
    clients' directories. A removal that was cut off is completed by the next call.

    Args:
        rundir: The run's directory.
        keep: ``federated.keep_rounds``.
    """

    def __init__(self, rundir: RunDir, keep: KeepRounds) -> None:
        self._rundir = rundir
        self._keep = keep
        self._held: set[int] | None = None  # rounds that may have tensors; None: not looked up

    def size(self, number: int) -> int:
        """Return the bytes of a round's tensors."""
        return sum(path.stat().st_size for path in self._rundir.round(number).glob(TENSORS))

    def prune(self, last: int) -> None:
        """Remove what need not stay after a committed round.

        Args:
            last: Its number; later rounds are not touched.
        """
        if self._keep == "all":
            return
        if self._held is None:
            self._held = set(self._rundir.numbered_rounds())
        self._held.add(last)
        newest = 1 if self._keep == "best" else self._keep
        best = self._best()
        for number in sorted(self._held):
            if number <= last - newest and number != best and self._remove(number):
                self._held.discard(number)

    def _remove(self, number: int) -> bool:
        """Remove a round's tensors, the global ones first, without which there is no round."""
        first = self._rundir.global_tensors(number)
        try:
            for path in (first, *sorted(self._rundir.round(number).glob(TENSORS))):
                path.unlink(missing_ok=True)
        except OSError as error:  # no reason to end a run
            log.warning("Tensors of round %d stay: %s", number, system_error(error))
            return False
        return True

    def _best(self) -> int | None:
        """Return the round of the server's best evaluation, None before the first."""
        try:
            return int(read_metadata(self._rundir.best)["round"])
        except (UserError, OSError, KeyError, ValueError):
            return None


@dataclass(frozen=True, eq=False)  # what is written to the same place later is another
class _File:
    path: Path


class StoredArray(Array):
    """An array that is read from its file whenever it is needed."""

    def __init__(self, array: Array, file: _File, name: str) -> None:
        super().__init__(array.dtype, array.shape, array.stype, b"")
        self._file = file
        self._name = name

    def numpy(self) -> NDArray[Any]:
        """Return the array, which must not be changed.

        Raises:
            OSError: If the file is gone.
        """
        return _read(self._file)[self._name]


@lru_cache(maxsize=1)  # one file's arrays are read one after the other
def _read(file: _File) -> dict[str, NDArray[Any]]:
    return map_arrays(file.path)


def stored(arrays: ArrayRecord, path: Path) -> ArrayRecord:
    """Return a record of the arrays that a safetensors file holds."""
    record = ArrayRecord()  # its constructor would copy the arrays
    file = _File(path)
    for name, array in arrays.items():
        record[name] = StoredArray(array, file, name)
    return record
