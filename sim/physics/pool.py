"""Splitting a batch over threads."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[int, int, int], None]  # does items first to last - 1, in the n-th thread
Job = tuple[Work, int, int, int] | None  # None ends the thread
Done = tuple[int, BaseException] | None  # the range's start and what was raised in it


class RangePool:
    """Threads that share the items of a batch, and stay for the next one.

    What runs in them should spend its time in compiled code that has released the GIL. The
    calling thread does the first share itself, so one thread needs no other. Threads start at
    first use, once more after a fork, and end with the pool.

    Args:
        num_threads: Threads to use, the caller's included.

    Raises:
        ValueError: If num_threads is below 1.
    """

    def __init__(self, num_threads: int) -> None:
        if num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, found {num_threads}")
        self.num_threads = num_threads
        self._process = -1
        self._jobs: list[SimpleQueue[Job]] = []
        self._done: SimpleQueue[Done] = SimpleQueue()

    def run(self, work: Work, count: int) -> None:
        """Call ``work(first, last, thread)`` for consecutive ranges that cover 0 to ``count - 1``.

        Args:
            work: Called once in each thread; ranges are as equal as possible, and never empty.
            count: Number of items, at least 1.

        Raises:
            Exception: What ``work`` raised, after every thread is done; the first range's if
                several did.
        """
        shares = min(self.num_threads, count)
        if shares == 1:
            work(0, count, 0)
            return
        if self._process != os.getpid():
            self._start()
        for i in range(1, shares):
            self._jobs[i - 1].put((work, i * count // shares, (i + 1) * count // shares, i))
        results = [_attempt(work, 0, count // shares, 0)]
        results.extend(self._done.get() for _ in range(1, shares))
        failures = [result for result in results if result]
        if failures:
            raise min(failures, key=lambda failure: failure[0])[1]

    def _start(self) -> None:
        self._jobs = [SimpleQueue() for _ in range(1, self.num_threads)]
        self._done = SimpleQueue()
        for jobs in self._jobs:
            threading.Thread(
                target=_serve, args=(jobs, self._done), name="sim-range", daemon=True
            ).start()
            weakref.finalize(self, jobs.put, None)
        self._process = os.getpid()


def _attempt(work: Work, first: int, last: int, thread: int) -> Done:
    try:
        work(first, last, thread)
    except BaseException as error:  # handed to the caller of `run`
        return first, error
    return None


def _serve(jobs: SimpleQueue[Job], done: SimpleQueue[Done]) -> None:
    while (job := jobs.get()) is not None:
        done.put(_attempt(*job))
