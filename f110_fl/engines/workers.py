"""Processes that run the clients' Flower app, one message at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from multiprocessing import forkserver, util
from multiprocessing.connection import Connection
from typing import Final

from flwr.app import Array, Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp

from f110_fl.engines.flower.internals import (
    NUM_PARTITIONS_KEY,
    PARTITION_ID_KEY,
    ErrorCode,
    plain_log,
)
from f110_fl.runs.processes import end_with_parent

LONGEST_DIRECTORY: Final = 70  # bytes; a socket's path has at most 103 (macOS) or 107 (Linux)
STOP_GRACE: Final = 5.0  # s that a worker has to end after its pipe is closed
FORKS_GRACE: Final = 1.0  # s from when the process that workers are forked from is gone to its end

MakeClientApp = Callable[[], ClientApp]


def prepare(preload: Sequence[str]) -> None:
    """Start the single-threaded process that workers are forked from.

    It gets this process's ``sys.path``; by default, Python's fork server would use the working
    directory and PYTHONPATH, where there may be another copy of this program.

    Args:
        preload: Modules that it imports, so that its workers need not.
    """
    _shorten_sockets()
    multiprocessing.set_forkserver_preload(list(preload))
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in own}
    os.environ |= own
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _shorten_sockets() -> None:
    """Let multiprocessing have its sockets where their paths are short enough for the system.

    It makes them below the directory of temporary files, which may be anywhere, once a process.
    """
    before = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_DIRECTORY:
        tempfile.tempdir = "/tmp"  # noqa: S108 - a directory of its own is made there
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = before


class WorkerError(RuntimeError):
    """A worker ended before it was ready."""


class Worker:
    """A process that answers messages by a client app; it ends with this process in any case.

    Raises:
        WorkerError: If it cannot start.
    """

    def __init__(self, client_app: MakeClientApp, clients: int) -> None:
        self._content: RecordDict | None = None  # what it was sent last, and has
        context = multiprocessing.get_context("forkserver")
        self._pipe, remote = context.Pipe()
        self._process = context.Process(
            target=_work, args=(remote, client_app, clients), daemon=True
        )
        try:
            self._process.start()
        except (EOFError, ConnectionError):
            raise WorkerError(f"a worker could not start: {_forks_ending()}") from None
        remote.close()
        try:
            self._pipe.recv()
        except (EOFError, OSError):
            raise WorkerError(f"a worker could not start: {self._ending()}") from None

    def answer(self, message: Message) -> Message:
        """Pass a message to its client and return the reply, which may be an error.

        A round's messages to all clients have one and the same content, a whole model: each worker
        is sent it once, with the first of them. Neither side may change it after that.

        Raises:
            BrokenPipeError: If the process has ended; the text says how. The message is lost.
        """
        try:
            known = message.content is self._content
            self._pipe.send((_without_content(message) if known else message, known))
            self._content = message.content
            reply = receive_reply(self._pipe)
        except (EOFError, OSError):
            raise BrokenPipeError(self._ending()) from None
        return reply

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """End the idle process."""
        self._pipe.close()
        self._process.join(STOP_GRACE)
        self._process.kill()
        self._process.join()

    def _ending(self) -> str:
        """Return how the process ended."""
        self._process.join(STOP_GRACE)
        return _ending(self._process.exitcode)


def _without_content(message: Message) -> Message:
    found = copy(message)
    found.content = RecordDict()
    return found


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def _forks_ending() -> str:
    """Return how the process that workers are forked from ended, and what to do."""
    how = "ended"
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    deadline = time.monotonic() + FORKS_GRACE
    while pid is not None and hasattr(os, "waitid") and time.monotonic() < deadline:
        with suppress(ChildProcessError):  # another thread has waited for it
            # Left as it is: the next start of a worker asks for its end, too.
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                killed = found.si_code != os.CLD_EXITED
                how = _ending(-found.si_status if killed else found.si_status)
                break
        time.sleep(0.01)
    why = ", as when memory runs out: try fewer at a time" if how.endswith("SIGKILL") else ""
    return f"the process that all workers are forked from {how}{why}; --resume goes on with the run"


def send_reply(pipe: Connection, reply: Message) -> None:
    """Send a reply to `receive_reply` at the other end.

    Its arrays, a whole model, follow as they are: multiprocessing would copy them three times more,
    in many small reads, before each of which a busy server waits for Python's lock.

    Args:
        pipe: An end of a duplex pipe, which is a socket.
        reply: The reply.

    Raises:
        OSError: If the other end is closed.
    """
    arrays = _arrays(reply)
    parts = [array.data for array in arrays]
    for array in arrays:
        array.data = b""
    pipe.send((reply, [len(part) for part in parts]))
    with socket.socket(fileno=os.dup(pipe.fileno())) as stream:
        for array, part in zip(arrays, parts, strict=True):
            stream.sendall(part)
            array.data = part  # it may be that of the message, which is kept


def receive_reply(pipe: Connection) -> Message:
    """Return what `send_reply` sends; see there.

    Raises:
        EOFError: If the other end is closed.
        OSError: If the connection is broken.
    """
    reply: Message
    reply, sizes = pipe.recv()
    with socket.socket(fileno=os.dup(pipe.fileno())) as stream:
        for array, size in zip(_arrays(reply), sizes, strict=True):
            array.data = _exactly(stream, size)
    return reply


def _arrays(message: Message) -> list[Array]:
    if not message.has_content():
        return []
    records = message.content.array_records.values()
    return [array for record in records for array in record.values()]


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = stream.recv(size, socket.MSG_WAITALL)
    while len(data) < size:  # a signal came in between, or it is the end
        more = stream.recv(size - len(data), socket.MSG_WAITALL)
        if not more:
            raise EOFError
        data += more
    return data


def _work(pipe: Connection, make_app: MakeClientApp, clients: int) -> None:
    """Answer messages until the pipe is closed."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the parent, which then closes the pipe
    end_with_parent()
    plain_log()
    app = make_app()
    contexts: dict[int, Context] = {}
    content = RecordDict()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(None)  # ready
        while True:
            message, known = pipe.recv()
            if known:  # it is that of the message before
                message.content = content
            content = message.content
            node = message.metadata.dst_node_id
            if node not in contexts:
                config: UserConfig = {PARTITION_ID_KEY: node - 1, NUM_PARTITIONS_KEY: clients}
                contexts[node] = Context(message.metadata.run_id, node, config, RecordDict(), {})
            send_reply(pipe, _answer(app, message, contexts[node]))


def _answer(app: ClientApp, message: Message, context: Context) -> Message:
    try:
        return app(message, context)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
