"""Runs a client's tasks, each in a fork of a process that has imported what all of them need.

Flower's SuperExec, of which this takes the place, starts a new Python for each message, which then
imports PyTorch, numba and Flower: seconds of a core, mostly more than there is to do. The task
itself is Flower's own, and so is the app's code, which each task imports from the bundle that the
run came with.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from f110_fl.engines.flower.internals import client_tasks, plain_log, run_client_task
from f110_fl.runs.processes import end_with_parent
from f110_fl.runs.startup import without_collections

POLL_INTERVAL: Final = 0.25  # s between looks for a task
# What clients' tasks import that is not the app's.
LIBRARIES: Final = (
    "flwr.clientapp",
    "llvmlite.binding",  # not numba: it asks this program where kernels are kept
    "numpy",
    "pydantic",
    "safetensors.numpy",
    "scipy.linalg",  # numba, on its first kernel with a product
    "torch",
    "yaml",
)
PACKAGES: Final = ("clients", "f110_fl", "server", "sim")  # the app's


def execute(address: str, secret: bytes) -> None:
    """Run the tasks of a SuperNode of this machine until this process's parent ends.

    Must be called in a process that `multiprocessing` started and that runs no other threads: a
    fork has only one, and waits for ever for what another held.

    Args:
        address: Where the SuperNode's Runtime API listens, HOST:PORT.
        secret: What requests for tasks are signed with.
    """
    end_with_parent()
    plain_log()
    for number in (signal.SIGTERM, signal.SIGINT):  # for the tasks, whose end is waited for
        signal.signal(number, signal.SIG_IGN)
    with without_collections():
        for name in LIBRARIES:
            importlib.import_module(name)
        next_task = client_tasks(address, secret)
    gc.freeze()  # the tasks' collectors do not touch it, so that its memory stays shared
    while True:
        token = next_task()
        if token:
            _fork(partial(run_client_task, address, token))
        _reap()
        time.sleep(POLL_INTERVAL)


def _fork(task: Callable[[], None]) -> None:
    """Run a task in a fork of this process, which ends with it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        return
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _forget_own_modules()
        task()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _forget_own_modules() -> None:
    """Let a task import this program from the bundle that its run came with, like all of the app.

    What has been imported of it here, from wherever it is installed, may be another version.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] in PACKAGES:
            del sys.modules[name]


def _reap() -> None:
    """Forget the tasks that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
