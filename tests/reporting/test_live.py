"""The live page, asked over loopback as a browser asks."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from run_files import episode, write_run

from f110_fl.errors import UserError
from f110_fl.reporting.events import EpisodeEvent, Monitor
from f110_fl.reporting.pages import live as live_module
from f110_fl.reporting.pages.history import read_history
from f110_fl.reporting.pages.live import LivePage

PATH = re.compile(r"http://127\.0\.0\.1:(\d+)(/[\w-]{20,}/)")


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LivePage]:
    monkeypatch.setattr(live_module, "SHARE", 1e9)  # documents may be made without a pause
    rundir = write_run(tmp_path / "run", episodes=20)
    page = LivePage(read_history(rundir).scenario, rundir)
    Monitor(rundir, 2).tell(page)
    yield page
    page.close()


def ask(live: LivePage, path: str = "", **headers: str) -> tuple[HTTPResponse, bytes]:
    found = PATH.fullmatch(live.url)
    assert found
    connection = HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
    connection.request("GET", path if path.startswith("/") else found[2] + path, headers=headers)
    response = connection.getresponse()
    return response, response.read()


def data(live: LivePage) -> dict[str, Any]:
    response, body = ask(live, "data")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    found: dict[str, Any] = json.loads(body)
    return found


def test_the_page_shows_what_has_happened_so_far(live: LivePage) -> None:
    response, body = ask(live)
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    text = body.decode()
    assert "connect-src &#39;self&#39;" in text or "connect-src 'self'" in text
    document = data(live)
    assert document["live"] == {"every": live_module.EVERY}
    assert document["runs"][0]["state"] == "running"
    assert document["runs"][0]["episodes"] == {"planned": 20, "done": [20, 20]}


def test_data_follow_the_events(live: LivePage) -> None:
    assert data(live)["runs"][0]["episodes"]["done"] == [20, 20]
    live.handle(EpisodeEvent(1, episode(1, 21)))
    assert data(live)["runs"][0]["episodes"]["done"] == [20, 21]


def test_nothing_new_is_not_made_again(live: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data(live)
    monkeypatch.setattr(live_module, "report", lambda *_, **__: pytest.fail("made again"))
    assert data(live) == first


def test_making_documents_takes_only_its_share(
    live: LivePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "SHARE", 1e-9)
    assert data(live)["runs"][0]["episodes"]["done"] == [20, 20]
    live.handle(EpisodeEvent(1, episode(1, 21)))
    assert data(live)["runs"][0]["episodes"]["done"] == [20, 20]  # too soon


def test_it_is_packed_for_who_can_unpack(live: LivePage) -> None:
    response, body = ask(live, "data", **{"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(body)) == data(live)


@pytest.mark.parametrize(
    "path", ["/", "/data", "/wrong/", "/wrong/data", "/%2e%2e/etc/passwd", "//", "x"]
)
def test_nothing_else_is_answered(live: LivePage, path: str) -> None:
    response, body = ask(live, path)
    assert response.status == 404
    assert live.url.rsplit("/", 2)[1].encode() not in body


def test_another_sites_name_for_the_address_is_refused(live: LivePage) -> None:
    assert ask(live, "data", Host="evil.example")[0].status == 404
    assert ask(live, "data", Host="localhost:80")[0].status == 200


def test_nothing_can_be_sent(live: LivePage) -> None:
    found = PATH.fullmatch(live.url)
    assert found
    connection = HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
    connection.request("POST", found[2] + "data", body=b"x")
    assert connection.getresponse().status == 501


def test_a_document_that_cannot_be_made_now_is_said(
    live: LivePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError

    monkeypatch.setattr(live_module, "report", fail)
    live.handle(EpisodeEvent(1, episode(1, 21)))
    assert ask(live, "data")[0].status == 503


def test_it_is_on_loopback_only(live: LivePage) -> None:
    assert live._server.server_address[0] == "127.0.0.1"


def test_a_busy_port_is_refused_in_one_line(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^--live={port}: address already in use; name "):
            LivePage(read_history(rundir).scenario, rundir, port)


def test_it_ends_with_the_run(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run")
    page = LivePage(read_history(rundir).scenario, rundir)
    page.close()
    with pytest.raises(ConnectionRefusedError):
        ask(page)
