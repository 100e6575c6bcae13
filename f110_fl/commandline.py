"""Programs whose mistakes are told in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from f110_fl.errors import UserError, system_error

FAILED = 1  # exit statuses
WRONG_INPUT = 2
INTERRUPTED = 130


class OneLineParser(argparse.ArgumentParser):
    """Tells a mistake in one line, without argparse's usage, as `UserError` is told."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and exit with status 2."""
        self.exit(WRONG_INPUT, f"{self.prog}: {' '.join(message.split())}; see --help\n")


def answered(name: str, work: Callable[[], int]) -> int:
    """Do a program's work, and tell in one line why it cannot be done.

    Args:
        name: The program's, which the line begins with.
        work: Returns the exit status.

    Returns:
        The exit status: that of the work, 2 for wrong input, 1 if the system refuses something.
    """
    from sim.plugins import PluginError  # with pydantic, which a car's node does without

    try:
        return work()
    except (UserError, PluginError) as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
        return WRONG_INPUT
    except OSError as error:  # such as a full disk
        print(f"{name}: {system_error(error)}", file=sys.stderr)  # noqa: T201
        return FAILED


def program(name: str, work: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Do what `answered` does, and end at Ctrl-C with one line, too, and status 130.

    Args:
        name: The program's.
        work: Returns the exit status.
        interrupted: What the line says.
    """
    try:
        return answered(name, work)
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
