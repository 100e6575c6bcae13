"""Ctrl-C while Python is where it drops exceptions."""

from __future__ import annotations

import signal
import subprocess
import sys

from small import REPOSITORY

LOST = """
import signal
from f110_fl.runs import interrupt
interrupt.install()
class Finaliser:
    def __del__(self):
        signal.raise_signal(signal.{name})
Finaliser()  # ends here, and Python drops what is raised
print("goes on", flush=True)
try:
    interrupt.check()
except KeyboardInterrupt:
    print("noticed")
"""


def test_an_interrupt_that_python_drops_is_noticed() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        code = LOST.format(name=number.name)
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.stdout.split("\n")[:2] == ["goes on", "noticed"], result.stderr
