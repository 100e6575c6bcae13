"""Programs whose mistakes are told in one line."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from f110_fl.errors import UserError, system_error

FAILED = 1  # exit statuses
WRONG_INPUT = 2
INTERRUPTED = 130


class OneLineParser(argparse.ArgumentParser):
    """Tells a mistake in one line, without argparse's usage, as `UserError` is told.

    In its epilog lines stay lines, also those of a list (`listed`).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _LineByLine} | options)

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


def listed(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and what they mean as lines in two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows)


class _LineByLine(argparse.HelpFormatter):
    """Wraps each line of a text by itself, one of a list below its second column."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = []
        for line in text.splitlines():
            row = re.match(r"  \S+ +", line)
            hanging = " " * len(row[0]) if row else ""
            lines += textwrap.wrap(
                line, width, initial_indent=indent, subsequent_indent=indent + hanging
            ) or [""]
        return "\n".join(lines)
