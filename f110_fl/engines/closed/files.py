"""What a closed SuperLink hands out of its runs' directories, to operators alone.

A run is named by its number or by its directory, as its server announced it when it began; nothing
else on this machine can be named. Of the directory, files are offered by a list of patterns: the
model, the settings, the records, the page. Private keys, secrets of privacy noise, states and
replay are not among them. No link is followed, neither to a file nor to a folder.

An operator's token is as good as a login on this machine (he starts code on it), so every operator
may have the files of every run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from f110_fl.engines.flower.internals import Nodes
from f110_fl.reporting import announce
from f110_fl.rundir import EPISODES, RunDir

FILES: Final = "/f110-fl/files"  # asks for `RunFiles.listing`
FILE_PART: Final = "/f110-fl/file-part"  # asks for `RunFiles.part`
PART: Final = 4 * 1024 * 1024  # bytes that one answer holds at most
MOST_FILES: Final = 20_000  # of one run
MOST_BYTES: Final = 4 * 1024**3  # of one file; a larger one is not offered
OFFERED: Final = re.compile(
    r"identity|config\.json|inputs\.json|starts\.jsonl|rounds\.jsonl|evaluations\.jsonl|"
    r"best\.safetensors|report\.html|manifest\.json|keys/client_[0-9]+\.pub|"
    r"clients/[0-9]+/episodes\.jsonl|"
    r"round_[0-9]+/(global\.safetensors|average\.safetensors|metrics\.json)"
)


class NotOfferedError(ValueError):
    """There is no such run, or no such file of it; the text contains nothing of the question."""


class RunFiles:
    """Answers operators' questions for files.

    Args:
        nodes: Those of the SuperLink, which know its runs.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._roots: dict[str, Path] = {}  # by number and by directory

    def listing(self, question: bytes) -> bytes:
        """Return which files a run has.

        Args:
            question: JSON: ``run``.

        Returns:
            JSON: ``root``, the run's directory, and ``files``: of each ``name``, relative to it,
            ``size`` in bytes and ``sha256`` of so many bytes from its start, in hexadecimal.

        Raises:
            NotOfferedError: If there is no such run.
        """
        root = self._root(_read(question))
        files = []
        for name in offered(root):
            with suppress(OSError), opened(root, name) as file:
                size = os.fstat(file.fileno()).st_size
                if size <= MOST_BYTES:
                    files.append({"name": name, "size": size, "sha256": _digest(file, size)})
        return json.dumps({"root": str(root), "files": files}).encode()

    def part(self, question: bytes) -> bytes:
        """Return some bytes of a file, at most `PART`.

        Args:
            question: JSON: ``run``, ``name``, ``offset`` and ``length`` in bytes.

        Raises:
            NotOfferedError: If there is no such run or file, or the two numbers are none.
        """
        asked = _read(question)
        root = self._root(asked)
        name, offset, length = (asked.get(key) for key in ("name", "offset", "length"))
        if type(offset) is not int or type(length) is not int or min(offset, length) < 0:
            raise NotOfferedError("offset and length are numbers of bytes")
        if not isinstance(name, str) or not OFFERED.fullmatch(name):
            raise NotOfferedError("no such file is offered of this run")
        try:
            with opened(root, name) as file:
                return os.pread(file.fileno(), min(length, PART), min(offset, MOST_BYTES))
        except OSError:
            raise NotOfferedError("the file is not there any more") from None

    def _root(self, asked: dict[str, Any]) -> Path:
        """Return the directory of a run."""
        run = asked.get("run")
        if not isinstance(run, str):
            raise NotOfferedError("a run is named by a text")
        if run not in self._roots:
            self._roots |= {name: Path(root) for name, root in _announced(self._nodes)}
        root = self._roots.get(run)
        if root is None or not RunDir(root).config.is_file():
            raise NotOfferedError("the server knows no such run; server.status lists them")
        return root


def offered(root: Path) -> list[str]:
    """Return the names of the files that a run offers, relative to its directory.

    Of the rounds, it is the last one's: each round's record is in ``rounds.jsonl``.
    """
    rundir = RunDir(root)
    last = max((n for n in rundir.numbered_rounds() if rundir.metrics(n).is_file()), default=0)
    paths = [
        *(rundir.identity, rundir.config, rundir.inputs, rundir.starts, rundir.rounds),
        *(rundir.evaluations, rundir.best, rundir.report, rundir.manifest),
        *(rundir.global_tensors(last), rundir.average(last), rundir.metrics(last)),
        *sorted(rundir.keys.glob("*")),
        *sorted(rundir.clients.glob(f"*/{EPISODES}")),
    ]
    names = (path.relative_to(root).as_posix() for path in paths if path.is_file())
    return [name for name in names if OFFERED.fullmatch(name)][:MOST_FILES]


def opened(root: Path, name: str) -> BinaryIO:
    """Open a file below a folder, without following a link on the way.

    Args:
        root: The folder.
        name: Relative to it.

    Raises:
        OSError: If it is not there, is not a regular file, or is or lies behind a link.
    """
    *folders, last = name.split("/")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(folder, flags, dir_fd=at)
            os.close(at)
            at = inner
        # Not waiting: for whoever writes to a pipe, it would be for ever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        found = os.open(last, flags, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(f"{name}: not a regular file")
    return os.fdopen(found, "rb")


def _digest(file: BinaryIO, size: int) -> str:
    """Return the SHA-256 of so many bytes, of a file that may grow meanwhile."""
    found = hashlib.sha256()
    while size > 0 and (data := file.read(min(size, PART))):
        found.update(data)
        size -= len(data)
    return found.hexdigest()


def _announced(nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Yield number and directory of each run, and the directory again as its name."""
    for run, log in nodes.runs():
        announcements = announce.Announcements()
        for line in log.splitlines():
            event = announcements.read(line)
            if event is not None and event["event"] == announce.STARTED:
                root = str(event["root"])
                yield from ((str(run.run_id), root), (root, root))
                break


def _read(question: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(question)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise NotOfferedError("a question is an object of JSON")
    return asked
