"""The straight corridor ``line2``."""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.config import Line2Track
from sim.tracks.track import Pose, Track, generated

RESOLUTION: Final = 0.05  # m
LEFT, RIGHT = -50.9, 47.0  # m, ends of the free space
LOWER, UPPER = -2.0, 0.55  # m, walls
MIDDLE = (LOWER + UPPER) / 2
FINISH = 45.7  # m
SPAWNS: Final[dict[str, Pose]] = {
    "spawn_1": (-48.25, -0.725, 0.0),
    "spawn_2": (-46.77, 0.077, 0.0),
    "spawn_3": (-46.79, -0.592, 0.0),
    "spawn_4": (-46.80, -1.27, 0.0),
    "spawn_5": (-45.50, -1.70, 0.0),
    "spawn_6": (-45.48, 0.27, 0.0),
}


@generated
def line2_track(_: Line2Track) -> Track:
    """A corridor 97.9 m long and 2.55 m wide along x, driven in the direction of x."""
    shape = round((UPPER - LOWER) / RESOLUTION), round((RIGHT - LEFT) / RESOLUTION)
    return Track.from_occupancy(
        "line2",
        np.ones(shape, dtype=np.bool_),
        RESOLUTION,
        (LEFT, LOWER, 0.0),
        centerline=np.array([[LEFT, MIDDLE], [RIGHT, MIDDLE]]),
        spawns=SPAWNS,
        finish_line=((FINISH, UPPER), (FINISH, LOWER)),
    )
