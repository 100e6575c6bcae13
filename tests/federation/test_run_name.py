"""A client that keeps its state elsewhere takes no run's name that leads out of its own folder."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from clients import client_app


def root(run: str) -> str:
    order: Any = SimpleNamespace(run=run, root="/server")
    context: Any = SimpleNamespace(node_config={"root": "/client"})
    return str(client_app._root(cast("Any", order), context))


@pytest.mark.parametrize("run", ["", ".", "..", "a/b", "/a", "a/"])
def test_a_name_that_is_no_directorys_is_refused(run: str) -> None:
    with pytest.raises(RuntimeError, match="not a directory's name"):
        root(run)


def test_a_name_is_a_directory_below_the_clients() -> None:
    assert root("run-1a2b") == "/client/run-1a2b"
