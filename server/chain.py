"""Makes the links of a run's chain while its rounds go on."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord

from f110_fl.config.scenario import Scenario
from f110_fl.federation.arrays import value
from f110_fl.federation.chain import (
    CHAIN,
    DETAILS,
    SEAL,
    SIGNATURES,
    Basis,
    Head,
    ReplyDigests,
    make_link,
    seal_of,
    statement,
)
from f110_fl.federation.digests import (
    code_digest,
    inputs_digest,
    metrics_digest,
    scenario_digest,
)
from f110_fl.federation.messages import InvalidMessageError, TrainReply
from f110_fl.federation.signing import LONGEST, fingerprint, is_signed
from f110_fl.files import complete_lines
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import identity
from f110_fl.tensors import tensors_digest
from f110_fl.training.metrics import measured


class RoundChain:
    """The chain of a run, of which a round is made at a time.

    Args:
        scenario: The run's scenario.
        rundir: The run's directory.
        last: The line of the last completed round; empty: there is none.
    """

    def __init__(self, scenario: Scenario, rundir: RunDir, last: Mapping[str, Any]) -> None:
        self._rundir = rundir
        self._head = Head.of(last)
        self._inputs = inputs_digest(rundir)
        self._basis = Basis(code_digest(), scenario_digest(scenario), "", self._head.link)
        self._number = 0
        self._ordered: dict[int, Basis] = {}  # by round, of orders that are not answered
        self._orders: dict[int, int] | None = None  # by client, the round of what it answered
        self._replies: dict[int, ReplyDigests] = {}
        self._signatures: dict[int, dict[str, str]] = {}

    def begin(
        self, number: int, arrays: ArrayRecord, ordered: Collection[int] | None = None
    ) -> None:
        """Begin a round from these tensors.

        Args:
            number: The round.
            arrays: The global tensors.
            ordered: Earlier rounds whose orders are not answered yet; None: there can be none.
        """
        self._number = number
        start = tensors_digest({name: value(array) for name, array in arrays.items()})
        self._basis = replace(self._basis, start=start, previous=self._head.link)
        self._ordered = {n: self._ordered.get(n) or self._recorded(n) for n in ordered or ()}
        self._ordered[number] = self._basis
        self._orders = None if ordered is None else {}
        self._replies.clear()
        self._signatures.clear()

    def _recorded(self, number: int) -> Basis:
        """Return what a completed round started from, of which a resumed run has orders yet."""
        lines = complete_lines(self._rundir.rounds)
        found = next(line[CHAIN] for line in lines if line.get("round") == number)
        return replace(self._basis, start=found["start"], previous=found["previous"])

    def previous_of(self, number: int) -> str:
        """Return the last link when a round began, which its orders say."""
        return self._ordered[number].previous

    def take(self, client_id: int, reply: TrainReply, key: bytes | None, order: int) -> None:
        """Note a reply that is complete and plausible.

        Args:
            client_id: The client.
            reply: Its reply.
            key: The client's public key, DER; None: it has none, and signs nothing.
            order: The round of its order.

        Raises:
            InvalidMessageError: If it has a key and has not signed this reply to this order.
        """
        evidence = reply.evidence
        digests = ReplyDigests(
            tensors=tensors_digest({name: value(array) for name, array in reply.arrays.items()}),
            metrics=metrics_digest(measured(reply.values)),
            state=evidence.state if evidence else "",
        )
        if key is not None:
            signature = evidence.signature if evidence else b""
            if not signature:
                raise InvalidMessageError("its reply is not signed (node config: key)")
            run = identity(self._rundir)
            text = statement(run, order, client_id, self._ordered[order], digests)
            if len(signature) > LONGEST or not is_signed(key, text, signature):
                raise InvalidMessageError("its reply is not signed by its key, or to another order")
            kept = base64.b64encode(signature).decode()
            self._signatures[client_id] = {"key": fingerprint(key), "signature": kept}
        self._replies[client_id] = digests
        if self._orders is not None:
            self._orders[client_id] = order

    def link(self, clients: Iterable[int], results: Mapping[str, str]) -> dict[str, Any]:
        """Return the round's ``chain`` and ``signatures``.

        Args:
            clients: Those whose replies were averaged.
            results: See `f110_fl.federation.chain.make_link`.
        """
        replies = {client_id: self._replies[client_id] for client_id in clients}
        made = make_link(self._number, self._basis, self._inputs, replies, results, self._orders)
        signed = {
            f"{client_id:02d}": self._signatures[client_id]
            for client_id in replies
            if client_id in self._signatures
        }
        return {CHAIN: made, SIGNATURES: signed}

    def sealed(self, record: Mapping[str, Any], details: str) -> dict[str, Any]:
        """Return a round's line with its seal, after which the next round begins.

        Args:
            record: The line, with the entries of `link`.
            details: Text of the round's ``metrics.json``.
        """
        whole = {**record, DETAILS: hashlib.sha256(details.encode()).hexdigest()}
        whole[SEAL] = seal_of(whole, self._head.seal)
        self._head = Head.of(whole)
        return whole
