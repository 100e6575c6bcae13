"""Tracks by their settings.

A kind of track is a function that takes its settings and the folder that its files are relative
to, and returns a `Track`; most end in `Track.from_occupancy`. It raises a `TrackError` whose one
line says what to change. One of another package, which its `sim.plugins.Part` names
``my_package.tracks:hall``::

    @generated
    def hall(config: HallTrack) -> Track:
        cells = round(config.side / 0.05)
        free = np.ones((cells, cells), np.bool_)
        spawns = {"spawn_1": (1.0, 1.0, 0.0), "spawn_2": (2.0, 2.0, 0.0)}
        return Track.from_occupancy("hall", free, 0.05, (0.0, 0.0, 0.0), spawns=spawns)

A track that depends on settings alone is `generated`, and needs no folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sim.config.tracks import (
    CenterlineTrack,
    CircleTrack,
    Line2Track,
    MapTrack,
    OvalTrack,
    RandomTrack,
    SeveralTracks,
    TrackConfig,
)
from sim.plugins import implementation
from sim.settings import Config
from sim.tracks.track import Track, TrackError

# Our own kinds; imported when one is first needed.
TRACKS: Final[Mapping[type[Config], str]] = {
    Line2Track: "sim.tracks.kinds.line2:line2_track",
    CircleTrack: "sim.tracks.kinds.circle:circle_track",
    OvalTrack: "sim.tracks.kinds.lane:oval_track",
    RandomTrack: "sim.tracks.kinds.circuit:random_track",
    CenterlineTrack: "sim.tracks.kinds.lane:centerline_track",
    MapTrack: "sim.tracks.kinds.rosmap:map_track",
}


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
            tracks.extend(make_track(single) for single in singles)
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
        ValueError: If the scenario asks for several, which `make_tracks` builds.
    """
    if isinstance(config, SeveralTracks) or (isinstance(config, RandomTrack) and config.count > 1):
        raise ValueError(f"{config.kind}: several tracks, where one is needed")
    track: Track = implementation("tracks", TRACKS, config)(config, base_dir or Path())
    return track
