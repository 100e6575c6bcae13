"""Tracks from ROS maps, as F1TENTH publishes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, Field, ValidationError
from scipy.ndimage import binary_dilation

from sim.config import Config, MapTrack
from sim.tracks.gates import gate_across
from sim.tracks.lanefile import Lane, read_lane
from sim.tracks.track import Pose, Track, TrackError, staggered_spawns

UNKNOWN: Final = 205  # grey level that map_saver writes for unknown cells

Point = tuple[float, float]


class FinishLine(Config):
    """Ends of a finish line, m."""

    start: Point
    end: Point


class SpawnPoint(Config):
    """A named pose: x m, y m, yaw rad."""

    name: str = Field(min_length=1)
    pose: Pose


class Annotations(Config):
    """What F1TENTH maps may add to the ROS format."""

    finish_line: FinishLine | None = None
    spawn_points: tuple[SpawnPoint, ...] = ()


class RosMap(Config):
    """A ROS map file (wiki.ros.org/map_server, section 1.1); other keys are left alone."""

    model_config = ConfigDict(extra="ignore")

    image: str = Field(min_length=1)
    resolution: float = Field(gt=0)
    origin: Pose
    negate: Annotated[int, Field(ge=0, le=1)] = 0
    occupied_thresh: float = Field(0.65, ge=0, le=1)
    free_thresh: float = Field(0.196, ge=0, le=1)
    annotations: Annotations = Annotations()


def map_track(config: MapTrack, base_dir: Path) -> Track:
    """Load a ROS map, and the centre line in ``<stem>_centerline.csv`` next to it, if any.

    A cell is free if its occupancy p is below ``free_thresh``, where p = (255 - v) / 255 for
    a pixel's mean v of red, green and blue, or v / 255 if ``negate`` is set (map_server's
    rule). Unknown and transparent pixels and everything outside the image are walls.

    One exception: resampled images blur a wall's edge, and the rule above would thicken every
    wall by its blur. A pixel between the thresholds that touches both a free and an occupied
    pixel therefore goes by p < 0.5, unless it has map_saver's code for unknown, v = 205.
    Along such edges this is the rule of f1tenth_gym v1.0.0, which takes v > 128 as free
    everywhere, and unknown space with it.

    Without annotated spawn points, spawns stand along the centre line. A closed one without an
    annotated finish line has it across its first point.

    Args:
        config: Names the map's YAML file.
        base_dir: Directory that the file is relative to.

    Raises:
        TrackError: If a file is missing or wrong.
    """
    path = base_dir / config.file
    settings = _read_settings(path)
    free = _read_image(path.parent / settings.image, settings)
    line = settings.annotations.finish_line
    lane_file = path.with_name(f"{path.stem}_centerline.csv")
    lane = read_lane(lane_file) if lane_file.exists() else Lane(np.empty((0, 2)), None, False)
    track = Track.from_occupancy(
        str(path),
        free,
        settings.resolution,
        settings.origin,
        centerline=lane.points,
        closed=lane.closed,
        stated_widths=lane.widths,
        spawns={spawn.name: spawn.pose for spawn in settings.annotations.spawn_points},
        finish_line=(line.start, line.end) if line else None,
    )
    part = _inside(track)
    track = dataclasses.replace(
        track,
        centerline=track.centerline[part],
        stated_widths=None if lane.widths is None else lane.widths[part],
    )
    if track.closed and not line:
        track = dataclasses.replace(track, finish_line=gate_across(track, 0.0))
    if track.spawns or not len(track.centerline):
        return track
    return dataclasses.replace(track, spawns=_default_spawns(track))


def _read_settings(path: Path) -> RosMap:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrackError(f"{path}: {_one_line(error)}; a ROS map's YAML file is needed") from error
    if not isinstance(data, dict):
        raise TrackError(f"{path}: not a ROS map: keys image, resolution, origin are needed")
    try:
        settings = RosMap.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f", found {first['input']!r}"
        raise TrackError(f"{path}: {where}: {_one_line(first['msg'])}{found}") from error
    names = [spawn.name for spawn in settings.annotations.spawn_points]
    for name in names:
        if names.count(name) > 1:
            raise TrackError(f"{path}: annotations.spawn_points: two are named {name!r}")
    return settings


def _read_image(path: Path, settings: RosMap) -> NDArray[np.bool_]:
    """(H, W) free cells, lowest row first."""
    try:
        with Image.open(path) as image:
            deep = image.mode.startswith("I")  # 16 bits, which a conversion would clip
            pixels = np.asarray(image if deep else image.convert("RGBA"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise TrackError(f"{path}: {_one_line(error)}; a PNG or PGM image is needed") from error
    full = 65535 if deep else 255
    shade = pixels.astype(np.float64) if deep else pixels[..., :3].mean(axis=-1)  # of full
    # In double precision and in this order, as map_server: 204 of 255 is 0.2, not a bit less.
    occupancy = (shade if settings.negate else full - shade) / full
    free = occupancy < settings.free_thresh
    touches = np.ones((3, 3), dtype=np.bool_)
    edge = binary_dilation(free, touches)
    edge &= binary_dilation(occupancy > settings.occupied_thresh, touches)
    free |= edge & (occupancy < 0.5) & (np.abs(shade / full * 255 - UNKNOWN) > 0.5)
    if not deep:
        free &= pixels[..., 3] == 255
    if not free.any():
        raise TrackError(
            f"{path}: no free space: no pixel's occupancy is below "
            f"free_thresh {settings.free_thresh:g}; check free_thresh and negate"
        )
    return np.ascontiguousarray(free[::-1])


def _inside(track: Track) -> slice:
    """The part of the centre line that counts: all, less an open one's ends inside walls.

    Published maps' open centre lines may run past the end of the free space.
    """
    line = track.centerline
    free = np.flatnonzero(track.wall_distance(line) > 0)
    part = slice(None) if track.closed or not free.size else slice(free[0], free[-1] + 1)
    outside = np.setdiff1d(np.arange(len(line))[part], free)
    if outside.size:
        x, y = line[outside[0]]
        raise TrackError(
            f"{track.name}: its centre line leaves the free space at ({x:g}, {y:g}) m; "
            "all points but an open line's ends must be in free cells"
        )
    if len(line[part]) == 1:
        raise TrackError(f"{track.name}: only one point of its centre line is in free space")
    return part


def _default_spawns(track: Track) -> dict[str, Pose]:
    """Spawns along the centre line, from its start or, where it is closed, up to the finish."""
    finish: NDArray[np.float64] = np.mean(track.finish_line or track.centerline[:1], axis=0)
    return staggered_spawns(track, float(track.to_frenet(finish[None])[0, 0]))


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
