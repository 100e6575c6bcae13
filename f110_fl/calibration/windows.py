"""Windows of a log, which are predicted each from its own start."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.calibration.drive_log import POSE, SPEED, YAW_RATE, DriveLog, Float
from f110_fl.errors import UserError

STANDS: Final = 0.5  # m/s, below which a car tells nothing of its tyres
RUN_IN: Final = (
    1.5  # s after the first command, until wheels and lags have forgotten what was before
)
LEAST: Final = 10.0  # s of driving
_SHARE: Final = 0.6  # of the usual number of measurements, that a window has at least
_GAP: Final = 0.3  # of a window's length, without measurements, at most
_SPIN: Final = 0.8  # rad beside its heading, into which a car goes that spins,
_APART: Final = 0.1  # for a tenth of a window at least, by measurements so many s apart
_MOVED: Final = 0.1  # m, below which noise tells where it goes


class Windows(NamedTuple):
    """Windows of one length, with what was measured in each, filled up to S with its last row.

    Attributes:
        edges: (K + 1,) s, of the steps of the whole drive.
        first: (W,) step that each begins with.
        steps: (W, S) steps since then.
        shares: (W, S) of the next step, in [0, 1).
        measured: (W, S, 6), columns of `CHANNELS`; NaN where nothing was, and where filled up.
        rows: (W, S) of the log; -1 where filled up.
        length: s.
    """

    edges: Float
    first: NDArray[np.int64]
    steps: NDArray[np.int64]
    shares: Float
    measured: Float
    rows: NDArray[np.int64]
    length: float


def cut(log: DriveLog, length: float, dt: float) -> Windows:
    """Cut a log into windows, one after the other, without those in which the car stands or spins.

    Args:
        log: The drive.
        length: Of a window, s.
        dt: Step of the predictions, s.

    Raises:
        UserError: If less than 10 s of driving are left.
    """
    begin = max(0.0, float(log.command_times[0]) + RUN_IN)
    count = int((log.duration - begin) / length)
    edges: Float = dt * np.arange(int(np.ceil(log.duration / dt)) + 2, dtype=np.float64)
    useful = np.asarray(np.isfinite(log.measured).any(axis=1))
    bounds = begin + length * np.arange(max(count, 0) + 1)
    limits = np.searchsorted(log.times, bounds)
    spans = [np.arange(*limits[i : i + 2])[useful[slice(*limits[i : i + 2])]] for i in range(count)]
    usual = np.median([len(span) for span in spans]) if spans else 0.0
    kept = [
        span
        for span, start in zip(spans, bounds[:-1], strict=True)
        if len(span) >= max(3.0, _SHARE * usual) and _drives(log, span, start, length)
    ]
    if len(kept) * length < LEAST:
        raise UserError(
            f"{log.name}: {len(kept) * length:.1f} s of driving faster than {STANDS:g} m/s, with "
            f"commands and measurements without gaps, and without spins; at least {LEAST:g} s are "
            "needed"
        )
    size = max(map(len, kept))
    rows = np.array([np.pad(span, (0, size - len(span)), constant_values=-1) for span in kept])
    filled = np.array([np.pad(span, (0, size - len(span)), mode="edge") for span in kept])
    at = log.times[filled] / dt
    first = np.floor(at[:, 0]).astype(np.int64)
    steps = np.floor(at).astype(np.int64)
    measured = np.where((rows >= 0)[..., None], log.measured[filled], np.nan)
    shares = np.asarray(at - steps, np.float64)
    return Windows(edges, first, steps - first[:, None], shares, measured, rows, length)


def _drives(log: DriveLog, span: NDArray[np.int64], start: float, length: float) -> bool:
    """Whether the car drives in a window, and is measured all the time."""
    times = np.concatenate([[start], log.times[span], [start + length]])
    speeds = np.abs(log.measured[span, SPEED])
    known = np.isfinite(speeds)
    if not known.any() or np.isnan(log.measured[span, YAW_RATE]).all():
        return False
    if np.diff(times).max() > _GAP * length or speeds[known].mean() <= STANDS:
        return False
    return not _spins(log, span, max(1, round(_APART / length * len(span))))


def _spins(log: DriveLog, span: NDArray[np.int64], apart: int) -> bool:
    """Whether the car goes far beside its heading, by its pose, in a tenth of a window or more.

    The tyre model is one of small slip angles, and a spin leaves its own where no search begins.
    """
    x, y, yaw = log.measured[span][:, POSE].T
    east, north = x[apart:] - x[:-apart], y[apart:] - y[:-apart]
    heading = (np.unwrap(yaw)[apart:] + np.unwrap(yaw)[:-apart]) / 2
    ahead = np.cos(heading) * east + np.sin(heading) * north
    aside = np.cos(heading) * north - np.sin(heading) * east
    slides = np.arctan2(np.abs(aside), np.abs(ahead)) > _SPIN
    return bool(np.mean(slides & (np.hypot(ahead, aside) > _MOVED)) > _APART)
