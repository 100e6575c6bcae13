"""What was measured of a car while it was driven, and what it was sent."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.errors import UserError

Float = NDArray[np.float64]

# What is measured, in the order of `DriveLog.measured`, with units.
CHANNELS: Final = {
    "x": "m",
    "y": "m",
    "yaw": "rad",
    "speed": "m/s",
    "yaw_rate": "rad/s",
    "steering": "rad",
}
X, Y, YAW, SPEED, YAW_RATE, STEERING = range(len(CHANNELS))
POSE: Final = (X, Y, YAW)
LONGEST: Final = 86_400.0  # s; a log that lasts longer has its time in other units


class DriveLog(NamedTuple):
    """A drive. Measurements and commands have their own times, from the first measurement on.

    Attributes:
        name: Of the file.
        times: (N,) s, in ascending order.
        measured: (N, 6), columns of `CHANNELS`; NaN where nothing was measured.
        command_times: (M,) s, in ascending order.
        commands: (M, 2), columns of `sim.layout`, each held until the next.
        notes: What a reader should know of how the file was read.
    """

    name: str
    times: Float
    measured: Float
    command_times: Float
    commands: Float
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """From the first measurement to the last, s."""
        return float(self.times[-1] - self.times[0])

    def has(self, channel: int) -> bool:
        """Whether a channel was measured at all."""
        return bool(np.isfinite(self.measured[:, channel]).any())


def make_log(
    name: str,
    times: Float,
    measured: Float,
    command_times: Float,
    commands: Float,
    notes: tuple[str, ...] = (),
) -> DriveLog:
    """Return a log in order of time, with its time from the first measurement on.

    Args:
        name: Of the file, for messages.
        times: (N,) s, of any epoch, in any order.
        measured: (N, 6), columns of `CHANNELS`.
        command_times: (M,) s, of the same clock.
        commands: (M, 2).
        notes: See `DriveLog`.

    Raises:
        UserError: If there is nothing in it, or its time is not in seconds.
    """
    if not len(times) or not len(command_times):
        missing = "measurements" if not len(times) else "commands"
        raise UserError(f"{name}: no {missing} in it")
    order, command_order = (
        np.argsort(times, kind="stable"),
        np.argsort(command_times, kind="stable"),
    )
    start = times[order[0]]
    log = DriveLog(
        name,
        times[order] - start,
        measured[order],
        command_times[command_order] - start,
        commands[command_order],
        notes,
    )
    if log.duration > LONGEST:
        raise UserError(f"{name}: lasts {log.duration:g} s; allowed: a day, with time in seconds")
    ends = log.command_times[0], log.command_times[-1]
    if ends[0] > log.duration or ends[1] < 0.0:
        raise UserError(
            f"{name}: commands from {ends[0]:.1f} to {ends[1]:.1f} s, measurements from 0 to "
            f"{log.duration:.1f} s; allowed: times of the same clock"
        )
    return log
