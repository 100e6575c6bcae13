"""Logs of programs that run for long: files of a bounded size, of which a few older ones are kept.

A process and all that it starts write to one open file. So a full log is copied to ``NAME.log.1``
and emptied, as logrotate's ``copytruncate`` does: nobody has to open anything again, in whatever
program. What others write at the very moment of that may be missing; what this process writes by
`write_line` is not.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from f110_fl.errors import UserError
from f110_fl.files import replacing

LARGEST: Final = "FED_LOG_SIZE"  # variable: megabytes
MEGABYTE: Final = 1_000_000
DEFAULT: Final = "10"
MOST: Final = 100_000
KEPT: Final = 3  # older files of a log
LOG_HELP: Final = (
    f"append all output to this file; when it is as large as {LARGEST} says ({DEFAULT} MB), it "
    f"becomes FILE.1, of which {KEPT} are kept (default: standard output and error)"
)
LOOK: Final = 0.5  # s between two looks at a log that others write, too

_rotation = threading.Lock()
_own: tuple[Path, int] | None = None  # the log that this process's output goes to, and its bound


def largest_log(environ: Mapping[str, str]) -> int:
    """Return the size at which a log is rotated, bytes: ``FED_LOG_SIZE``, by default 10 MB.

    Raises:
        UserError: If it is not a whole number of megabytes from 1.
    """
    text = environ.get(LARGEST, DEFAULT)
    if not re.fullmatch("[0-9]{1,6}", text, re.ASCII) or not 1 <= int(text) <= MOST:
        raise UserError(f"{LARGEST}={text!r}: allowed: a whole number from 1 to {MOST} [MB]")
    return int(text) * MEGABYTE


def log_to(path: Path | None, environ: Mapping[str, str]) -> None:
    """Do what a program's ``--log`` asks for; None: nothing.

    Raises:
        UserError: If the file cannot be written, or its bound is none.
    """
    largest = largest_log(environ)
    if path is not None:
        try:
            take_output(path, largest)
        except OSError as error:
            raise UserError(f"--log={str(path)!r}: cannot be written: {error.strerror}") from None


def take_output(path: Path, largest: int) -> None:
    """Let the output of this process, and of those that it starts, go to a log.

    Args:
        path: The log, to which is added.
        largest: Its bound, bytes, which others than `write_line` may exceed for `LOOK`.

    Raises:
        OSError: If it cannot be opened.
    """
    global _own
    path = path.absolute()  # whatever becomes of the working directory
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):  # the parent's may be closed; then Python has no sys.stdout
        os.dup2(descriptor, stream)
    if descriptor not in (1, 2):
        os.close(descriptor)
    _own = path, largest
    threading.Thread(target=_look_after, args=(path, largest), daemon=True).start()


def write_line(line: bytes) -> None:
    """Write a line to this process's output, if that is a log within its bound.

    Raises:
        OSError: If it cannot be written.
    """
    with _rotation:
        if _own is not None and os.fstat(1).st_size + len(line) > _own[1]:
            rotate(_own[0])
        while line:
            line = line[os.write(1, line) :]


def rotate(path: Path) -> None:
    """Move a log's content to its first older file, and the older files one further.

    Where there is no room for a copy, the content is lost: a full disk is worse.
    """
    for number in range(KEPT - 1, 0, -1):
        with suppress(FileNotFoundError):
            older(path, number).replace(older(path, number + 1))
    with path.open("r+b") as log:
        try:
            # The copy takes its name after the log is empty: see `LogReader`.
            with replacing(older(path, 1), sync_name=False) as copy:
                shutil.copyfileobj(log, copy)
                log.truncate(0)
        except OSError:
            log.truncate(0)


def older(path: Path, number: int) -> Path:
    """Return the name of a log's older file, from 1, the newest, to `KEPT`."""
    return path.with_name(f"{path.name}.{number}")


def _look_after(path: Path, largest: int) -> None:
    while True:
        time.sleep(LOOK)
        with _rotation, suppress(OSError):
            if path.stat().st_size > largest:
                rotate(path)


class LogReader:
    """Reads the lines that were added to a log since the last call, also over a rotation.

    It must be called more often than the log is rotated.

    Args:
        path: The log, which need not exist yet; what is in it already is not read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older = self._state()
        self._offset = path.stat().st_size if path.exists() else 0
        self._partial = b""

    def lines(self) -> list[str]:
        """Return the new complete lines."""
        data = _read_from(self._path, self._offset)
        end = self._offset + len(data)
        state = self._state()
        # The log was copied and emptied, perhaps while it was read. In between there is no copy.
        if state is not None and state != self._older:
            rest = _read_from(older(self._path, 1), self._offset)
            new = _read_from(self._path, 0)
            self._older, data, end = state, rest + new, len(new)
        self._offset = end
        *whole, self._partial = (self._partial + data).split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def _state(self) -> tuple[int, int] | None:
        with suppress(OSError):
            found = older(self._path, 1).stat()
            return found.st_ino, found.st_mtime_ns
        return None


def _read_from(path: Path, offset: int) -> bytes:
    """Return what stands in a file from an offset on, b"" if there is no such file."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(offset)
        return file.read()
    return b""
