"""The gate before Flower's application: what is not allowed does not reach it.

It stands in the same process, behind the same parser, and decides on the same path, method and
headers as Flower does after it: nothing can mean one thing here and another there. Everything is
refused but the routes that the application itself names, each by the rule of its interface:

| route | from | who |
|---|---|---|
| ``/v1/fleet/...`` | anywhere | a client: the time, signed with a registered key |
| ``/v1/control/...`` | anywhere | an operator: a token |
| ``/v1/runtime/acquire-task`` | this machine | the SuperExec: signed with its secret |
| ``/v1/runtime/...`` | this machine | a task: its token |
| ``/health`` | this machine | anybody |
| ``/f110-fl/status`` | anywhere | an operator; answered by `f110_fl.engines.closed.status` |
| ``/f110-fl/files``, ``.../file-part`` | anywhere | an operator; `f110_fl.engines.closed.files` |

All of that stands in a request's headers, so a body is read only once it is known whose it is.
A request that is refused ends its connection. Flower asks again for the same proofs behind it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Final

from f110_fl.engines.closed.files import FILE_PART, FILES, NotOfferedError, RunFiles
from f110_fl.engines.closed.status import Heard, report
from f110_fl.engines.closed.visitors import Bounds, Rates, Visitor
from f110_fl.engines.flower.internals import (
    Nodes,
    asks_for_task,
    flower_version,
    sender,
    task_token,
)
from f110_fl.engines.operators import Operators
from f110_fl.federation.messages import shown

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FLEET: Final = "/v1/fleet/"
CONTROL: Final = "/v1/control/"
RUNTIME: Final = "/v1/runtime/"
HEALTH: Final = "/health"
STATUS: Final = "/f110-fl/status"
OWN: Final = frozenset({("GET", STATUS), ("POST", FILES), ("POST", FILE_PART)})  # not Flower's
OWN_PATHS: Final = frozenset(path for _, path in OWN)
ACQUIRE: Final = "/v1/runtime/acquire-task"
ACTIVATE: Final = "/v1/fleet/activate-node"
REGISTRATION: Final = frozenset({"/v1/control/register-node", "/v1/control/unregister-node"})
# It knows its callers by another header than all others, and serves agents, which nobody here is.
UNUSED: Final = frozenset({"/v1/runtime/responses"})

UNKNOWN: Final = "not signed with the key of a registered client, or its clock is wrong"
VISITOR: Final = "visitor"  # key of the connection in a request's state
CODE: Final = 0  # Flower's clients show an error's text only if it has a number
QUIET: Final = 4.5  # s after which a client that says nothing is gone; it asks for work every 3 s
HOLD: Final = 8.0  # s that a returning client waits at most until its predecessor is gone
NOTICE: Final = 2.0  # s in which a run's server sees that it is gone; it looks every second
LOOK: Final = 0.2  # s between two looks whether it is
TELL_EVERY: Final = 60.0  # s between two lines in the log about refusals
SMALL: Final = 64 * 1024  # bytes of a refused request's body that are still let in, for a while
SMALL_TIME: Final = 2.0  # s
MOST_TOLD: Final = 1000  # addresses and reasons that are counted until then

log = logging.getLogger("flwr")


class RefusedError(Exception):
    """A request is not let through."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Gate:
    """Lets through what is allowed.

    Args:
        app: Flower's application.
        routes: Methods and paths that it serves.
        nodes: Its nodes.
        task_secret: What the SuperExec signs with.
        bounds: What each may use.
    """

    def __init__(
        self,
        app: App,
        routes: set[tuple[str, str]],
        nodes: Nodes,
        task_secret: bytes,
        bounds: Bounds,
    ) -> None:
        self._app = app
        self._routes = {route for route in routes if route[1] not in UNUSED} | OWN
        self._nodes = nodes
        self._files = RunFiles(nodes)
        self._secret = task_secret
        self._bounds = bounds
        self._rates = Rates(bounds.request_rate, bounds.request_burst)
        self._at_work: Counter[Hashable] = Counter()
        self._keys = nodes.keys()
        self._began = time.monotonic()
        self._heard: dict[Hashable, float] = {}  # when each client last asked for anything
        self.heard: dict[bytes, Heard] = {}  # what is known of each client, by key
        self._refused: Counter[str] = Counter()
        self._told = 0.0
        self.operators = Operators({})

    def update_keys(self) -> None:
        """Read anew which keys are registered."""
        self._keys = self._nodes.keys()

    def knows(self, identity: Hashable) -> bool:
        """Return whether a client or operator may still come."""
        kind, name = identity if isinstance(identity, tuple) and len(identity) == 2 else ("", "")
        if kind == "client":
            return name in self._keys
        return kind != "operator" or name in self.operators

    async def public(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve those who come from anywhere: clients and operators."""
        await self._guarded(scope, receive, send, self._anywhere)

    async def local(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve this machine's SuperExec and tasks."""
        await self._guarded(scope, receive, send, self._this_machine)

    async def _guarded(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        who: Callable[[str, dict[bytes, bytes]], Awaitable[Hashable | None]],
    ) -> None:
        if scope["type"] != "http":
            return
        try:
            identity = await self._identity(scope, who)
        except RefusedError as refusal:
            self._tell(scope, str(refusal))
            await _discard(scope, receive)
            await _refuse(send, refusal)
            return
        visitor = scope["state"].pop(VISITOR, None)
        if isinstance(visitor, Visitor):
            visitor.prove(identity)
        self._at_work[identity] += 1
        try:
            await self._bounded(scope, receive, send, identity)
        except RefusedError as refusal:
            self._tell(scope, str(refusal))
            await _refuse(send, refusal)
        finally:
            self._at_work[identity] -= 1
            if not self._at_work[identity]:
                del self._at_work[identity]

    async def _identity(
        self,
        scope: Scope,
        who: Callable[[str, dict[bytes, bytes]], Awaitable[Hashable | None]],
    ) -> Hashable | None:
        """Return whose a request is.

        Raises:
            RefusedError: If it is nobody's who may make it.
        """
        path, headers = scope["path"], scope["headers"]
        plain = scope["raw_path"] == path.encode() and not scope["query_string"]
        if not plain or (scope["method"], path) not in self._routes:
            raise RefusedError(404, "no such thing here")
        found = dict(headers)
        if len(found) != len(headers):  # which of the two would Flower read?
            raise RefusedError(400, "a header is there twice")
        return await who(path, found)

    async def _anywhere(self, path: str, headers: dict[bytes, bytes]) -> Hashable:
        if path.startswith(FLEET):
            key = sender(headers, self._keys)
            if key is None:
                # At 401 Flower's SuperNode ends without a word; at this it says why it does.
                status = 412 if path == ACTIVATE else 401
                raise RefusedError(status, UNKNOWN)
            return ("client", key)
        if path.startswith(CONTROL) or path in OWN_PATHS:
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            name = self.operators.name_of(token.decode("latin-1").strip())
            if scheme.lower() != b"bearer" or name is None:
                raise RefusedError(401, "an operator's token is needed (run.py --operator FILE)")
            return ("operator", name)
        raise RefusedError(403, "not from here")

    async def _this_machine(self, path: str, headers: dict[bytes, bytes]) -> Hashable | None:
        if path == HEALTH:
            return None
        if path == ACQUIRE and asks_for_task(headers, self._secret):
            return ("superexec",)
        if path.startswith(RUNTIME) and path != ACQUIRE:
            token = task_token(headers)
            works = await asyncio.to_thread(self._nodes.has_task, token)
            if works:
                return ("task", token)
        if path.startswith(RUNTIME):
            raise RefusedError(401, "not a task of this server")
        raise RefusedError(403, "not from here")

    async def _bounded(
        self, scope: Scope, receive: Receive, send: Send, identity: Hashable | None
    ) -> None:
        """Read the body of a request whose sender is known, and let it through."""
        local = identity is None or (isinstance(identity, tuple) and identity[0] in LOCAL)
        if not local and (
            self._at_work[identity] > self._bounds.requests_each
            or not self._rates.take(identity, time.monotonic())
        ):
            raise RefusedError(503, "too many requests")  # Flower's clients try again
        path = scope["path"]
        try:
            body = await asyncio.wait_for(
                _body(scope, receive, self._bounds.body), self._bounds.body_time
            )
        except TimeoutError:
            raise RefusedError(408, "the body took too long") from None
        if body is None:
            return
        if path == ACTIVATE:
            await self._make_room(identity)
        elif path.startswith(FLEET):
            self._heard[identity] = time.monotonic()
        if path.startswith(FLEET):
            self._hear(identity, scope)
        if path in OWN_PATHS:
            await _answer(send, 200, await asyncio.to_thread(self._own_answer, path, body))
            return
        await self._app(scope, _again(body, receive), send)
        if path in REGISTRATION:
            await asyncio.to_thread(self.update_keys)

    def _own_answer(self, path: str, question: bytes) -> bytes:
        """Return what an operator is told by this project.

        Raises:
            RefusedError: If he asks for what there is not.
        """
        try:
            if path == FILES:
                return self._files.listing(question)
            if path == FILE_PART:
                return self._files.part(question)
            return json.dumps(report(self._nodes, self.heard)).encode()
        except NotOfferedError as error:
            raise RefusedError(422, str(error)) from None

    async def _make_room(self, identity: Hashable | None) -> None:
        """Let a client's predecessor be gone if nothing was heard of it for `QUIET`.

        Flower refuses a client whose key is connected already. One that was killed counts as
        connected for a minute. One that is alive asks for work all the time and stays.
        """
        if not isinstance(identity, tuple):
            return
        key, began = identity[1], time.monotonic()
        if not await asyncio.to_thread(self._nodes.online, key):
            return
        while time.monotonic() < began + HOLD:
            heard = self._heard.get(identity, self._began)
            if heard > began or self._at_work[identity] > 1:
                break
            if time.monotonic() > heard + QUIET:
                await asyncio.to_thread(self._nodes.leave, key)
                await asyncio.sleep(NOTICE)
                break
            await asyncio.sleep(LOOK)

    def _hear(self, identity: Hashable | None, scope: Scope) -> None:
        if isinstance(identity, tuple):
            address = (scope.get("client") or ("",))[0]
            version = shown(flower_version(dict(scope["headers"])))
            self.heard[identity[1]] = Heard(time.time(), address, version)

    def _tell(self, scope: Scope, reason: str) -> None:
        """Count a refusal; write a line now and then, with nothing in it that a stranger chose."""
        address = (scope.get("client") or ("somebody",))[0]
        if len(self._refused) < MOST_TOLD:
            self._refused[f"{address}: {reason}"] += 1
        now = time.monotonic()
        if now < self._told + TELL_EVERY and self._told:
            return
        self._told = now
        for text, times in self._refused.most_common(5):
            log.warning("Refused %d times: %s", times, text)
        self._refused.clear()


LOCAL: Final = frozenset({"superexec", "task"})


async def _body(scope: Scope, receive: Receive, most: int) -> bytes | None:
    """Return a request's whole body, None if its sender has gone.

    Raises:
        RefusedError: If it is too large.
    """
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if length.isdigit() and int(length) > most:
        raise RefusedError(413, f"larger than {most} bytes")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise RefusedError(413, f"larger than {most} bytes")
        if not message.get("more_body", False):
            return b"".join(parts)


async def _discard(scope: Scope, receive: Receive) -> None:
    """Let a small body arrive, and keep nothing of it.

    Otherwise the connection would end while it is sent, and its sender might not read why.
    """
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > SMALL:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(SMALL_TIME):
            while (await receive()).get("more_body", False):
                pass


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read, and then whatever comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, refusal: RefusedError) -> None:
    content = json.dumps({"code": CODE, "detail": f"Refused: {refusal}."}).encode()
    headers = [(b"connection", b"close")]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="f110-fl"'))
    await _answer(send, refusal.status, content, headers)


async def _answer(
    send: Send, status: int, content: bytes, more: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
