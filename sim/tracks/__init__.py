"""Tracks: free space, walls, a centre line, spawn poses and a finish line."""

from __future__ import annotations

from pathlib import Path

from sim.config import (
    CenterlineTrack,
    CircleTrack,
    Line2Track,
    OvalTrack,
    RandomTrack,
    TrackConfig,
)
from sim.tracks.circle import circle_track
from sim.tracks.circuit import random_track
from sim.tracks.lane import centerline_track, oval_track
from sim.tracks.line2 import line2_track
from sim.tracks.rosmap import map_track
from sim.tracks.track import Pose, Track, TrackError

__all__ = ["Pose", "Track", "TrackError", "make_track"]


def make_track(config: TrackConfig, base_dir: Path | None = None) -> Track:
    """Build the track that a scenario asks for.

    Args:
        config: Which track, and its measures.
        base_dir: Directory that a track's file is relative to; None: the working directory.

    Raises:
        TrackError: If the track cannot be built; one line that says what to change.
    """
    if isinstance(config, Line2Track):
        return line2_track()
    if isinstance(config, CircleTrack):
        return circle_track(config)
    if isinstance(config, OvalTrack):
        return oval_track(config)
    if isinstance(config, RandomTrack):
        return random_track(config)
    if isinstance(config, CenterlineTrack):
        return centerline_track(config, base_dir or Path())
    return map_track(config, base_dir or Path())
