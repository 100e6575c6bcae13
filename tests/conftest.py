"""What holds for every test: its surroundings, its order, and things that many of them use."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import properties  # noqa: F401 - it registers hypothesis's profiles
import pytest
from hypothesis import settings
from pygame_stand_in import make_pygame
from small import SMALL, write_small

from f110_fl.files import locked
from f110_fl.runs.startup import KERNEL_CACHE

settings.load_profile("same")  # make fuzz asks for another

os.environ |= KERNEL_CACHE  # kernels are compiled once, for the tests and for what they start

# Nothing that a test starts may record anything outside its own directory.
os.environ["WANDB_MODE"] = "disabled"
for variable in [name for name in os.environ if name.startswith(("FED_", "COLLECT_", "RUN_SEED"))]:
    del os.environ[variable]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Lets one of several workers compile what most tests run, and the others wait for it."""
    if not hasattr(session.config, "workerinput"):
        return
    from f110_fl.config.scenario import Scenario
    from f110_fl.runs.kernels import cache as kernel_cache
    from f110_fl.runs.preflight import check_environment

    folder = kernel_cache.directory(os.environ)
    folder.mkdir(parents=True, exist_ok=True)
    # If it cannot be done, tests say why.
    with locked(folder / "tests.lock", wait=True), contextlib.suppress(Exception):
        check_environment(Scenario.model_validate(SMALL))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first: with several workers the others fill the time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def write_scenario(tmp_path: Path) -> Callable[..., Path]:
    """Writes the small scenario, with changes, and returns its path."""

    def write(**changes: Any) -> Path:
        return write_small(tmp_path, **changes)

    return write


@pytest.fixture
def flower_task() -> Iterator[None]:
    """Gives this process the identity without which Flower builds no messages."""
    from f110_fl.engines.flower.internals import task_identity

    with task_identity(run_id=1, node_id=1):
        yield


@pytest.fixture
def pygame(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives pygame without a display; where it is not installed, a stand-in."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    try:
        import pygame
    except ImportError:
        pygame = make_pygame()
        monkeypatch.setitem(sys.modules, "pygame", pygame)
    yield pygame
    sys.modules.pop("sim.rendering.window", None)  # it holds on to the stand-in
