"""What is a command says what it is for, and tells a mistake in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small import REPOSITORY
from sources import MODULES

ENDING = 'if __name__ == "__main__":'
COMMANDS = sorted(
    str(path.relative_to(REPOSITORY))
    if "." not in name or name.startswith("tools")
    else name.removesuffix(".__main__")
    for name, path in MODULES.items()
    if ENDING in path.read_text(encoding="utf-8")
)
# One process for all of them: most of the time goes into imports.
EACH = """
import contextlib, io, json, os, runpy, sys

def run(command, flag):
    out, error, status = io.StringIO(), io.StringIO(), None
    sys.argv, sys.path[0] = [command, flag], os.path.dirname(command)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            if command.endswith(".py"):
                runpy.run_path(command, run_name="__main__")
            else:
                sys.modules.pop(command, None)  # another command may have imported it
                runpy.run_module(command, run_name="__main__")
        except SystemExit as left:
            status = left.code
    return status, out.getvalue(), error.getvalue()

found = {c: {f: run(c, f) for f in ("--help", "--nonsense")} for c in sys.argv[1:]}
print(json.dumps(found | {"modules": [m for m in ("torch", "ray") if m in sys.modules]}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each command answers, and which of the slow modules were imported for that."""
    folder = tmp_path_factory.mktemp("empty")
    words = [str(REPOSITORY / c) if c.endswith(".py") else c for c in COMMANDS]
    result = subprocess.run(
        [sys.executable, "-c", EACH, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert list(folder.iterdir()) == []
    found: dict[str, Any] = json.loads(result.stdout)
    return dict(zip([*COMMANDS, "modules"], found.values(), strict=True))


def test_whatever_is_in_tools_is_a_command() -> None:
    files = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "tools").glob("*.py")}
    ours = {"f110_fl.config.schema", "f110_fl.engines.credentials", "f110_fl.robot"}
    ours |= {"f110_fl.engines.operator_login", "server.superlink", "server.status"}
    assert set(COMMANDS) == files | ours | {"run.py", "clients.process"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help(answers: dict[str, Any], command: str) -> None:
    status, out, error = answers[command]["--help"]
    assert (status, error) == (0, "")
    name = Path(command).name if command.endswith(".py") else f"python -m {command}"
    assert out.startswith(f"usage: {name} [-h]")
    description = out.split("\n\n")[1]
    assert description[0].isupper()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_flag_is_one_line(answers: dict[str, Any], command: str) -> None:
    status, out, error = answers[command]["--nonsense"]
    assert (status, out) == (2, "")
    assert error.endswith("; see --help\n")
    assert error.count("\n") == 1


def test_help_waits_for_nothing_slow(answers: dict[str, Any]) -> None:
    assert answers["modules"] == []
