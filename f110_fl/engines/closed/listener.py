"""A listening socket whose connections are counted and bounded before TLS, by uvicorn's protocol.

uvicorn's own server counts a connection only after its TLS handshake, for which it gives a minute,
and waits without end for a request. So connections are accepted here, and each gets uvicorn's
HTTP/1.1 protocol (h11, the strict one of its two) once TLS stands.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Final

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from f110_fl.engines.closed.gate import VISITOR, App
from f110_fl.engines.closed.visitors import Bounds, Visitor, Visitors
from f110_fl.errors import UserError

BACKLOG: Final = 512  # connections that the system keeps until they are accepted
KEEP_ALIVE: Final = 75  # s that a connection may be idle between two requests
LEAVE: Final = 3.0  # s that requests at work have when the server ends
SWEEP: Final = 1.0  # s between two looks for connections that have had their time

log = logging.getLogger("flwr")


class Listener:
    """Serves an application at a socket.

    Args:
        sock: Bound, not yet listening.
        context: Certificate and key.
        app: The application.
        visitors: Counts the connections; they are put into each request's state.
        bounds: Largest header, and how long a handshake may take.
        admits: Whether the process at the other end of a connection may connect at all.
        knows: Whether whom a connection belongs to may still come.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        app: App,
        visitors: Visitors,
        bounds: Bounds,
        admits: Callable[[socket.socket], bool] = lambda _: True,
        knows: Callable[[Hashable], bool] = lambda _: True,
    ) -> None:
        self._socket = sock
        self._context = context
        self._visitors = visitors
        self._bounds = bounds
        self._admits = admits
        self._knows = knows
        self._config = Config(
            app,
            http=H11Protocol,
            interface="asgi3",
            ws="none",
            lifespan="off",
            proxy_headers=False,  # an address that somebody else claims is no address
            server_header=False,
            access_log=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE,
            h11_max_incomplete_event_size=bounds.header,
        )
        self._config.load()
        self._state = ServerState()
        self._connecting: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Accept connections from now on, in the running loop."""
        self._socket.setblocking(False)
        self._socket.listen(BACKLOG)
        self._tasks = [asyncio.create_task(self._accept()), asyncio.create_task(self._sweep())]

    async def stop(self) -> None:
        """Accept nobody any more, let requests at work end, and end all connections."""
        for task in [*self._tasks, *self._connecting]:
            task.cancel()
        self._socket.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        deadline = time.monotonic() + LEAVE
        while self._state.tasks and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self._visitors.end_all()
        for request in list(self._state.tasks):
            request.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._socket)
            except OSError as error:  # too many open files, or one that has gone already
                log.warning("A connection could not be accepted: %s", error.strerror)
                await asyncio.sleep(SWEEP)
                continue
            if not self._may_come(connection):
                _reset(connection)
                continue
            visitor = self._visitors.admit(str(address[0]), time.monotonic())
            if visitor is None:
                _reset(connection)
                continue
            task = asyncio.create_task(self._connect(connection, visitor))
            visitor.close = _canceller(task)
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _may_come(self, connection: socket.socket) -> bool:
        try:
            return self._admits(connection)
        except OSError:  # it has gone already
            return False

    async def _connect(self, connection: socket.socket, visitor: Visitor) -> None:
        """Do the TLS handshake and hand the connection over."""
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: _Connection(self._config, self._state, visitor, self._visitors),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._bounds.prove_within,
                ssl_shutdown_timeout=LEAVE,
            )
        except (OSError, asyncio.CancelledError) as error:  # ssl.SSLError is one
            self._visitors.gone(visitor)
            _reset(connection)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        visitor.close = transport.abort
        if visitor not in self._visitors:
            transport.abort()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._visitors.end_unproved(time.monotonic())
            self._visitors.end_unknown(self._knows)


class _Connection(H11Protocol):
    """uvicorn's, which tells each request and the count of connections which one it is."""

    def __init__(
        self, config: Config, state: ServerState, visitor: Visitor, visitors: Visitors
    ) -> None:
        super().__init__(config, state, {VISITOR: visitor})
        self._visitor, self._visitors = visitor, visitors

    def connection_lost(self, exc: Exception | None) -> None:
        self._visitors.gone(self._visitor)
        super().connection_lost(exc)


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address of this machine.

    Args:
        host: A name or an address; "0.0.0.0" or "::" for all.
        port: From 1, or 0 for a free one.

    Raises:
        UserError: If it cannot be.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--host={host!r}: {reason}") from None
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(address)
    except OSError as error:
        made.close()
        raise UserError(f"--host={host!r}, --port={port}: {error.strerror}") from None
    return made


def is_own(connection: socket.socket) -> bool:
    """Return whether the process at the other end, on this machine, belongs to this one's user.

    Linux says so of every TCP socket. Where it is not Linux, nothing says so, and it is believed.
    So other users of a server cannot use the token of a task, which they can read off the arguments
    of its process.
    """
    theirs, ours = (
        f":{port:04X}" for port in (connection.getpeername()[1], connection.getsockname()[1])
    )
    table = Path("/proc/net/tcp")
    if not table.exists():
        return True
    for line in table.read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(theirs) and fields[2].endswith(ours):
            return int(fields[7]) == os.getuid()
    return False


def _canceller(task: asyncio.Task[None]) -> Callable[[], None]:
    def cancel() -> None:
        task.cancel()

    return cancel


def _reset(connection: socket.socket) -> None:
    """Close a connection at once, without the states that TCP otherwise leaves on this side."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
