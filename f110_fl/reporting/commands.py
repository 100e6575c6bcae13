"""Commands that a user can paste into the shell in which this program was started."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from f110_fl.loading.flags import SETTINGS, Mode


def command_line(
    words: Iterable[str | Path], root: Path | None = None, *, timed: bool = False
) -> str:
    """Return a command line for run.py, quoted for a POSIX shell.

    It names the interpreter and the file that this process runs, and takes back the variables of
    this run that the command would refuse or be changed by: the shell may export them.

    Args:
        words: Flags and their values.
        root: ``FED_ROOT`` of the command; None: whatever it is.
        timed: Whether the time is added to the root, so that the command can be given again.
    """
    others = (s.variable for s in SETTINGS if s.variable and Mode.RESUME not in s.modes)
    taken_back = sorted({name for name in others if name in os.environ})
    if root is not None and "FED_ROOT" in taken_back:
        taken_back.remove("FED_ROOT")
    start = [word for name in taken_back for word in ("-u", name)]
    line = shlex.join(["env", *start]) + " " if start else ""
    if root is not None:
        braces = str(root).replace("{", "{{").replace("}", "}}")  # not placeholders
        braces += "-{time}" if timed else ""
        line += f"FED_ROOT={shlex.quote(braces)} "
    return line + shlex.join([_python(), _program(), *map(str, words)])


def _python() -> str:
    """Return how the shell calls this interpreter: by its name, if that is the one it finds."""
    found = shutil.which("python")
    own = Path(sys.executable)
    return "python" if found and Path(found).parent == own.parent else str(own)


def _program() -> str:
    """Return run.py as it was called."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "run.py" else "run.py"
