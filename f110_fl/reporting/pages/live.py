"""The report of a run that is still training, served on loopback."""

from __future__ import annotations

import gzip
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.reporting.events import Event
from f110_fl.reporting.pages.drift import Drift
from f110_fl.reporting.pages.history import History
from f110_fl.reporting.pages.report import page, report
from f110_fl.rundir import RunDir

HOST: Final = "127.0.0.1"
EVERY: Final = 3.0  # s between two looks of the page
SHARE: Final = 0.005  # of the time that making documents may take: of a long run, fewer are made
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address has the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class LivePage:
    """Serves a run's report while it trains; a `Sink` of its events.

    The page is at an address with a secret token, on loopback only: other users of the machine,
    and other pages in the browser, do not know it. It fetches new data every few seconds. They
    are made when they are asked for, and no sooner after the last ones than `SHARE` allows.

    Args:
        scenario: The run's.
        rundir: Its directory.
        port: TCP port; 0: any free one.

    Attributes:
        url: The page's address.

    Raises:
        UserError: If the port is not to be had.
    """

    def __init__(self, scenario: Scenario, rundir: RunDir, port: int = 0) -> None:
        self._history = History(rundir, scenario)
        self._drift = Drift(rundir)
        self._lock = threading.Lock()
        self._changed = True
        self._made, self._next = b"", 0.0
        self._token = secrets.token_urlsafe(18)
        try:
            self._server = _Server(self, port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"--live={port}: {reason.lower()}; name another port, or none for any free one"
            ) from None
        self.url = f"http://{HOST}:{self._server.server_address[1]}/{self._token}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        )
        self._thread.start()

    def handle(self, event: Event) -> None:
        """Take the next event."""
        with self._lock:
            self._history.handle(event)
            self._changed = True

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def is_own(self, token: str) -> bool:
        """Return whether a token is this page's."""
        return hmac.compare_digest(token.encode(), self._token.encode())

    def html(self) -> bytes:
        """Return the page."""
        with self._lock:
            document = self._document()
        return page(document, connect="'self'").encode()

    def data(self) -> bytes:
        """Return the page's data, JSON."""
        with self._lock:
            now = time.monotonic()
            if self._changed and now >= self._next:
                self._made = json.dumps(self._document(), separators=(",", ":")).encode()
                self._changed = False
                self._next = now + (time.monotonic() - now) / SHARE
            return self._made

    def _document(self) -> dict[str, Any]:
        return report([self._history], drifts=[self._drift], live=EVERY)


class _Server(ThreadingHTTPServer):
    """A server that knows its page."""

    daemon_threads = True

    def __init__(self, live: LivePage, port: int) -> None:
        self.live = live
        super().__init__((HOST, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Answers with the page and its data, and nothing else."""

    server: _Server
    timeout = 10  # s without a word from the browser

    def do_GET(self) -> None:
        """Answer a request."""
        _, token, *rest = self.path.split("/", 2)
        name = rest[0] if rest else None
        # A page of another site that has a name for this address (DNS rebinding) is refused.
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (HOST, "localhost") or not self.server.live.is_own(token):
            self.send_error(HTTPStatus.NOT_FOUND)
        elif name == "":
            self._answer(self.server.live.html, "text/html; charset=utf-8")
        elif name == "data":
            self._answer(self.server.live.data, "application/json")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, make: Callable[[], bytes], kind: str) -> None:
        try:
            body = make()
        except Exception:  # the run's files change while they are read: the next look will do
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        packed = "gzip" in self.headers.get("Accept-Encoding", "")
        body = gzip.compress(body, 1) if packed else body
        self.send_response(HTTPStatus.OK)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: the terminal shows the run."""
