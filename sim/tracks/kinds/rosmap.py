"""Tracks from ROS maps, as F1TENTH publishes them."""

from __future__ import annotations

import dataclasses
import logging
import math
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict, Field, ValidationError, model_validator

from sim.config import Config, MapTrack
from sim.config.tracks import IMAGES, LONE_LINE
from sim.settings import expanded_size
from sim.tracks.gates import gate_across
from sim.tracks.lanefile import Lane, read_lane, read_raceline
from sim.tracks.track import MAX_CELLS, Pose, Track, TrackError, staggered_spawns

_LOG: Final = logging.getLogger(__name__)
_WHITE_16: Final = 2**16 - 1
_MOST_BYTES: Final = 1_000_000  # of a map's YAML file, and values in it: real ones have a dozen
_MOST_VALUES: Final = 10_000
_SHOWN: Final = 100  # letters of a wrong value
UNKNOWN: Final = 205  # grey level that map_saver writes for unknown cells

Coordinate = Annotated[float, Field(ge=-1e9, le=1e9)]  # m
Point = tuple[Coordinate, Coordinate]


class FinishLine(Config):
    """Ends of a finish line, m."""

    start: Point
    end: Point


class SpawnPoint(Config):
    """A named pose: x m, y m, yaw rad."""

    name: str = Field(min_length=1, max_length=100)
    pose: tuple[Coordinate, Coordinate, Coordinate]


class Annotations(Config):
    """What F1TENTH maps may add to the ROS format."""

    finish_line: FinishLine | None = None
    spawn_points: tuple[SpawnPoint, ...] = ()


class RosMap(Config):
    """A ROS map file (wiki.ros.org/map_server, section 1.1); other keys are left alone."""

    model_config = ConfigDict(extra="ignore")

    image: str = Field(min_length=1)
    resolution: float = Field(gt=1e-6, le=1e3)
    origin: tuple[Coordinate, Coordinate, Coordinate]
    negate: Annotated[int, Field(ge=0, le=1)] = 0
    occupied_thresh: float = Field(0.65, ge=0, le=1)
    free_thresh: float = Field(0.196, ge=0, le=1)
    mode: Literal["trinary", "scale", "raw"] = "trinary"
    annotations: Annotations = Annotations()

    @model_validator(mode="after")
    def _ordered(self) -> RosMap:
        if self.free_thresh >= self.occupied_thresh:
            raise ValueError(
                f"free_thresh {self.free_thresh:g} must be below occupied_thresh "
                f"{self.occupied_thresh:g}"
            )
        return self


class _Loader(yaml.SafeLoader):
    """Refuses aliases that make a short file endless, and keys that come twice.

    Of the latter, YAML would keep the last.
    """

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and expanded_size(node) > _MOST_VALUES:
            raise yaml.constructor.ConstructorError(
                problem=f"more than {_MOST_VALUES} values; aliases multiply them",
                problem_mark=node.start_mark,
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key in [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {_short(key)} comes twice", problem_mark=node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def map_track(config: MapTrack, base_dir: Path) -> Track:
    """Load a ROS map and its lines.

    The centre line is in the file that the settings name, otherwise beside the map:
    ``NAME_centerline.csv`` for ``NAME.yaml`` or ``NAME_map.yaml``, or ``centerline.csv`` if there
    is one map.

    A cell is free if its occupancy p is below ``free_thresh``, where p = (255 - v) / 255 for
    a pixel's mean v of red, green and blue, or v / 255 if ``negate`` is set (map_server's
    rule); in ``mode: raw``, p = v / 100, and v above 100 is unknown. Unknown and transparent
    pixels and everything outside the image are walls. So is, in ``mode: trinary``, map_saver's
    code for unknown, v = 205, which the 0.25 that ROS 2's writes as ``free_thresh`` would free.

    One exception: resampled images blur a wall's edge, and the rule above would thicken every
    wall by its blur. A pixel from ``free_thresh`` on that touches both a free and an occupied
    pixel therefore goes by p < 0.5, unless it is unknown, even where ``occupied_thresh`` is lower.
    Along such edges this is the rule of f1tenth_gym v1.0.0, which takes v > 128 as free
    everywhere, and unknown space with it.

    Without annotated spawn points, spawns stand along the centre line. A closed one without an
    annotated finish line has it across its first point. A reversed one has the same finish line,
    and annotated spawns turned round.

    Args:
        config: Names the map's YAML file, and perhaps its lines'.
        base_dir: Directory that the files are relative to.

    Raises:
        TrackError: If a file is missing or wrong.
    """
    path = base_dir / config.file
    settings = _read_settings(path)
    free = _read_image(_image_file(path, settings.image), settings)
    lane_file = base_dir / config.centerline if config.centerline else _lane_beside(path)
    lane = read_lane(lane_file) if lane_file else Lane(np.empty((0, 2)), None, False)
    raceline = read_raceline(base_dir / config.raceline) if config.raceline else None
    spawns = {spawn.name: spawn.pose for spawn in settings.annotations.spawn_points}
    line = settings.annotations.finish_line
    if config.reverse:
        if not lane.closed:
            raise TrackError(f"{path}: reverse needs a closed centre line")
        lane, raceline = lane.reversed(), raceline and raceline.reversed()
        spawns = {name: (x, y, yaw + math.pi) for name, (x, y, yaw) in spawns.items()}
    track = Track.from_occupancy(
        str(path),
        free,
        settings.resolution,
        settings.origin,
        centerline=lane.points,
        closed=lane.closed,
        stated_widths=lane.widths,
        spawns=spawns,
        finish_line=(line.start, line.end) if line else None,
    )
    part = _inside(track)
    track = dataclasses.replace(
        track,
        centerline=track.centerline[part],
        stated_widths=None if lane.widths is None else lane.widths[part],
    )
    if raceline:
        _check_raceline(track, raceline, str(config.raceline))
        track = dataclasses.replace(
            track, raceline=raceline.points, raceline_speeds=raceline.speeds
        )
    if track.closed and not line:
        track = track.starting(finish_line=gate_across(track, 0.0))
    if track.spawns or not len(track.centerline):
        return track
    return track.starting(spawns=_default_spawns(track))


def _image_file(path: Path, name: str) -> Path:
    """The image that a map names, or that of the same name and the other format."""
    image = path.parent / name
    if not image.is_file():
        others = (image.with_suffix(suffix) for suffix in IMAGES if image.name.strip("."))
        for other in others:
            if other.is_file():
                _LOG.info("%s: %s is not there; read %s", path, image.name, other.name)
                return other
    return image


def _lane_beside(path: Path) -> Path | None:
    """The file of a map's centre line; None, which is told, without one."""
    there = sorted(path.parent.iterdir())
    names = [path.stem, path.stem.removesuffix("_map")]
    wanted = [f"{name}_centerline.csv" for name in dict.fromkeys(names)]
    if sum(file.suffix.lower() in (".yaml", ".yml") for file in there) == 1:
        wanted.append(LONE_LINE)
    for name in wanted:
        for file in there:
            if file.name.lower() == name.lower() and file.is_file():
                return file
    found = [file.name for file in there if file.suffix.lower() == ".csv"][:8]
    told = "%s: no centre line: looked for %s; CSV files there: %s; track.centerline names another"
    _LOG.info(told, path, ", ".join(wanted), ", ".join(found) or "none")
    return None


def _check_raceline(track: Track, lane: Lane, name: str) -> None:
    """Refuse a racing line that is not one of this track, or is driven the other way."""
    if not len(track.centerline):
        return
    if lane.closed != track.closed:
        words = ("closed", "open") if lane.closed else ("open", "closed")
        raise TrackError(f"{name}: is {words[0]}, but the centre line of {track.name} {words[1]}")
    inside = track.wall_distance(lane.points) > 0
    if not inside.all():
        x, y = lane.points[int(np.argmin(inside))]
        raise TrackError(f"{name}: leaves the free space of {track.name} at ({x:g}, {y:g}) m")
    s = track.to_frenet(lane.points)[:, 0]
    ahead = np.diff(s)
    if track.closed:
        ahead = (ahead + track.length / 2) % track.length - track.length / 2
    if ahead.sum() < 0:
        raise TrackError(f"{name}: runs against the centre line of {track.name}")


def _read_settings(path: Path) -> RosMap:
    try:
        data = _Loader(_text(path)).get_single_data()
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise TrackError(f"{path}: {_one_line(error)}; a ROS map's YAML file is needed") from error
    if not isinstance(data, dict):
        raise TrackError(f"{path}: not a ROS map: keys image, resolution, origin are needed")
    try:
        settings = RosMap.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f", found {_short(first['input'])}"
        raise TrackError(
            f"{path}: {_short(where, str)}: {_one_line(first['msg'])}{found}"
        ) from error
    names = set[str]()
    for spawn in settings.annotations.spawn_points:
        if spawn.name in names:
            raise TrackError(f"{path}: annotations.spawn_points: two are named {spawn.name!r}")
        names.add(spawn.name)
    return settings


def _text(path: Path) -> str:
    """The text of a map's YAML file, unless it is too long for one.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is too long, or not UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES} bytes")
    return content.decode("utf-8-sig")


def _read_image(path: Path, settings: RosMap) -> NDArray[np.bool_]:
    """(H, W) free cells, lowest row first."""
    with warnings.catch_warnings():  # Pillow's, of images that are refused here
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        levels, full, opaque = _read_pixels(path)
    occupancy, unknown = _occupancy(np.arange(full + 1, dtype=np.float64), full, settings)
    low = occupancy < settings.free_thresh
    free = (low & ~unknown)[levels]
    shut = np.count_nonzero((low & unknown)[levels]) if (low & unknown).any() else 0
    if shut:
        told = "%s: %d pixels of grey %d, unknown space, are walls, though free_thresh frees them"
        _LOG.info(told, path, shut, UNKNOWN)
    edge = ((occupancy < 0.5) & ~unknown & ~low)[levels]
    if edge.any():
        from scipy.ndimage import binary_dilation  # takes 0.4 s, and few maps need it

        touches = np.ones((3, 3), dtype=np.bool_)
        edge &= binary_dilation(free, touches)
        edge &= binary_dilation((occupancy > settings.occupied_thresh)[levels], touches)
        free |= edge
    if opaque is not None:
        free &= opaque
    if not free.any():
        raise TrackError(
            f"{path}: no free space: no pixel's occupancy is below "
            f"free_thresh {settings.free_thresh:g}; check free_thresh, negate and mode"
        )
    return np.ascontiguousarray(free[::-1])


def _read_pixels(path: Path) -> tuple[NDArray[np.uint16], int, NDArray[np.bool_] | None]:
    """(H, W) levels of grey, the level of white, and (H, W) which are opaque; None: all.

    Of a colour, the level is the sum of red, green and blue.
    """
    try:
        _check_file(path)
        with Image.open(path) as image:
            _check_size(path, *image.size)
            if image.mode.startswith("I"):  # 16 bits, which a conversion would clip
                deep = np.asarray(image)
                return np.clip(deep, 0, _WHITE_16).astype(np.uint16), _WHITE_16, None
            if image.mode in ("1", "L") and "transparency" not in image.info:
                return np.asarray(image.convert("L")).astype(np.uint16), 255, None
            pixels = np.asarray(image.convert("RGBA"))
    except TrackError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise TrackError(f"{path}: {_one_line(error)}; a PNG or PGM image is needed") from error
    level = pixels[..., 0].astype(np.uint16)
    level += pixels[..., 1]
    level += pixels[..., 2]
    return level, 3 * 255, pixels[..., 3] == 255


def _check_file(path: Path) -> None:
    """Refuse what is no file, such as a pipe, which would be waited for."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise TrackError(f"{path}: not a file; a PNG or PGM image is needed")


def _check_size(path: Path, width: int, height: int) -> None:
    """Refuse an image before it is decoded, which takes time and memory."""
    if width * height > MAX_CELLS:
        raise TrackError(
            f"{path}: {width} x {height} pixels; at most {MAX_CELLS} are allowed: crop it, or "
            "halve it and double resolution"
        )


def _occupancy(
    shade: NDArray[np.float64], full: int, settings: RosMap
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N,) occupancy from 0 to 1 of levels of grey, and whether it is unknown."""
    value = shade / full * 255
    if settings.mode == "raw":
        return value / 100, value > 100.5
    # In double precision and in this order, as map_server: 204 of 255 is 0.2, not a bit less.
    occupancy = (shade if settings.negate else full - shade) / full
    if settings.mode == "scale" or settings.negate:
        return occupancy, np.zeros(shade.shape, np.bool_)
    return occupancy, np.abs(value - UNKNOWN) <= 0.5


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


def _short(value: object, shown: Callable[[object], str] = repr) -> str:
    """Show a value, at most `_SHOWN` letters of it."""
    text = shown(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
