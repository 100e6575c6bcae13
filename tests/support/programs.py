"""run.py and tools in this process: what one of their own costs is mostly its imports.

Only for what does not hang on being a process: refusals, evaluations, files that are written.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

Main = Callable[[Sequence[str]], int]


def call(main: Main, folder: Path, *words: str | Path, **variables: str) -> CompletedProcess[str]:
    """Calls a program's ``main`` with a working directory and environment variables.

    Its exit status and what it printed are returned as `subprocess.run` does. Processes that it
    starts write to files of theirs.
    """
    out, err = StringIO(), StringIO()
    arguments = [str(word) for word in words]
    with (
        chdir(folder),
        patch.dict(os.environ, variables),
        patch.object(sys, "argv", [str(sys.modules[main.__module__].__file__), *arguments]),
        _signals_restored(),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            status = main(arguments)
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
    return CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


@contextmanager
def _signals_restored() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before, hook = {number: signal.getsignal(number) for number in numbers}, sys.unraisablehook
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
