"""What ``flwr run`` asks of the server: how long it waits for how many clients."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from fake_grid import FakeGrid
from flwr.app import Context, RecordDict
from small import REPOSITORY, write_small

from f110_fl.errors import UserError
from server import server_app
from server.run_config import patience

pytestmark = pytest.mark.usefixtures("flower_task")


def run_config(path: Path, **settings: str) -> dict[str, Any]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    config: dict[str, Any] = project["tool"]["flwr"]["app"]["config"]
    return config | {"scenario": str(path)} | settings


def test_the_scenario_says_how_long_to_wait_for_whom(tmp_path: Path) -> None:
    assert patience(run_config(write_small(tmp_path))) == (1, 300.0)
    chosen = write_small(tmp_path, federated={"min_clients": 7, "connect_timeout": 0.5})
    # With Flower's number of clients, seven may be possible; the file's own is two.
    assert patience(run_config(chosen, seed="3")) == (7, 0.5)


@pytest.mark.parametrize(
    ("federated", "message"),
    [
        ({"min_clients": 0}, "federated.min_clients: found 0"),
        ({"connect_timeout": "soon"}, "federated.connect_timeout: found 'soon'"),
    ],
)
def test_nonsense_is_said_before_any_wait(
    tmp_path: Path, federated: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        patience(run_config(write_small(tmp_path, federated=federated)))


def test_the_server_waits_as_the_scenario_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_app, "Streaming", lambda grid: grid)
    chosen = write_small(tmp_path, federated={"min_clients": 2, "connect_timeout": 0.2})
    config = run_config(chosen, **{"fed-root": str(tmp_path / "run")})
    context = Context(1, 1, {}, RecordDict(), config)
    with pytest.raises(UserError, match=r"clients \[1\] of 2 did not connect within 0\.2 s"):
        server_app.app(FakeGrid({4: 0}, total=2), context)
    assert not (tmp_path / "run").exists()
