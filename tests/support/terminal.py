"""What a terminal shows of a program's output."""

from __future__ import annotations

import pyte


def displayed(output: str, columns: int = 80, rows: int = 100) -> list[str]:
    """Returns the lines of a terminal after some output, those that are empty left out."""
    screen = pyte.Screen(columns, rows)
    screen.set_mode(pyte.modes.LNM)  # as a terminal's driver does: a new line begins at the left
    pyte.Stream(screen).feed(output)
    return [line.rstrip() for line in screen.display if line.strip()]
