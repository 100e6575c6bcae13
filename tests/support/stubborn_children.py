"""What tests of child processes run in them; a new interpreter finds these by their names."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LONG = 300  # s; for what is to be ended


def speak(words: str, status: int) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
    sys.stderr.write(f"{words.upper()}\n")
    subprocess.run([sys.executable, "-c", "print('grandchild')"], check=True)
    sys.exit(status)


def stay(note: Path) -> None:
    """Ignores a polite request to end, as does the child that it starts."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LONG})"])
    write_whole(note, f"{os.getpid()} {child.pid}")
    child.wait()


def tidy_up(note: Path) -> None:
    """Ends when asked to, after a last word."""

    def tidy(*_: object) -> None:
        write_whole(note, "tidied")
        sys.exit(0)

    signal.signal(signal.SIGTERM, tidy)
    write_whole(note, "ready")
    time.sleep(LONG)


def compute(note: Path) -> None:
    """Starts a child, then is in one call of compiled code for a very long time."""
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LONG})"])
    write_whole(note, f"{os.getpid()} {child.pid}")
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


def write_whole(path: Path, text: str) -> None:
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").rename(path)


def fill(log: Path, megabytes: float) -> None:
    """Write so much, then wait until the log was emptied for it, and say a last word."""
    for _ in range(int(megabytes * 10_000)):
        sys.stdout.write("x" * 99 + "\n")
    sys.stdout.flush()
    deadline = time.monotonic() + LONG
    while not log.with_name(f"{log.name}.1").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    subprocess.run([sys.executable, "-c", "print('a last word')"], check=True)


def log_by_flower() -> None:
    """Log a warning as Flower does in a simulation."""
    from f110_fl.engines.flower import internals

    internals.plain_log()
    logging.getLogger("flwr").warning("a worker is replaced")
