"""A circular lane."""

from __future__ import annotations

import numpy as np

from sim.config import CircleTrack
from sim.tracks.track import Track, check_cells, generated, staggered_spawns


@generated
def circle_track(config: CircleTrack) -> Track:
    """A lane around the origin, driven counter-clockwise, finish line at angle 0.

    Raises:
        TrackError: If the grid would have too many cells.
    """
    outer, inner = config.radius + config.width / 2, config.radius - config.width / 2
    half = int(np.ceil(outer / config.resolution))
    check_cells("circle", 4 * half * half, config.resolution, " or a smaller radius")
    squares = ((np.arange(-half, half) + 0.5) * config.resolution) ** 2
    radius = np.sqrt(squares[:, None] + squares[None, :])
    # The sagitta of a chord of this angle stays far below a cell.
    points = max(64, int(np.ceil(2 * np.pi * config.radius / 0.2)))
    angle = np.arange(points) * (2 * np.pi / points)
    track = Track.from_occupancy(
        "circle",
        (radius > inner) & (radius < outer),
        config.resolution,
        (-half * config.resolution, -half * config.resolution, 0.0),
        centerline=config.radius * np.column_stack([np.cos(angle), np.sin(angle)]),
        closed=True,
        finish_line=((inner, 0.0), (outer, 0.0)),
        stated_widths=np.full((points, 2), config.width / 2),
    )
    return track.starting(spawns=staggered_spawns(track))
