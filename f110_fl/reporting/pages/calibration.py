"""The page of a calibration: parameters with intervals, and measured against predicted motion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.calibration.drive_log import CHANNELS, POSE, SPEED, STEERING, YAW_RATE, DriveLog, X, Y
from f110_fl.calibration.fit import Fit
from f110_fl.files import write_atomic
from f110_fl.reporting.pages.document import assemble
from sim.layout import TARGET_SPEED, TARGET_STEER

SCRIPTS: Final = (
    *("common/theme.js", "common/words.js"),
    *("calibration/plot.js", "calibration/course.js", "calibration/calibration.js"),
)
STYLES: Final = ("common/base.css", "report/report.css", "calibration/calibration.css")
_MOST: Final = 6000  # samples that are shown
_DECIMALS: Final = 4


def write_calibration_page(
    path: Path, found: Mapping[str, Any], settings: str, fit: Fit, log: DriveLog
) -> None:
    """Write a calibration as one HTML file.

    Args:
        path: The file, in a folder that exists.
        found: What `f110_fl.calibration.settings.summary` returned.
        settings: What `fragment` returned.
        fit: The fit.
        log: What it was fitted to.

    Raises:
        OSError: If the file cannot be written.
    """
    document = {**found, "settings": settings, **series(fit, log)}
    write_atomic(path, assemble("calibration/calibration.html", SCRIPTS, STYLES, document))


def series(fit: Fit, log: DriveLog) -> dict[str, Any]:
    """Return what the page draws, for JSON; null where nothing was measured.

    Returns:
        ``windows``, first sample of each and one past its last; ``times`` of the samples, s; and
        ``charts``: of speed, yaw rate and steering, each with lines of ``times`` and ``values``.
        ``course``, m, is measured and predicted, and null if there was no pose.
    """
    windows = fit.windows
    shown = windows.rows >= 0
    keep = max(1, math.ceil(np.count_nonzero(shown) / _MOST))
    shown &= np.arange(shown.shape[1]) % keep == 0
    ends = np.cumsum(shown.sum(axis=1)).tolist()
    times = log.times[windows.rows[shown]]
    measured, predicted = windows.measured[shown], fit.predicted[shown]
    sent = log.command_times
    steps = slice(None, None, max(1, round(len(windows.edges) / _MOST)))
    within = windows.edges[steps] <= log.duration
    steering = [
        _line("commanded", sent, log.commands[:, TARGET_STEER], held=True),
        _line("predicted", windows.edges[steps][within], fit.steering[steps][within]),
    ]
    if log.has(STEERING):
        steering.insert(0, _line("measured", times, measured[:, STEERING]))
    charts = [
        {
            "name": name,
            "unit": list(CHANNELS.values())[channel],
            "lines": [
                _line("measured", times, measured[:, channel]),
                *extra,
                _line("predicted", times, predicted[:, channel], windows=True),
            ],
        }
        for name, channel, extra in (
            (
                "Speed",
                SPEED,
                [_line("commanded", sent, log.commands[:, TARGET_SPEED], held=True)],
            ),
            ("Yaw rate", YAW_RATE, []),
        )
    ]
    charts.append({"name": "Steering", "unit": "rad", "lines": steering})
    course = None
    if all(log.has(channel) for channel in POSE):
        course = {
            kind: [_rounded(values[:, X]), _rounded(values[:, Y])]
            for kind, values in (("measured", measured), ("predicted", predicted))
        }
    return {
        "windows": list(zip([0, *ends[:-1]], ends, strict=True)),
        "times": _rounded(times),
        "charts": charts,
        "course": course,
    }


def _line(
    name: str,
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    held: bool = False,
    windows: bool = False,
) -> dict[str, Any]:
    """A line of a chart: ``held`` from value to value, or broken at ``windows``."""
    line = {"name": name, "times": _rounded(times), "values": _rounded(values)}
    return {**line, "held": held, "windows": windows}


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(value) else round(value, _DECIMALS) for value in values.tolist()]
