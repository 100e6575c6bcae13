#!/usr/bin/env python3
"""Check the proof of a federated run: hashes, their chain, signatures; compute parts again.

Every round's record has hashes of the code, the scenario, the inputs, what each client sent and
kept, and the result, chained to the round before. This names every file of RUN_DIR that was
changed, that is gone, or that was added, and says where the chain breaks. --recompute trains a
client's round again (--client), or averages again what clients sent, and compares the bytes.
docs/proof.md has what this proves, and what it does not.

Exit status: 0 nothing is wrong, 1 something is, 2 wrong input.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError

if TYPE_CHECKING:  # --help needs neither
    from parts.verify_run_checks import Findings

    from f110_fl.rundir import RunDir


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="verify_run.py", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the run's directory (FED_ROOT)")
    parser.add_argument("--round", metavar="N", help="of rounds' files, only this one's")
    parser.add_argument("--client", metavar="K", help="with --recompute: this client's round")
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="train client K's round N again (default: its last), or without --client average "
        "round N again (default: all)",
    )
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="DIR",
        help="the clients' public keys, client_NN.pub, of which every reply must be signed "
        "(default: those that the run kept)",
    )
    parser.add_argument(
        "--link", metavar="HASH", help="a link that was noted before, which the chain must contain"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 nothing is wrong, 1 something is, 2 wrong input."""
    arguments = build_parser().parse_args(argv)
    return program("verify_run.py", lambda: _verify(arguments))


def _verify(arguments: argparse.Namespace) -> int:
    from parts import verify_run_checks as checks

    from f110_fl.federation.chain import CHAIN, Head
    from f110_fl.loading.texts import bounded
    from f110_fl.rundir import RunDir

    rundir = RunDir(arguments.run.absolute())
    if not rundir.config.is_file():
        raise UserError(f"{arguments.run}: no run there (no config.json)")
    if arguments.client is not None and not arguments.recompute:
        raise UserError(f"--client={arguments.client!r}: only with --recompute")
    client = None if arguments.client is None else bounded("--client", arguments.client, 0)
    findings = checks.Findings()
    records = checks.read_records(rundir, findings)
    numbers = [record["round"] for record in records]
    if arguments.recompute and not numbers:
        raise UserError("--recompute: no whole record of a round")
    number = None if arguments.round is None else bounded("--round", arguments.round, 1)
    if number is not None and number not in numbers:
        raise UserError(
            f"--round={number}: allowed: a completed round, 1 to {max(numbers, default=0)}"
        )
    checks.check_chain(records, findings)
    links = [record[CHAIN].get("link") for record in records if record.get(CHAIN)]
    if arguments.link is not None and arguments.link not in links:
        findings.fault("rounds.jsonl", f"no link {arguments.link}")
    chosen = [record for record in records if number in (None, record["round"])]
    for record in chosen:
        checks.check_round(rundir, record, findings)
    checks.check_folders(rundir, records, findings)
    checks.check_server(rundir, records, findings)
    checks.check_states(rundir, records, findings)
    checks.check_inputs(rundir, findings)
    listed = checks.check_manifest(rundir, records, findings)
    good, replies = checks.check_signatures(rundir, records, chosen, arguments.keys, findings)
    head = Head.of(records[-1]).link if records else "none"
    _say(f"Chain       {len(records)} rounds, the last link {head}")
    _say(f"Files       those of {len(chosen)} rounds, {listed} others by manifest.json")
    _say(f"Signatures  {good} of {replies} replies")
    _say_code(records)
    if arguments.recompute:
        _recompute(rundir, records, number, client, findings)
    for note in dict.fromkeys(findings.notes):
        _say(f"Note        {note}")
    for where, what in findings.faults.items():
        _say(f"WRONG       {where}: {what}")
    _say("Wrong       " + (f"{len(findings.faults)}" if findings.faults else "nothing"))
    return 1 if findings.faults else 0


def _say_code(records: list[dict[str, object]]) -> None:
    """Say whether the last round was computed by the code that is here."""
    from f110_fl.federation.chain import CHAIN
    from f110_fl.federation.digests import code_digest

    chain = records[-1].get(CHAIN) if records else None
    code = chain.get("code") if isinstance(chain, dict) else None
    same = "the same as here" if code == code_digest() else f"not that here, {code_digest()}"
    _say(f"Code        {code}, {same}")


def _recompute(
    rundir: RunDir,
    records: list[dict[str, object]],
    number: int | None,
    client: int | None,
    findings: Findings,
) -> None:
    """Compute again what is asked for, and add to the findings what comes out otherwise."""
    from f110_fl.runs.startup import KERNEL_CACHE

    os.environ.update(KERNEL_CACHE)  # before numba is imported
    from parts.verify_run_recompute import Recomputation

    from f110_fl.federation.chain import CHAIN

    again = Recomputation(rundir, records, findings)
    numbers = [int(str(record["round"])) for record in records if record.get(CHAIN)]
    if client is None:
        _say(f"Recomputed  {again.averages(numbers if number is None else [number])}")
    else:
        last = [n for n in numbers if again.took_part(n, client)]
        if number is None and not last:
            raise UserError(f"--client={client}: no reply of it was averaged in any round")
        _say(f"Recomputed  {again.client(number or last[-1], client)}")


def _say(line: str) -> None:
    print(line)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
