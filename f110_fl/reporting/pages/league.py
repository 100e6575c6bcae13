"""The page of a league: ratings, the table, and who beats whom, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from f110_fl.files import write_atomic
from f110_fl.reporting.pages.document import assemble

SCRIPTS: Final = ("common/theme.js", "league/league.js")
STYLES: Final = ("common/base.css", "report/report.css", "league/league.css")


def write_league_page(path: Path, name: str, standings: Mapping[str, Any]) -> None:
    """Write a league's standings as one HTML file.

    Args:
        path: The file, in a folder that exists.
        name: The league's.
        standings: What `f110_fl.evaluation.standings.standings` returned, with ``highlights``:
            what happened (``text``), of which ``kind``, between which ``entries``, and the
            replay's ``file``, relative to the page, or None.

    Raises:
        OSError: If the file cannot be written.
    """
    document = {"name": name, **standings}
    write_atomic(path, assemble("league/league.html", SCRIPTS, STYLES, document))
