"""Tracks: free space, walls, a centre line, spawn poses and a finish line."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from sim.config import (
    CenterlineTrack,
    CircleTrack,
    Line2Track,
    MapTrack,
    OvalTrack,
    RandomTrack,
    SeveralTracks,
    TrackConfig,
)
from sim.tracks.kinds.circle import circle_track
from sim.tracks.kinds.circuit import random_track
from sim.tracks.kinds.lane import centerline_track, oval_track
from sim.tracks.kinds.line2 import line2_track
from sim.tracks.kinds.rosmap import map_track
from sim.tracks.track import Pose, Track, TrackError

__all__ = ["Pose", "Track", "TrackError", "make_track", "make_tracks"]

# Tracks kept for whoever asks again (evaluations, a federation's other clients): a random circuit
# takes 0.1 s to build and 1.4 MB to keep.
GENERATED: Final = 64


def make_tracks(config: TrackConfig, base_dir: Path | None = None) -> tuple[Track, ...]:
    """Build the tracks that a scenario asks for, in the order in which it names them.

    Args:
        config: One track, or several.
        base_dir: Directory that a track's file is relative to; None: the working directory.

    Raises:
        TrackError: If one cannot be built, or some are closed and others open.
    """
    kinds = config.tracks if isinstance(config, SeveralTracks) else (config,)
    tracks: list[Track] = []
    for kind in kinds:
        if isinstance(kind, RandomTrack):
            seeds = range(kind.seed, kind.seed + kind.count)
            singles = [kind.model_copy(update={"seed": seed, "count": 1}) for seed in seeds]
            tracks.extend(_generated(single) for single in singles)
        else:
            tracks.append(make_track(kind, base_dir))
    for i, track in enumerate(tracks):
        if track.closed != tracks[0].closed:
            words = "closed" if track.closed else "open", "open" if track.closed else "closed"
            raise TrackError(
                f"track {i}, {track.name}, is {words[0]}, but track 0, {tracks[0].name}, is "
                f"{words[1]}: all must be closed, or all open"
            )
    return tuple(tracks)


def make_track(config: TrackConfig, base_dir: Path | None = None) -> Track:
    """Build the only track that a scenario asks for.

    Args:
        config: Which track, and its measures.
        base_dir: Directory that a track's file is relative to; None: the working directory.

    Raises:
        TrackError: If the track cannot be built; one line that says what to change.
        ValueError: If the scenario asks for several: those are `make_tracks`'s.
    """
    if isinstance(config, SeveralTracks) or (isinstance(config, RandomTrack) and config.count > 1):
        raise ValueError(f"{config.kind}: several tracks are asked for, where one is needed")
    if isinstance(config, CenterlineTrack):
        return centerline_track(config, base_dir or Path())
    if isinstance(config, MapTrack):
        return map_track(config, base_dir or Path())
    return _generated(config)


@lru_cache(maxsize=GENERATED)
def _generated(config: Line2Track | CircleTrack | OvalTrack | RandomTrack) -> Track:
    """Build a track that depends on its settings alone."""
    if isinstance(config, Line2Track):
        return line2_track()
    if isinstance(config, CircleTrack):
        return circle_track(config)
    if isinstance(config, OvalTrack):
        return oval_track(config)
    return random_track(config)
