"""The files that a run leaves, by their SHA-256: ``manifest.json``, written when it ends.

Files of completed rounds are not listed: the rounds' records have their hashes
(`f110_fl.federation.chain`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from f110_fl.errors import system_error
from f110_fl.federation.chain import Head
from f110_fl.federation.digests import digest, file_digest
from f110_fl.files import complete_lines, write_atomic
from f110_fl.rundir import RunDir

ROUND: Final = "round_"
# Private keys and whatever Flower keeps; evaluations, which have directories of their own; what W&B
# recorded offline, and changes when it sends it.
LEFT_OUT: Final = ("flower", "evaluation-*", "wandb")


@contextmanager
def manifested(
    rundir: RunDir, say: Callable[[str], None], left_out: Sequence[str] = ()
) -> Iterator[None]:
    """Leave a manifest when the block ends, in whatever way, and none while it goes on.

    Args:
        rundir: The run's directory.
        say: Told in one line if the manifest cannot be written, which ends no run.
        left_out: What else in the directory the manifest leaves out; see `write_manifest`.
    """
    rundir.manifest.unlink(missing_ok=True)
    try:
        yield
    finally:
        try:
            write_manifest(rundir, [*LEFT_OUT, *left_out])
        except OSError as error:
            say(f"manifest.json could not be written: {system_error(error)}")


def write_manifest(rundir: RunDir, left_out: Sequence[str] = LEFT_OUT) -> None:
    """Write ``manifest.json``: where the chain ends, and every file's SHA-256, by its name.

    Args:
        rundir: The run's directory, in which nothing is at work.
        left_out: Patterns of names in the directory that belong to others, or change later.

    Raises:
        OSError: If a file cannot be read, or the manifest cannot be written.
    """
    last = [record for record in complete_lines(rundir.rounds) if type(record.get("round")) is int]
    rounds, head = (last[-1]["round"], Head.of(last[-1])) if last else (0, Head())
    files: dict[str, str] = {}
    for name, path in run_files(rundir, rounds, left_out).items():
        with suppress(FileNotFoundError):  # such as the temporary file of a process that ends
            files[name] = file_digest(path)
    content: dict[str, Any] = {
        "rounds": rounds,
        **head._asdict(),
        "left_out": list(left_out),
        "files": files,
    }
    whole = content | {"digest": digest(content)}
    write_atomic(rundir.manifest, json.dumps(whole, indent=2) + "\n")


def run_files(rundir: RunDir, rounds: int, left_out: Sequence[str] = LEFT_OUT) -> dict[str, Path]:
    """Return the files that a manifest lists, by their names relative to the run's directory.

    Args:
        rundir: The run's directory.
        rounds: Number of the last completed round.
        left_out: See `write_manifest`.

    Raises:
        OSError: If the directory cannot be read.
    """
    found: dict[str, Path] = {}
    for path in sorted(rundir.root.iterdir()):
        named = any(path.match(pattern) for pattern in left_out)
        if named or path == rundir.manifest or 1 <= round_number(path) <= rounds:
            continue
        found |= {inner.relative_to(rundir.root).as_posix(): inner for inner in files_in(path)}
    return found


def round_number(folder: Path) -> int:
    """Return the round whose folder this is by its name; 0 if it is none."""
    number = folder.name.removeprefix(ROUND)
    is_round = folder.name.startswith(ROUND) and number.isdecimal()
    return int(number) if is_round else 0


def files_in(path: Path) -> Iterator[Path]:
    """Yield a file, or the files at any depth of a folder, in order; links are not followed."""
    if not path.is_dir() or path.is_symlink():
        yield path
        return
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        yield from files_in(Path(entry.path))
