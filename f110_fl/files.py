"""Atomic writes of files, lines of JSON, and locks."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

SPARE: Final = ".spare"  # how the names of files end that may be written anew


@contextmanager
def replacing(path: Path, *, sync_name: bool = True, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when the block ends without an error.

    Readers, and a crash at any time, see the old file or the new one.

    Args:
        path: The name, in a folder that exists; an existing file is replaced.
        sync_name: Whether the name must survive a power cut at once; otherwise it does after the
            next such write into the same folder.
        mode: Permissions of the file from its creation on, before the process's umask.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    with _renamed(path, sync_name=sync_name, mode=mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def being_written(
    path: Path, parts: Sequence[bytes | memoryview], spares: Path | None = None
) -> Iterator[None]:
    """Write a file from its parts; it takes its name only when the block ends without an error.

    The block runs while the disk takes the file in, and may so use a wait as long as itself. What
    it makes durable is so before the name is. See `replacing`.

    Args:
        path: The name, in a folder that exists; an existing file is replaced.
        parts: What the file holds.
        spares: A folder of the same file system, for files that were replaced: instead of making
            a file, one of them is written anew, whose memory and places on the disk need not be
            found again. Without such a folder, files are made, and those replaced are gone.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    with _renamed(path, sync_name=True, mode=0o666, spares=spares) as file:
        file.writelines(parts)
        file.flush()
        if os.fstat(file.fileno()).st_size > file.tell():  # to cut off nothing takes a while, too
            file.truncate()
        synced = _waiter().submit(os.fsync, file.fileno())
        try:
            yield
        finally:
            synced.result()  # before the file is closed


@cache
def _waiter() -> ThreadPoolExecutor:
    """Return the thread that waits for the disk; to start one each time would take a wait, too."""
    from concurrent.futures import ThreadPoolExecutor  # most who import this module never get here

    return ThreadPoolExecutor(1)


os.register_at_fork(after_in_child=_waiter.cache_clear)  # a child does not get the thread


@contextmanager
def _renamed(
    path: Path, *, sync_name: bool, mode: int, spares: Path | None = None
) -> Iterator[BinaryIO]:
    """Open a file that gets another's name after the block, which has made it durable."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    replaced: Path | None = None
    try:
        descriptor = None if spares is None else _reopened(spares, temporary)
        if descriptor is None:
            new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(temporary, new, mode)
        with os.fdopen(descriptor, "wb") as file:
            yield file
        if spares is not None:
            replaced = _linked(path, spares / temporary.name)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if not sync_name:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name survives a power cut only after this
    finally:
        os.close(folder)
    if replaced is not None:  # only now will nobody find it by its old name, whatever happens
        with suppress(FileNotFoundError):
            replaced.rename(replaced.with_suffix(SPARE))


def _linked(path: Path, other: Path) -> Path | None:
    """Give a file another name, too, and return that; None if there is no such file or folder."""
    try:
        os.link(path, other)
    except OSError:
        return None
    return other


def _reopened(spares: Path, temporary: Path) -> int | None:
    """Give a spare file a temporary name and open it to be written; None if there is none."""
    for spare in spares.glob(f"*{SPARE}"):
        try:
            spare.rename(temporary)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # another process was faster, or it is another user's
            temporary.unlink(missing_ok=True)
            continue
        if os.fstat(descriptor).st_nlink == 1 and _is_unread(descriptor):
            return descriptor
        os.close(descriptor)  # who still has it, by name or open, may go on reading it
        temporary.unlink()
    return None


def _is_unread(descriptor: int) -> bool:
    """Return whether nobody else has a file open or mapped; false where that cannot be told.

    The kernel grants a lease for writing only then (fcntl(2), "Leases"); not every file system has
    them.
    """
    if sys.platform != "linux":
        return False
    try:
        # Who opens the file before the lease is given back, such as a backup, has the kernel send
        # a signal, which would end this process if it were the usual one.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def write_atomic(
    path: Path,
    data: bytes | str | Sequence[bytes | memoryview],
    *,
    sync_name: bool = True,
    mode: int = 0o666,
) -> None:
    """Write a file, as bytes, their parts or UTF-8 text, in one step; see `replacing`.

    Raises:
        OSError: If it cannot be written; the old file is then untouched.
    """
    if isinstance(data, str):
        data = data.encode()
    with replacing(path, sync_name=sync_name, mode=mode) as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def append_line(path: Path, text: str, *, sync: bool = False) -> None:
    """Append one line in a single write, so that concurrent writers do not mix.

    With ``sync``, the line is on the disk when the function returns.

    Raises:
        ValueError: If ``text`` is more than one line.
        OSError: If the whole line cannot be written.
    """
    if "\n" in text or "\r" in text:
        raise ValueError("a line cannot contain a line break")
    data = text.encode() + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        if os.write(file, data) != len(data):
            raise OSError(f"{path}: the disk took only part of a line")
        if sync:
            os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a file, which is created if missing, at most until this process ends.

    Raises:
        BlockingIOError: If another process holds the lock and ``wait`` is false.
        OSError: If the file cannot be opened.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def is_locked(path: Path) -> bool:
    """Return whether another process, or another `locked` in this one, holds a lock."""
    try:
        with locked(path, wait=False):
            return False
    except BlockingIOError:
        return True


def is_file(path: Path) -> bool:
    """Return whether there is such a file, whatever the name; one that cannot be seen is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # such as a name too long, or a NUL in it
        return False


def count_lines(path: Path) -> int:
    """Return the number of complete lines in a file, 0 if it does not exist."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def complete_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a file of JSON lines, without what a crash or a power cut left of any.

    Raises:
        OSError: If the file is there and cannot be read.
    """
    return json_objects(path.read_bytes().split(b"\n") if path.exists() else ())


def json_objects(lines: Iterable[str | bytes]) -> list[dict[str, Any]]:
    """Return the objects in lines of JSON; other and incomplete lines are skipped."""
    found = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found
