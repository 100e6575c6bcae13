"""The page of a stress evaluation: heat maps, and where the policy breaks, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from f110_fl.files import write_atomic
from f110_fl.reporting.pages.document import assemble

SCRIPTS: Final = ("common/theme.js", "stress/stress.js")
STYLES: Final = ("common/base.css", "report/report.css", "stress/stress.css")


def write_stress_page(path: Path, document: Mapping[str, Any]) -> None:
    """Write what a stress evaluation found as one HTML file.

    Args:
        path: The file, in a folder that exists.
        document: What `f110_fl.sweeps.stress_report.document` returned.

    Raises:
        OSError: If the file cannot be written.
    """
    write_atomic(path, assemble("stress/stress.html", SCRIPTS, STYLES, document))
