"""Flower's SuperLink behind a gate: one process, two listeners, and the SuperExec it looks after.

Clients and operators come through a port that is open to the network. The server's own processes
use a second one, on loopback, with a certificate that is made at each start.

A proxy before an unchanged SuperLink would be the other way. This one is taken because there is
one parser, not two that may disagree on what a request says, no second program to be installed,
watched and kept up to date, and no port behind it that skips it. It is also the only one that can
tell who calls from the headers, before the body, and give a killed client's place back at once.
"""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import resource
import secrets
import signal
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from f110_fl.engines.closed.gate import Gate
from f110_fl.engines.closed.listener import Listener, is_own, listening_socket
from f110_fl.engines.closed.visitors import Bounds, Visitors
from f110_fl.engines.credentials import Credentials, make_credentials, public_keys
from f110_fl.engines.flower.internals import (
    Nodes,
    plain_log,
    routes,
    superlink_app,
    superlink_logging,
)
from f110_fl.engines.flower.programs import environment, program, run_program
from f110_fl.engines.operators import PRIVATE, Operators, read_operators
from f110_fl.errors import UserError
from f110_fl.files import write_atomic
from f110_fl.runs.processes import Children, adopt_orphans, end_descendants

if TYPE_CHECKING:
    from fastapi import FastAPI

LOOPBACK: Final = "127.0.0.1"
IN_MEMORY: Final = ":flwr-in-memory:"
CLIENT_KEYS: Final = "FED_CLIENT_KEYS"  # by which a run's server knows which key is which client
LOOK_AT_FILES: Final = 2.0  # s between two looks for new or removed keys and operators
RESTART: Final = 2.0  # s from the SuperExec's end to its next start
LOOK_AT_CHILD: Final = 0.5  # s between two looks whether it runs

log = logging.getLogger("flwr")


@dataclass(frozen=True)
class ClosedSuperLink:
    """What is served.

    Attributes:
        host: Address to listen at, for clients and operators.
        port: Its port.
        keys: Directory with certificate, key and the clients' public keys.
        operators: File of `f110_fl.engines.operators.read_operators`; None: there are none.
        database: File that remembers runs over a restart; "" for none.
        home: Flower's home, where runs' code is kept; None: ``~/.flwr``.
        bounds: What each visitor may use.
    """

    host: str
    port: int
    keys: Path
    operators: Path | None = None
    database: str = ""
    home: Path | None = None
    bounds: Bounds = field(default_factory=Bounds)

    @property
    def credentials(self) -> Credentials:
        """The files in `keys`."""
        return Credentials(self.keys)


def check(served: ClosedSuperLink) -> None:
    """Refuse what cannot be served.

    Raises:
        UserError: If a file is missing, wrong or open to others, or the address cannot be used.
    """
    _context(served.credentials)
    if served.credentials.key.stat().st_mode & 0o077:
        key = served.credentials.key
        raise UserError(f"{key}: others can read it; chmod 600 {key}")
    public_keys(served.keys)
    if served.operators is not None:
        read_operators(served.operators)
    listening_socket(served.host, served.port).close()


def serve(served: ClosedSuperLink) -> None:
    """Serve until SIGTERM or SIGINT, and end all that was started.

    Raises:
        UserError: See `check`.
    """
    check(served)
    os.environ.update(environment(served.home))
    os.environ[CLIENT_KEYS] = str(served.keys.absolute())
    _raise_limit_of_files()
    adopt_orphans()
    logging.config.dictConfig(superlink_logging())
    plain_log()
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for whatever is no HTTP
    try:
        asyncio.run(_serve(served))
    finally:
        end_descendants()


async def _serve(served: ClosedSuperLink) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="f110-fl-")))
        secret = secrets.token_bytes(32)
        write_atomic(private / "secret", secret, mode=PRIVATE)
        own = make_credentials(private, (LOOPBACK,), 0)
        opened = await stack.enter_async_context(listening(served, own, secret))
        command = _superexec(own, opened.local_port, private / "secret")
        await stack.enter_async_context(_kept_running(command))
        log.info("Closed SuperLink at %s:%d, %s", served.host, served.port, opened.known())
        while not ended.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), LOOK_AT_FILES)
            await asyncio.to_thread(opened.look)


@dataclass(frozen=True)
class Opened:
    """A SuperLink at work.

    Attributes:
        app: Flower's application.
        local_port: Port on loopback for the server's own processes.
        look: Reads the files that say who may come, if they have changed.
        known: Returns who may come, in words.
    """

    app: FastAPI
    local_port: int
    look: Callable[[], None]
    known: Callable[[], str]


@asynccontextmanager
async def listening(
    served: ClosedSuperLink, own: Credentials, secret: bytes
) -> AsyncIterator[Opened]:
    """Serve while the block runs, in the running loop.

    Args:
        served: What is served.
        own: Certificate and key for the port on loopback.
        secret: What the SuperExec signs its requests for tasks with.
    """
    files = _Files(served)
    app = superlink_app(served.database or IN_MEMORY, files.name_of, secret)
    nodes = Nodes(app)
    gate = Gate(app, routes(app), nodes, secret, served.bounds)
    files.look(nodes, gate)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        public, local = listening_socket(served.host, served.port), listening_socket(LOOPBACK, 0)
        port = int(local.getsockname()[1])
        for listener in (
            Listener(local, _context(own), gate.local, Visitors(_LOCAL), served.bounds, is_own),
            Listener(
                public,
                _context(served.credentials),
                gate.public,
                Visitors(served.bounds),
                served.bounds,
                knows=gate.knows,
            ),
        ):
            listener.start()
            stack.push_async_callback(listener.stop)
        yield Opened(
            app,
            port,
            lambda: files.look(nodes, gate),
            lambda: f"known: {len(nodes.keys())} clients, {len(files.operators)} operators",
        )


# All come from one address, and are this server's own.
_LOCAL: Final = Bounds(strangers_address=128, new_rate=200.0, new_burst=1000.0)


class _Files:
    """The files that say who may come; whoever is added or removed is so without a restart."""

    def __init__(self, served: ClosedSuperLink) -> None:
        self._served = served
        self._seen: list[Any] = []
        self.operators = Operators({})

    def name_of(self, token: str) -> str | None:
        """Return which operator a token belongs to."""
        return self.operators.name_of(token)

    def look(self, nodes: Nodes, gate: Gate) -> None:
        """Read the files again if any has changed; what is wrong in them changes nothing."""
        seen = self._state()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            known = public_keys(self._served.keys)
            path = self._served.operators
            self.operators = Operators({}) if path is None else read_operators(path)
        except UserError as error:
            log.error("%s", error)  # noqa: TRY400 - a user's mistake needs no traceback
            return
        for line in nodes.follow({_pem(key): f"client_{i:02d}" for key, i in known.items()}):
            log.warning("%s", line)
        gate.operators = self.operators
        gate.update_keys()

    def _state(self) -> list[Any]:
        files = sorted(self._served.keys.glob("client_*.pub"))
        files += [self._served.operators] if self._served.operators is not None else []
        found: list[Any] = []
        for path in files:
            with suppress(OSError):
                state = path.stat()
                found.append((path, state.st_mtime_ns, state.st_size, state.st_ino, state.st_mode))
        return found


@asynccontextmanager
async def _kept_running(command: list[str]) -> AsyncIterator[None]:
    """Run a program, again whenever it ends, until the block does or this process is killed."""
    children = Children()
    task = asyncio.create_task(_run_for_ever(children, command))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(children.stop)


async def _run_for_ever(children: Children, command: list[str]) -> None:
    while True:
        # By way of a process that ends all that descends from it once its parent has ended, in
        # whatever way: a ServerApp that lost its server could otherwise keep its run's directory.
        child = children.start(run_program, (command, dict(os.environ)))
        while child.is_alive():
            await asyncio.sleep(LOOK_AT_CHILD)
        log.warning("The SuperExec is started again: it %s", children.close(child) or "ended")
        await asyncio.sleep(RESTART)


def _superexec(own: Credentials, port: int, secret: Path) -> list[str]:
    return [
        program("flower-superexec"),
        *("--runtime-api-address", f"{LOOPBACK}:{port}"),
        *("--root-certificates", str(own.ca)),
        *("--superexec-auth-secret-file", str(secret)),
        *("--parent-pid", str(os.getpid())),
    ]


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(credentials.certificate, credentials.key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{credentials.certificate}, {credentials.key}: no certificate and key: {reason}"
        ) from None
    return context


def _pem(key: bytes) -> bytes:
    """Return a public key (DER) as SuperNodes send it."""
    return load_der_public_key(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _raise_limit_of_files() -> None:
    """Allow as many open files, and so connections, as the system lets this process have."""
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
