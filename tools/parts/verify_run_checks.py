"""Compares a run's files with the hashes and signatures in its records."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from f110_fl.engines.credentials import public_keys
from f110_fl.errors import UserError
from f110_fl.federation.chain import (
    CHAIN,
    DETAILS,
    ORDERS,
    SEAL,
    SIGNATURES,
    Basis,
    Head,
    ReplyDigests,
    link_of,
    seal_of,
    statement,
)
from f110_fl.federation.digests import digest, file_digest
from f110_fl.federation.manifest import LEFT_OUT, ROUND, files_in, round_number, run_files
from f110_fl.federation.signing import fingerprint, is_signed
from f110_fl.files import json_objects
from f110_fl.loading.scenarios import read_resolved
from f110_fl.rundir import STATE, RunDir
from f110_fl.tensors import read_metadata, read_tensors, tensors_digest
from f110_fl.training.state_file import kept_rounds, kept_state, saved_progress

Record = dict[str, Any]
_REPLY: Final = ("tensors", "metrics", "state")


@dataclass
class Findings:
    """What is wrong with a run, by file or place, and what else is worth saying."""

    faults: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def fault(self, where: str, what: str) -> None:
        """Add a fault; of one place, the first counts."""
        self.faults.setdefault(where, what)

    def same(self, rundir: RunDir, path: Path, expected: object) -> None:
        """Add a fault if a file is gone or has another SHA-256."""
        name = path.relative_to(rundir.root).as_posix()
        try:
            if file_digest(path) != expected:
                self.fault(name, "changed")
        except FileNotFoundError:
            self.fault(name, "gone")
        except OSError as error:
            self.fault(name, f"cannot be read: {error.strerror}")


def read_records(rundir: RunDir, findings: Findings) -> list[Record]:
    """Return the lines of ``rounds.jsonl`` that are whole, in order."""
    name = rundir.rounds.name
    try:
        text = rundir.rounds.read_bytes()
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(text.split(b"\n")[:-1], 1):
        found = json_objects([line])
        chain = found[0].get(CHAIN, {}) if found else None
        if not isinstance(chain, dict) or type(found[0].get("round")) is not int:
            findings.fault(f"{name}, line {number}", "changed: not a round's record")
        elif json.dumps(found[0]).encode() != line:
            findings.fault(f"{name}, line {number}", "changed: not as it was written")
        else:
            records.append(found[0])
    if text and not text.endswith(b"\n"):
        findings.fault(name, "changed: its last line is not whole")
    return records


def check_chain(records: list[Record], findings: Findings) -> None:
    """Follow the chain from its first round to its last."""
    head, before = Head(), 0
    last: Record = {}
    for record in records:
        number = record["round"]
        chain: Record = record.get(CHAIN) or {}
        where = f"rounds.jsonl, round {number}"
        if number != before + 1:
            missing = f"round {before + 1} is missing" if number > before else "out of order"
            findings.fault(where, f"{missing} before it")
        if not chain:
            findings.fault(where, "no chain: of an older version, or taken out")
        elif link_of(chain) != chain.get("link"):
            findings.fault(where, "changed: its hashes do not give its link")
        elif chain.get("round") != number or seal_of(record, head.seal) != record.get(SEAL):
            findings.fault(where, "changed: it does not give its seal")
        elif chain.get("previous") != head.link:
            findings.fault(where, "not chained to the round before")
        elif last and chain.get("start") != last.get("result"):
            findings.fault(where, "does not start from the result of the round before")
        for what in ("code", "scenario", "inputs") if chain and last else ():
            if chain.get(what) != last.get(what):
                findings.notes.append(f"{what} of another hash from round {number} on")
        head, before, last = Head.of(record), number, chain


def check_round(rundir: RunDir, record: Record, findings: Findings) -> None:
    """Compare the files of a round with its record.

    Where ``keep_rounds`` removed a round's tensors, its ``metrics.json`` is left to compare.
    """
    number, chain = record["round"], record.get(CHAIN) or {}
    folder = rundir.round(number)
    expected = {folder / name: chain[name] for name in chain if name.endswith(".safetensors")}
    if expected and is_removed(rundir, number):
        findings.notes.append(f"round {number}: its tensors were removed (keep_rounds)")
        expected = {}
    if expected:  # else ``checkpoint_after_sync`` was off
        for client, reply in _replies(chain).items():
            expected[rundir.client_tensors(number, client)] = reply.get("tensors")
    if DETAILS in record:
        expected[rundir.metrics(number)] = record[DETAILS]
    for path, known in expected.items():
        findings.same(rundir, path, known)
    for path in files_in(folder) if folder.is_dir() else ():
        if path not in expected and DETAILS in record:
            findings.fault(path.relative_to(rundir.root).as_posix(), "added")


def is_removed(rundir: RunDir, number: int) -> bool:
    """Return whether a round's tensors are gone and the run keeps only some rounds'."""
    try:
        keeps = read_resolved(rundir.config).federated.keep_rounds
    except UserError:  # a fault of that file, which is told elsewhere
        return False
    return keeps != "all" and not any(rundir.round(number).glob("*.safetensors"))


def check_folders(rundir: RunDir, records: list[Record], findings: Findings) -> None:
    """Name the folders of rounds that are in no record; the manifest has what came after."""
    known = {record["round"] for record in records}
    last = max(known, default=0)
    for folder in sorted(rundir.root.glob(f"{ROUND}*")):
        number = round_number(folder)
        if 0 < number < last and number not in known:
            findings.fault(folder.name, "added: no record of such a round")
        elif number > last and not rundir.manifest.exists():
            findings.notes.append(f"{folder.name} is of a round that was not completed")


def check_server(rundir: RunDir, records: list[Record], findings: Findings) -> None:
    """Compare the server's state with the last record."""
    name = rundir.server.name
    if not rundir.server.exists():
        if records:
            findings.fault(name, "gone")
        return
    try:
        summary = dict(json.loads(read_metadata(rundir.server)["summary"]))
        found = tensors_digest(read_tensors(rundir.server))
    except (UserError, KeyError, TypeError, ValueError):
        findings.fault(name, "changed: not readable")
        return
    chain = summary.get(CHAIN) or {}
    if chain and found != chain.get("server"):
        findings.fault(name, "changed")
    elif not records or records[-1] != summary:
        findings.fault(
            f"rounds.jsonl, round {summary.get('round')}", f"not the last, as {name} has it"
        )


def check_states(rundir: RunDir, records: list[Record], findings: Findings) -> None:
    """Compare clients' states, the last and the earlier ones, with what they said of them."""
    said: dict[int, dict[int, object]] = {}  # by client, by round
    asked: dict[int, int] = {}  # a client's last round
    ordered: dict[int, int] = {}  # by client, the round of its last order, which its state names
    for record in records:
        for client, reply in _replies(record.get(CHAIN) or {}).items():
            said.setdefault(client, {})[record["round"]] = reply.get("state")
            ordered[client] = order_of(record, client)
        asked |= dict.fromkeys(record.get("asked", ()), record["round"])
    for client, states in said.items():
        directory = rundir.client(client)
        if not directory.is_dir():
            findings.notes.append(f"client {client} keeps its state elsewhere")
            continue
        for number in kept_rounds(directory):
            if number in states:
                path = kept_state(directory, number) / STATE
                findings.same(rundir, path, states[number])
        last = max(states)
        try:
            is_newer = saved_progress(directory).round > ordered[client]
        except (UserError, ValueError, KeyError, TypeError):
            is_newer = False
        if asked.get(client) == last and not is_newer:
            findings.same(rundir, rundir.state(client), states[last])


def check_manifest(rundir: RunDir, records: list[Record], findings: Findings) -> int:
    """Compare all other files with the manifest; return their number, 0 without a manifest."""
    name = rundir.manifest.name
    if not rundir.manifest.exists():
        findings.notes.append(
            f"no {name}: the run goes on, or was killed; of files outside {ROUND}NNNNN, only the "
            "states are checked"
        )
        return 0
    text = rundir.manifest.read_bytes()
    known = (json_objects([text]) or [{}])[0]
    content = {key: value for key, value in known.items() if key != "digest"}
    try:
        whole = digest(content) == known.get("digest")
        whole = whole and (json.dumps(known, indent=2) + "\n").encode() == text
    except ValueError:
        whole = False
    if not whole:
        findings.fault(name, "changed")
        return 0
    for file, expected in content["files"].items():
        findings.same(rundir, rundir.root / file, expected)
    for file in run_files(rundir, content["rounds"], content["left_out"]):
        if file not in content["files"]:
            findings.fault(file, "added")
    rounds, head = (records[-1]["round"], Head.of(records[-1])) if records else (0, Head())
    if [rounds, *head] != [content["rounds"], content["link"], content["seal"]]:
        findings.fault("rounds.jsonl", f"does not end as {name} has it")
    others = [pattern for pattern in content["left_out"] if pattern not in LEFT_OUT]
    if others:
        findings.notes.append(f"not in {name}, as others worked there: {', '.join(others)}")
    return len(content["files"])


def check_inputs(rundir: RunDir, findings: Findings) -> None:
    """Compare the files that the run depends on with what they were, where they are still there."""
    found = json_objects([rundir.inputs.read_bytes()]) if rundir.inputs.exists() else []
    for name, known in found[0].items() if found else ():
        try:
            if file_digest(Path(name)) != known:
                findings.fault(name, "changed since the run began")
        except OSError:
            findings.notes.append(f"{name}, which the run depends on, is not here")


def check_signatures(
    rundir: RunDir,
    records: list[Record],
    chosen: list[Record],
    trusted: Path | None,
    findings: Findings,
) -> tuple[int, int]:
    """Check who signed.

    Args:
        rundir: The run's directory.
        records: All of them.
        chosen: Those to check.
        trusted: Directory of the clients' public keys; None: those that the run kept. With it,
            every reply must be signed.
        findings: What is wrong is added here.

    Returns:
        Good signatures, and replies.

    Raises:
        UserError: If the keys cannot be read.
    """
    directory = trusted or (rundir.keys if rundir.keys.is_dir() else None)
    keys: dict[int, bytes] = {}
    if directory is not None:
        try:
            keys = {client: key for key, client in public_keys(directory).items()}
        except UserError as error:
            if trusted:
                raise
            findings.fault(rundir.keys.name, str(error))
    good = replies = 0
    began = {record["round"]: record.get(CHAIN) or {} for record in records}
    for record in chosen:
        signatures = record.get(SIGNATURES)
        for client in _replies(record.get(CHAIN) or {}):
            replies += 1
            found = signatures.get(f"{client:02d}") if isinstance(signatures, dict) else None
            reason = "not signed"
            if isinstance(found, dict):
                start = began.get(order_of(record, client), {})
                reason = _unsigned(rundir, record, start, client, found, keys.get(client))
            where = f"rounds.jsonl, round {record['round']}, client {client}"
            if not reason:
                good += 1
            elif found is not None or trusted:
                findings.fault(where, reason)
    return good, replies


def _unsigned(
    rundir: RunDir,
    record: Record,
    began: Mapping[str, Any],
    client: int,
    found: Mapping[str, Any],
    key: bytes | None,
) -> str:
    """Return why a signature proves nothing, "" if it does.

    Args:
        rundir: The run's directory.
        record: Of the round with the reply.
        began: ``chain`` of the round in which its order was sent.
        client: Who signed.
        found: The signature.
        key: The client's public key; None: it is not there.
    """
    if key is None:
        return "signed, but its public key is not there"
    if found.get("key") != fingerprint(key):
        return "signed by another key"
    chain = record[CHAIN]
    try:
        signature = base64.b64decode(str(found.get("signature")), validate=True)
        run = rundir.identity.read_text(encoding="utf-8")
    except (binascii.Error, OSError, UnicodeDecodeError):
        return "its signature, or the run's name, cannot be read"
    here = {name: str(chain.get(name)) for name in ("code", "scenario")}
    basis = Basis(**here, **{name: str(began.get(name)) for name in ("start", "previous")})
    reply = _replies(chain)[client]
    digests = ReplyDigests(**{name: str(reply.get(name)) for name in _REPLY})
    text = statement(run, order_of(record, client), client, basis, digests)
    return "" if is_signed(key, text, signature) else "its signature is not of this reply"


def order_of(record: Record, client: int) -> int:
    """Return the round that was open when a client was sent the order that it answers."""
    orders = (record.get(CHAIN) or {}).get(ORDERS)
    found = orders.get(f"{client:02d}") if isinstance(orders, dict) else None
    number = int(record["round"])
    return found if type(found) is int and 1 <= found <= number else number


def _replies(chain: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Return what a link has of each client's reply."""
    found = chain.get("clients")
    if not isinstance(found, dict):
        return {}
    return {int(k): v for k, v in found.items() if k.isdecimal() and isinstance(v, dict)}
