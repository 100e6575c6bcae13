"""Child processes that never outlive the run that started them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from f110_fl.errors import UserError
from f110_fl.runs.logs import largest_log, take_output

STOP_GRACE = 10.0  # s from a child's SIGTERM to its SIGKILL
_PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)
REASON_LENGTH = 2000  # characters; they fit into a pipe's buffer, so that a child never waits


class Children:
    """A set of children, each the leader of its own process group, with its own log.

    Args:
        generations: Levels of descendants that get time to end; 1: the children only.
    """

    def __init__(self, generations: int = 1) -> None:
        self._running: list[BaseProcess] = []
        self._reports: dict[BaseProcess, Connection] = {}
        self._generations = generations

    def start(
        self, target: Callable[..., None], args: tuple[Any, ...], log: Path | None = None
    ) -> BaseProcess:
        """Start ``target(*args)`` in a new interpreter, with its output in ``log`` if given.

        The log is bounded, see `f110_fl.runs.logs`.
        """
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        # A fresh interpreter: forking one that runs threads (PyTorch, W&B) can deadlock.
        context = multiprocessing.get_context("spawn")
        # Not a file, because a child may have to report a full disk.
        report, sender = context.Pipe(duplex=False)
        name = None if log is None else log.stem
        child = context.Process(target=_child, args=(target, args, log, sender), name=name)
        child.start()
        sender.close()
        self._running.append(child)
        self._reports[child] = report
        return child

    def close(self, child: BaseProcess) -> str:
        """Forget a child that has ended, and kill what it left in its group.

        Returns:
            The reason if it failed, in one line; else "".
        """
        if child in self._running:
            self._running.remove(child)
            _signal_group(child, signal.SIGKILL)
        report, text = self._reports.pop(child, None), ""
        if report is not None:
            with suppress(EOFError), report:
                text = report.recv_bytes().decode() if report.poll() else ""
        status = child.exitcode or 0
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        return text or f"ended with exit status {status}" if status else ""

    def stop(self) -> None:
        """End every child and all that it started; return when they have ended."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in self._running:
                _signal_group(child, number)
            deadline = time.monotonic() + STOP_GRACE * (2 * self._generations - 1)
            for child in self._running:
                child.join(max(deadline - time.monotonic(), 0.0))
        self._running.clear()
        for report in self._reports.values():
            report.close()
        self._reports.clear()


def end_with_parent() -> None:
    """Kill this process when its parent ends; if it leads a process group, also what it started.

    Must be called in a process that `multiprocessing` started. It shares a pipe with its parent; a
    thread waits for the other end to close, which happens in whatever way the parent ends. The
    thread runs even while the process is busy, since compiled kernels and PyTorch release Python's
    lock.
    """
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        if os.getpgrp() == os.getpid():
            end_descendants()  # first: once this process has ended, nobody knows them
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parents end (Linux; elsewhere, do nothing).

    Flower's programs start others in sessions of their own, which a group's signal does not reach.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Kill this process's children and, if it adopts orphans, all that descends from it.

    What is killed leaves its own children to this process, until there are none.
    """
    while numbers := _children():
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
            with suppress(ChildProcessError):  # another thread has waited for it
                os.waitpid(number, 0)


def _children() -> list[int]:
    """Return the ids of this process's children, whichever thread's; none where it is not Linux."""
    found: list[int] = []
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # the thread has just ended
            found += map(int, children.read_text().split())
    return found


def _signal_group(child: BaseProcess, number: int) -> None:
    if child.pid is not None:
        try:
            os.killpg(child.pid, number)
        except (ProcessLookupError, PermissionError):
            child.join(0)  # the group has ended, or the child has not created it yet
            if child.is_alive():
                os.kill(child.pid, number)


def _child(
    target: Callable[..., None], args: tuple[Any, ...], log: Path | None, report: Connection
) -> None:
    os.setsid()  # Ctrl-C reaches only the parent, which then ends this group
    if log is not None:
        take_output(log, largest_log(os.environ))
    end_with_parent()
    try:
        target(*args)
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        reason = " ".join(f"{kind}{error}".split())
        report.send_bytes(reason[:REASON_LENGTH].encode(errors="replace"))
        sys.exit(1)
