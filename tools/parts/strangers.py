"""What somebody without a registered key, or an operator's token, may try at a SuperLink's port."""

from __future__ import annotations

import base64
import datetime
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PROTOBUF: Final = "application/protobuf"
REFUSALS: Final = frozenset({400, 401, 403, 404, 405, 408, 412, 413})
NO_ANSWER: Final = 0  # in place of a status: the connection was ended
LARGE: Final = 50_000_000  # bytes
TIMEOUT: Final = 20.0  # s for an answer
AGAIN: Final = 0.2  # s from a connection that was not taken to the next one
TRICKS: Final = (
    *(
        "//v1/control/list-runs",
        "/v1/fleet/../control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
    ),
    *(
        "/v1/control%2flist-runs",
        "/v1/Control/list-runs",
        "/v1/control/list-runs/",
        "/V1/CONTROL/LIST-RUNS",
    ),
    *("/v1/control/list-runs?x=/v1/fleet/", "/v1/fleet/;/../control/list-runs", "/health/../docs"),
    *(
        "/%64ocs",
        "/docs/",
        "/v1/runtime/acquire%2dtask",
        "/v1/fleet/%00",
        "*",
        "/v1/fleet\\\\..\\\\control",
    ),
    *(
        "https://127.0.0.1/v1/control/list-runs",
        "/v1/control/list-runs#/health",
        "/./v1/control/list-runs",
    ),
)


@dataclass(frozen=True)
class Door:
    """A port that somebody stands at, with the certificate of its authority.

    Attributes:
        port: On loopback.
        ca: The authority's certificate, PEM.
    """

    port: int
    ca: Path

    def connect(self) -> ssl.SSLSocket:
        """Return a connection with TLS."""
        context = ssl.create_default_context(cafile=str(self.ca))
        plain = socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        try:
            return context.wrap_socket(plain, server_hostname="127.0.0.1")
        except BaseException:
            plain.close()
            raise

    def ask(self, head: bytes, body: Iterable[bytes] = ()) -> int:
        """Send a request; return the answer's status, `NO_ANSWER` if there is none."""
        try:
            with self.connect() as connection:
                with suppress(ssl.SSLError, OSError):  # it may answer before all is sent
                    connection.sendall(head)
                    for part in body:
                        connection.sendall(part)
                line = connection.recv(64).split(b" ")
        except (ssl.SSLError, OSError):
            return NO_ANSWER
        return int(line[1]) if len(line) > 1 and line[1].isdigit() else NO_ANSWER

    def insist(self, head: bytes, times: int = 50) -> int:
        """Do what `ask` does, again while connections are not even taken."""
        for _ in range(times):
            status = self.ask(head)
            if status != NO_ANSWER:
                return status
            time.sleep(AGAIN)
        return NO_ANSWER


def request(method: str, path: str, headers: Mapping[str, str], length: int = 0) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-type: {PROTOBUF}"]
    lines += [f"content-length: {length}"] if "transfer-encoding" not in headers else []
    lines += [f"{name}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def signed(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """Return headers by which a SuperNode shows that it has a key."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = key.sign(now.encode(), ec.ECDSA(SHA256()))
    return {
        "flwr-public-key": base64.b64encode(public).decode(),
        "flwr-signature": base64.b64encode(signature).decode(),
        "flwr-timestamp": now,
    }


def strangers() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield strangers and what each shows of himself, in the headers of a request."""
    yield "no key", {}
    yield "a key that nobody registered", signed(ec.generate_private_key(ec.SECP384R1()))
    yield (
        "made-up tokens",
        {
            "authorization": f"Bearer {'A' * 43}",
            "flwr-task-token": "B" * 43,
            "flwr-superexec-ts": str(int(time.time())),
            "flwr-superexec-nonce": "00" * 16,
            "flwr-superexec-body-sha256": "00" * 32,
            "flwr-superexec-signature": "00" * 32,
            "x-forwarded-for": "127.0.0.1",
        },
    )


def every_route(
    door: Door, routes: Iterable[tuple[str, str]], headers: Mapping[str, str]
) -> dict[tuple[str, str], int]:
    """Return the status with which each of a SuperLink's routes answers."""
    return {
        (method, path): door.insist(request("GET" if method == "*" else method, path, headers))
        for method, path in sorted(routes)
    }


def polls(door: Door, times: int) -> list[int]:
    """Return the answers to so many requests for a task to run."""
    head = request("POST", "/v1/runtime/acquire-task", {})
    return [door.ask(head) for _ in range(times)]


def tricks(door: Door) -> dict[str, int]:
    """Return the answers to paths that two programs may read in two ways, by path."""
    answers = {path: door.insist(request("POST", path, {})) for path in TRICKS}
    twice = request("POST", "/v1/control/list-runs", {"Content-Length": "5"})
    answers["two lengths"] = door.insist(twice)
    both = {"transfer-encoding": "chunked", "content-length": "4"}
    answers["a length and chunks"] = door.insist(request("POST", "/v1/control/list-runs", both))
    answers["no ASCII"] = door.insist(request("POST", "/v1/control/list-runs\xff", {}))
    answers["no HTTP"] = door.insist(b"\x00\xff\r\n\r\n")
    answers["another verb"] = door.insist(request("TRACE", "/v1/control/list-runs", {}))
    answers["a large header"] = door.insist(request("POST", "/health", {"x": "x" * 100_000}))
    return answers


def large_bodies(door: Door, paths: Sequence[str], size: int = LARGE) -> dict[str, int]:
    """Return the answers to bodies of a given size, whole and in chunks, by path."""
    part = bytes(1_000_000)
    answers = {}
    for path in paths:
        whole = request("POST", path, {}, length=size)
        answers[path] = door.ask(whole, (part for _ in range(size // len(part))))
        chunk = b"f4240\r\n" + part + b"\r\n"
        chunked = request("POST", path, {"transfer-encoding": "chunked"})
        chunks = chain((chunk for _ in range(size // len(part))), (b"0\r\n\r\n",))
        answers[f"{path} in chunks"] = door.ask(chunked, chunks)
    return answers


def crowd(door: Door, connections: int, wait: float, say: bytes = b"") -> int:
    """Open connections that never ask for anything; return how many are left after a while.

    Args:
        door: Where.
        connections: How many.
        wait: Time to wait, s.
        say: The beginning of a request, which each of them sends byte by byte.
    """
    with ExitStack() as stack:
        opened: list[socket.socket] = []
        for index in range(connections):
            with suppress(ssl.SSLError, OSError):
                # Every other one does not even begin with TLS.
                made = (
                    door.connect()
                    if index % 2
                    else socket.create_connection(("127.0.0.1", door.port), TIMEOUT)
                )
                opened.append(stack.enter_context(made))
        deadline, sent = time.monotonic() + wait, 0
        while time.monotonic() < deadline and any(map(_lives, opened)):
            for connection in opened if sent < len(say) else ():
                with suppress(ssl.SSLError, OSError):
                    connection.send(say[sent : sent + 1])
            sent += 1
            time.sleep(AGAIN)
        return sum(map(_lives, opened))


def _lives(connection: socket.socket) -> bool:
    """Return whether the other end has not ended a connection that it never wrote to."""
    connection.settimeout(0.0)
    try:
        return bool(connection.recv(1))
    except (ssl.SSLWantReadError, BlockingIOError):
        return True
    except (ssl.SSLError, OSError):
        return False
    finally:
        with suppress(OSError):
            connection.settimeout(TIMEOUT)
