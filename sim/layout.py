"""Names of the columns of the simulator's arrays: the one place that orders them."""

from __future__ import annotations

from typing import Final

# Columns of a car's state, in SI units; the pose is that of the centre of gravity.
X: Final = 0  # m
Y: Final = 1  # m
STEER: Final = 2  # rad
V: Final = 3  # m/s, along the body
YAW: Final = 4  # rad, in [0, 2 pi)
YAW_RATE: Final = 5  # rad/s
SLIP: Final = 6  # rad, at the centre of gravity
STATE_SIZE: Final = 7

# Columns of a command: what a car is asked to do. What they mean is up to its `control`.
TARGET_STEER: Final = 0  # steering angle, rad, or steering rate, rad/s
TARGET_SPEED: Final = 1  # speed, m/s, or acceleration, m/s^2
COMMAND_SIZE: Final = 2
COMMAND_SIGNS: Final = (-1.0, 1.0)  # of a command, and of an action, seen in a mirror

# Parts of a car that touch something: bits of `WorldArrays.contact_parts`.
FRONT: Final = 1
REAR: Final = 2
LEFT: Final = 4
RIGHT: Final = 8
