"""Command lines whose mistakes are told in one line."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Tells a mistake in one line, without argparse's usage, as `UserError` is told.

    In its epilog lines stay lines, also those of a list (`listed`).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _LineByLine} | options)

    def error(self, message: str) -> NoReturn:
        """Print the mistake and exit with status 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see --help\n")


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
