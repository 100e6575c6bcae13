"""The chain of a run's rounds: what each is made of, as hashes, tied to the round before.

A line of ``rounds.jsonl`` has four entries about it. ``chain`` holds the hashes, with that of the
link before (``previous``) and its own (``link``), which is the SHA-256 of all the others. It has
nothing of wall-clock time: the same run gives the same links, whatever it was interrupted by.
``signatures`` has those of the clients, ``details`` the SHA-256 of ``metrics.json``. ``seal`` ties
everything, times included: it is the SHA-256 of the line and of the seal before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from f110_fl.federation.digests import canonical, digest

CHAIN: Final = "chain"
ORDERS: Final = "orders"
SIGNATURES: Final = "signatures"
DETAILS: Final = "details"
SEAL: Final = "seal"

FIRST: Final = "0" * 64  # stands for the link, and the seal, before the first
STATEMENT: Final = "f110-fl: a client's reply, version 1"


class Head(NamedTuple):
    """Where a chain ends."""

    link: str = FIRST
    seal: str = FIRST

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Head:
        """Return the head after a round's line; the beginning, if the line is in no chain."""
        chain = record.get(CHAIN)
        if not isinstance(chain, Mapping):
            return cls()
        return cls(str(chain.get("link")), str(record.get(SEAL)))


@dataclass(frozen=True)
class Basis:
    """What a round starts from, as hashes.

    Attributes:
        code: This project's Python files.
        scenario: The settings.
        start: The tensors that clients are sent.
        previous: The link before.
    """

    code: str
    scenario: str
    start: str
    previous: str


@dataclass(frozen=True)
class ReplyDigests:
    """What a client answers, as hashes.

    Attributes:
        tensors: Its tensors, as `f110_fl.tensors.tensors_digest` has them: that of its file.
        metrics: Its metrics without those of wall-clock time.
        state: The state file that the round leaves in its directory; "" if it does not say.
    """

    tensors: str
    metrics: str
    state: str


def statement(run: str, number: int, client_id: int, basis: Basis, reply: ReplyDigests) -> bytes:
    """Return what a client signs of a round.

    Args:
        run: The run's name, as in its ``identity``.
        number: The round.
        client_id: The client.
        basis: What the client was sent, and with which code it worked.
        reply: What it answers.
    """
    about = {"statement": STATEMENT, "run": run, "round": number, "client": client_id}
    return canonical(about | asdict(basis) | asdict(reply))


def make_link(
    number: int,
    basis: Basis,
    inputs: str,
    replies: Mapping[int, ReplyDigests],
    results: Mapping[str, str],
    orders: Mapping[int, int] | None = None,
) -> dict[str, Any]:
    """Return a round's ``chain``.

    Args:
        number: The round.
        basis: What it started from.
        inputs: Digest of the files that the run depends on.
        replies: Of the clients whose replies were averaged.
        results: Of what it leaves: ``result``, the averaged tensors, which the next round starts
            from; ``server``, all that the server keeps; by their names, the files of the averages.
        orders: By client, the round that was open when its order was sent, where that may be an
            earlier one (mode asynchronous); such a client's basis has that round's ``start`` and
            ``previous``.
    """
    clients = {f"{client_id:02d}": asdict(reply) for client_id, reply in replies.items()}
    entry = {"round": number, **asdict(basis), "inputs": inputs, "clients": clients, **results}
    if orders is not None:
        entry[ORDERS] = {f"{client_id:02d}": order for client_id, order in orders.items()}
    return entry | {"link": link_of(entry)}


def link_of(chain: Mapping[str, Any]) -> str:
    """Return the hash of a ``chain``, whatever it says itself."""
    return digest({key: value for key, value in chain.items() if key != "link"})


def seal_of(record: Mapping[str, Any], previous: str) -> str:
    """Return the hash of a round's line, whatever it says itself.

    Args:
        record: The line.
        previous: The seal before.
    """
    own = {key: value for key, value in record.items() if key != SEAL}
    return digest({"previous": previous, "record": own})
