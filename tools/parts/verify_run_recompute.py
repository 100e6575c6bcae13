"""Computes a client's round, or an average, again, and compares it with what was recorded."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid

from f110_fl.config.federated import FedProxConfig
from f110_fl.config.scenario import Scenario
from f110_fl.engines.flower.internals import task_identity
from f110_fl.errors import UserError
from f110_fl.federation.accounting import PrivacyAccount
from f110_fl.federation.arrays import to_arrays, to_tensors, value
from f110_fl.federation.chain import CHAIN
from f110_fl.federation.compression import decoded
from f110_fl.federation.digests import CLOCK, file_digest, metrics_digest
from f110_fl.federation.messages import CLIENT_ID, WEIGHT, TrainOrder, TrainReply
from f110_fl.loading.scenarios import dump_scenario, read_resolved
from f110_fl.rundir import EPISODES, PRIVACY_KEY, STATE, RunDir
from f110_fl.runs.startup import without_collections
from f110_fl.tensors import prefixed, read_tensors, tensors_digest
from f110_fl.training.metrics import measured, summarise
from f110_fl.training.state_file import copy_state, kept_rounds, kept_state
from parts.verify_run_checks import Findings, Record, order_of
from server.aggregation import aggregation_state
from server.averaging import Averager, RunningAverage, mix, starting_tensors
from server.privacy import central_privacy

STATEFUL: Final = ("fedavgm", "fedadam", "fedyogi")  # strategies that go on from earlier rounds


class Recomputation:
    """A run whose rounds can be computed again.

    Args:
        rundir: Its directory.
        records: The lines of all its rounds, in order.
        findings: What comes out otherwise is added here.

    Raises:
        UserError: If there is not what is needed.
    """

    def __init__(self, rundir: RunDir, records: list[Record], findings: Findings) -> None:
        self.rundir = rundir
        self.scenario: Scenario = read_resolved(rundir.config)
        self._records = {record["round"]: record for record in records if record.get(CHAIN)}
        self._findings = findings
        if not self.scenario.federated.checkpoint_after_sync:
            raise UserError(
                "--recompute: the run kept no models of its rounds (checkpoint_after_sync: false)"
            )

    def _record(self, number: int) -> Record:
        if number not in self._records:
            raise UserError(f"--recompute: no whole record of round {number}")
        return self._records[number]

    def start(self, number: int) -> ArrayRecord:
        """Return the tensors that a round started from.

        Raises:
            UserError: If they are not there, or are others.
        """
        averaged, _ = starting_tensors(self.scenario, read=number == 1)
        source = "the first model"
        if number > 1:
            path = self.rundir.global_tensors(number - 1)
            source, found = path.name, read_tensors(path)
            averaged = {name: found[name] for name in averaged if name in found}
        if tensors_digest(averaged) != self._record(number)[CHAIN]["start"]:
            raise UserError(f"round {number} did not start from {source} as it is now")
        return to_arrays(averaged)

    # ------------------------------------------------------------------ a client's round

    def took_part(self, number: int, client_id: int) -> bool:
        """Return whether a client's reply was averaged in a round."""
        return f"{client_id:02d}" in self._record(number)[CHAIN]["clients"]

    def client(self, number: int, client_id: int) -> str:
        """Train a client's round again, from the nearest earlier state; return what was compared.

        Raises:
            UserError: If the round cannot be computed again.
        """
        if not self.took_part(number, client_id):
            raise UserError(f"--client={client_id}: no reply of it was averaged in round {number}")
        kept = [n for n in kept_rounds(self.rundir.client(client_id)) if n < number]
        first = max(kept, default=0)
        with tempfile.TemporaryDirectory(prefix="verify_run-") as temporary:
            directory = Path(temporary) / f"{client_id:02d}"
            directory.mkdir()
            secret = self.rundir.client(client_id) / PRIVACY_KEY
            if secret.exists():  # local privacy's noise comes from it
                shutil.copyfile(secret, directory / PRIVACY_KEY)
            if first:
                copy_state(kept_state(self.rundir.client(client_id), first), directory)
                # of which as much is taken as belongs to the state
                shutil.copyfile(self.rundir.episodes(client_id), directory / EPISODES)
            trained = self._train(directory, client_id, range(first + 1, number + 1))
        source = f"the state after round {first}" if first else "the beginning"
        return f"client {client_id}, round {number}: {trained} from {source}"

    def _train(self, directory: Path, client_id: int, rounds: range) -> str:
        from clients.client_app import answer
        from f110_fl.training.trainer import Trainer

        with without_collections():
            trainer = Trainer(self.scenario, client_id, directory)
        done = 0
        for number in rounds:
            expected = self._record(number)[CHAIN]["clients"].get(f"{client_id:02d}")
            if expected is None:
                if client_id in self._record(number).get("asked", ()):
                    self._findings.notes.append(
                        f"client {client_id} was asked in round {number} and dropped: taken not to "
                        "have trained"
                    )
                continue
            order = self._order(order_of(self._record(number), client_id))
            sent = answer(trainer, order)
            compression = self.scenario.federated.compression
            arrays = decoded(sent.arrays, order.arrays, compression)
            reply = replace(sent, arrays=arrays)
            done += 1
            found = {
                "tensors": tensors_digest(to_tensors(reply.arrays)),
                "metrics": metrics_digest(measured(reply.values)),
                "state": file_digest(directory / STATE),
            }
            differing = [what for what in found if found[what] != expected.get(what)]
            if differing:
                where = f"round {number}, client {client_id}, recomputed"
                self._findings.fault(where, self._difference(number, client_id, reply, differing))
                return f"differs in round {number}, trained again"
        return f"tensors, metrics and state byte-equal, {done} rounds trained again"

    def _order(self, number: int) -> TrainOrder:
        strategy = self.scenario.federated.strategy
        return TrainOrder(
            self.start(number),
            number,
            dump_scenario(self.scenario),
            root=str(self.rundir.root),
            run="",
            episodes=self.scenario.round_episodes(number),
            proximal_mu=strategy.proximal_mu if isinstance(strategy, FedProxConfig) else 0.0,
        )

    def _difference(
        self, number: int, client_id: int, reply: TrainReply, differing: list[str]
    ) -> str:
        """Return in words what a reply that was computed again has otherwise."""
        words = f"other {' and '.join(differing)} than recorded"
        path = self.rundir.client_tensors(number, client_id)
        if "tensors" not in differing or not path.exists():
            return words
        sent = read_tensors(path)
        for name, array in reply.arrays.items():
            found = value(array)
            if name in sent and not (sent[name].numpy() == found).all():
                return f"{words}; the first: {name}"
        return words

    # ------------------------------------------------------------------ averages

    def averages(self, numbers: list[int]) -> str:
        """Average rounds' replies again; return what was compared.

        Raises:
            UserError: If they cannot be averaged again.
        """
        federated = self.scenario.federated
        privacy = federated.privacy
        from_first = federated.strategy.name in STATEFUL or federated.average_decay or privacy
        rounds = range(1, max(numbers) + 1) if from_first else numbers
        averager = Averager(self.scenario, central_privacy(self.scenario, self.rundir, begun=True))
        account = PrivacyAccount(privacy, federated.clients) if privacy else None
        running = RunningAverage(federated.average_decay) if federated.average_decay else None
        with task_identity(1, 1):
            for number in rounds:
                self._average(number, averager, running, account)
        which = f"rounds {rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else f"round {rounds[0]}"
        return f"averages of {which} made again from what clients sent"

    def _average(
        self,
        number: int,
        averager: Averager,
        running: RunningAverage | None,
        account: PrivacyAccount | None,
    ) -> None:
        record, start = self._record(number), self.start(number)
        nodes = list(range(1, len(record["asked"]) + 1))
        nobody = cast(Grid, None)  # is only asked for nodes, which are given
        averager.begin(number, start, ConfigRecord(), nobody, nodes)
        accepted = dict(self._replies(record))
        arrays, averaged = averager.average(number, accepted, start)
        mixed = self.scenario.federated.mixed
        if mixed is not None:
            (client_id,) = accepted
            weight = mixed.weight(number - order_of(record, client_id))
            arrays = mix(start, arrays, weight)
        tensors = to_tensors(arrays)
        kept = prefixed("global", tensors)
        if running is not None:
            running.update(number, tensors)
            kept |= prefixed("average", running.tensors)
        kept |= prefixed("rule", aggregation_state(averager.aggregation))
        if account is not None:
            account.count(record["asked"])
            kept |= prefixed("account", account.state())
        found = {"result": tensors_digest(tensors)}
        if mixed is None:  # else the server keeps the orders that are not answered, too
            found["server"] = tensors_digest(kept)
        where = f"round {number}, average recomputed"
        differing = [what for what, known in found.items() if record[CHAIN].get(what) != known]
        if differing:
            self._findings.fault(where, f"other {' and '.join(differing)} than recorded")
        metrics = averager.metrics(dict(averaged), accepted)
        if _steady(metrics) != _steady(record["metrics"]):
            self._findings.fault(where, "other metrics than recorded")

    def _replies(self, record: Record) -> Iterator[tuple[int, TrainReply]]:
        number = record["round"]
        details = json.loads(self.rundir.metrics(number).read_text(encoding="utf-8"))
        names = summarise((), self.scenario.federated_agents).keys()
        for client in sorted(record[CHAIN]["clients"], key=int):
            said: dict[str, Any] = details["by_client"][client]
            metrics = {name: said.get(name, 0.0) for name in names}
            arrays = to_arrays(read_tensors(self.rundir.client_tensors(number, int(client))))
            yield int(client), TrainReply(arrays, metrics, int(said[CLIENT_ID]), said[WEIGHT])


def _steady(metrics: dict[str, float]) -> dict[str, float]:
    """Return metrics without those of wall-clock time."""
    return {name: found for name, found in metrics.items() if not name.endswith(CLOCK)}
